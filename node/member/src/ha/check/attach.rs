//! In a synchronous mode a standby attaches to a new leader only after a comparison.

use super::cycle::{tags, take};
use crate::ha::facts::Facts;
use crate::ha::observation::{Divergence, Fit, Observation, Process, ServerRole};
use crate::ha::sample::{self, NOW, follower, following, standby_of};
use crate::ha::{Action, Step, decide};
use serde_json::json;
use standby::switch::ownership::Ownership;
use topology::{Millis, Seen, SyncMode, Timeline};

/// `a` leads; this standby still streams from `b`, which led before.
fn changed() -> Observation {
    let mut o = follower();
    o.dynamic.synchronous_mode = SyncMode::On;
    o.postgres.process = standby_of(Some("b"));
    (o.memory.compared_with, o.memory.fit) = (None, Fit::Stale);
    o
}

fn fits(o: &mut Observation, timeline: u32) {
    o.memory.fit = Fit::Known { leader: "a".into(), timeline: Timeline(timeline) };
}

fn rule(o: &Observation) -> u16 {
    decide(o).rule
}

#[test]
fn it_detaches_is_compared_and_attaches() {
    let mut o = changed();
    assert_eq!((rule(&o), decide(&o).step), (938, Step::Do(Action::Follow(None))));
    o.postgres.process = standby_of(None);
    assert_eq!(rule(&o), 939);
    (o.memory.compared_with, o.memory.compared_at) = (Some("a".into()), Millis(NOW));
    assert_eq!(rule(&o), 960, "the leader did not answer; it is asked again in a second");
    fits(&mut o, 2);
    o.memory.divergence = Divergence::Prefix;
    assert_eq!(decide(&o).step, Step::Do(Action::Follow(Some(following("a")))));
    o.postgres.process = standby_of(Some("a"));
    assert_eq!(rule(&o), 998);
}

#[test]
fn a_leader_that_has_not_opened_is_waited_for() {
    let mut o = changed();
    o.postgres.process = standby_of(None);
    let replica = r#"{"conn_url":"postgres://host-a:5432/postgres","state":"running","role":"replica","timeline":1}"#;
    take(&mut o, "members/a", replica);
    assert_eq!(rule(&o), 960);
}

#[test]
fn a_log_that_has_diverged_is_never_attached() {
    let mut o = changed();
    o.postgres.process = standby_of(None);
    o.memory.divergence = Divergence::Diverged("timeline 1 was left at 0/100".into());
    assert_eq!(rule(&o), 930);
    o.dynamic.pause = true;
    assert_eq!(rule(&o), 480);
}

#[test]
fn the_same_holds_in_pause() {
    let mut o = changed();
    o.dynamic.pause = true;
    assert_eq!((rule(&o), decide(&o).step), (458, Step::Do(Action::Follow(None))));
    o.postgres.process = standby_of(None);
    assert_eq!(rule(&o), 459);
    (o.memory.compared_with, o.memory.compared_at) = (Some("a".into()), Millis(NOW));
    assert_eq!(rule(&o), 480);
    fits(&mut o, 2);
    assert_eq!(rule(&o), 460);
}

