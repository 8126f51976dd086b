//! The order of a cycle, condition by condition: what comes first wins.
//!
//! Each ladder begins with a group at rest and adds one condition after the
//! other, from the least to the most urgent. All the earlier ones stay true, so
//! every step shows that its rule goes before everything below it.

use crate::ha::action::{Action, Step};
use crate::ha::decide;
use crate::ha::observation::{
    Asked, DataDir, Gate, Guarding, Job, Lock, Observation, Process, Running, Server, StopHow,
};
use crate::ha::sample::{self, NOW, follower, following, leader, standby_of};
use serde_json::json;
use topology::{Lsn, Millis, Seen, SystemId, Tags};

type Change = fn(&mut Observation);

fn climb(mut o: Observation, ladder: &[(&str, u16, Change)]) {
    for (what, rule, change) in ladder {
        change(&mut o);
        let decision = decide(&o);
        assert_eq!(decision.rule, *rule, "{what}: {decision:?}");
    }
}

fn take(o: &mut Observation, key: &str, value: &str) {
    let Seen::Known(view) = &mut o.store else { panic!("the store is known here") };
    view.take(key, value, 9, 0);
}

fn starting(o: &mut Observation) {
    o.postgres.process = Process::Starting { since: Millis(NOW - 100), as_primary: true };
}

fn run(o: &mut Observation, job: Job) {
    o.job = Some(Running { job, since: Millis(NOW - 100), closed: None });
}

