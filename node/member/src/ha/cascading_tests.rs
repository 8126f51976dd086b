//! When a cascade follows the leader, and how it goes back.

use super::*;
use crate::ha::action::{Action, Step};
use crate::ha::observation::Fit;
use crate::ha::{decide, sample};
use crate::made_up::TakeSample;
use serde_json::json;
use topology::{Seen, Tags};

fn see(o: &mut Observation, key: &str, value: &str) {
    let Seen::Known(view) = &mut o.store else { panic!("the store is known here") };
    view.take_sample(key, value, 9, 7);
}

/// `me` streams from `b`, and `a` leads.
fn cascade() -> Observation {
    let mut o = sample::follower();
    o.postgres.process = sample::standby_of(Some("b"));
    o.memory.line = Some((Some("a".into()), topology::Timeline(2)));
    o.me.tags = Tags(json!({"replicatefrom": "b"}).as_object().expect("a map").clone());
    tell(&mut o, Some("streaming"));
    o
}

fn tell(o: &mut Observation, state: Option<&str>) {
    tell_end(o, state, 1_000);
}

fn tell_end(o: &mut Observation, state: Option<&str>, end: u64) {
    let record = json!({"conn_url": "postgres://host-b:5432/postgres", "state": "running",
        "role": "replica", "version": topology::member::PATRONI_VERSION, "timeline": 2,
        "replication_state": state, "xlog_location": end});
    see(o, "members/b", &record.to_string());
}

/// Looks once a second; the rule at the end.
fn look(o: &mut Observation, seconds: u64) -> (u16, Step) {
    for _ in 0..seconds {
        o.now = o.now + 1_000;
        (o.memory.lease_renewed, o.memory.compared_at) = (o.now, o.now);
        let mut memory = o.memory.clone();
        memory.update_from(o);
        o.memory = memory;
    }
    let decision = decide(o);
    (decision.rule, decision.step)
}

fn back() -> Step {
    Step::Do(Action::Follow(Some(sample::following("b"))))
}

fn published(o: &Observation) -> Option<String> {
    let tags = o.memory.effective_tags(&o.me.tags);
    tags.replicatefrom().map(str::to_string)
}

#[test]
fn row_937_follows_the_leader_while_the_upstream_does_not_stream() {
    let mut o = cascade();
    assert_eq!(look(&mut o, 100).0, 998);
    for state in [None, Some("in archive recovery")] {
        tell(&mut o, state);
        assert_eq!(look(&mut o, 30).0, 998, "it may be restarting");
        assert_eq!(published(&o).as_deref(), Some("b"));
        let (rule, step) = look(&mut o, 1);
        let to_leader = Step::Do(Action::Follow(Some(sample::following("a"))));
        assert_eq!((rule, step), (937, to_leader));
        assert_eq!(published(&o), None, "the leader keeps a slot for it");
        o.postgres.process = sample::standby_of(Some("a"));
        assert_eq!(look(&mut o, 100).0, 998);
        tell(&mut o, Some("streaming"));
        assert_eq!(look(&mut o, 30).0, 998);
        assert_eq!(look(&mut o, 1), (934, back()));
        assert!(decide(&o).line().contains("b streams again"), "{}", decide(&o).line());
        o.postgres.process = sample::standby_of(Some("b"));
        assert_eq!(look(&mut o, 100).0, 998, "the next one is not doubled");
    }
}

