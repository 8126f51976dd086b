//! Single situations with their answer, where the order of rows matters or a
//! promise of the contract is meant; `generate.rs` combines everything else.

use super::generate::quiet;
use crate::ha::action::{Action, Step};
use crate::ha::facts::Facts;
use crate::ha::observation::{
    Bootstrapping, DataDir, Divergence, End, Guarding, Job, Lock, Observation, Process, Rewind,
    Running, ServerRole, Shut, ShutdownState, StopHow,
};
use crate::ha::sample::{follower, leader};
use crate::ha::{Outcome, decide};
use crate::made_up::TakeSample;
use standby::promotion::NotYet;
use topology::{GroupView, Lsn, Millis, Seen, SystemId, Timeline};

fn see(o: &mut Observation, key: &str, value: &str) {
    if !matches!(o.store, Seen::Known(_)) {
        o.store = Seen::Known(GroupView::default());
    }
    if let Seen::Known(view) = &mut o.store {
        view.take_sample(key, value, 7, 1);
    }
}

fn forget(o: &mut Observation) {
    o.store = Seen::Known(GroupView::default());
}

fn become_primary(o: &mut Observation, timeline: u32) {
    if let Process::Running(server) = &mut o.postgres.process {
        server.role = Seen::Known(ServerRole::Primary);
        server.timeline = Some(Timeline(timeline));
    }
}

fn hold_lock(o: &mut Observation) {
    see(o, "leader", "me");
    o.lock = Lock::Mine { renewed: o.now, deadline: o.now + 30_000 };
}

fn stop(o: &mut Observation, end: End) {
    let (timeline, lsn, shut) = (Timeline(1), Lsn(900), Shut::Orderly);
    let shutdown_state = ShutdownState { end, timeline, copied: false, lsn, shut };
    o.postgres.process = Process::Stopped(Seen::Known(shutdown_state));
}

fn rule(o: &Observation) -> u16 {
    decide(o).rule
}

/// It shows no settings and no position yet.
#[test]
fn known_bug_08_a_member_that_starts_does_not_race_and_is_not_restarted() {
    for pause in [false, true] {
        let mut o = follower();
        o.dynamic.pause = pause;
        o.postgres.process = Process::Starting { since: o.now, as_primary: false };
        o.lock = Lock::Free;
        o.peers = Some(Vec::new());
        let Seen::Known(view) = &mut o.store else { panic!("the store is known here") };
        view.leader = None;
        let step = decide(&o).step;
        assert!(
            !matches!(step, Step::Do(Action::AcquireLock | Action::Promote | Action::Begin(_))),
            "{step:?}"
        );
    }
}

#[test]
fn data_of_another_system_ends_the_daemon_and_in_pause_only_the_lead() {
    let mut o = quiet();
    o.postgres.data = DataDir::Valid { system: SystemId("1111111111111111111".into()) };
    assert_eq!(decide(&o).step, Step::Do(Action::Exit(1)));
    o.dynamic.pause = true;
    assert_eq!(rule(&o), 499);
    hold_lock(&mut o);
    become_primary(&mut o, 1);
    assert_eq!(
        decide(&o).step,
        Step::Do(Action::ReleaseLock { publish: crate::ha::Publish::Nothing })
    );
    // An id that cannot be read is damage: an operator has to ask for a copy.
    let mut o = quiet();
    o.postgres.data = DataDir::Damaged("no control file".into());
    o.postgres.process = Process::Stopped(Seen::Unknown);
    assert_eq!(rule(&o), 31);
}

#[test]
fn a_store_that_does_not_know_the_cluster() {
    let mut o = quiet();
    forget(&mut o);
    o.memory.forgotten_at = Some(o.now);
    // As it was found, it may be the wrong store.
    assert_eq!(decide(&o).step, Step::Do(Action::Exit(1)));
    assert_eq!(rule(&o), crate::ha::race::UNKNOWN_STORE);
    // A member that knew the cluster waits for the end of a lock deleted with it.
    o.memory.knew_system = true;
    assert_eq!(rule(&o), 832);
    o.memory.forgotten_at = Some(Millis(o.now.0 - o.dynamic.ttl_ms));
    assert_eq!(decide(&o).step, Step::Do(Action::AdoptSystem));
    become_primary(&mut o, 1);
    assert_eq!(rule(&o), 810);
    stop(&mut o, End::Clean);
    assert_eq!(rule(&o), 655);
    // In pause the daemon does not exit, and does not enter the cluster.
    let mut o = quiet();
    forget(&mut o);
    o.dynamic.pause = true;
    assert_eq!(rule(&o), 499);
}