/// A leader that went on to another timeline may have been another member's follower
/// in between.
#[test]
fn a_comparison_holds_for_one_leader_and_up_to_its_timeline() {
    let mut o = changed();
    o.postgres.process = standby_of(Some("a"));
    fits(&mut o, 2);
    assert_ne!(rule(&o), 938);
    take(&mut o, "history", r#"[[1,100,"x"],[2,200,"x"]]"#);
    assert_eq!(rule(&o), 938);
    fits(&mut o, 3);
    assert_ne!(rule(&o), 938);
    o.memory.fit = Fit::Known { leader: "b".into(), timeline: Timeline(9) };
    assert_eq!(rule(&o), 938);
    // Another leader was seen in between.
    o.memory.fit = Fit::Stale;
    assert_eq!(rule(&o), 938);
}

#[test]
fn another_leader_makes_the_comparison_stale() {
    let mut o = changed();
    fits(&mut o, 2);
    o.memory.former_leader = Some("a".into());
    let mut memory = o.memory.clone();
    memory.update_from(&o);
    assert_eq!(memory.fit, o.memory.fit);
    o.store = Seen::Known(sample::view("b"));
    o.postgres.process = standby_of(None);
    memory.update_from(&o);
    assert_eq!(memory.fit, Fit::Stale);
    // PostgreSQL streams the leader's own timeline only to a log that fits.
    o.postgres.process = standby_of(Some("b"));
    memory.update_from(&o);
    assert_eq!(memory.fit, Fit::Known { leader: "b".into(), timeline: Timeline(2) });
}

/// Another source may have added what the leader does not have.
#[test]
fn a_comparison_is_stale_once_another_server_feeds_the_log() {
    let mut o = changed();
    fits(&mut o, 2);
    let mut memory = o.memory.clone();
    memory.forget_before_following(Some(&following("a")), &o);
    assert_eq!(memory.fit, o.memory.fit);
    memory.forget_before_following(None, &o);
    assert_eq!(memory.fit, o.memory.fit);
    memory.forget_before_following(Some(&following("b")), &o);
    assert_eq!(memory.fit, Fit::Stale);
    let is_alone = |o: &Observation| Facts::of(o).has_no_source_but(&following("a"));
    assert!(!is_alone(&o), "it follows b");
    o.postgres.process = standby_of(None);
    assert!(is_alone(&o));
    o.postgres.process = standby_of(Some("a"));
    assert!(is_alone(&o));
    let Process::Running(server) = &mut o.postgres.process else { panic!("it runs") };
    server.role = Seen::Known(ServerRole::Standby { follows: None, streaming: true });
    assert!(!is_alone(&o), "its walreceiver lives on");
    assert!(!Facts::of(&o).is_end_certain(), "nothing asks for all of it");
    o.memory.fit = Fit::Stale;
    assert!(Facts::of(&o).is_end_certain());
    o.postgres.process = Process::Starting { since: Millis(NOW), as_primary: false };
    assert!(!Facts::of(&o).is_end_certain(), "only the least is known");
}

#[test]
fn what_was_attached_when_the_daemon_came_stays_attached() {
    let mut o = changed();
    o.postgres.process = standby_of(Some("a"));
    o.memory.fit = Fit::Unknown;
    assert_eq!(rule(&o), 945);
    o.memory.compared_with = Some("a".into());
    assert_eq!(rule(&o), 998);
}

#[test]
fn a_start_is_attached_when_it_takes_long() {
    let start = |ago: u64| {
        let mut o = changed();
        o.postgres.process = Process::Starting { since: Millis(NOW - ago), as_primary: false };
        o.memory.compared_with = Some("a".into());
        (o.memory.compared_at, o.memory.pointed_to) = (Millis(NOW), None);
        decide(&o).step
    };
    assert!(!matches!(start(29_000), Step::Do(Action::Follow(_))));
    assert_eq!(start(30_000), Step::Do(Action::Follow(Some(following("a")))));
    // Once it runs it is detached again, and compared.
    let mut o = changed();
    o.postgres.process = standby_of(Some("a"));
    (o.memory.fit, o.memory.has_begun) = (Fit::Unknown, true);
    assert_eq!(rule(&o), 938);
}

/// Where no commit waits for this standby it attaches at once.
#[test]
fn without_a_mode_it_attaches_at_once() {
    let at_once = |change: fn(&mut Observation)| {
        let mut o = changed();
        o.postgres.process = standby_of(Some("b"));
        change(&mut o);
        decide(&o).step != Step::Do(Action::Follow(None))
    };
    assert!(at_once(|o| o.dynamic.synchronous_mode = SyncMode::Off));
    // A mode that cannot be read may be on.
    assert!(!at_once(|o| {
        o.dynamic.synchronous_mode = SyncMode::Off;
        take(o, "sync", r#"{"leader":"a","sync_standby":"me"}"#);
    }));
    // From another standby that streams.
    assert!(at_once(|o| o.me.tags = tags(json!({"replicatefrom": "b"}))));
    // A region in doubt may not open; a leader that is open may be another region's.
    assert!(!at_once(|o| o.ownership = Ownership::Doubtful("no certificate".into())));
    assert!(at_once(|o| {
        o.ownership = Ownership::Doubtful("no certificate".into());
        take(o, "members/a", r#"{"state":"running","role":"standby_leader","timeline":2}"#);
    }));
    assert!(at_once(|o| {
        o.ownership = Ownership::Standby { upstream: None, epoch: 1 };
    }));
}
