//! The order of a cycle, condition by condition: what comes first wins.
//!
//! Each ladder begins with a group at rest and adds one condition after the
//! other, from the least to the most urgent. All the earlier ones stay true, so
//! every step shows that its rule goes before everything below it.

use crate::ha::action::{Action, Step};
use crate::ha::facts::{ANSWERED_MS, Facts, RETRY_MAX_MS};
use crate::ha::observation::{
    Asked, DataDir, Disk, Divergence, End, Gate, Guarding, Job, Lock, Observation, Process,
    Running, Server, Shut, ShutdownState, StopHow,
};
use crate::ha::sample::{self, NOW, follower, following, leader, standby_of};
use crate::ha::{Outcome, decide};
use crate::made_up::TakeSample;
use serde_json::json;
use standby::promotion::{PeerAnswer, PeerStatus};
use standby::switch::ownership::Ownership;
use topology::dynamic::StandbyCluster;
use topology::{Lsn, Millis, Seen, SystemId, Tags, Timeline};

type Change = fn(&mut Observation);

fn climb(mut o: Observation, ladder: &[(&str, u16, Change)]) {
    for (what, rule, change) in ladder {
        change(&mut o);
        let decision = decide(&o);
        assert_eq!(decision.rule, *rule, "{what}: {decision:?}");
    }
}

pub(super) fn take(o: &mut Observation, key: &str, value: &str) {
    let Seen::Known(view) = &mut o.store else { panic!("the store is known here") };
    view.take_sample(key, value, 9, 0);
}

fn starting(o: &mut Observation) {
    o.postgres.process = Process::Starting { since: Millis(NOW - 100), as_primary: true };
}

fn run(o: &mut Observation, job: Job) {
    o.job =
        Some(Running { job, since: Millis(NOW - 100), closed: None, ending: Default::default() });
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
                    replication: None,
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
            ("and a server runs on them", 23, starting),
            ("for a while", 22, |o| o.memory.damaged_since = Some(Millis(NOW - 1_000))),
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
                o.memory.pointed_to = Facts::of(o).upstream();
            }),
            ("it was pointed to another member", 909, |o| o.memory.pointed_to = None),
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

pub(super) fn tags(value: serde_json::Value) -> Tags {
    Tags(value.as_object().expect("a map").clone())
}

/// The new leader of a standby cluster without a host, as it was a moment ago.
fn fed_by_an_archive(o: &mut Observation) {
    *o = leader();
    o.postgres.process = standby_of(Some("a"));
    o.dynamic.standby_cluster = standby_cluster(None);
}

fn standby_cluster(host: Option<&str>) -> Option<StandbyCluster> {
    let host = host.map(str::to_string);
    Some(StandbyCluster { host, port: 5432, primary_slot_name: None })
}

/// Row by row of the target's table: what changes, and which server to follow then.
#[test]
fn which_member_to_follow_and_when_to_change_it() {
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
    // Another address and database; a standby that follows no server so far.
    let moved = r#"{"conn_url":"postgres://other:5433/theirs","state":"running","role":"primary"}"#;
    let mut there = following("a");
    (there.host, there.port) = ("other".into(), 5433);
    there.database = Some("theirs".into());
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
    // The new leader of a standby cluster that has only an archive stops following the
    // server it streamed from; one whose remote side is not known yet waits for it.
    assert_eq!(follow(fed_by_an_archive), Some(None));
    let at_rest = |o: &mut Observation| {
        fed_by_an_archive(o);
        o.postgres.process = standby_of(None);
    };
    assert_eq!(follow(at_rest), None);
    let of_a_region = |o: &mut Observation| {
        fed_by_an_archive(o);
        o.dynamic.standby_cluster = None;
        o.ownership = Ownership::Standby { epoch: 1, upstream: None };
    };
    assert_eq!(follow(of_a_region), None);
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
                o.memory.fold(&Action::Renew, &Outcome::Unknown("silent".into()), o.now);
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
    let gaps: Vec<u64> = tries.windows(2).map(|pair| pair[1] - pair[0]).collect();
    assert!(gaps[0] <= 200 && gaps[1] <= 400 && gaps[2] <= 750, "they begin early: {gaps:?}");
    assert!(gaps[..4].is_sorted(), "they grow: {gaps:?}");
    let late = &gaps[4..];
    assert!(late.iter().all(|gap| (1_000..=1_850).contains(gap)), "{gaps:?}");
    assert!(late.iter().any(|gap| *gap != late[0]), "not in step: {gaps:?}");
    // After an answer the next one is due by its time, after a refusal not at once.
    o.memory.fold(&Action::Renew, &Outcome::Done, o.now);
    assert_eq!(o.memory.renewal_again(&o.me.name), o.memory.lease_tried + ANSWERED_MS);
    o.memory.fold(&Action::Renew, &Outcome::Lost, o.now);
    assert_eq!(o.memory.renewal_again(&o.me.name), o.memory.lease_tried + RETRY_MAX_MS);
}

