//! Which member may take a free lock, condition by condition, and which one a leader
//! hands it to, also while a synchronous mode is in force.

use super::generate::quiet;
use super::{action, always, for_each_observation, opens};
use crate::ha::action::{Action, Step};
use crate::ha::decide;
use crate::ha::facts::Facts;
use crate::ha::observation::{Gate, Guarding, Job, Observation, Process, ServerRole, StopHow};
use crate::ha::sample;
use crate::made_up::TakeSample;
use serde_json::json;
use standby::candidate::NoCandidate;
use standby::promotion::{NotYet, PeerAnswer, PeerStatus};
use topology::{Lsn, Millis, Seen, SyncMode, Tags, Timeline};

const SYNC: &str = r#"{"leader":"a","sync_standby":"me,b","quorum":0}"#;
const WITHOUT_ME: &str = r#"{"leader":"a","sync_standby":"b","quorum":0}"#;
const VOTES: &str = r#"{"leader":"a","sync_standby":"me,b","quorum":1}"#;

fn see(o: &mut Observation, key: &str, value: &str) {
    let Seen::Known(view) = &mut o.store else { panic!("the store is known here") };
    view.take_sample(key, value, 7, 1);
}

fn peer(name: &str, lsn: u64) -> PeerAnswer {
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

/// A standby that has asked the others, in a group without a leader.
fn racing(mode: SyncMode, sync: &str) -> Observation {
    let mut o = quiet();
    o.dynamic.synchronous_mode = mode;
    o.peers = Some(Vec::new());
    see(&mut o, "sync", sync);
    o
}

fn race(o: &Observation) -> Result<(), NotYet> {
    Facts::of(o).race()
}

type Change = fn(&mut Observation);

/// The list of the rules, from its end to its beginning: what is said earlier wins.
#[test]
fn the_health_check_goes_through_its_list() {
    let ladder: [(&str, u16, Change); 11] = [
        ("everybody is asked", 850, |_| {}),
        ("and is no further", 851, |o| o.peers = Some(vec![peer("a", 900)])),
        ("somebody is further", 899, |o| o.peers = Some(vec![peer("a", 5_000)])),
        ("the watchdog cannot be used", 842, |o| o.watchdog = Guarding::Broken("none".into())),
        ("it is tagged", 840, |o| {
            o.me.tags = Tags(json!({"nofailover": true}).as_object().expect("a map").clone());
        }),
        ("it is paused", 499, |o| o.dynamic.pause = true),
        ("a primary in pause", 410, |o| {
            let Process::Running(server) = &mut o.postgres.process else { panic!("it runs") };
            server.role = Seen::Known(ServerRole::Primary);
        }),
        ("a primary", 811, |o| o.dynamic.pause = false),
        ("a primary of an older timeline", 812, |o| see(o, "history", r#"[[1,500,"x"]]"#)),
        ("it starts", 820, |o| {
            o.postgres.process = Process::Starting { since: o.now, as_primary: false };
        }),
        ("pre_promote failed a moment ago", 845, |o| {
            let before = quiet();
            (o.postgres, o.me, o.watchdog) = (before.postgres, before.me, Guarding::Unwanted);
            o.memory.gate = Gate::Failed(Millis(o.now.0 - o.dynamic.ttl_ms + 1));
        }),
    ];
    let mut o = quiet();
    for (what, rule, change) in ladder {
        change(&mut o);
        let decision = decide(&o);
        assert_eq!(decision.rule, rule, "{what}: {decision:?}");
    }
    o.memory.gate = Gate::Failed(Millis(o.now.0 - o.dynamic.ttl_ms));
    o.peers = None;
    assert_eq!(decide(&o).rule, 850, "no longer than a ttl");
}

#[test]
fn the_health_check_ends_with_the_request_failsafe_sync_and_the_others() {
    let named = |candidate: &str| format!(r#"{{"leader":"a","member":"{candidate}"}}"#);
    let mut o = racing(SyncMode::On, SYNC);
    assert_eq!(race(&o), Ok(()));
    o.peers = Some(vec![peer("b", 1_000), peer("z", 9_000)]);
    assert_eq!(race(&o), Ok(()), "z is not compared with");
    see(&mut o, "sync", WITHOUT_ME);
    assert_eq!(race(&o), Err(NotYet::NotSynchronous));
    see(&mut o, "failsafe", r#"{"b":"http://b/patroni"}"#);
    assert_eq!(race(&o), Err(NotYet::NotInFailsafe), "before /sync is looked at");
    see(&mut o, "failsafe", "{}");
    see(&mut o, "failover", &named("me"));
    assert_eq!(race(&o), Err(NotYet::NotSynchronous), "the name alone does not help");
    see(&mut o, "sync", SYNC);
    assert_eq!(race(&o), Ok(()));
    see(&mut o, "failover", &named("b"));
    assert_eq!(race(&o), Err(NotYet::OtherCandidate("b".into())));
    see(&mut o, "sync", WITHOUT_ME);
    see(&mut o, "failover", r#"{"member":"me"}"#);
    assert_eq!(race(&o), Ok(()), "an operator takes the loss upon himself");
}

#[test]
fn the_mode_counts_where_it_is_on_or_may_be() {
    assert_eq!(race(&racing(SyncMode::Off, WITHOUT_ME)), Ok(()));
    assert_eq!(race(&racing(SyncMode::On, "nonsense")), Ok(()));
    let few = Err(NotYet::TooFewVotes { votes: 0, needed: 1 });
    assert_eq!(race(&racing(SyncMode::Quorum, VOTES)), few);
    // A group that follows another one has no mode.
    let mut follows = racing(SyncMode::On, WITHOUT_ME);
    follows.dynamic.standby_cluster = Some(topology::dynamic::StandbyCluster {
        host: Some("far".into()),
        port: 5432,
        primary_slot_name: None,
    });
    assert_eq!(race(&follows), Ok(()));
    // What cannot be read may be on.
    let mut unread = racing(SyncMode::Off, WITHOUT_ME);
    unread.dynamic.is_synchronous = true;
    assert_eq!(race(&unread), Err(NotYet::NotSynchronous));
    let mut broken = racing(SyncMode::Off, WITHOUT_ME);
    see(&mut broken, "config", r#"{"ttl":"x"}"#);
    assert_eq!(race(&broken), Err(NotYet::NotSynchronous));
}

/// Stricter than the timeline alone: a new leader acknowledges before its timeline
/// stands in `/history`.
#[test]
fn a_primary_without_a_lock_goes_on_unless_another_member_may_have_led_since() {
    let found = |mode, sync: &str, claim: &str| {
        let mut o = racing(mode, sync);
        see(&mut o, "claim", claim);
        let Process::Running(server) = &mut o.postgres.process else { panic!("it runs") };
        server.role = Seen::Known(ServerRole::Primary);
        decide(&o).rule
    };
    let mine = r#"{"leader":"me","sync_standby":"a,b","quorum":1}"#;
    assert_eq!(found(SyncMode::Quorum, mine, "1 me"), 811);
    assert_eq!(found(SyncMode::Quorum, mine, "2 me"), 811, "not begun");
    assert_eq!(found(SyncMode::Quorum, mine, "2 a"), 812);
    assert_eq!(found(SyncMode::Off, mine, "2 a"), 811);
    assert_eq!(found(SyncMode::Quorum, "{}", "2 a"), 811, "no mode is in force");
    assert_eq!(found(SyncMode::On, SYNC, "1 me"), 811);
    assert_eq!(found(SyncMode::On, WITHOUT_ME, "1 me"), 812);
    assert_eq!(found(SyncMode::Quorum, WITHOUT_ME, "1 me"), 811, "it has just opened");
}

/// A leader asks the same of who takes over as the race does.
#[test]
fn a_leader_hands_over_to_standbys_of_sync_and_by_an_operators_word_to_anybody() {
    let with = |mode, sync: &str, request: &str, peers: &[(&str, u64)]| {
        let mut o = sample::leader();
        o.dynamic.synchronous_mode = mode;
        see(&mut o, "sync", sync);
        see(&mut o, "failover", request);
        let on_two = |(name, lsn): &(&str, u64)| {
            let mut answer = peer(name, *lsn);
            answer.status.as_mut().expect("just made").timeline = Some(Timeline(2));
            answer
        };
        o.peers = Some(peers.iter().map(on_two).collect());
        Facts::of(&o).successor(None)
    };
    let sync = r#"{"leader":"me","sync_standby":"b","quorum":0}"#;
    let votes = r#"{"leader":"me","sync_standby":"a,b","quorum":1}"#;
    let (both, one) = ([("a", 1_000), ("b", 1_000)], [("a", 1_000)]);
    let outside = Err(NoCandidate::NotSynchronous("a".into()));
    assert_eq!(with(SyncMode::On, sync, "{}", &both), Ok("b".into()));
    assert_eq!(with(SyncMode::On, sync, r#"{"leader":"me"}"#, &one), outside);
    assert_eq!(with(SyncMode::On, sync, r#"{"leader":"me","member":"a"}"#, &both), outside);
    assert_eq!(with(SyncMode::On, sync, r#"{"member":"a"}"#, &both), Ok("a".into()));
    assert_eq!(with(SyncMode::Off, sync, "{}", &one), Ok("a".into()));
    let few = Err(NoCandidate::TooFew { able: 1, needed: 2 });
    assert_eq!(with(SyncMode::Quorum, votes, "{}", &one), few);
    assert!(with(SyncMode::Quorum, votes, "{}", &both).is_ok());
    let named = r#"{"leader":"me","member":"a"}"#;
    assert_eq!(with(SyncMode::Quorum, votes, named, &one), Ok("a".into()));
}

#[test]
fn a_standby_outside_of_sync_takes_no_lock_and_opens_nothing() {
    always("takes the lock and may lack what was acknowledged", |o, action| {
        let (Some(view), facts) = (o.view(), Facts::of(o)) else { return true };
        let named = view
            .request()
            .is_some_and(|r| r.leader.is_none() && r.candidate.as_ref() == Some(&o.me.name));
        let sync = view.sync.as_ref().map(|sync| &sync.value);
        let outside = sync.is_some_and(|s| s.is_active() && !s.is_member(&o.me.name));
        let closed = facts.synchronous_mode() == SyncMode::On && outside && !named;
        !(closed && o.is_standby() && *action == Action::AcquireLock)
    });
}

#[test]
fn a_standby_that_commits_wait_for_is_not_stopped_before_its_time() {
    for_each_observation(|o, decision| {
        let awaited = Facts::of(o).is_awaited_by_commits() && o.is_standby();
        let stops = matches!(
            action(&decision),
            Some(Action::Begin(
                Job::Restart { as_primary: false } | Job::Stop { how: StopHow::Planned }
            ))
        );
        let leads = o.holds_lock();
        assert!(!(awaited && stops && !leads), "{decision:?}\n{o:#?}");
        let leaves =
            Facts::of(o).leaves_leader() && matches!(action(&decision), Some(Action::Follow(_)));
        assert!(!(awaited && leaves), "{decision:?}\n{o:#?}");
        let waits = matches!(decision.step, Step::Rest { at_most_ms: Some(200) });
        let waiting = [207, 404, 456, 920, 932, 941].contains(&decision.rule);
        assert!(!waiting || waits && !action(&decision).is_some_and(opens));
    });
}
