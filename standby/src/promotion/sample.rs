//! A member that races, for the tests of this directory.
//!
//! Invariant: all are standbys on timeline 1 until a test says otherwise.

use super::{NotYet, PeerAnswer, PeerStatus, RaceLimits, Racer, may_race};
use crate::made_up::TakeSample;
use topology::{GroupView, Lsn, MemberName, SyncMode, Tags, Timeline};

pub(super) fn answer(name: &str, lsn: u64) -> PeerAnswer {
    let status = PeerStatus {
        in_recovery: true,
        lsn: Lsn(lsn),
        timeline: Some(Timeline(1)),
        nofailover: false,
        failover_priority: 1,
        watchdog_failed: false,
        disk_failed: false,
    };
    PeerAnswer { name: name.into(), status: Some(status) }
}

pub(super) fn view(optime: u64, failover: &str) -> GroupView {
    let mut view = GroupView::default();
    view.take_sample("status", &format!("{{\"optime\":{optime}}}"), 1, 0);
    view.take_sample("failover", failover, 2, 0);
    view
}

pub(super) const LIMITS: RaceLimits<'static> = RaceLimits {
    maximum_lag: 100,
    check_timeline: false,
    failsafe_mode: false,
    mode: SyncMode::Off,
    token: None,
};

pub(super) fn race(lsn: u64, peers: &[PeerAnswer], view: &GroupView) -> Result<(), NotYet> {
    race_in(SyncMode::Off, lsn, peers, view)
}

pub(super) fn race_in(
    mode: SyncMode,
    lsn: u64,
    peers: &[PeerAnswer],
    view: &GroupView,
) -> Result<(), NotYet> {
    let (name, tags) = (MemberName::new("me"), Tags::default());
    let former_leader = None;
    let timeline = Some(Timeline(1));
    let me = Racer { name: &name, tags: &tags, lsn: Lsn(lsn), timeline, former_leader };
    may_race(&me, peers, view, RaceLimits { mode, ..LIMITS })
}
