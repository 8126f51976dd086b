//! `switchover` and `failover`: make another member the leader.
//!
//! The request goes to the leader's API, which checks and answers. Only when
//! no API answers it is written to the store, where the members find it.

use crate::args;
use crate::moment;
use crate::rest::{NoAnswer, Reply};
use crate::world::{Cluster, One, World};
use anyhow::{Result, bail};
use reqwest::Method;
use serde_json::{Map, Value};
use std::time::Duration;
use topology::report::{Role, synchronous_mode};
use topology::write::Replacement;
use topology::{Failover, GroupView, MemberName, SyncMode, Write};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Action {
    Switchover,
    Failover,
}

impl Action {
    fn text(self) -> &'static str {
        match self {
            Action::Switchover => "switchover",
            Action::Failover => "failover",
        }
    }

    fn title(self) -> &'static str {
        match self {
            Action::Switchover => "Switchover",
            Action::Failover => "Failover",
        }
    }
}

/// What was given on the command line.
pub(crate) struct Request {
    action: Action,
    of: args::OneCluster,
    leader: Option<String>,
    candidate: Option<String>,
    scheduled: Option<String>,
    force: bool,
}

impl From<args::Switchover> for Request {
    fn from(args: args::Switchover) -> Request {
        let args::Switchover { of, leader, candidate, scheduled, force } = args;
        Request { action: Action::Switchover, of, leader, candidate, scheduled, force }
    }
}

impl From<args::Failover> for Request {
    fn from(args: args::Failover) -> Request {
        let args::Failover { of, candidate, force } = args;
        let action = Action::Failover;
        Request { action, of, leader: None, candidate, scheduled: None, force }
    }
}

pub(crate) async fn run(world: &mut World, request: Request) -> Result<()> {
    let scope = world.scope(request.of.cluster.as_deref())?;
    let mut cluster = world.read(&scope, request.of.group).await?;
    world.terminal.say("Current cluster topology")?;
    world.show(&cluster)?;
    if cluster.is_citus && cluster.group.is_none() {
        let group = ask_group(world, &request)?;
        cluster = world.read(&scope, Some(group)).await?;
    }
    let one = cluster.one()?;
    let wish = wish(world, &request, &cluster, &one)?;
    match send(world, request.action, &cluster, &one, &wish).await {
        Ok(reply) => report(world, request.action, &cluster, &reply).await,
        Err(silence) => write_directly(world, &cluster, &one, &wish, &silence).await,
    }
}

fn ask_group(world: &mut World, request: &Request) -> Result<u32> {
    if request.force {
        bail!("For Citus clusters the --group must be specified");
    }
    world.terminal.ask_number("Citus group")
}

/// Asks for what was not given and checks all of it.
fn wish(world: &mut World, request: &Request, cluster: &Cluster, one: &One) -> Result<Failover> {
    let leader = match request.action {
        Action::Switchover => Some(leader(world, request, cluster, one.view)?),
        Action::Failover => None,
    };
    let candidate = candidate(world, request, cluster, one.view)?;
    if request.action == Action::Failover {
        confirm_asynchronous(world, request, one.view, candidate.as_ref())?;
    }
    let scheduled_at = schedule(world, request, one.view)?;
    let wish = Failover { leader, candidate, scheduled_at };
    if !request.force {
        world.terminal.confirm(&question(request.action, &cluster.scope, one.view, &wish))?;
    }
    Ok(wish)
}

fn leader(
    world: &mut World,
    request: &Request,
    cluster: &Cluster,
    view: &GroupView,
) -> Result<MemberName> {
    let Some(current) = view.leader_name() else {
        bail!("This cluster has no leader");
    };
    let given = match &request.leader {
        Some(given) => given.clone(),
        None if request.force => current.to_string(),
        None => {
            let is_standby = Role::of(view, current) == Role::StandbyLeader;
            let label = if is_standby { "Standby Leader" } else { "Primary" };
            world.terminal.ask(label, Some(current.as_str()))?
        }
    };
    if given != current.as_str() {
        bail!("Member {given} is not the leader of cluster {}", cluster.scope);
    }
    Ok(current.clone())
}

fn candidates(view: &GroupView) -> Vec<String> {
    let may_lead = |name: &MemberName| {
        Some(name) != view.leader_name() && view.member(name).is_some_and(|m| !m.tags.nofailover())
    };
    view.members.keys().filter(|name| may_lead(name)).map(MemberName::to_string).collect()
}

fn candidate(
    world: &mut World,
    request: &Request,
    cluster: &Cluster,
    view: &GroupView,
) -> Result<Option<MemberName>> {
    let all = candidates(view);
    if all.is_empty() {
        bail!("No candidates found to {} to", request.action.text());
    }
    let given = match &request.candidate {
        Some(given) => given.clone(),
        None if request.force => String::new(),
        None => {
            let names: Vec<String> = all.iter().map(|name| format!("'{name}'")).collect();
            world.terminal.ask(&format!("Candidate [{}]", names.join(", ")), Some(""))?
        }
    };
    if given.is_empty() {
        if request.action == Action::Failover {
            bail!("Failover could be performed only to a specific candidate");
        }
        return Ok(None);
    }
    if view.leader_name().is_some_and(|leader| leader.as_str() == given) {
        bail!("Member {given} is already the leader of cluster {}", cluster.scope);
    }
    if !all.contains(&given) {
        let scope = &cluster.scope;
        bail!("Member {given} does not exist in cluster {scope} or is tagged as nofailover");
    }
    Ok(Some(MemberName::new(given)))
}

