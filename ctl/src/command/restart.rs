//! `restart`: PostgreSQL restarts below its daemon, now or at a time.

use super::outcome::Asked;
use super::reload::{call, failure};
use super::select;
use crate::args::Restart;
use crate::moment;
use crate::rest::{NoAnswer, QUICK, Reply};
use crate::world::{Chosen, Cluster, World};
use anyhow::{Result, bail};
use reqwest::Method;
use serde_json::{Map, Value};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// A member answers only when PostgreSQL runs again.
const RESTART_WAIT_MAX: Duration = Duration::from_secs(3_600);

pub(crate) async fn run(world: &mut World, mut args: Restart) -> Result<()> {
    let cluster = world.read(&args.of.cluster, args.of.group).await?;
    world.show(&cluster)?;
    let role = select::quoted(args.role);
    let mut members = select::members(&cluster, &args.of.names, args.role, &role)?;
    if args.any {
        members = vec![members.swap_remove(any_of(members.len()))];
    }
    let at = when(world, &args)?;
    if at.is_some() && cluster.groups.values().any(|view| view.is_paused()) {
        bail!("Can't schedule restart in the paused state");
    }
    if args.pending && at.is_none() {
        members.retain(|m| m.record.pending_restart);
    }
    if members.is_empty() {
        return Ok(());
    }
    confirm(world, &mut args, &members, at.as_deref())?;
    let body = body(&args, at.as_deref());
    restart_all(world, &args, &cluster, &members, &body).await
}

/// A number that differs from call to call; nothing depends on its quality.
fn any_of(count: usize) -> usize {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    (u64::from(now.subsec_nanos()) / 1_000) as usize % count.max(1)
}

fn when(world: &mut World, args: &Restart) -> Result<Option<String>> {
    let text = match &args.scheduled {
        Some(text) => text.clone(),
        None if args.force => "now".to_string(),
        None => {
            let example = moment::example(&world.now());
            let when = format!("When should the restart take place (e.g. {example}) ");
            world.terminal.ask(&when, Some("now"))?
        }
    };
    moment::parse_schedule(&text)
}

fn confirm(
    world: &mut World,
    args: &mut Restart,
    members: &[Chosen],
    at: Option<&str>,
) -> Result<()> {
    if args.force {
        return Ok(());
    }
    let action = if at.is_some() { "schedule restart of" } else { "restart" };
    let after = match (at, args.pending) {
        (Some(at), true) => format!(" at {at}, as far as a restart is pending then"),
        (Some(at), false) => format!(" at {at}"),
        (None, _) => String::new(),
    };
    select::confirm(world, action, members, &after)?;
    if args.pg_version.is_none() {
        let question = "Restart if the PostgreSQL version is less than provided (e.g. 9.5.2) ";
        let version = world.terminal.ask(question, Some(""))?;
        args.pg_version = Some(version).filter(|v| !v.is_empty());
    }
    Ok(())
}

fn body(args: &Restart, at: Option<&str>) -> Value {
    let mut body = Map::new();
    let mut put = |key: &str, value: Option<Value>| {
        body.extend(value.map(|value| (key.to_string(), value)));
    };
    put("restart_pending", args.pending.then_some(true.into()));
    put("postgres_version", args.pg_version.clone().map(Value::from));
    put("timeout", args.timeout.clone().map(Value::from));
    put("schedule", at.map(Value::from));
    Value::Object(body)
}

async fn restart_all(
    world: &mut World,
    args: &Restart,
    cluster: &Cluster,
    members: &[Chosen],
    body: &Value,
) -> Result<()> {
    let is_scheduled = body.get("schedule").is_some();
    let wait_max = if is_scheduled { QUICK } else { RESTART_WAIT_MAX };
    let mut asked = Asked::default();
    for member in members {
        if args.force && is_scheduled && member.record.scheduled_restart.is_some() {
            let reply = call(world, member, Method::DELETE, "restart", None, QUICK).await;
            if !matches!(&reply, Ok(r) if matches!(r.status, 200 | 404)) {
                world.terminal.say(&failure("flush scheduled restart", &member.name.0, &reply))?;
            }
        }
        let reply = call(world, member, Method::POST, "restart", Some(body), wait_max).await;
        let line = outcome(cluster, &member.name.0, &reply);
        world.terminal.say(&line)?;
        asked.note(&member.name, matches!(&reply, Ok(r) if matches!(r.status, 200 | 202)));
    }
    asked.end("restart")
}

