//! The writes of a group: what is written, and what it is decided on.
//!
//! Pure values, so that each decision can be read and tested in one place; the
//! daemon and the simulator perform the same ones.

use crate::ha::Publish;
use topology::cluster::Claim;
use topology::status::reads_legacy_optime;
use topology::write::{Acquisition, LeaderWrite, NewCluster, Release, Replacement};
use topology::{
    Failover, GroupView, Lsn, MemberName, Session, Status, SyncMode, SystemId, Timeline, Version,
    Versioned, Write,
};

fn version_of<T>(read: &Option<Versioned<T>>) -> Option<Version> {
    read.as_ref().map(|read| read.version)
}

/// Take the lock if no member has it. A request that named this member (or any
/// other) is answered by that, so it is cleared in the same write. A standby, now
/// on `mine`, claims the timeline that it will begin.
pub fn acquire(
    me: &MemberName,
    session: Session,
    view: &GroupView,
    mine: Option<Timeline>,
    here: Option<Lsn>,
) -> Write {
    let asked = view.failover.as_ref().filter(|f| f.value != Failover::default());
    Write::AcquireLock(Box::new(Acquisition {
        me: me.clone(),
        session,
        failsafe: version_of(&view.failsafe),
        status_on: version_of(&view.status).filter(|version| *version != Version::default()),
        sync: version_of(&view.sync),
        failover: version_of(&view.failover),
        request: asked.map(|failover| left_of(&failover.value, me, view)),
        claim: mine.map(|mine| claim_on(me, view, mine)),
        status: here.and_then(|here| given_up(me, view, here).or(kept_end(view, mine, here))),
    }))
}

/// The end that was handed over must outlive a member that takes the lock and never opens:
/// its own write ends the request that told so. With the same name as after an orderly stop
/// the next leader must have that end too.
fn kept_end(view: &GroupView, mine: Option<Timeline>, here: Lsn) -> Option<Status> {
    let leader = view.request().and_then(|request| request.leader.as_ref());
    let known = view.status.as_ref().filter(|_| view.is_handed_over())?;
    let end = known.value.optime;
    let is_had = mine.is_some() && here > end;
    // A leader that is gone for good cannot be waited for.
    let leader = leader.filter(|leader| view.members.contains_key(*leader));
    let timeline = known.value.ended_timeline.or(mine);
    leader.filter(|_| is_had).map(|leader| known.value.ended_by(leader, timeline, end))
}

/// An operator names a member that is behind the last known position. If that stayed in
/// `/status`, no member could lead after this one ends before its first report.
fn given_up(me: &MemberName, view: &GroupView, here: Lsn) -> Option<Status> {
    let is_named = view.request().is_some_and(|request| request.candidate.as_ref() == Some(me));
    let known = view.status.as_ref().filter(|known| is_named && known.value.optime > here)?;
    Some(known.value.moved_to(here))
}

/// What is left of a request once `me` took the lock. In pause only named
/// members are promoted: one that was not reached is still wanted.
///
/// Not in a synchronous mode: without its leader a planned switchover, which loses
/// nothing, would become a manual failover, which may go to any member that it names.
fn left_of(request: &Failover, me: &MemberName, view: &GroupView) -> Failover {
    let wanted = request.candidate.as_ref().filter(|candidate| *candidate != me);
    let mode = view.config.as_ref().map(|config| config.value.synchronous_mode);
    let in_sync = mode.is_some_and(|mode| mode != SyncMode::Off)
        && view.sync.as_ref().is_some_and(|sync| sync.value.is_active());
    match (view.is_paused() && request.leader.is_some() && !in_sync, wanted) {
        (true, Some(_)) => Failover { leader: None, ..request.clone() },
        _ => Failover::default(),
    }
}

/// Claim a timeline while holding the lock: it was taken without a claim.
pub fn claim(me: &MemberName, session: Session, view: &GroupView, mine: Timeline) -> Write {
    let write = LeaderWrite::ClaimTimeline(claim_on(me, view, mine));
    Write::AsLeader { session, write }
}

fn claim_on(me: &MemberName, view: &GroupView, mine: Timeline) -> Replacement<Claim> {
    let value = Claim { timeline: view.claimable(mine), by: me.clone() };
    Replacement { value, on: version_of(&view.claim) }
}

