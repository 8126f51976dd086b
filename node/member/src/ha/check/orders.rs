//! Orders and promotions that do not come to their end: each is heard, and each wait is
//! bounded.

use super::generate::quiet;
use crate::ha::action::{Action, Publish, Step};
use crate::ha::decide;
use crate::ha::observation::{
    Asked, DataDir, End, Failed, Job, Lock, Memory, Observation, Process, Running, Shut,
    ShutdownState, StopHow,
};
use crate::ha::sample::{NOW, answer, leader, primary, standby_of};
use crate::made_up::TakeSample;
use standby::promotion::PeerAnswer;
use standby::switch::ownership::Order;
use topology::{Lsn, Millis, Seen, SyncMode, Timeline};

const OVERDUE: Step = Step::Do(Action::Begin(Job::Stop { how: StopHow::Overdue }));
const AT_ONCE: Step = Step::Do(Action::Begin(Job::Stop { how: StopHow::Immediate }));

fn take(o: &mut Observation, key: &str, value: &str) {
    let Seen::Known(view) = &mut o.store else { panic!("the store is known here") };
    view.take_sample(key, value, 9, 0);
}

/// A standby with the lock that was told to leave recovery `ms` milliseconds ago.
fn promoting(ms: u64) -> Observation {
    let mut o = leader();
    o.postgres.process = standby_of(None);
    o.memory.promoting = Some(Millis(NOW - ms));
    o
}

fn ended(o: &mut Observation, end: End) {
    let (timeline, lsn, shut) = (Timeline(2), Lsn(2_000), Shut::Orderly);
    let shutdown_state = ShutdownState { end, timeline, copied: false, lsn, shut };
    o.postgres.process = Process::Stopped(Seen::Known(shutdown_state));
}

#[test]
fn h3_a_promotion_that_hangs_gives_the_lock_to_a_member_that_can_lead() {
    let young = promoting(100);
    assert_eq!(decide(&young).step, Step::Rest { at_most_ms: Some(10) });
    let mut o = promoting(299_000);
    assert_eq!(decide(&o).step, Step::Rest { at_most_ms: Some(1_000) }, "no busy waiting");
    o = promoting(300_000);
    assert_eq!(decide(&o).step, Step::Do(Action::AskPeers));
    o.peers = Some(vec![answer("a", 1_000)]);
    assert_eq!(decide(&o).step, OVERDUE);
    // No other member can lead: it goes on, and the decision names the reason.
    o.peers = Some(vec![]);
    let alone = decide(&o);
    assert_eq!((alone.rule, &alone.step), (730, &Step::Rest { at_most_ms: Some(1_000) }));
    assert!(alone.line().contains("longer than primary_start_timeout"), "{}", alone.line());
    // A time of 0 is for a crash.
    let mut zero = promoting(9_999);
    zero.dynamic.primary_start_timeout_ms = 0;
    assert_eq!(decide(&zero).rule, 730);
}