/// A failover to a member that may lack acknowledged writes needs a second yes.
fn confirm_asynchronous(
    world: &mut World,
    request: &Request,
    view: &GroupView,
    candidate: Option<&MemberName>,
) -> Result<()> {
    let (Some(candidate), Some(sync)) = (candidate, &view.sync) else {
        return Ok(());
    };
    let is_safe = sync.value.is_member(candidate) || !sync.value.is_active();
    if is_safe || request.force {
        return Ok(());
    }
    let kind = match synchronous_mode(view) {
        SyncMode::Quorum => "quorum",
        SyncMode::On => "synchronous",
        SyncMode::Off => return Ok(()),
    };
    world.terminal.confirm(&format!(
        "Are you sure you want to failover to the asynchronous node {candidate}? It is no {kind} \
         standby, acknowledged writes may be lost"
    ))
}

fn schedule(world: &mut World, request: &Request, view: &GroupView) -> Result<Option<String>> {
    if request.action == Action::Failover {
        return Ok(None);
    }
    let text = match &request.scheduled {
        Some(text) => text.clone(),
        None if request.force => "now".to_string(),
        None => {
            let example = moment::example(&world.now());
            let when = format!("When should the switchover take place (e.g. {example} ) ");
            world.terminal.ask(&when, Some("now"))?
        }
    };
    let at = moment::parse_schedule(&text)?;
    if at.is_some() && view.is_paused() {
        bail!("Can't schedule switchover in the paused state");
    }
    Ok(at)
}

fn question(action: Action, scope: &str, view: &GroupView, wish: &Failover) -> String {
    let demoting = view
        .leader_name()
        .map_or(String::new(), |leader| format!(", demoting current leader {leader}"));
    let action = action.text();
    match &wish.scheduled_at {
        Some(at) => {
            format!(
                "Are you sure you want to schedule {action} of cluster {scope} at {at}{demoting}?"
            )
        }
        None => format!("Are you sure you want to {action} cluster {scope}{demoting}?"),
    }
}

fn body(wish: &Failover) -> Value {
    let mut body = Map::new();
    body.extend(wish.candidate.as_ref().map(|n| ("candidate".to_string(), n.as_str().into())));
    body.extend(wish.leader.as_ref().map(|n| ("leader".to_string(), n.as_str().into())));
    let at = wish.scheduled_at.as_ref();
    body.extend(at.map(|at| ("scheduled_at".to_string(), at.as_str().into())));
    Value::Object(body)
}

/// Asks the leader, or the candidate when there is no leader.
async fn send(
    world: &World,
    action: Action,
    cluster: &Cluster,
    one: &One<'_>,
    wish: &Failover,
) -> Result<Reply, NoAnswer> {
    let asked = one.view.leader_record().or_else(|| one.view.member(wish.candidate.as_ref()?));
    let Some(url) = asked.and_then(|record| record.api_url.clone()) else {
        let reason = "no member to ask has published its API".to_string();
        return Err(NoAnswer { url: cluster.scope.clone(), reason });
    };
    let wait_max = Duration::from_secs(2 * cluster.loop_wait_s().max(10) + 10);
    let body = body(wish);
    let call = |endpoint| world.rest.call(Method::POST, &url, endpoint, Some(&body), wait_max);
    let reply = call(action.text()).await?;
    if action == Action::Switchover && reply.status == 501 {
        return call(Action::Failover.text()).await;
    }
    Ok(reply)
}

async fn report(world: &mut World, action: Action, cluster: &Cluster, reply: &Reply) -> Result<()> {
    let Reply { status, text } = reply;
    if !matches!(status, 200 | 202) {
        let is_unknown = text.contains("status unknown");
        let how = if is_unknown { "result unknown" } else { "failed" };
        let title = action.title();
        world.terminal.say(&format!("{title} {how}, details: {status}, {text}"))?;
        match is_unknown {
            true => bail!("it may still take place: see `list`"),
            false => bail!("the {} did not take place", action.text()),
        }
    }
    let stamp = moment::stamp(&world.now());
    world.terminal.say(&format!("{stamp} {text}"))?;
    let cluster = world.read(&cluster.scope, cluster.group).await?;
    world.show(&cluster)
}

async fn write_directly(
    world: &mut World,
    cluster: &Cluster,
    one: &One<'_>,
    wish: &Failover,
    silence: &NoAnswer,
) -> Result<()> {
    world.terminal.note(&format!("{silence}; writing the request to the store"))?;
    let read_at = one.view.failover.as_ref().map(|f| f.version);
    let request = Replacement { value: wish.clone(), on: read_at };
    if !world.write(&one.keys, &Write::PutRequest { request, leader: None }).await? {
        bail!("{} was changed meanwhile; look again", one.keys.failover());
    }
    let cluster = world.read(&cluster.scope, cluster.group).await?;
    world.show(&cluster)
}

#[cfg(test)]
#[path = "switchover_tests.rs"]
mod tests;