/// A cascade on its detour, which the leader has made a synchronous standby meanwhile.
fn on_duty() -> Observation {
    let mut o = cascade();
    o.dynamic.synchronous_mode = topology::SyncMode::On;
    o.memory.fit = Fit::Known { leader: "a".into(), timeline: topology::Timeline(2) };
    tell(&mut o, None);
    look(&mut o, 31);
    o.postgres.process = sample::standby_of(Some("a"));
    see(&mut o, "sync", r#"{"leader":"a","sync_standby":"me","quorum":0}"#);
    tell(&mut o, Some("streaming"));
    assert_eq!(look(&mut o, 30).0, 998);
    o
}

#[test]
fn row_932_a_detour_ends_when_the_leader_counts_on_another_standby() {
    let mut o = on_duty();
    assert_eq!(look(&mut o, 1).0, 932);
    assert_eq!(published(&o).as_deref(), Some("b"), "b makes its slot meanwhile");
    let tags = o.memory.effective_tags(&o.me.tags);
    assert!(tags.nosync() && tags.sync_priority() == 0);
    see(&mut o, "sync", r#"{"leader":"a","sync_standby":"c","quorum":0}"#);
    assert_eq!(look(&mut o, 1), (934, back()));
    o.postgres.process = sample::standby_of(Some("b"));
    assert_eq!(look(&mut o, 1).0, 998);
    assert_eq!(o.memory.leaving_duty, None);
}

#[test]
fn row_934_waits_for_two_loops_and_in_a_mode_without_duty_not_at_all() {
    let mut o = on_duty();
    assert_eq!(look(&mut o, 20).0, 932, "the leader does not let go");
    assert_eq!(look(&mut o, 1), (934, back()));
    let mut o = on_duty();
    o.dynamic.synchronous_mode = topology::SyncMode::Off;
    assert_eq!(look(&mut o, 1), (934, back()));
}

/// Also in a pause, in which such a change is followed too.
#[test]
fn rows_456_and_457_new_tags_of_a_synchronous_standby_wait_in_the_same_way() {
    for (tags, to) in [
        (json!({"replicatefrom": "b"}), Some(sample::following("b"))),
        (json!({"nostream": true}), None),
    ] {
        for (pause, waits, goes) in [(false, 932, 934), (true, 456, 457)] {
            let mut o = on_duty();
            o.me.tags = Tags::default();
            look(&mut o, 1);
            o.me.tags = Tags(tags.as_object().expect("a map").clone());
            o.dynamic.pause = pause;
            assert_eq!(look(&mut o, 1).0, waits, "{tags}");
            see(&mut o, "sync", r#"{"leader":"a","sync_standby":"c","quorum":0}"#);
            let step = Step::Do(Action::Follow(to.clone()));
            assert_eq!(look(&mut o, 1), (goes, step), "{tags}");
            assert!(!decide(&o).line().contains("again"), "{}", decide(&o).line());
        }
    }
}

#[test]
fn row_935_says_that_the_upstream_has_no_record() {
    let mut o = cascade();
    let Seen::Known(view) = &mut o.store else { panic!("the store is known here") };
    view.members.remove(&MemberName::new("b"));
    let to_leader = Step::Do(Action::Follow(Some(sample::following("a"))));
    assert_eq!(look(&mut o, 1), (935, to_leader));
}

/// Then the own stream is all that is known of it.
#[test]
fn an_upstream_of_an_old_patroni_does_not_say_that_it_streams() {
    let old = |o: &mut Observation, version: &str, end: u64| {
        let record = json!({"conn_url": "postgres://host-b:5432/postgres", "state": "running",
            "role": "replica", "version": version, "xlog_location": end});
        see(o, "members/b", &record.to_string());
    };
    for (version, rule) in [("2.1.4", 998), ("3.0.4", 937)] {
        let mut o = cascade();
        old(&mut o, version, 1_000);
        assert_eq!(look(&mut o, 100).0, rule, "{version}");
    }
    let mut o = cascade();
    old(&mut o, "2.1.4", 1_000);
    o.postgres.process = sample::standby_of(None);
    o.memory.pointed_to = Some(sample::following("b"));
    assert_eq!(look(&mut o, 31).0, 937);
    o.postgres.process = sample::standby_of(Some("a"));
    old(&mut o, "2.1.4", 999);
    assert_eq!(look(&mut o, 100).0, 998);
    old(&mut o, "2.1.4", 1_000);
    assert_eq!(look(&mut o, 31).0, 934);
}

/// A frozen daemon does not know what came meanwhile.
#[test]
fn a_long_gap_between_two_looks_counts_as_no_time_without_wal() {
    let mut o = cascade();
    tell(&mut o, None);
    look(&mut o, 5);
    o.now = o.now + 20_000;
    assert_eq!(look(&mut o, 30).0, 998);
    assert_eq!(look(&mut o, 1).0, 937);
}

/// It was away, and would send nothing to a member that is ahead of it.
#[test]
fn an_upstream_that_is_behind_is_waited_for() {
    let mut o = cascade();
    tell(&mut o, None);
    assert_eq!(look(&mut o, 31).0, 937);
    o.postgres.process = sample::standby_of(Some("a"));
    tell_end(&mut o, Some("streaming"), 999);
    assert_eq!(look(&mut o, 600).0, 998);
    tell_end(&mut o, Some("streaming"), 1_000);
    assert_eq!(look(&mut o, 30).0, 998);
    assert_eq!(look(&mut o, 1).0, 934);
}

/// Its slot there is lost, or the WAL behind its end is gone.
#[test]
fn an_upstream_that_sends_nothing_is_left_too() {
    let mut o = cascade();
    o.postgres.process = sample::standby_of(None);
    o.memory.pointed_to = Some(sample::following("b"));
    look(&mut o, 30);
    assert!(!Facts::of(&o).is_on_detour());
    assert_eq!(look(&mut o, 1).0, 937);
}

#[test]
fn without_a_leader_or_in_a_pause_nothing_is_concluded() {
    let without = |change: &dyn Fn(&mut Observation)| {
        let mut o = cascade();
        tell(&mut o, None);
        change(&mut o);
        look(&mut o, 100);
        o.memory.detour.is_taken
    };
    assert!(without(&|_| {}));
    assert!(!without(&|o| o.dynamic.pause = true));
    assert!(!without(&|o| see(o, "members/a", r#"{"state":"stopped","role":"primary"}"#)));
    assert!(!without(&|o| o.store = Seen::Unknown));
    let archive = r#"{"state":"running","role":"replica","tags":{"nostream":true}}"#;
    assert!(!without(&|o| see(o, "members/b", archive)), "it is meant to");
    assert!(!without(&|o| o.me.tags = Tags::default()));
}

#[test]
fn an_upstream_whose_record_comes_back_is_not_followed_at_once() {
    let mut o = cascade();
    tell(&mut o, None);
    look(&mut o, 31);
    let Seen::Known(view) = &mut o.store else { panic!("the store is known here") };
    view.members.remove(&MemberName::new("b"));
    look(&mut o, 10);
    tell_end(&mut o, None, 500);
    look(&mut o, 1);
    assert!(Facts::of(&o).is_on_detour(), "it does not stream yet");
}

#[test]
fn a_silent_store_ends_no_detour_and_an_upstream_that_leads_does() {
    let mut o = cascade();
    tell(&mut o, None);
    look(&mut o, 31);
    let store = std::mem::replace(&mut o.store, Seen::Unknown);
    look(&mut o, 100);
    o.store = store;
    assert!(Facts::of(&o).is_on_detour());
    see(&mut o, "leader", "b");
    look(&mut o, 1);
    assert!(!o.memory.detour.is_taken);
}
