//! `POST /switchover`, `POST /failover`, `DELETE /switchover`.
//!
//! The request is checked, written to `/failover` on the version that was
//! read, and then the daemons move the leader. The answer comes when the new
//! leader holds the key, seen in what the own daemon publishes: there is no
//! poll between the event and the answer.

use super::answer::Answer;
use super::look::{Api, unavailable};
use super::published::Published;
use super::schedule::{BadMoment, future_moment};
use axum::http::StatusCode;
use jiff::Timestamp;
use serde_json::{Map, Value};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;
use topology::report::synchronous_mode;
use topology::write::Replacement;
use topology::{Failover, GroupView, MemberName, SyncMode, Version, Write};

/// How often the request is written again after another writer was first.
const WRITE_TRIES_MAX: usize = 3;
/// The answer comes after twice this, or twice `loop_wait` if that is longer.
const WAIT_MIN: Duration = Duration::from_secs(10);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Switchover,
    Failover,
}

impl Kind {
    fn word(self) -> &'static str {
        match self {
            Kind::Switchover => "switchover",
            Kind::Failover => "failover",
        }
    }

    fn title(self) -> &'static str {
        match self {
            Kind::Switchover => "Switchover",
            Kind::Failover => "Failover",
        }
    }

    fn done(self) -> &'static str {
        match self {
            Kind::Switchover => "switched",
            Kind::Failover => "failed",
        }
    }
}

/// What was asked for, as far as the body alone can be judged.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Move {
    pub kind: Kind,
    pub leader: Option<MemberName>,
    pub candidate: Option<MemberName>,
    scheduled_at: Option<String>,
}

fn bad(text: &str) -> Answer {
    Answer::text(StatusCode::BAD_REQUEST, text)
}

fn impossible(text: impl Into<String>) -> Answer {
    Answer::text(StatusCode::PRECONDITION_FAILED, text)
}

/// Judges the body; `paused` is the group's.
pub(super) fn read_move(
    kind: Kind,
    body: &Map<String, Value>,
    paused: bool,
) -> Result<Move, Answer> {
    let text = |key: &str| body.get(key).and_then(Value::as_str).filter(|s| !s.is_empty());
    let leader = text("leader").map(MemberName::from);
    let candidate = text("candidate").or_else(|| text("member")).map(MemberName::from);
    match kind {
        Kind::Failover if candidate.is_none() => {
            return Err(bad("Failover could be performed only to a specific candidate"));
        }
        Kind::Switchover if leader.is_none() => {
            return Err(bad("Switchover could be performed only from a specific leader"));
        }
        _ => {}
    }
    let scheduled_at = match body.get("scheduled_at").filter(|v| !v.is_null()) {
        None => None,
        Some(_) if kind == Kind::Failover => return Err(bad("Failover can't be scheduled")),
        Some(_) if paused => {
            return Err(bad("Can't schedule switchover in the paused state"));
        }
        Some(value) => Some(moment(value)?),
    };
    if paused && candidate.is_none() {
        return Err(bad("Switchover is possible only to a specific candidate in a paused state"));
    }
    if leader.is_some() && leader == candidate {
        return Err(bad("Switchover target and source are the same"));
    }
    let kind = if leader.is_some() { Kind::Switchover } else { kind };
    Ok(Move { kind, leader, candidate, scheduled_at })
}

fn moment(value: &Value) -> Result<String, Answer> {
    let text = value.as_str().unwrap_or_default();
    future_moment(text, Timestamp::now()).map_err(|error| match error {
        BadMoment::NoZone => bad("Timezone information is mandatory for the scheduled switchover"),
        BadMoment::Past => {
            Answer::text(StatusCode::UNPROCESSABLE_ENTITY, "Cannot schedule switchover in the past")
        }
        BadMoment::Unreadable => Answer::text(
            StatusCode::UNPROCESSABLE_ENTITY,
            "Unable to parse scheduled timestamp. It should be in an unambiguous format, \
             e.g. ISO 8601",
        ),
    })
}