#[test]
fn b2_the_first_member_of_a_standby_cluster_waits_for_no_writer() {
    let mut o = quiet();
    forget(&mut o);
    o.memory.forgotten_at = Some(o.now);
    o.memory.has_begun = true;
    o.memory.knew_system = true;
    o.peers = Some(Vec::new());
    assert_eq!(rule(&o), 832);
    o.dynamic.standby_cluster = Some(topology::dynamic::StandbyCluster {
        host: Some("far".into()),
        port: 5432,
        primary_slot_name: None,
    });
    assert_eq!(rule(&o), 833, "its system id is entered");
    let system = o.system().expect("it has data").0.clone();
    see(&mut o, "initialize", &system);
    assert_eq!(decide(&o).step, Step::Do(Action::AcquireLock));
    // Another member may have led it as a primary since.
    see(&mut o, "members/a", "{}");
    assert_eq!(rule(&o), 832);
}

/// It waits for log of a history that it has left, and accepts no connection.
#[test]
fn known_bug_03_a_standby_that_never_gets_open_is_compared_and_rewound() {
    let mut o = quiet();
    see(&mut o, "leader", "a");
    let record = r#"{"state":"running","role":"primary","conn_url":"postgres://a:1/x"}"#;
    see(&mut o, "members/a", record);
    o.lock = Lock::Other("a".into());
    o.memory.pointed_to = Facts::of(&o).upstream();
    let starting = |ms: u64| Process::Starting { since: Millis(o.now.0 - ms), as_primary: false };
    let (young, old) = (starting(1_000), starting(6_000));
    o.postgres.process = young;
    assert_eq!(rule(&o), 910);
    o.postgres.process = old;
    assert_eq!(rule(&o), 906);
    o.memory.compared_with = Some("a".into());
    o.memory.compared_at = o.now;
    assert_eq!(rule(&o), 910, "its log fits, or nobody can say");
    o.memory.divergence = crate::ha::observation::Divergence::Diverged("it has".into());
    let stop_it = Action::Begin(Job::Stop { how: StopHow::Fast });
    assert_eq!((rule(&o), decide(&o).step), (908, Step::Do(stop_it)));
    stop(&mut o, End::Standby);
    assert_eq!(rule(&o), 650, "what was found holds until it is rewound");
}

