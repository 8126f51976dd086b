//! `flush`: scheduled restarts and switchovers are discarded.

use super::outcome::Asked;
use super::reload::{call, failure};
use super::select;
use crate::args::Flush;
use crate::rest::QUICK;
use crate::world::World;
use anyhow::{Result, bail};
use reqwest::Method;
use topology::write::Replacement;
use topology::{Failover, Write};

pub(crate) async fn run(world: &mut World, mut args: Flush) -> Result<()> {
    match args.words.pop().as_deref() {
        Some("restart") => restarts(world, &args).await,
        Some("switchover") => switchover(world, &args).await,
        other => bail!("`{}` cannot be flushed; name restart or switchover", other.unwrap_or("")),
    }
}

async fn restarts(world: &mut World, args: &Flush) -> Result<()> {
    let cluster = world.read(&args.cluster, args.group).await?;
    world.show(&cluster)?;
    let role = select::quoted(args.role);
    let members = select::members(&cluster, &args.words, args.role, &role)?;
    if !args.force {
        select::confirm(world, "flush restart for", &members, "")?;
    }
    let mut asked = Asked::default();
    for member in &members {
        let name = &member.name;
        if member.record.scheduled_restart.is_none() {
            world.terminal.say(&format!("No scheduled restart for member {name}"))?;
            continue;
        }
        let reply = call(world, member, Method::DELETE, "restart", None, QUICK).await;
        let line = match reply.as_ref().map(|r| r.status) {
            Ok(200 | 404) => format!("Success: flush scheduled restart for member {name}"),
            _ => failure("flush scheduled restart", &name.0, &reply),
        };
        world.terminal.say(&line)?;
        asked.note(name, matches!(&reply, Ok(r) if matches!(r.status, 200 | 404)));
    }
    asked.end("flush restart")
}

async fn switchover(world: &mut World, args: &Flush) -> Result<()> {
    let cluster = world.read(&args.cluster, args.group).await?;
    let one = cluster.one()?;
    let request = one.view.request().filter(|r| r.scheduled_at.is_some());
    if request.is_none() {
        return world.terminal.say("No pending scheduled switchover");
    }
    for (_, url) in one.reachable() {
        let reply = world.rest.call(Method::DELETE, &url, "switchover", None, QUICK).await;
        match reply.map(|r| (r.status, r.text)) {
            Ok((200, _)) => return world.terminal.say("Success: scheduled switchover deleted"),
            Ok((404, _)) => return world.terminal.say("No pending scheduled switchover"),
            Ok((status, text)) => world.terminal.say(&format!(
                "Failed: flush scheduled switchover, status code={status}, ({text})"
            ))?,
            Err(silence) => world.terminal.note(&silence.to_string())?,
        }
    }
    let read_at = one.view.failover.as_ref().map(|f| f.version);
    let request = Replacement { value: Failover::default(), on: read_at };
    if !world.write(&one.keys, &Write::PutRequest { request, leader: None }).await? {
        bail!("the scheduled switchover was changed meanwhile; look again");
    }
    world.terminal.say("Success: scheduled switchover deleted")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::args::RoleFilter;
    use crate::fixture::{move_apis, world};
    use crate::rest::answering::serve;

    fn args(words: &[&str]) -> Flush {
        let words = words.iter().map(|w| w.to_string()).collect();
        let role = RoleFilter::Any;
        Flush { cluster: "golden".into(), words, group: None, role, force: true }
    }

    #[tokio::test]
    async fn a_scheduled_restart_is_deleted_where_there_is_one() {
        let (url, asked) = serve(vec![("DELETE /restart", 200, String::new())]).await;
        let (mut world, screen) = world("09-scheduled-switchover-and-restart", "");
        move_apis(&world, &url).await;
        run(&mut world, args(&["restart"])).await.unwrap();
        assert!(screen.text().ends_with("Success: flush scheduled restart for member n3\n"));
        assert_eq!(asked.all().len(), 1);
    }

    #[tokio::test]
    async fn a_switchover_is_deleted_by_a_member_or_in_the_store() {
        let (mut none, screen) = world("02-three-nodes-default", "");
        run(&mut none, args(&["switchover"])).await.unwrap();
        assert_eq!(screen.text(), "No pending scheduled switchover\n");

        let (mut alone, screen) = world("09-scheduled-switchover-and-restart", "");
        move_apis(&alone, "http://127.0.0.1:1/patroni").await;
        run(&mut alone, args(&["switchover"])).await.unwrap();
        assert!(screen.text().ends_with("Success: scheduled switchover deleted\n"));
        let cluster = alone.read("golden", None).await.unwrap();
        assert!(cluster.one().unwrap().view.request().is_none());
        assert!(run(&mut alone, args(&["x"])).await.is_err());
    }
}