/// Release the lock, with the position that a successor must have. A handover writes
/// the request again in the same write: if `/status` and `/failover` have one version,
/// the leader completed it; if not, the leader died first. A leader that releases
/// without a request names itself as the old leader.
pub fn release(me: &MemberName, publish: Publish, view: &GroupView) -> Write {
    let known = || view.status.as_ref().map(|s| s.value.clone()).unwrap_or_default();
    let (status, lsn) = match publish {
        Publish::Handover(lsn, timeline) => {
            (Some(known().handed_over_at(timeline, lsn).released_by(me)), Some(lsn))
        }
        Publish::End(lsn, timeline) => {
            (Some(known().ended_by(me, timeline, lsn).released_by(me)), Some(lsn))
        }
        Publish::Nothing => (None, None),
    };
    let is_handover = matches!(publish, Publish::Handover(..));
    Write::ReleaseLock(Box::new(Release {
        me: me.clone(),
        on: version_of(&view.leader),
        status,
        legacy_optime: lsn.and_then(|lsn| legacy_optime(lsn, view)),
        request: is_handover.then(|| handed_over(me, view)),
    }))
}

fn handed_over(me: &MemberName, view: &GroupView) -> Replacement<Failover> {
    let made_room = || Failover { leader: Some(me.clone()), ..Failover::default() };
    let value = view.request().cloned().unwrap_or_else(made_room);
    Replacement { value, on: version_of(&view.failover) }
}

/// Answer a request: it asks for nothing any more, if it is still the one that was
/// seen.
pub fn clear_request(view: &GroupView) -> Option<Write> {
    let on = Some(view.failover.as_ref()?.version);
    let request = Replacement { value: Failover::default(), on };
    Some(Write::PutRequest { request, leader: None })
}

/// A new cluster, entered at once: system id, configuration, lock. It replaces
/// the own claim (`claim`), or nothing, if the store has forgotten that.
pub fn finish_bootstrap(
    me: &MemberName,
    session: Session,
    system: &SystemId,
    config: String,
    claim: Option<Version>,
    view: &GroupView,
) -> Write {
    Write::FinishBootstrap(Box::new(NewCluster {
        me: me.clone(),
        session,
        system: system.clone(),
        claim: claim.filter(|_| view.initialize.is_some()),
        config: view.missing_config().map(|on| Replacement { value: config, on }),
    }))
}

/// The leader's report, if it says anything new.
pub fn status(session: Session, status: &Status, view: &GroupView) -> Option<Write> {
    let is_new = view.status.as_ref().is_none_or(|known| known.value != *status);
    let legacy_optime = legacy_optime(status.optime, view);
    let status = is_new.then(|| Box::new(status.clone()));
    let says_something = status.is_some() || legacy_optime.is_some();
    let write = LeaderWrite::PutStatus { status, legacy_optime };
    says_something.then_some(Write::AsLeader { session, write })
}

/// The position as releases before `/status` read it, while one of them is here.
fn legacy_optime(lsn: Lsn, view: &GroupView) -> Option<Lsn> {
    let wanted = view.members.values().any(|m| reads_legacy_optime(&m.value));
    let is_new = view.legacy_optime != Some(lsn);
    (wanted && is_new).then_some(lsn)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::made_up::TakeSample;

    /// A planned switchover, seen by `n3` that takes the lock in pause.
    fn left(config: &str, sync: &str) -> Failover {
        let mut view = GroupView::default();
        view.take_sample("config", config, 1, 0);
        view.take_sample("sync", sync, 2, 0);
        let asked = Failover {
            leader: Some("n1".into()),
            candidate: Some("n2".into()),
            scheduled_at: None,
        };
        left_of(&asked, &"n3".into(), &view)
    }

    #[test]
    fn a_switchover_that_waits_in_pause_becomes_no_failover_that_may_lose_something() {
        let waits = Failover { candidate: Some("n2".into()), ..Failover::default() };
        let sync = r#"{"leader":"n1","sync_standby":null,"quorum":0}"#;
        assert_eq!(left(r#"{"pause":true}"#, sync), waits);
        assert_eq!(left("{}", sync), Failover::default());
        let on = r#"{"pause":true,"synchronous_mode":true}"#;
        assert_eq!(left(on, sync), Failover::default());
        assert_eq!(left(on, "{}"), waits, "no mode is in force");
    }
}