#[test]
fn h3_a_member_that_gave_a_promotion_up_lets_others_try_for_a_ttl() {
    let mut o = promoting(300_000);
    let mut memory = std::mem::take(&mut o.memory);
    let stop = Job::Stop { how: StopHow::Overdue };
    memory.fold(&Action::Begin(stop.clone()), &crate::ha::Outcome::Done, o.now);
    memory.finish(&stop, &Ok(()), o.now);
    o.memory = memory;
    o.memory.lease_renewed = o.now;
    ended(&mut o, End::Standby);
    assert_eq!(decide(&o).rule, 622);
    o.peers = Some(vec![answer("a", 1_000)]);
    let release = Step::Do(Action::ReleaseLock { publish: Publish::Nothing });
    assert_eq!(decide(&o).step, release);
    // It follows again, and does not race at once.
    let mut free = quiet();
    free.memory = Memory { promotion_failed: Some(free.now), ..free.memory };
    assert_eq!(decide(&free).rule, 846);
    take(&mut free, "failover", r#"{"member":"me"}"#);
    assert_ne!(decide(&free).rule, 846, "an operator names it");
    take(&mut free, "failover", "{}");
    free.now = Millis(free.now.0 + free.dynamic.ttl_ms);
    free.memory.lease_renewed = free.now;
    assert_ne!(decide(&free).rule, 846);
}

#[test]
fn h3_an_operator_s_failover_is_heard_whatever_the_leader_s_server_does() {
    let starting = Process::Starting { since: Millis(NOW - 100), as_primary: true };
    let job = Job::StartPrimary;
    let running =
        Running { job, since: Millis(NOW - 100), closed: None, ending: Default::default() };
    type Case = (&'static str, fn(&mut Observation), Step);
    let states: [Case; 4] = [
        ("it starts", |_| {}, OVERDUE),
        ("it leaves recovery", |_| {}, OVERDUE),
        ("it recovers in place", |_| {}, Step::Do(Action::CancelJob)),
        (
            "it has crashed",
            |o| ended(o, End::Crashed),
            Step::Do(Action::ReleaseLock { publish: Publish::Nothing }),
        ),
    ];
    for (index, (what, change, wanted)) in states.into_iter().enumerate() {
        let mut o = match index {
            1 => promoting(100),
            _ => leader(),
        };
        match index {
            0 => o.postgres.process = starting.clone(),
            2 => {
                o.postgres.process = starting.clone();
                o.job = Some(running.clone());
            }
            _ => change(&mut o),
        }
        take(&mut o, "failover", r#"{"member":"a"}"#);
        assert_eq!(decide(&o).step, Step::Do(Action::AskPeers), "{what}");
        o.peers = Some(vec![answer("a", 1_000)]);
        assert_eq!(decide(&o).step, wanted, "{what}");
        o.peers = Some(vec![]);
        assert_eq!(decide(&o).step, Step::Do(Action::ClearRequest), "{what}");
    }
}

#[test]
fn h3_a_winner_that_is_started_again_has_no_more_time_than_the_first_time() {
    let mut o = leader();
    ended(&mut o, End::Standby);
    let Process::Stopped(Seen::Known(shutdown_state)) = &mut o.postgres.process else {
        panic!("down")
    };
    // Its control file shows the timeline of its last restartpoint.
    shutdown_state.timeline = Timeline(1);
    assert_eq!(decide(&o).rule, 630);
    let job = Job::StartStandby { follow: None, target: None };
    let since = Millis(NOW - 300_000);
    o.job = Some(Running { job: job.clone(), since, closed: None, ending: Default::default() });
    assert_eq!(decide(&o).step, Step::Do(Action::AskPeers));
    o.peers = Some(vec![answer("a", 1_000)]);
    assert_eq!(decide(&o).step, Step::Do(Action::CancelJob));
    o.job = None;
    o.memory.finish(&job, &Err("cancelled".into()), o.now);
    let release = Step::Do(Action::ReleaseLock { publish: Publish::Nothing });
    assert_eq!(decide(&o).step, release);
}

#[test]
fn n12_replay_that_stands_still_is_resumed_before_the_promotion() {
    let mut o = promoting(0);
    o.memory.promoting = None;
    let Process::Running(server) = &mut o.postgres.process else { panic!("it runs") };
    server.replay_paused = true;
    assert_eq!(decide(&o).step, Step::Do(Action::ResumeReplay));
}

#[test]
fn n13_a_handover_without_a_shutdown_checkpoint_is_not_repeated() {
    let killed = |mode| {
        let mut o = leader();
        o.dynamic.synchronous_mode = mode;
        o.memory.handover = Some(Millis(NOW - 100));
        take(&mut o, "failover", r#"{"leader":"me","member":"a"}"#);
        ended(&mut o, End::Crashed);
        assert_eq!(decide(&o).step, Step::Do(Action::AskPeers));
        o.peers = Some(vec![answer("a", 1_000)]);
        o
    };
    let mut o = killed(SyncMode::On);
    take(&mut o, "sync", r#"{"leader":"me","sync_standby":"a","quorum":0}"#);
    let release = Step::Do(Action::ReleaseLock { publish: Publish::Nothing });
    assert_eq!(decide(&o).step, release, "it has all that was acknowledged");
    take(&mut o, "sync", r#"{"leader":"me","sync_standby":"b","quorum":0}"#);
    assert_eq!(decide(&o).step, Step::Do(Action::ClearRequest), "it may lack something");
    // Without a mode a stop is never killed for its length; should it die, the
    // switchover would lose what it promised to keep.
    assert_eq!(decide(&killed(SyncMode::Off)).step, Step::Do(Action::ClearRequest));
}

#[test]
fn n18_a_promotion_is_stopped_when_the_lock_is_another_member_s() {
    let mut o = promoting(100);
    let Seen::Known(view) = &mut o.store else { panic!("the store is known here") };
    view.take_sample("leader", "a", 2, 8);
    o.lock = Lock::Other("a".into());
    assert_eq!(decide(&o).step, AT_ONCE);
    o.dynamic.pause = true;
    assert_eq!(decide(&o).step, AT_ONCE, "in pause as well");
    o.dynamic.pause = false;
    let Seen::Known(view) = &mut o.store else { panic!("the store is known here") };
    (view.leader, o.lock) = (None, Lock::Free);
    assert_eq!(decide(&o).step, AT_ONCE);
    let mut elsewhere = promoting(100);
    elsewhere.ownership = standby::switch::ownership::Ownership::Doubtful("no grant".into());
    assert_eq!(decide(&elsewhere).step, AT_ONCE, "the region does not own");
}

#[test]
fn n19_a_restart_that_cannot_begin_in_time_is_dropped() {
    let mut o = leader();
    if let Process::Running(server) = &mut o.postgres.process {
        server.role = Seen::Unknown;
    }
    let mut memory = Memory { asked: Some(Asked::Restart), ..o.memory.clone() };
    memory.start_limit_ms = Some(5_000);
    memory.update_from(&o);
    assert_eq!((memory.asked, memory.start_limit_ms), (Some(Asked::Restart), Some(5_000)));
    o.now = Millis(NOW + 29_999);
    memory.update_from(&o);
    assert_eq!(memory.asked, Some(Asked::Restart));
    o.now = Millis(NOW + 30_000);
    memory.update_from(&o);
    assert_eq!((memory.asked, memory.start_limit_ms), (None, None));
    let why = memory.dropped.take().expect("it is told");
    assert!(why.ends_with("PostgreSQL does not answer"), "{why}");
    memory.update_from(&o);
    assert_eq!(memory.dropped, None, "once");
}

#[test]
fn n19_the_limit_of_a_restart_is_kept_until_it_begins() {
    let mut o = leader();
    o.postgres.process = primary();
    let mut memory = Memory { asked: Some(Asked::Restart), ..o.memory.clone() };
    memory.start_limit_ms = Some(5_000);
    memory.update_from(&o);
    assert_eq!(memory.start_limit_ms, Some(5_000));
}

#[test]
fn n1_a_leader_with_a_failing_disk_that_stopped_in_order_waits_for_who_has_its_end() {
    let mut o = leader();
    ended(&mut o, End::Clean);
    let why = "the disk takes no files".to_string();
    o.disk = crate::ha::observation::Disk::Failing { since: Millis(NOW - 2_000), why };
    o.memory.handover = Some(Millis(NOW - 60_000));
    let failed = Failed { job: Job::StartPrimary, at: Millis(NOW - 100), times: 3, why: "".into() };
    o.memory.failed = Some(failed);
    // Within every lag, and without the shutdown checkpoint.
    o.peers = Some(vec![answer("a", 1_999)]);
    let decision = decide(&o);
    let released = matches!(decision.step, Step::Do(Action::ReleaseLock { .. }));
    assert!(!released, "{decision:?}");
    o.peers = Some(vec![answer("a", 2_001)]);
    let release =
        Step::Do(Action::ReleaseLock { publish: Publish::Handover(Lsn(2_000), Some(Timeline(2))) });
    assert_eq!(decide(&o).step, release);
}

#[test]
fn n1_a_primary_that_was_stopped_by_hand_in_pause_leaves_the_end_of_its_log() {
    let mut o = leader();
    o.dynamic.pause = true;
    ended(&mut o, End::Clean);
    let on = o.shutdown_state().map(|shutdown_state| shutdown_state.timeline);
    let end = Step::Do(Action::ReleaseLock { publish: Publish::End(Lsn(2_000), on) });
    assert_eq!(decide(&o).step, end);
    ended(&mut o, End::Crashed);
    let nothing = Step::Do(Action::ReleaseLock { publish: Publish::Nothing });
    assert_eq!(decide(&o).step, nothing);
}

#[test]
fn nothing_planned_stops_a_healthy_primary_at_once() {
    super::for_each_observation(|o, decision| {
        let healthy = o.is_primary() && o.holds_lock() && o.may_own();
        let there = matches!(o.postgres.data, DataDir::Valid { .. });
        let fenced = crate::ha::facts::Facts::of(o).is_fence_due();
        let at_once = decision.step == AT_ONCE || decision.step == OVERDUE;
        let excused = !there || fenced || o.dynamic.pause;
        assert!(!(healthy && at_once) || excused, "{decision:?}\n{o:#?}");
    });
}

/// What it has signed stays the end of its log, also while it is paused and an operator asks.
#[test]
fn a_group_that_a_region_move_has_stopped_opens_no_server() {
    super::for_each_observation(|o, decision| {
        let opens = match &decision.step {
            Step::Do(Action::Promote | Action::AcquireLock) => true,
            Step::Do(Action::Begin(job)) => {
                matches!(job, Job::StartPrimary | Job::Restart { as_primary: true })
            }
            _ => false,
        };
        let is_told = o.order.is_some() && !o.is_primary();
        assert!(!(is_told && opens), "{decision:?}\n{o:#?}");
    });
}

#[test]
fn row_432_in_a_pause_a_region_move_goes_before_what_an_operator_asks() {
    let order = Some(Order::StopAndSign { id: "move".into() });
    let mut o = quiet();
    o.dynamic.pause = true;
    take(&mut o, "failover", r#"{"member":"me"}"#);
    assert_eq!(decide(&o).rule, 419);
    o.order = order.clone();
    assert_eq!(decide(&o).rule, 432);
    let mut stopped = leader();
    (stopped.dynamic.pause, stopped.memory.asked) = (true, Some(Asked::Restart));
    ended(&mut stopped, End::Clean);
    assert_eq!(decide(&stopped).rule, 409);
    stopped.order = order;
    assert_eq!(decide(&stopped).rule, 431, "another member may lead once the move is over");
    stopped.lock = Lock::Free;
    assert_eq!(decide(&stopped).rule, 432);
    let mut memory = stopped.memory.clone();
    memory.update_from(&stopped);
    stopped.now = Millis(NOW + 30_000);
    memory.update_from(&stopped);
    let why = memory.dropped.take().expect("it has an end, and is told");
    assert!(why.contains("region move"), "{why}");
}

#[test]
fn h2_a_member_that_an_operator_named_asks_no_other_before_it_leads() {
    let mut o = quiet();
    for name in ["me", "old", "third"] {
        take(&mut o, &format!("members/{name}"), r#"{"state":"running"}"#);
    }
    // The old leader has released the lock with the end of its log.
    let Seen::Known(view) = &mut o.store else { panic!("the store is known here") };
    view.take_sample("status", r#"{"optime":900}"#, 12, 0);
    view.take_sample("failover", r#"{"leader":"old","member":"me"}"#, 12, 0);
    assert_eq!(decide(&o).step, Step::Do(Action::AcquireLock));
    let Seen::Known(view) = &mut o.store else { panic!("the store is known here") };
    view.take_sample("status", r#"{"optime":1000}"#, 13, 0);
    view.take_sample("failover", r#"{"leader":"old","member":"me"}"#, 13, 0);
    assert_ne!(decide(&o).step, Step::Do(Action::AcquireLock), "it lacks the end");
    // What the others have counts again where it needs votes.
    let mut voted = o.clone();
    voted.dynamic.synchronous_mode = SyncMode::Quorum;
    take(&mut voted, "sync", r#"{"leader":"old","sync_standby":"me,third","quorum":1}"#);
    take(&mut voted, "status", r#"{"optime":900}"#);
    take(&mut voted, "failover", r#"{"leader":"old","member":"me"}"#);
    let Seen::Known(view) = &mut voted.store else { panic!("the store is known here") };
    view.members.remove(&topology::MemberName::new("old"));
    assert_eq!(decide(&voted).step, Step::Do(Action::AskPeers));
}

#[test]
fn known_bug_16_a_quorum_is_counted_before_the_leader_stops() {
    let mut o = leader();
    o.dynamic.synchronous_mode = SyncMode::Quorum;
    take(&mut o, "sync", r#"{"leader":"me","sync_standby":"a,b","quorum":1}"#);
    take(&mut o, "failover", r#"{"leader":"me"}"#);
    o.memory.request_seen = Some((o.now, Lsn(1_000)));
    let stops = |o: &Observation| {
        matches!(decide(o).step, Step::Do(Action::Begin(Job::Stop { how: StopHow::Planned })))
    };
    let silent = PeerAnswer { name: "b".into(), status: None };
    o.peers = Some(vec![answer("a", 1_000), silent]);
    assert!(!stops(&o), "one of two could not be elected");
    o.peers = Some(vec![answer("a", 1_000), answer("b", 1_000)]);
    assert!(stops(&o));
}