fn stopped(end: End) -> Process {
    let (timeline, lsn, shut) = (Timeline(2), Lsn(1_000), Shut::Orderly);
    Process::Stopped(Seen::Known(ShutdownState { end, timeline, copied: false, lsn, shut }))
}

/// A standby cluster without a leader: its members start as standbys of the remote
/// side, those with the tag `nostream` as standbys that follow no server.
#[test]
fn without_a_leader_a_standby_cluster_starts_on_the_remote_side() {
    let start = |nostream: bool| {
        let mut o = follower();
        let Seen::Known(view) = &mut o.store else { panic!("the store is known here") };
        (view.leader, o.lock) = (None, Lock::Free);
        o.dynamic.standby_cluster = standby_cluster(Some("far"));
        o.me.tags = tags(json!({"nostream": nostream}));
        o.postgres.process = stopped(End::Standby);
        match decide(&o).step {
            Step::Do(Action::Begin(Job::StartStandby { follow, .. })) => follow.map(|f| f.host),
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(start(false).as_deref(), Some("far"));
    assert_eq!(start(true), None);
}

/// A member whose disk fails gives its lock away only if another member can take it.
#[test]
fn a_standby_with_the_lock_and_a_bad_disk_asks_before_it_lets_go() {
    let mut o = leader();
    o.postgres.process = standby_of(None);
    o.disk = Disk::Failing { since: Millis(NOW - 5_000), why: "no space".into() };
    let all = |status: Option<PeerStatus>| {
        ["a", "b"].map(|name| PeerAnswer { name: name.into(), status: status.clone() }).to_vec()
    };
    let able = PeerStatus {
        in_recovery: true,
        lsn: Lsn(1_000),
        timeline: Some(Timeline(2)),
        nofailover: false,
        failover_priority: 1,
        watchdog_failed: false,
        disk_failed: false,
    };
    for by_archive in [false, true] {
        o.dynamic.standby_cluster = by_archive.then(|| standby_cluster(None)).flatten();
        o.peers = None;
        assert_eq!((decide(&o).rule, decide(&o).step), (702, Step::Do(Action::AskPeers)));
        o.peers = Some(all(Some(able.clone())));
        assert_eq!(decide(&o).rule, 704);
        o.peers = Some(all(Some(PeerStatus { disk_failed: true, ..able.clone() })));
        assert_ne!(decide(&o).rule, 704, "nobody whose disk is well");
        o.peers = Some(all(None));
        assert_eq!(decide(&o).rule, if by_archive { 729 } else { 731 }, "nobody answers");
    }
}

/// A directory may be unreadable for a moment; an empty one is certain.
#[test]
fn a_server_whose_directory_cannot_be_read_is_stopped_at_the_second_look() {
    let stop = Step::Do(Action::Begin(Job::Stop { how: StopHow::Immediate }));
    let mut o = leader();
    o.postgres.data = DataDir::Empty;
    assert_eq!((decide(&o).rule, decide(&o).step), (22, stop.clone()));
    o.postgres.data = DataDir::Damaged("permission denied".into());
    let look = |o: &mut Observation, at: u64| {
        o.now = Millis(NOW + at);
        let seen = o.clone();
        o.memory.update_from(&seen);
        (decide(o).rule, decide(o).step)
    };
    assert_eq!(look(&mut o, 0), (23, Step::Rest { at_most_ms: Some(1_000) }));
    assert_eq!(look(&mut o, 900), (23, Step::Rest { at_most_ms: Some(100) }));
    assert_eq!(look(&mut o, 1_000), (22, stop.clone()));
    // It could be read in between.
    let data = std::mem::replace(&mut o.postgres.data, leader().postgres.data);
    assert_eq!(look(&mut o, 1_100).0, 799);
    o.postgres.data = data;
    assert_eq!(look(&mut o, 1_200).0, 23);
    // No grace for a primary beside another leader.
    o.lock = Lock::Other("a".into());
    assert_eq!(look(&mut o, 1_300), (22, stop));
}

/// One comparison for each timeline that the leader comes to, whatever its name.
fn is_compared_on_each_timeline(mut o: Observation) {
    o.memory.update_from(&o.clone());
    let histories = [
        r#"[[1,100,"x"],[2,200,"x"]]"#,
        r#"[[1,100,"x"],[2,200,"x"],[3,300,"x"]]"#,
        r#"[[1,100,"x"],[2,200,"x"],[3,300,"x"],[4,400,"x"]]"#,
    ];
    for history in histories {
        (o.memory.divergence, o.memory.compared_with) = (Divergence::Prefix, Some("a".into()));
        assert_ne!(decide(&o).rule, 945, "it was compared");
        take(&mut o, "history", history);
        o.memory.update_from(&o.clone());
        assert_eq!(decide(&o).rule, 945, "{history}");
    }
}

#[test]
fn known_bug_04_history_is_asked_for_when_the_same_leader_comes_to_another_timeline() {
    is_compared_on_each_timeline(follower());
}

#[test]
fn known_bug_23_histories_that_arrive_count_while_the_own_timeline_is_not_known() {
    let mut o = follower();
    let Process::Running(server) = &mut o.postgres.process else { panic!("a follower runs") };
    server.timeline = None;
    is_compared_on_each_timeline(o);
}

#[test]
fn h5_a_standby_that_does_not_start_towards_the_latest_timeline_starts_towards_the_leaders() {
    let mut o = follower();
    let shutdown_state = ShutdownState {
        end: End::Standby,
        timeline: Timeline(1),
        lsn: Lsn(500),
        copied: false,
        shut: Shut::Orderly,
    };
    o.postgres.process = Process::Stopped(Seen::Known(shutdown_state));
    let record = r#"{"conn_url":"postgres://host-a:5432/postgres","role":"primary",
        "state":"running","timeline":5}"#;
    take(&mut o, "members/a", record);
    let target = |o: &Observation| match decide(o).step {
        Step::Do(Action::Begin(Job::StartStandby { target, .. })) => target,
        other => panic!("it starts: {other:?}"),
    };
    assert_eq!(target(&o), None);
    let start = Job::StartStandby { follow: None, target: None };
    o.memory.finish(&start, &Err("the disk is full".into()), Millis(1));
    o.memory.divergence = Divergence::Prefix;
    assert_eq!(target(&o), None, "another reason says nothing of timelines");
    o.memory.failed = None;
    let why = "FATAL: requested timeline 9 is not a child of this server's history";
    o.memory.finish(&start, &Err(why.into()), Millis(1));
    o.memory.divergence = Divergence::Prefix;
    assert_eq!(target(&o), Some(Timeline(5)));
    assert!(decide(&o).line().contains("00000005.history"), "{}", decide(&o).line());
    let begun = Action::Begin(Job::StartStandby { follow: None, target: Some(Timeline(5)) });
    o.memory.fold(&begun, &Outcome::Done, o.now);
    assert_eq!(o.memory.pinned, Some(Timeline(5)));
    take(&mut o, "members/a", &record.replace("5}", "6}"));
    o.memory.update_from(&o.clone());
    assert_eq!(o.memory.pinned, None, "the leader is on another timeline");
}