/// Who could take over, by the store alone, with their API's addresses.
/// `synchronous`: only standbys that `/sync` names, but for a failover to a member
/// that was named. In quorum mode the leader counts who is able.
fn candidates(
    wanted: &Move,
    view: &GroupView,
    synchronous: bool,
) -> Result<Vec<(MemberName, String)>, Answer> {
    let leader = view.leader_name();
    if wanted.leader.is_some() && wanted.leader.as_ref() != leader {
        return Err(impossible("leader name does not match"));
    }
    let in_sync = |name: &MemberName| view.sync.as_ref().is_some_and(|s| s.value.is_standby(name));
    if let Some(candidate) = &wanted.candidate {
        if wanted.kind == Kind::Switchover && synchronous && !in_sync(candidate) {
            return Err(impossible("candidate name does not match with sync_standby"));
        }
        if !view.members.contains_key(candidate) {
            return Err(impossible("candidate does not exists"));
        }
    }
    let counts = |name: &MemberName| match &wanted.candidate {
        Some(candidate) => candidate == name,
        None => Some(name) != leader && (!synchronous || in_sync(name)),
    };
    let found: Vec<(MemberName, String)> = view
        .members
        .iter()
        .filter(|(name, _)| counts(name))
        .filter_map(|(name, member)| Some((name.clone(), member.value.api_url.clone()?)))
        .collect();
    if found.is_empty() && wanted.candidate.is_none() {
        let why = if synchronous {
            "can not find sync_standby"
        } else {
            "cluster does not have members except leader"
        };
        return Err(impossible(format!("{} is not possible: {why}", wanted.kind.word())));
    }
    Ok(found)
}

/// On, and not `quorum`; without meaning in a group that follows another one.
fn is_synchronous(api: &Api, view: &GroupView) -> bool {
    synchronous_mode(view) == SyncMode::On && !api.published().standby_group
}

pub(super) async fn post(
    api: &Api,
    kind: Kind,
    body: Map<String, Value>,
) -> Result<Answer, Answer> {
    let view = api.read_group().await?;
    let wanted = read_move(kind, &body, view.is_paused())?;
    if wanted.scheduled_at.is_some() {
        write(api, &wanted, view).await?;
        api.wake();
        return Ok(Answer::text(StatusCode::ACCEPTED, "Switchover scheduled"));
    }
    let found = candidates(&wanted, &view, is_synchronous(api, &view))?;
    let old = view.leader_name().cloned();
    if wanted.candidate.is_some() && wanted.candidate == old {
        return Err(failed(wanted.kind));
    }
    let answers = api.rules().peers.statuses(&found).await;
    let able = |answer: &standby::promotion::PeerAnswer| {
        answer.status.as_ref().is_some_and(standby::promotion::PeerStatus::is_eligible)
    };
    if !answers.iter().any(able) {
        let word = wanted.kind.word();
        return Err(impossible(format!(
            "{word} is not possible: no good candidates have been found"
        )));
    }
    let since = write(api, &wanted, view).await?;
    api.wake();
    let published = api.context.published.clone();
    let patience = patience(published.borrow().loop_wait_ms);
    await_leader(published, &wanted, old.as_ref(), since, patience).await
}

/// Returns the version after which `/failover` speaks of this request.
async fn write(api: &Api, wanted: &Move, mut view: GroupView) -> Result<Option<Version>, Answer> {
    let value = Failover {
        leader: wanted.leader.clone(),
        candidate: wanted.candidate.clone(),
        scheduled_at: wanted.scheduled_at.clone(),
    };
    for _ in 0..WRITE_TRIES_MAX {
        let seen = view.failover.as_ref().map(|f| f.version);
        let now = wanted.scheduled_at.is_none();
        // A request that names the old leader makes sense only while that member leads.
        let leader = wanted.leader.clone().filter(|_| now);
        let request = Replacement { value: value.clone(), on: seen };
        if api.write(&Write::PutRequest { request, leader }).await? {
            return Ok(seen);
        }
        view = api.read_group().await?;
        if now {
            candidates(wanted, &view, is_synchronous(api, &view))?;
        }
    }
    Err(unavailable("failed to write failover key into DCS"))
}

fn failed(kind: Kind) -> Answer {
    unavailable(format!("{} failed", kind.title()))
}