#[test]
fn a_leader_s_cycle_goes_from_the_most_urgent_to_rest() {
    climb(
        leader(),
        &[
            ("at rest", 799, |_| {}),
            ("a request of an operator", 741, |o| take(o, "failover", r#"{"leader":"me"}"#)),
            ("a restart was asked for", 716, |o| o.memory.asked = Some(Asked::Restart)),
            ("it runs and says nothing", 715, |o| {
                o.postgres.process = Process::Running(Server {
                    role: Seen::Unknown,
                    timeline: None,
                    lsn: Lsn(0),
                    replay_paused: false,
                    restart_due: None,
                });
            }),
            ("it starts", 712, starting),
            ("pause: a restart is the operator's", 499, |o| {
                o.dynamic.pause = true;
                o.memory.asked = None;
                o.store = Seen::Known(sample::view("me"));
            }),
            ("the daemon ends in pause", 200, |o| o.memory.stopping = true),
            ("the slot is busy", 199, |o| {
                o.memory.stopping = false;
                run(o, Job::Restart { as_primary: true });
            }),
            ("data of another cluster", 40, |o| {
                (o.job, o.dynamic.pause) = (None, false);
                o.postgres.data = DataDir::Valid { system: SystemId("1".repeat(19)) };
            }),
            ("data that cannot be read", 30, |o| {
                o.postgres.data = DataDir::Damaged("no control file".into());
                o.postgres.process = Process::Stopped(Seen::Unknown);
            }),
            ("and a server runs on them", 22, starting),
            ("the lock runs out", 20, |o| {
                o.postgres.data = leader().postgres.data;
                o.postgres.process = sample::primary();
                o.lock = Lock::Mine { renewed: Millis(1), deadline: Millis(NOW + 10) };
            }),
            ("the lease is due in time", 10, |o| {
                o.lock = leader().lock;
                o.memory.lease_renewed = Millis(NOW - 10_000);
            }),
        ],
    );
}

#[test]
fn a_follower_s_cycle_goes_from_the_most_urgent_to_rest() {
    climb(
        follower(),
        &[
            ("at rest", 998, |_| {}),
            ("never compared with this leader", 945, |o| o.memory.compared_with = None),
            ("another member leads", 940, |o| {
                o.store = Seen::Known(sample::view("b"));
                o.lock = Lock::Other("b".into());
            }),
            ("replay stands still", 936, |o| {
                let Process::Running(server) = &mut o.postgres.process else { panic!("it runs") };
                server.replay_paused = true;
            }),
            ("a restart was asked for", 921, |o| o.memory.asked = Some(Asked::Restart)),
            ("it starts", 910, |o| {
                o.postgres.process =
                    Process::Starting { since: Millis(NOW - 100), as_primary: false };
            }),
            ("reinitialize was asked for", 907, |o| o.memory.asked = Some(Asked::Reinitialize)),
            ("it starts as a primary", 905, starting),
            ("it is a primary", 900, |o| o.postgres.process = sample::primary()),
            ("nobody leads", 811, |o| {
                let Seen::Known(view) = &mut o.store else { panic!("the store is known here") };
                (view.leader, o.lock) = (None, Lock::Free);
            }),
            ("the store is silent", 20, |o| {
                (o.store, o.lock) = (Seen::Unknown, Lock::Unknown);
            }),
        ],
    );
}

/// From the lock to a primary, and what stands before each step.
#[test]
fn who_won_the_lock_opens_step_by_step() {
    let mut o = leader();
    o.postgres.process = standby_of(Some("a"));
    (o.me.has_gate, o.watchdog) = (true, Guarding::Ready);
    climb(
        o,
        &[
            ("the watchdog first", 717, |_| {}),
            ("then the operator's command", 724, |o| o.watchdog = Guarding::Armed),
            ("which may say no", 723, |o| o.memory.gate = Gate::Failed(Millis(NOW))),
            ("or yes", 731, |o| o.memory.gate = Gate::Passed),
            ("it is on its way", 730, |o| o.memory.promoting = Some(Millis(NOW))),
            ("it has opened", 799, |o| o.postgres.process = sample::primary()),
        ],
    );
}

#[test]
fn who_won_the_lock_and_must_not_open_gives_it_back_or_stops() {
    climb(
        leader(),
        &[
            ("a primary without the watchdog it needs", 718, |o| {
                o.watchdog = Guarding::Broken("no device".into());
            }),
            ("a standby without it", 719, |o| o.postgres.process = standby_of(Some("a"))),
            ("a lock that is about to end", 733, |o| {
                o.watchdog = Guarding::Armed;
                o.lock = Lock::Mine { renewed: Millis(1), deadline: Millis(NOW + 4_000) };
            }),
        ],
    );
}

fn tags(value: serde_json::Value) -> Tags {
    Tags(value.as_object().expect("a map").clone())
}

/// Row by row of the target's table: what changes, and whom to follow then.
#[test]
fn whom_to_follow_and_when_to_change_it() {
    let follow = |change: Change| {
        let mut o = follower();
        change(&mut o);
        match decide(&o).step {
            Step::Do(Action::Follow(to)) => Some(to),
            _ => None,
        }
    };
    let to = |name: &str| Some(Some(following(name)));
    assert_eq!(follow(|_| {}), None, "it follows whom it should");
    assert_eq!(follow(|o| o.me.tags = tags(json!({"replicatefrom": "b"}))), to("b"));
    assert_eq!(follow(|o| o.me.tags = tags(json!({"replicatefrom": "gone"}))), None);
    assert_eq!(follow(|o| o.me.tags = tags(json!({"replicatefrom": "me"}))), None);
    // No settings to stream by: what comes, comes from the archive.
    assert_eq!(follow(|o| o.me.tags = tags(json!({"nostream": true}))), Some(None));
    let silent = |o: &mut Observation| {
        o.me.tags = tags(json!({"nostream": true}));
        o.postgres.process = standby_of(None);
    };
    assert_eq!(follow(silent), None);
    // Another address, another slot, nobody so far.
    let moved =
        r#"{"conn_url":"postgres://other:5433/postgres","state":"running","role":"primary"}"#;
    let mut there = following("a");
    (there.host, there.port) = ("other".into(), 5433);
    let mut o = follower();
    take(&mut o, "members/a", moved);
    assert_eq!(decide(&o).step, Step::Do(Action::Follow(Some(there))));
    assert_eq!(follow(|o| o.postgres.process = standby_of(None)), to("a"));
    // A member without an address: the one before stays.
    assert_eq!(follow(|o| take(o, "members/a", r#"{"state":"stopped"}"#)), None);
    let in_pause = |o: &mut Observation| {
        o.dynamic.pause = true;
        o.postgres.process = standby_of(Some("b"));
    };
    assert_eq!(follow(in_pause), to("a"));
    // A promotion elsewhere is not awaited: the lock decides.
    let leaderless = |o: &mut Observation| {
        let Seen::Known(view) = &mut o.store else { panic!("the store is known here") };
        (view.leader, o.lock) = (None, Lock::Free);
        o.postgres.process = standby_of(Some("b"));
    };
    assert_eq!(follow(leaderless), None);
}

/// The store answers nothing from now on: the lease is tried again and again
/// until it is too late for that, and then the server stops.
#[test]
fn a_renewal_is_tried_again_until_the_lock_must_be_feared_for() {
    let (mut o, mut tries, mut stopped) = (leader(), Vec::new(), None);
    o.store = Seen::Unknown;
    for at in (0..40_000).step_by(50) {
        o.now = Millis(NOW + at);
        match decide(&o).step {
            Step::Do(Action::Renew) => {
                tries.push(at);
                o.memory.lease_tried = o.now;
            }
            Step::Do(Action::Begin(Job::Stop { how: StopHow::Immediate })) => {
                stopped = Some(at);
                break;
            }
            Step::Do(other) => panic!("{other:?} after {at} ms"),
            Step::Rest { .. } => {}
        }
    }
    let dynamic = &o.dynamic;
    let fence = dynamic.ttl_ms - dynamic.fence_budget_ms();
    assert_eq!(stopped, Some(fence), "{tries:?}");
    let first = tries.first().copied().expect("it tried");
    assert!(first <= dynamic.loop_wait_ms && fence - first >= dynamic.retry_timeout_ms);
    assert!(tries.windows(2).all(|pair| pair[1] - pair[0] <= 1_000), "{tries:?}");
    assert!(tries.len() >= 15, "{tries:?}");
}
