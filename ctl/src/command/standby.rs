//! `demote-cluster` and `promote-cluster`: a whole cluster follows another one from now on, or
//! opens.
//!
//! The leader's API takes the change of `/config`; the members do the rest. The command waits
//! until their records say that it is done.

use crate::args::{DemoteCluster, OneCluster, PromoteCluster};
use crate::moment;
use crate::rest::QUICK;
use crate::world::{Cluster, World};
use anyhow::{Result, bail};
use node::dcs::keys::Keys;
use reqwest::Method;
use serde_json::{Map, Value, json};
use std::time::Duration;
use topology::{GroupView, MemberName, MemberRecord, MemberRole};

const POLL: Duration = Duration::from_secs(1);
/// A demotion ends with a shutdown checkpoint and its archiving, a promotion with the replay of
/// what was received.
const WAIT_MAX: Duration = Duration::from_secs(600);

const RUNNING: &str = "running";

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Action {
    Demote,
    Promote,
}

impl Action {
    fn text(self) -> &'static str {
        match self {
            Action::Demote => "demote",
            Action::Promote => "promote",
        }
    }

    /// The role of the leader at the end.
    fn wanted(self) -> MemberRole {
        match self {
            Action::Demote => MemberRole::StandbyLeader,
            Action::Promote => MemberRole::Primary,
        }
    }
}

pub(crate) async fn demote(world: &mut World, args: &DemoteCluster) -> Result<()> {
    let section = section(args);
    let activates = ["host", "port", "restore_command"];
    if !activates.iter().any(|key| section.contains_key(*key)) {
        bail!("at least one of --host, --port and --restore-command is needed");
    }
    change(world, Action::Demote, &args.of, args.force, Value::Object(section)).await
}

pub(crate) async fn promote(world: &mut World, args: &PromoteCluster) -> Result<()> {
    change(world, Action::Promote, &args.of, args.force, Value::Null).await
}

/// The section that makes the cluster follow another one.
fn section(args: &DemoteCluster) -> Map<String, Value> {
    let text = |text: &Option<String>| text.clone().filter(|t| !t.is_empty()).map(Value::from);
    // Several hosts may have a port each.
    let number = |port: &String| port.parse::<u16>().map_or_else(|_| json!(port), Value::from);
    let all = [
        ("host", text(&args.host)),
        ("port", args.port.as_ref().filter(|port| !port.is_empty()).map(number)),
        ("restore_command", text(&args.restore_command)),
        ("primary_slot_name", text(&args.primary_slot_name)),
    ];
    all.into_iter().filter_map(|(key, value)| Some((key.to_string(), value?))).collect()
}

async fn change(
    world: &mut World,
    action: Action,
    of: &OneCluster,
    force: bool,
    section: Value,
) -> Result<()> {
    let scope = world.scope(of.cluster.as_deref())?;
    let cluster = world.read(&scope, world.own_group(of.group)).await?;
    let one = cluster.one()?;
    one.readable_config()?;
    let (leader, record) = leader_to_change(action, &scope, one.view)?;
    if action == Action::Demote && has_regions(world, &one.keys).await? {
        bail!(
            "cluster {scope} has regions, and they decide where it is primary: use `matriarchctl \
             region switch`"
        );
    }
    world.terminal.say("Current cluster topology")?;
    world.show(&cluster)?;
    if !force {
        let action = action.text();
        let question = format!("Are you sure you want to {action} cluster {scope}?");
        world.terminal.confirm(&question)?;
    }
    let body = json!({ "standby_cluster": section });
    request(world, &leader, &record, &body).await?;
    let cluster = wait(world, action, &cluster, &leader).await?;
    world.terminal.say(&format!("Success: cluster {scope} is {}d", action.text()))?;
    world.show(&cluster)
}

/// An owner region would stay open, and its `/primary` would say that it is not.
async fn has_regions(world: &World, keys: &Keys) -> Result<bool> {
    let register = keys.topology("register");
    let there = world.store.read(std::slice::from_ref(&register)).await?;
    Ok(world.settings.topology.is_some() || !there.entries.is_empty())
}

/// The leader, whose role is to change.
fn leader_to_change(
    action: Action,
    scope: &str,
    view: &GroupView,
) -> Result<(MemberName, MemberRecord)> {
    let found = view.leader_name().zip(view.leader_record());
    let Some((name, record)) = found else {
        bail!("cluster {scope} has no leader: it cannot be {}d", action.text());
    };
    let config = view.config.as_ref();
    let follows = config.is_some_and(|config| config.value.standby_cluster.is_some());
    // A section that no server goes by is taken out all the same.
    let is_done = record.role == action.wanted() && (action == Action::Demote || !follows);
    if is_done {
        let is = match action {
            Action::Demote => "follows another one already",
            Action::Promote => "is no standby cluster",
        };
        bail!("cluster {scope} {is}: its leader {name} is {}", record.role.text());
    }
    if action == Action::Promote && !follows {
        bail!(
            "cluster {scope} follows no cluster by its `standby_cluster`: of regions another one is \
             made the owner with `matriarchctl region switch`"
        );
    }
    if view.is_paused() {
        bail!("cluster {scope} is paused, and nothing would happen: resume it first");
    }
    Ok((name.clone(), record.clone()))
}

async fn request(
    world: &World,
    leader: &MemberName,
    record: &MemberRecord,
    body: &Value,
) -> Result<()> {
    let Some(url) = &record.api_url else { bail!("the leader {leader} has published no API") };
    let reply = world.rest.call(Method::PATCH, url, "config", Some(body), QUICK).await?;
    match reply.status {
        200 => Ok(()),
        status => bail!("the leader {leader} refused it: {status}, {}", reply.text),
    }
}

/// Until the leader has its new role and the one that was asked runs again; with a line a second.
async fn wait(
    world: &mut World,
    action: Action,
    before: &Cluster,
    asked: &MemberName,
) -> Result<Cluster> {
    let deadline = tokio::time::Instant::now() + WAIT_MAX;
    loop {
        let cluster = world.read(&before.scope, before.group).await?;
        let Some(missing) = missing(action, cluster.one()?.view, asked) else {
            return Ok(cluster);
        };
        if tokio::time::Instant::now() >= deadline {
            let limit = WAIT_MAX.as_secs();
            bail!(
                "not done within {limit} seconds, and under way still: {missing}; see `list`, and \
                 the log of that member"
            );
        }
        let stamp = moment::stamp(&world.now());
        world.terminal.say(&format!("{stamp} waiting: {missing}"))?;
        tokio::time::sleep(POLL).await;
    }
}

/// What is awaited; `None`: it is done.
fn missing(action: Action, view: &GroupView, asked: &MemberName) -> Option<String> {
    let Some(leader) = view.leader_name() else { return Some("there is no leader".into()) };
    let is = |name: &MemberName| match view.member(name) {
        Some(record) => format!("{name} is {}, {}", record.role.text(), record.state),
        None => format!("{name} has no record"),
    };
    let runs = |name: &MemberName| view.member(name).is_some_and(|m| m.state == RUNNING);
    let leads = view.member(leader).is_some_and(|m| m.role == action.wanted());
    if !leads || !runs(leader) {
        return Some(format!("the leader {}", is(leader)));
    }
    (action == Action::Demote && !runs(asked)).then(|| is(asked))
}

#[cfg(test)]
#[path = "standby_tests.rs"]
mod tests;
