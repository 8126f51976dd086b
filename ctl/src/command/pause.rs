//! `pause` and `resume`: who is in charge, the operator or the daemons.

use crate::args::Pause;
use crate::rest::QUICK;
use crate::world::{Cluster, One, World};
use anyhow::{Result, bail};
use reqwest::Method;
use serde_json::json;
use std::time::Duration;
use topology::MemberName;

const POLL: Duration = Duration::from_millis(500);

pub(crate) async fn pause(world: &mut World, args: &Pause) -> Result<()> {
    let cluster = read(world, args).await?;
    let one = cluster.one()?;
    if one.view.is_paused() {
        bail!("Cluster is already paused");
    }
    request(world, &one, true).await?;
    finish(world, args, &cluster, true).await
}

pub(crate) async fn resume(world: &mut World, args: &Pause) -> Result<()> {
    let cluster = read(world, args).await?;
    let one = cluster.one()?;
    if !one.view.is_paused() {
        bail!("Cluster is not paused");
    }
    request(world, &one, false).await?;
    finish(world, args, &cluster, false).await
}

async fn read(world: &World, args: &Pause) -> Result<Cluster> {
    let scope = world.scope(args.of.cluster.as_deref())?;
    let cluster = world.read(&scope, world.own_group(args.of.group)).await?;
    cluster.one()?.readable_config()?;
    Ok(cluster)
}

/// Any member may take the request; the leader is asked first.
async fn request(world: &World, one: &One<'_>, paused: bool) -> Result<()> {
    let body = if paused { json!({"pause": true}) } else { json!({"pause": null}) };
    let mut refusals = Vec::new();
    for (name, url) in one.reachable() {
        match world.rest.call(Method::PATCH, &url, "config", Some(&body), QUICK).await {
            Ok(reply) if reply.status == 200 => return Ok(()),
            Ok(reply) => refusals.push(format!("{name}: {} {}", reply.status, reply.text)),
            Err(silence) => refusals.push(format!("{name}: {}", silence.reason)),
        }
    }
    match refusals.is_empty() {
        true => bail!("Can not find accessible cluster member"),
        false => bail!("Can not find accessible cluster member ({})", refusals.join("; ")),
    }
}

async fn finish(world: &mut World, args: &Pause, cluster: &Cluster, paused: bool) -> Result<()> {
    if args.wait {
        let word = if paused { "pause" } else { "resume" };
        let line = format!("'{word}' request sent, waiting until it is recognized by all nodes");
        world.terminal.say(&line)?;
        wait(world, cluster, paused).await?;
    }
    let state = if paused { "paused" } else { "resumed" };
    world.terminal.say(&format!("Success: cluster management is {state}"))
}

/// Until every member that was there says so in its own key.
async fn wait(world: &World, cluster: &Cluster, paused: bool) -> Result<()> {
    let limit = Duration::from_secs(cluster.loop_wait_s() + 1);
    let deadline = tokio::time::Instant::now() + limit;
    loop {
        let now = world.read(&cluster.scope, cluster.group).await?;
        let missing = unaware(&now, paused);
        if missing.is_empty() {
            return Ok(());
        }
        if tokio::time::Instant::now() >= deadline {
            let names = missing.join(", ");
            bail!("{names} did not recognize it within {} seconds", limit.as_secs());
        }
        tokio::time::sleep(POLL).await;
    }
}

fn unaware(cluster: &Cluster, paused: bool) -> Vec<String> {
    let others = cluster.members().into_iter().filter(|m| m.record.pause != paused);
    others.map(|m| MemberName::to_string(&m.name)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixture::{move_apis, world};
    use crate::rest::answering::serve;

    #[tokio::test]
    async fn a_state_that_is_there_already_is_an_error() {
        let (mut running, _) = world("02-three-nodes-default", "");
        let error = resume(&mut running, &args(false)).await.unwrap_err();
        assert_eq!(error.to_string(), "Cluster is not paused");
        let (mut paused, _) = world("11-paused", "");
        let error = pause(&mut paused, &args(false)).await.unwrap_err();
        assert_eq!(error.to_string(), "Cluster is already paused");
    }

    fn args(wait: bool) -> Pause {
        Pause { of: Default::default(), wait }
    }

    #[tokio::test]
    async fn the_leader_is_asked_and_the_answer_reported() {
        let (url, asked) = serve(vec![("PATCH /config", 200, "{}".into())]).await;
        let (mut world, screen) = world("11-paused", "");
        move_apis(&world, &url).await;
        resume(&mut world, &args(false)).await.unwrap();
        assert_eq!(asked.all(), [r#"PATCH /config {"pause":null}"#]);
        assert_eq!(screen.text(), "Success: cluster management is resumed\n");
    }

    #[tokio::test]
    async fn no_reachable_member_is_an_error_with_reasons() {
        let (url, _) = serve(vec![("PATCH /config", 401, "not authenticated".into())]).await;
        let (mut world, _) = world("02-three-nodes-default", "");
        move_apis(&world, &url).await;
        let error = pause(&mut world, &args(true)).await.unwrap_err().to_string();
        assert!(error.starts_with("Can not find accessible cluster member"), "{error}");
        assert_eq!(error.matches("401 not authenticated").count(), 3);
    }

    #[tokio::test]
    async fn waiting_needs_every_member() {
        let (world, _) = world("11-paused", "");
        let cluster = world.read("golden", None).await.unwrap();
        assert!(unaware(&cluster, true).is_empty());
        assert_eq!(unaware(&cluster, false), ["n1", "n2", "n3"]);
    }
}