fn outcome(cluster: &Cluster, name: &str, reply: &Result<Reply, NoAnswer>) -> String {
    match reply.as_ref().map(|r| r.status) {
        Ok(200) => format!("Success: restart on member {name}"),
        Ok(202) => format!("Success: restart scheduled on member {name}"),
        Ok(409) => format!(
            "Failed: another restart is already scheduled on member {name}; \
             `flush {} {name} restart` discards it",
            cluster.scope
        ),
        _ => failure("restart", name, reply),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::args::Members;
    use crate::fixture::{move_apis, world};
    use crate::rest::answering::serve;

    fn args(names: &[&str]) -> Restart {
        let names = names.iter().map(|n| n.to_string()).collect();
        Restart {
            of: Members { cluster: "golden".into(), names, group: None },
            ..Restart::default()
        }
    }

    #[tokio::test]
    async fn pending_members_are_restarted_and_without_any_nothing_happens() {
        let (url, asked) = serve(vec![("POST /restart", 200, "restarted".into())]).await;
        let pending = Restart { pending: true, force: true, ..args(&[]) };
        let (mut first, screen) = world("04-pending-restart", "");
        move_apis(&first, &url).await;
        run(&mut first, pending.clone()).await.unwrap();
        assert!(screen.text().ends_with("Success: restart on member n3\n"));
        assert_eq!(asked.all()[0], r#"POST /restart {"restart_pending":true}"#);
        let (mut none, screen) = world("02-three-nodes-default", "");
        run(&mut none, pending).await.unwrap();
        assert!(screen.text().ends_with("-+\n"));
    }

    #[tokio::test]
    async fn questions_are_asked_in_order() {
        let (url, asked) = serve(vec![("POST /restart", 202, "Restart scheduled".into())]).await;
        let (mut world, screen) = world("02-three-nodes-default", "2035-06-02T12:30Z\ny\n15.2\n");
        move_apis(&world, &url).await;
        run(&mut world, args(&["n3"])).await.unwrap();
        let text = screen.text();
        let question = ")  [now]: Are you sure you want to schedule restart of members n3 at \
            2035-06-02T12:30:00+00:00? [y/N]: ";
        assert!(text.contains(question), "{text}");
        assert!(
            text.contains("(e.g. 9.5.2)  []: Success: restart scheduled on member n3\n"),
            "{text}"
        );
        let body = r#"{"postgres_version":"15.2","schedule":"2035-06-02T12:30:00+00:00"}"#;
        assert_eq!(asked.all(), [format!("POST /restart {body}")]);
    }

    #[tokio::test]
    async fn a_forced_schedule_replaces_the_old_one_and_pause_forbids_it() {
        let answers =
            vec![("DELETE /restart", 200, String::new()), ("POST /restart", 409, String::new())];
        let (url, asked) = serve(answers).await;
        let at = Some("2035-06-02T12:30:00+00:00".to_string());
        let forced = Restart { force: true, scheduled: at, ..args(&["n3"]) };
        let (mut first, screen) = world("09-scheduled-switchover-and-restart", "");
        move_apis(&first, &url).await;
        let error = run(&mut first, forced.clone()).await.unwrap_err();
        assert_eq!(error.to_string(), "restart failed on 1 of 1 members: n3");
        assert!(asked.all()[0].starts_with("DELETE /restart"));
        assert!(
            screen.text().contains("Failed: another restart is already scheduled on member n3")
        );
        let (mut paused, _) = world("11-paused", "");
        assert!(run(&mut paused, forced).await.unwrap_err().to_string().contains("paused"));
    }
}