/// How a request stands in one picture of the group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Standing {
    Moved(MemberName),
    /// The request was taken back and the old leader leads.
    Refused,
    Pending,
}

/// Pure: `/failover` speaks of us at versions after `since`.
pub(super) fn standing(
    view: &GroupView,
    old: Option<&MemberName>,
    since: Option<Version>,
) -> Standing {
    match view.leader_name() {
        Some(leader) if Some(leader) != old => Standing::Moved(leader.clone()),
        // Between two leaders: the member that cleared the request is about to lead.
        None => Standing::Pending,
        Some(_) => {
            let failover = view.failover.as_ref().filter(|f| Some(f.version) > since);
            let taken_back = failover.is_some() && view.request().is_none();
            if taken_back { Standing::Refused } else { Standing::Pending }
        }
    }
}

/// How long the answer is waited for.
fn patience(loop_wait_ms: u64) -> Duration {
    2 * WAIT_MIN.max(Duration::from_millis(loop_wait_ms))
}

async fn await_leader(
    mut published: watch::Receiver<Arc<Published>>,
    wanted: &Move,
    old: Option<&MemberName>,
    since: Option<Version>,
    patience: Duration,
) -> Result<Answer, Answer> {
    let deadline = tokio::time::Instant::now() + patience;
    loop {
        let view = published.borrow_and_update().view.clone();
        let standing = view.map_or(Standing::Pending, |view| standing(&view, old, since));
        match standing {
            Standing::Moved(leader) => return Ok(moved(wanted, &leader)),
            Standing::Refused => return Err(failed(wanted.kind)),
            Standing::Pending => {}
        }
        let news = tokio::time::timeout_at(deadline, published.changed()).await;
        if !matches!(news, Ok(Ok(()))) {
            return Err(unavailable(format!("{} status unknown", wanted.kind.title())));
        }
    }
}

fn moved(wanted: &Move, leader: &MemberName) -> Answer {
    let done = wanted.kind.done();
    let text = match &wanted.candidate {
        Some(candidate) if candidate != leader => {
            format!("Successfully {done} over to \"{leader}\" instead of \"{candidate}\"")
        }
        _ => format!("Successfully {done} over to \"{leader}\""),
    };
    Answer::text(StatusCode::OK, text)
}

/// Takes a scheduled switchover back.
pub(super) async fn delete(api: &Api) -> Result<Answer, Answer> {
    let view = api.read_group().await?;
    let scheduled = view.request().is_some_and(|request| request.scheduled_at.is_some());
    let Some(seen) = view.failover.as_ref().filter(|_| scheduled).map(|f| f.version) else {
        return Err(Answer::text(StatusCode::NOT_FOUND, "no switchover is scheduled"));
    };
    let request = Replacement { value: Failover::default(), on: Some(seen) };
    if !api.write(&Write::PutRequest { request, leader: None }).await? {
        return Err(Answer::text(
            StatusCode::CONFLICT,
            "failed to delete the scheduled switchover: it was changed meanwhile",
        ));
    }
    api.wake();
    Ok(Answer::text(StatusCode::OK, "scheduled switchover deleted"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::answer::Shape;
    use crate::api::tests::published;

    fn switchover() -> Move {
        let body = serde_json::json!({"leader": "n1", "candidate": "n2"});
        let body = body.as_object().expect("a map").clone();
        read_move(Kind::Switchover, &body, false).expect("a good request")
    }

    #[tokio::test]
    async fn what_does_not_come_in_time_is_unknown_and_not_called_a_failure() {
        let (_publish, receiver) = watch::channel(Arc::new(published("n1")));
        let (old, short) = (MemberName::new("n1"), Duration::from_millis(30));
        let answer = await_leader(receiver, &switchover(), Some(&old), None, short).await;
        let answer = answer.expect_err("nobody leads");
        let Shape::Text(text) = &answer.body else { panic!("{answer:?}") };
        assert_eq!((answer.status.as_u16(), text.as_str()), (503, "Switchover status unknown"));
    }

    #[test]
    fn twice_the_longer_of_a_loop_and_ten_seconds_is_waited() {
        assert_eq!(patience(2_000), Duration::from_secs(20));
        assert_eq!(patience(30_000), Duration::from_secs(60));
    }
}
