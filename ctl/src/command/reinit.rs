//! `reinit`: replicas throw their data away and take it anew.

use super::outcome::Asked;
use super::reload::{call, failure};
use super::select;
use crate::args::{Reinit, RoleFilter};
use crate::rest::{QUICK, Reply};
use crate::world::{Chosen, Cluster, World};
use anyhow::Result;
use reqwest::Method;
use serde_json::json;
use std::time::Duration;

const POLL: Duration = Duration::from_secs(2);
/// The end of a refusal that a repetition with force overrules.
const BUSY: &str = " already in progress";
const CREATING: &str = "creating replica";

pub(crate) async fn run(world: &mut World, args: &Reinit) -> Result<()> {
    let cluster = world.read(&args.of.cluster, args.of.group).await?;
    world.show(&cluster)?;
    let members = choose(world, args, &cluster)?;
    if !args.force {
        select::confirm(world, "reinitialize", &members, "")?;
    }
    let (mut asked, mut started) = (Asked::default(), Vec::new());
    for member in members {
        let has_begun = reinitialize(world, args, &member).await?;
        asked.note(&member.name, has_begun);
        started.extend(has_begun.then_some(member));
    }
    if args.wait {
        wait(world, started).await?;
    }
    asked.end("reinitialize")
}

/// Without a name there is no default: this destroys data.
fn choose(world: &mut World, args: &Reinit, cluster: &Cluster) -> Result<Vec<Chosen>> {
    let replica = RoleFilter::Replica;
    let mut names = args.of.names.clone();
    if names.is_empty() {
        let all = select::members(cluster, &[], replica, replica.text())?;
        let question =
            format!("Which member do you want to reinitialize [{}]?", select::list(&all));
        names = vec![world.terminal.ask(&question, None)?.trim().to_string()];
    }
    select::members(cluster, &names, replica, replica.text())
}

/// True: the member has begun.
async fn reinitialize(world: &mut World, args: &Reinit, member: &Chosen) -> Result<bool> {
    let mut force = args.force;
    loop {
        let body = json!({"force": force, "from_leader": args.from_leader});
        let reply = call(world, member, Method::POST, "reinitialize", Some(&body), QUICK).await;
        match &reply {
            Ok(Reply { status: 200, .. }) => {
                world.terminal.say(&format!("Success: reinitialize for member {}", member.name))?;
                return Ok(true);
            }
            Ok(Reply { text, .. }) if text.trim_end().ends_with(BUSY) && !force => {
                world.terminal.say(&failure("reinitialize", &member.name.0, &reply))?;
                let question = "Do you want to cancel it and reinitialize anyway?";
                if !world.terminal.is_confirmed(question)? {
                    return Ok(false);
                }
                force = true;
            }
            _ => {
                world.terminal.say(&failure("reinitialize", &member.name.0, &reply))?;
                return Ok(false);
            }
        }
    }
}

/// Until all are done; how long a copy takes only the operator can know.
async fn wait(world: &mut World, mut members: Vec<Chosen>) -> Result<()> {
    if !members.is_empty() {
        let names = select::list(&members);
        world.terminal.say(&format!("Waiting for reinitialize to complete on: {names}"))?;
    }
    while !members.is_empty() {
        tokio::time::sleep(POLL).await;
        let mut left = Vec::new();
        for member in members {
            if is_done(world, &member).await {
                world.terminal.say(&format!("Reinitialize is completed on: {}", member.name))?;
            } else {
                left.push(member);
            }
        }
        members = left;
    }
    Ok(())
}

/// A member that does not answer is not done: it may be between two states.
async fn is_done(world: &World, member: &Chosen) -> bool {
    let reply = call(world, member, Method::GET, "patroni", None, QUICK).await;
    let state = reply.ok().and_then(|r| r.json().get("state")?.as_str().map(str::to_string));
    state.is_some_and(|state| state != CREATING)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::args::Members;
    use crate::fixture::{move_apis, world};
    use crate::rest::answering::serve;

    fn args(names: &[&str], force: bool) -> Reinit {
        let names = names.iter().map(|n| n.to_string()).collect();
        let of = Members { cluster: "golden".into(), names, group: None };
        Reinit { of, force, from_leader: false, wait: false }
    }

    #[tokio::test]
    async fn a_replica_is_reinitialized_and_waited_for() {
        let state = r#"{"state": "running"}"#.to_string();
        let answers =
            vec![("POST /reinitialize", 200, String::new()), ("GET /patroni", 200, state)];
        let (url, asked) = serve(answers).await;
        let (mut world, screen) = world("02-three-nodes-default", "");
        move_apis(&world, &url).await;
        run(&mut world, &Reinit { wait: true, ..args(&["n2"], true) }).await.unwrap();
        let tail = "Success: reinitialize for member n2\n\
            Waiting for reinitialize to complete on: n2\nReinitialize is completed on: n2\n";
        assert!(screen.text().ends_with(tail));
        assert_eq!(asked.all()[0], r#"POST /reinitialize {"force":true,"from_leader":false}"#);
    }

    #[tokio::test]
    async fn the_leader_is_refused_and_a_busy_member_needs_another_yes() {
        let (mut first, _) = world("02-three-nodes-default", "");
        let error = run(&mut first, &args(&["n1"], true)).await.unwrap_err();
        assert_eq!(error.to_string(), "No replica among provided members");

        let busy = "reinitialize already in progress".to_string();
        let (url, asked) = serve(vec![("POST /reinitialize", 503, busy)]).await;
        let (mut second, screen) = world("02-three-nodes-default", "n2\ny\ny\n");
        move_apis(&second, &url).await;
        let error = run(&mut second, &args(&[], false)).await.unwrap_err();
        assert_eq!(error.to_string(), "reinitialize failed on 1 of 1 members: n2");
        assert!(screen.text().contains(
            "reinitialize [n2, n3]?: Are you sure you want to reinitialize members n2? [y/N]: "
        ));
        let forced: Vec<bool> = asked.all().iter().map(|a| a.contains("\"force\":true")).collect();
        assert_eq!(forced, [false, true]);
    }
}