/// A member that holds the lock of a region whose ownership is in doubt has not opened:
/// the group may still be on this log's timeline.
#[test]
fn a_leader_of_a_region_in_doubt_is_no_source_to_rewind_against() {
    let mut o = quiet();
    see(&mut o, "leader", "a");
    let record =
        |role| format!(r#"{{"state":"running","role":"{role}","conn_url":"postgres://a:1/x"}}"#);
    see(&mut o, "members/a", &record("standby_leader"));
    o.lock = Lock::Other("a".into());
    o.memory.compared_with = Some("a".into());
    o.memory.compared_at = o.now;
    o.memory.divergence = crate::ha::observation::Divergence::Diverged("it has".into());
    stop(&mut o, End::Standby);
    use standby::switch::ownership::Ownership;
    o.ownership = Ownership::Doubtful("no grant".into());
    assert_eq!(rule(&o), 648);
    see(&mut o, "members/a", &record("primary"));
    assert_eq!(rule(&o), 650, "it has opened before the doubt");
}

#[test]
fn h7_a_lone_member_whose_log_no_standby_replays_starts_as_a_primary() {
    let minimal = |o: &mut Observation, end: End| {
        stop(o, end);
        let Process::Stopped(Seen::Known(shutdown_state)) = &mut o.postgres.process else { return };
        shutdown_state.shut = Shut::Minimal;
    };
    let mut o = quiet();
    stop(&mut o, End::Clean);
    assert_eq!(rule(&o), 680);
    minimal(&mut o, End::Clean);
    assert_eq!((rule(&o), decide(&o).step), (667, Step::Do(Action::AcquireLock)));
    hold_lock(&mut o);
    assert_eq!(decide(&o).step, Step::Do(Action::Begin(Job::StartPrimary)));
    // Not where it might open what others have left, or where that is not wanted.
    let not = |change: &dyn Fn(&mut Observation)| {
        let mut o = o.clone();
        (o.store, o.lock) = (quiet().store, Lock::Free);
        change(&mut o);
        assert_eq!(rule(&o), 680);
    };
    not(&|o| see(o, "members/a", "{}"));
    not(&|o| see(o, "history", r#"[[1,500,"x"]]"#));
    not(&|o| minimal(o, End::Standby));
    not(&|o| {
        o.me.tags = topology::Tags(serde_json::from_str(r#"{"nofailover":true}"#).expect("a map"));
    });
}

/// A restarted daemon holds the key by name: its server is down, the store silent
/// for the renewal.
#[test]
fn n16_a_key_of_an_earlier_process_opens_nothing() {
    let mut o = quiet();
    see(&mut o, "leader", "me");
    o.lock = Lock::Mine { renewed: Millis(0), deadline: Millis(0) };
    o.memory.started = o.now;
    stop(&mut o, End::Clean);
    assert_eq!(decide(&o).step, Step::Do(Action::Renew));
    o.memory.lease_tried = o.now;
    o.memory.lease_misses = 1;
    assert_eq!((rule(&o), decide(&o).step), (606, Step::Rest { at_most_ms: Some(100) }));
    // The wait ends with the time that the store has to answer.
    o.memory.started = Millis(o.now.0 - o.dynamic.retry_timeout_ms);
    let standby = |job: &Job| matches!(job, Job::StartStandby { follow: None, .. });
    assert!(matches!(decide(&o).step, Step::Do(Action::Begin(job)) if standby(&job)));
}

/// The lock was free when the store was last heard: another member may have taken it since.
#[test]
fn a_primary_without_the_lock_stops_when_the_store_is_silent() {
    let mut o = leader();
    o.lock = Lock::Free;
    o.memory.lease_misses = 1;
    assert_eq!(rule(&o), 20);
    // The store answered that the lease is gone: it is emptied, and the lock can be taken.
    o.memory.lease_misses = 0;
    assert_ne!(rule(&o), 20);
    o.memory.is_lock_unanswered = true;
    assert_eq!(rule(&o), 20);
    // What was last seen counts while the store cannot be read.
    (o.lock, o.store) = (Lock::Unknown, Seen::Unknown);
    let mut memory = o.memory.clone();
    memory.update_from(&o);
    assert!(memory.is_lock_unanswered);
    assert_eq!(rule(&o), 20);
}

/// Clients may write on while such a stop makes its first checkpoint.
#[test]
fn rule_21_a_stop_in_order_is_cut_short_beside_another_leader() {
    let mut o = leader();
    let job = Job::Stop { how: StopHow::Planned };
    o.job = Some(Running { job, since: o.now, closed: None, ending: Default::default() });
    o.lock = Lock::Other("a".into());
    assert_eq!((rule(&o), decide(&o).step), (21, Step::Do(Action::CancelJob)));
}

/// A required watchdog that cannot be used: the lock of an earlier process is not given away
/// under a server that is open.
#[test]
fn rule_719_gives_no_lock_away_under_an_open_primary() {
    let mut o = leader();
    o.watchdog = Guarding::Broken("no device".into());
    assert_eq!(rule(&o), 718);
    let Lock::Mine { renewed, .. } = o.lock else { panic!("a leader") };
    o.lock = Lock::Mine { renewed, deadline: Millis(0) };
    (o.memory.started, o.memory.lease_tried, o.memory.lease_misses) = (o.now, o.now, 1);
    assert_ne!(rule(&o), 719);
}

/// Clients write on during the checkpoint of a planned stop: another member may lead by then.
#[test]
fn nothing_planned_begins_on_the_lock_of_an_earlier_process() {
    let stop = |how| Step::Do(Action::Begin(Job::Stop { how }));
    let mut o = leader();
    see(&mut o, "failover", r#"{"leader":"me","member":"a"}"#);
    let Lock::Mine { renewed, deadline } = o.lock else { panic!("a leader") };
    o.lock = Lock::Mine { renewed, deadline: Millis(0) };
    o.memory.started = o.now;
    o.memory.lease_tried = o.now;
    o.memory.lease_misses = 1;
    assert_eq!(rule(&o), 739);
    o.memory.stopping = true;
    assert_eq!((rule(&o), decide(&o).step), (210, stop(StopHow::Fast)));
    o.lock = Lock::Other("a".into());
    assert_eq!((rule(&o), decide(&o).step), (208, stop(StopHow::Immediate)));
    o.lock = Lock::Mine { renewed, deadline };
    assert_eq!((rule(&o), decide(&o).step), (210, stop(StopHow::Planned)));
}

/// That member may have led, and died before it could write `/history`.
#[test]
fn rule_408_a_former_primary_is_not_restarted_behind_a_timeline_that_another_member_claimed() {
    let mut o = quiet();
    see(&mut o, "config", r#"{"pause":true}"#);
    o.dynamic.pause = true;
    o.lock = Lock::Free;
    stop(&mut o, End::Crashed);
    o.memory.asked = Some(crate::ha::observation::Asked::Restart);
    assert_eq!(rule(&o), 408);
    see(&mut o, "claim", "2 a");
    assert_ne!(rule(&o), 408);
    see(&mut o, "claim", "2 me");
    assert_eq!(rule(&o), 408);
}

/// Its log gets no record of its own: a later leader may have other records there, and
/// positions alone would not tell.
#[test]
fn a_standby_that_crashed_and_has_left_the_history_is_recovered_without_a_record() {
    let mut o = follower();
    stop(&mut o, End::Standby);
    if let Process::Stopped(Seen::Known(state)) = &mut o.postgres.process {
        state.shut = Shut::Abrupt;
    }
    o.me.rewind = Rewind::Possible;
    o.memory.divergence = Divergence::Diverged("the group left timeline 1 at 0/100".into());
    o.memory.compared_with = Some("a".into());
    let recovery = Job::RecoverStandby { timeline: Timeline(1) };
    assert_eq!((rule(&o), decide(&o).step), (646, Step::Do(Action::Begin(recovery.clone()))));
    o.memory.fold(&Action::Begin(recovery.clone()), &Outcome::Done, o.now);
    o.memory.finish(&recovery, &Ok(()), o.now);
    stop(&mut o, End::Standby);
    assert_eq!(rule(&o), 650, "what is known of its log stays known");
}

/// Failed starts of other kinds do not count.
#[test]
fn a_standby_that_cannot_be_recovered_twice_cannot_be_rewound() {
    let mut o = follower();
    o.memory.divergence = Divergence::Diverged("the group left timeline 1 at 0/100".into());
    let mut fail = |job: Job, at| o.memory.finish(&job, &Err("it ended".into()), Millis(at));
    let recovery = Job::RecoverStandby { timeline: Timeline(1) };
    fail(Job::StartStandby { follow: None, target: None }, 0);
    fail(recovery.clone(), 1);
    let mut hopeless = vec![Facts::of(&o).recovery_failed()];
    o.memory.finish(&recovery, &Err("it ended".into()), Millis(2));
    hopeless.push(Facts::of(&o).recovery_failed());
    assert_eq!(hopeless, [false, true]);
}

#[test]
fn data_that_is_gone_stops_the_server_before_the_lock_goes() {
    for gone in [DataDir::Empty, DataDir::Damaged("i/o error".into())] {
        let mut o = quiet();
        hold_lock(&mut o);
        become_primary(&mut o, 1);
        o.postgres.data = gone;
        o.memory.damaged_since = Some(Millis(o.now.0 - 1_000));
        let stop = Action::Begin(Job::Stop { how: StopHow::Immediate });
        assert_eq!(decide(&o).step, Step::Do(stop.clone()));
        o.dynamic.pause = true;
        assert_eq!(decide(&o).step, Step::Do(stop));
        o.postgres.process = Process::Stopped(Seen::Unknown);
        let release = Action::ReleaseLock { publish: crate::ha::Publish::Nothing };
        assert_eq!(decide(&o).step, Step::Do(release.clone()), "paused");
        o.dynamic.pause = false;
        assert_eq!(decide(&o).step, Step::Do(release));
    }
}

#[test]
fn an_old_primary_does_not_take_the_free_lock() {
    let mut o = quiet();
    become_primary(&mut o, 1);
    assert_eq!(rule(&o), 811);
    see(&mut o, "history", r#"[[1,500,"x"]]"#);
    assert_eq!(rule(&o), 812);
    become_primary(&mut o, 2);
    assert_eq!(rule(&o), 811);
    // The same number, which another one began elsewhere.
    let text = "1\t0/400\tx\n";
    o.history = Some(topology::History::parse(Timeline(2), text).expect("a history"));
    assert_eq!(rule(&o), 813);
    // A standby of that history is not fit either.
    let mut o = quiet();
    see(&mut o, "history", r#"[[1,500,"x"]]"#);
    o.peers = Some(Vec::new());
    o.history = Some(topology::History::parse(Timeline(2), text).expect("a history"));
    assert_eq!(Facts::of(&o).race(), Err(NotYet::OtherHistory));
}

#[test]
fn a_race_backs_off_for_a_loop_and_while_more_arrives() {
    let mut o = quiet();
    o.dynamic.primary_race_backoff_ms = 60_000;
    let free_for =
        |o: &mut Observation, ms: u64| o.memory.leaderless_since = Some(Millis(o.now.0 - ms));
    free_for(&mut o, 1_000);
    assert_eq!(rule(&o), 847);
    let loop_wait = o.dynamic.loop_wait_ms;
    free_for(&mut o, loop_wait + 1);
    assert_eq!(rule(&o), 850, "nothing arrives");
    // The old leader still sends.
    let streams = ServerRole::Standby { follows: None, streaming: true };
    if let Process::Running(server) = &mut o.postgres.process {
        server.role = Seen::Known(streams);
    }
    o.memory.grew_at = o.now;
    assert_eq!(rule(&o), 847);
    free_for(&mut o, 60_000);
    assert_eq!(rule(&o), 850, "it is over");
    free_for(&mut o, 1_000);
    see(&mut o, "failover", r#"{"member":"me"}"#);
    assert_eq!(rule(&o), 848, "an operator named somebody");
}

#[test]
fn check_timeline_counts_where_the_group_may_open() {
    let mut o = quiet();
    see(&mut o, "history", r#"[[1,500,"x"],[2,600,"y"]]"#);
    o.peers = Some(Vec::new());
    assert_eq!(Facts::of(&o).race(), Ok(()));
    o.dynamic.check_timeline = true;
    assert!(matches!(Facts::of(&o).race(), Err(NotYet::OldTimeline { .. })));
    let section = topology::dynamic::StandbyCluster {
        host: Some("far".into()),
        port: 5432,
        primary_slot_name: None,
    };
    o.dynamic.standby_cluster = Some(section);
    assert_eq!(Facts::of(&o).race(), Ok(()));
}

#[test]
fn a_lag_beyond_the_limit_does_not_race_and_a_named_candidate_may() {
    let mut o = quiet();
    o.peers = Some(Vec::new());
    o.dynamic.maximum_lag_on_failover = 100;
    see(&mut o, "status", r#"{"optime":1101}"#);
    assert_eq!(Facts::of(&o).race(), Err(NotYet::Behind { bytes: 101, allowed: 100 }));
    see(&mut o, "failover", r#"{"member":"me"}"#);
    assert_eq!(Facts::of(&o).race(), Ok(()));
}

#[test]
fn the_leader_before_all_daemons_began_anew_is_waited_for() {
    let mut o = quiet();
    o.memory.started = o.now;
    see(&mut o, "members/a", r#"{"state":"starting","role":"replica"}"#);
    assert_eq!(rule(&o), 844);
    see(&mut o, "members/a", r#"{"state":"running","role":"replica"}"#);
    assert_eq!(rule(&o), 850);
    see(&mut o, "members/a", r#"{"state":"starting","role":"replica"}"#);
    o.memory.started = Millis(o.now.0 - o.dynamic.ttl_ms);
    assert_eq!(rule(&o), 850, "no longer than a ttl");
}

#[test]
fn an_unplanned_stop_is_not_waited_for_without_end() {
    let mut o = quiet();
    hold_lock(&mut o);
    stop(&mut o, End::Clean);
    o.memory.stopping = true;
    let behind = standby::promotion::PeerStatus {
        in_recovery: true,
        lsn: Lsn(1),
        timeline: Some(Timeline(1)),
        nofailover: false,
        failover_priority: 1,
        watchdog_failed: false,
        disk_failed: false,
    };
    see(&mut o, "members/a", "{}");
    let status = Some(behind);
    o.peers = Some(vec![standby::promotion::PeerAnswer { name: "a".into(), status }]);
    o.memory.stopped_since = Some(o.now);
    assert_eq!(rule(&o), 230);
    o.memory.stopped_since = Some(Millis(o.now.0 - 2_000));
    assert_eq!(rule(&o), 240);
}

#[test]
fn a_new_cluster_that_the_store_does_not_take_is_entered_again_in_a_while() {
    let mut o = quiet();
    forget(&mut o);
    become_primary(&mut o, 1);
    o.memory.bootstrap = Bootstrapping::Built;
    assert_eq!(rule(&o), 501, "the claim was wiped: the cluster is entered over nothing");
    o.memory.fold(&Action::FinishBootstrap, &Outcome::Lost, o.now);
    assert_eq!(decide(&o).step, Step::Rest { at_most_ms: Some(1_000) });
    o.now = o.now + 1_000;
    assert_eq!(rule(&o), 501);
    // Another member was faster: nothing here is touched.
    see(&mut o, "initialize", "1111111111111111111");
    assert_eq!((rule(&o), decide(&o).step), (508, Step::Do(Action::Exit(1))));
}
