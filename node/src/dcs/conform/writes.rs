//! The writes of the checks: each stands for one combination of conditions.

use crate::dcs::{Session, Version, Write};
use topology::cluster::Claim;
use topology::write::{Acquisition, LeaderWrite, NewCluster, Release, Replacement};
use topology::{Failover, MemberName, MemberRecord, Status, SystemId, Timeline};

/// One key in the place of what was read.
pub(super) fn config(value: &str, on: Option<Version>) -> Write {
    Write::ReplaceConfig(Replacement { value: value.to_string(), on })
}

/// The same for another key.
pub(super) fn request(on: Option<Version>) -> Write {
    let request = Replacement { value: Failover::default(), on };
    Write::PutRequest { request, leader: None }
}

/// One key on a lease and one without, where neither is there.
pub(super) fn acquire(me: &str, session: Session) -> Write {
    let claim = Claim { timeline: Timeline(2), by: MemberName::new(me) };
    Write::AcquireLock(Box::new(Acquisition {
        me: MemberName::new(me),
        session,
        failsafe: None,
        status_on: None,
        sync: None,
        failover: None,
        request: None,
        claim: Some(Replacement { value: claim, on: None }),
        status: None,
    }))
}

/// One key on a lease.
pub(super) fn record(name: &str, session: Session) -> Write {
    let record = Replacement { value: Box::new(MemberRecord::default()), on: None };
    Write::PutRecord { me: MemberName::new(name), session, record }
}

/// One key, while another one hangs on this lease.
pub(super) fn as_leader(session: Session) -> Write {
    Write::AsLeader { session, write: LeaderWrite::PutHistory(Vec::new()) }
}

/// Two keys and perhaps a third, each of which must be absent.
pub(super) fn made(session: Session, config: Option<Replacement<String>>) -> Write {
    let (me, system) = (MemberName::new("a"), SystemId("7".to_string()));
    Write::FinishBootstrap(Box::new(NewCluster { me, session, system, claim: None, config }))
}

/// One key is put and another one deleted.
pub(super) fn release(me: &str, status: Status) -> Write {
    Write::ReleaseLock(Box::new(Release {
        me: MemberName::new(me),
        on: None,
        status: Some(status),
        legacy_optime: None,
        request: None,
    }))
}

/// Many keys and a whole prefix are deleted.
pub(super) fn remove(leader: Option<&str>) -> Write {
    Write::RemoveGroup { leader: leader.map(MemberName::new), others: Vec::new() }
}
