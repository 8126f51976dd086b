//! `reload`: members read their configuration again.

use super::outcome::Asked;
use super::select;
use crate::args::Reload;
use crate::rest::{NoAnswer, QUICK, Reply};
use crate::world::{Chosen, World};
use anyhow::Result;
use reqwest::Method;
use serde_json::Value;
use std::time::Duration;

pub(crate) async fn run(world: &mut World, args: &Reload) -> Result<()> {
    let cluster = world.read(&args.of.cluster, args.of.group).await?;
    world.show(&cluster)?;
    let role = select::quoted(args.role);
    let members = select::members(&cluster, &args.of.names, args.role, &role)?;
    if !args.force {
        select::confirm(world, "reload", &members, "")?;
    }
    let mut asked = Asked::default();
    for member in &members {
        let reply = call(world, member, Method::POST, "reload", None, QUICK).await;
        let line = outcome(&member.name.0, &reply, cluster.loop_wait_s());
        world.terminal.say(&line)?;
        asked.note(&member.name, matches!(&reply, Ok(r) if matches!(r.status, 200 | 202)));
    }
    asked.end("reload")
}

/// One call to a member; without a published API there is no answer.
pub(crate) async fn call(
    world: &World,
    member: &Chosen,
    method: Method,
    endpoint: &str,
    body: Option<&Value>,
    wait_max: Duration,
) -> Result<Reply, NoAnswer> {
    match &member.record.api_url {
        Some(url) => world.rest.call(method, url, endpoint, body, wait_max).await,
        None => {
            let reason = "it has published no API".to_string();
            Err(NoAnswer { url: member.name.to_string(), reason })
        }
    }
}

/// The line for an answer that is no success.
pub(crate) fn failure(action: &str, name: &str, reply: &Result<Reply, NoAnswer>) -> String {
    match reply {
        Ok(Reply { status, text }) => {
            format!("Failed: {action} for member {name}, status code={status}, ({text})")
        }
        Err(silence) => format!("Failed: {action} for member {name}, {silence}"),
    }
}

fn outcome(name: &str, reply: &Result<Reply, NoAnswer>, loop_wait_s: u64) -> String {
    match reply.as_ref().map(|r| r.status) {
        Ok(200) => format!("No changes to apply on member {name}"),
        Ok(202) => format!(
            "Reload request received for member {name} and will be processed within {loop_wait_s} \
             seconds"
        ),
        _ => failure("reload", name, reply),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::args::{Members, RoleFilter};
    use crate::fixture::{move_apis, world};
    use crate::rest::answering::serve;

    #[tokio::test]
    async fn every_member_is_asked_and_answers_for_itself() {
        let (url, asked) = serve(vec![("POST /reload", 202, "reload scheduled".into())]).await;
        let (mut world, screen) = world("04-pending-restart", "");
        move_apis(&world, &url).await;
        let of = Members { cluster: "golden".into(), names: vec![], group: None };
        let args = Reload { of, role: RoleFilter::Any, force: true };
        run(&mut world, &args).await.unwrap();
        assert_eq!(asked.all().len(), 3);
        let last = screen.text().lines().last().unwrap().to_string();
        assert_eq!(
            last,
            "Reload request received for member n3 and will be processed within 2 seconds"
        );
    }

    #[test]
    fn failures_carry_their_reason() {
        let refused = Ok(Reply { status: 503, text: "busy".into() });
        let line = "Failed: reload for member n1, status code=503, (busy)";
        assert_eq!(outcome("n1", &refused, 2), line);
        let silence = Err(NoAnswer { url: "http://h/reload".into(), reason: "refused".into() });
        assert!(outcome("n1", &silence, 2).ends_with("gave no answer: refused"));
    }
}
