//! A leader that follows another cluster: what it does with requests, and what it says of
//! a remote side that gives it nothing.

use crate::ha::action::{Action, Publish, Step};
use crate::ha::facts::Facts;
use crate::ha::observation::{End, Observation, Process, ServerRole, Shut, ShutdownState};
use crate::ha::sample::{NOW, answer, leader, standby_of};
use crate::ha::{Outcome, decide};
use crate::made_up::TakeSample;
use standby::promotion::PeerAnswer;
use standby::rewind::{LocalEnd, Tail};
use standby::switch::ownership::Ownership;
use topology::dynamic::StandbyCluster;
use topology::{Lsn, Millis, Seen, Timeline};

/// It streams from `far`.
fn standby_leader() -> Observation {
    let mut o = leader();
    o.dynamic.standby_cluster =
        Some(StandbyCluster { host: Some("host-far".into()), port: 5432, primary_slot_name: None });
    o.postgres.process = standby_of(Some("far"));
    if let Process::Running(server) = &mut o.postgres.process
        && let Seen::Known(ServerRole::Standby { follows, .. }) = &mut server.role
        && let Some(follows) = follows
    {
        follows.slot = None;
    }
    o
}

fn see(o: &mut Observation, key: &str, value: &str) {
    let Seen::Known(view) = &mut o.store else { panic!("the store is known here") };
    view.take_sample(key, value, 7, 1);
}

fn peer(lsn: u64) -> Vec<PeerAnswer> {
    vec![answer("a", lsn)]
}

/// The request was seen at this moment, at the position of `standby_leader`.
fn asked(request: &str) -> Observation {
    let mut o = standby_leader();
    see(&mut o, "failover", request);
    let mut memory = o.memory.clone();
    memory.update_from(&o);
    o.memory = memory;
    assert_eq!(o.memory.request_seen, Some((Millis(NOW), Lsn(1_000))));
    o
}

#[test]
fn a_standby_leader_gives_its_lock_away_and_nothing_stops() {
    assert_eq!(decide(&standby_leader()).rule, 729);
    for request in [r#"{"leader":"me","member":"a"}"#, r#"{"leader":"me"}"#, r#"{"member":"a"}"#] {
        let mut o = asked(request);
        assert_eq!(decide(&o).rule, 751, "{request}");
        o.peers = Some(peer(999));
        assert_eq!(decide(&o).rule, 754, "it lacks what this one had");
        o.peers = Some(peer(1_000));
        let decision = decide(&o);
        assert_eq!(decision.rule, 752);
        assert_eq!(
            decision.step,
            Step::Do(Action::ReleaseLock { publish: Publish::Nothing }),
            "{request}"
        );
        // Not for ever.
        o.peers = Some(peer(999));
        o.now = Millis(NOW + 5_000);
        assert_eq!((decide(&o).rule, decide(&o).step), (753, Step::Do(Action::ClearRequest)));
    }
    for elsewhere in [r#"{"leader":"b","member":"a"}"#, r#"{"member":"me"}"#] {
        assert_eq!(decide(&asked(elsewhere)).rule, 750, "{elsewhere}");
    }
}

#[test]
fn in_pause_a_standby_leader_is_not_replaced() {
    let mut o = asked(r#"{"leader":"me","member":"a"}"#);
    o.dynamic.pause = true;
    o.peers = Some(peer(1_000));
    assert_eq!((decide(&o).rule, decide(&o).step), (444, Step::Do(Action::ClearRequest)));
    see(&mut o, "failover", r#"{"leader":"me","scheduled_at":"2030-01-01T00:00:00Z"}"#);
    assert_ne!(decide(&o).rule, 444, "it stands until its time");
}

/// A region that follows is a standby group too; where ownership is in doubt, this member
/// may be the leader that has everything.
#[test]
fn the_same_in_a_region_that_certainly_follows() {
    let mut o = asked(r#"{"leader":"me","member":"a"}"#);
    o.dynamic.standby_cluster = None;
    o.ownership = Ownership::Standby { epoch: 1, upstream: None };
    assert_eq!(decide(&o).rule, 751);
    o.ownership = Ownership::Doubtful("the register cannot be read".into());
    assert_eq!(decide(&o).rule, 729);
}

#[test]
fn a_remote_side_that_gives_nothing_is_named() {
    let mut o = standby_leader();
    if let Process::Running(server) = &mut o.postgres.process
        && let Seen::Known(ServerRole::Standby { streaming, .. }) = &mut server.role
    {
        *streaming = false;
    }
    let with = Facts::of(&o).remote().expect("it is configured");
    let why = "host-far:5432: connection refused";
    let unknown = Outcome::Unknown(why.into());
    o.memory.fold(&Action::CheckDivergence { with: with.clone() }, &unknown, o.now);
    let said = decide(&o).detail.expect("a sentence");
    assert_eq!(said, format!("not streaming from the remote side: {why}"));
    o.memory.fold(&Action::CheckDivergence { with }, &Outcome::Done, o.now);
    assert!(o.memory.upstream_trouble.is_some(), "an answer alone is no stream");
    o.memory.upstream_trouble = None;
    assert_eq!(decide(&o).detail, None);
}

/// The history in the sample says that this cluster is on timeline 2 by itself.
#[test]
fn an_older_remote_side_is_no_proof_against_what_came_from_there() {
    let o = standby_leader();
    let end = |timeline: u32| LocalEnd {
        timeline: Timeline(timeline),
        lsn: Lsn(1_000),
        tail: Tail::Open,
        history: None,
    };
    let old = |local: u32, remote: u32| {
        let open = Some(false);
        Facts::of(&o).why_remote_is_too_old(&end(local), Timeline(remote), open).is_some()
    };
    assert!(old(3, 2), "a timeline that came from the remote side");
    assert!(!old(3, 3) && !old(3, 4));
    assert!(!old(2, 1), "this cluster began it: it was promoted once");
    let mut primary = standby_leader();
    primary.dynamic.standby_cluster = None;
    assert_eq!(Facts::of(&primary).why_remote_is_too_old(&end(3), Timeline(2), None), None);
}

/// A cluster that failed over, lost its link and is demoted then: the standby cluster has
/// not received the new timeline.
#[test]
fn a_remote_standby_on_an_older_timeline_is_no_source_to_rewind_against() {
    let mut o = standby_leader();
    let end = LocalEnd {
        timeline: Timeline(2),
        lsn: Lsn(1_000),
        tail: Tail::Closed { end: Some(Lsn(1_100)) },
        history: None,
    };
    let old = |o: &Observation, remote, in_recovery| {
        Facts::of(o).why_remote_is_too_old(&end, Timeline(remote), in_recovery).is_some()
    };
    let closed = ShutdownState {
        end: End::Clean,
        timeline: Timeline(2),
        copied: false,
        lsn: Lsn(1_000),
        shut: Shut::Orderly,
    };
    for process in [o.postgres.process.clone(), Process::Stopped(Seen::Known(closed))] {
        o.postgres.process = process;
        assert!(old(&o, 1, Some(true)) && old(&o, 1, None));
        assert!(!old(&o, 1, Some(false)), "a rehearsal is rewound against the primary there");
        assert!(!old(&o, 2, Some(true)) && !old(&o, 3, None));
    }
}
