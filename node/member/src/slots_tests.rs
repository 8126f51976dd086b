//! The machine's steps about slots, answered by the test.

use super::*;
use crate::ha::failsafe::Promise;
use crate::ha::observation::Lock;
use crate::ha::sample;
use crate::made_up::TakeSample;
use standby::slots::Slot;
use topology::{Lsn, Seen};

/// The leader `me` of the sample with b and c, and these slots.
fn leader(slots: &[(&str, bool)]) -> (Member, Observation, SlotSight) {
    let mut seen = sample::leader();
    let Seen::Known(view) = &mut seen.store else { panic!("the store is known") };
    view.members.clear();
    for name in ["me", "b", "c"] {
        view.take_sample(&format!("members/{name}"), "{}", 1, 1);
    }
    view.take_sample("config", r#"{"ttl":30}"#, 1, 0);
    let mut member = Member::new("me".into(), 20, seen.now);
    member.dynamic = seen.dynamic.clone();
    let there = slots
        .iter()
        .map(|(name, active)| Slot { active: *active, ..Slot::physical(name, Lsn(10)) });
    let sight = SlotSight { slots: there.collect(), end: Lsn(99), ..SlotSight::default() };
    (member, seen, sight)
}

fn step_of(effect: &Option<Effect>) -> Option<String> {
    match effect {
        Some(Effect::Call { call: Call::ChangeSlot(step), limit_ms: Some(1..) }) => {
            Some(step.to_string())
        }
        None => None,
        other => panic!("{other:?}"),
    }
}

fn warnings(member: &mut Member) -> Vec<String> {
    let local = member.take_local().into_iter();
    let text = |local| match local {
        super::super::Local::Note(Level::Warn, text) => Some(text),
        _ => None,
    };
    local.filter_map(text).collect()
}

#[test]
fn ids_rise() {
    assert!(SLOTS.is_sorted_by(|a, b| a.id < b.id));
}

#[test]
fn slots_are_kept_one_step_at_a_time_within_the_beat() {
    let (mut member, seen, sight) = leader(&[]);
    let mut now = seen.now;
    let first = member.begin_slots(now, &seen, sight.clone());
    assert_eq!(step_of(&first).as_deref(), Some("creating the slot `b`"));
    now = now + 10;
    let second = member.go_on_with_slots(now, &seen, Answer::Done);
    assert_eq!(step_of(&second).as_deref(), Some("creating the slot `c`"));
    assert!(member.go_on_with_slots(now, &seen, Answer::Done).is_none());
    // A step that took all of the time: the next beat begins behind it.
    member.begin_slots(now, &seen, sight.clone());
    now = now + 60_000;
    let silence = Answer::NoAnswer("no answer".into());
    assert!(member.go_on_with_slots(now, &seen, silence).is_none());
    let seen = Observation { now, ..sample_at(&seen, now) };
    let next = member.begin_slots(now, &seen, sight.clone());
    assert_eq!(step_of(&next).as_deref(), Some("creating the slot `c`"));
    assert!(member.go_on_with_slots(now, &seen, Answer::Done).is_none());
    let again = member.begin_slots(now, &seen, sight);
    assert_eq!(step_of(&again).as_deref(), Some("creating the slot `b`"), "and tried again");
}

/// The same with a lock that was renewed at this moment.
fn sample_at(seen: &Observation, now: Millis) -> Observation {
    let mut later = seen.clone();
    later.lock = Lock::Mine { renewed: now, deadline: now + 30_000 };
    later
}

#[test]
fn no_step_is_tried_twice_in_a_beat() {
    let (mut member, seen, sight) = leader(&[("b", true)]);
    for _ in 0..2 {
        let first = member.begin_slots(seen.now, &seen, sight.clone());
        assert_eq!(step_of(&first).as_deref(), Some("creating the slot `c`"));
        let full = Answer::Failed("all slots are in use".into());
        assert!(member.go_on_with_slots(seen.now, &seen, full).is_none());
    }
    let told = warnings(&mut member);
    assert_eq!(told, ["creating the slot `c`: all slots are in use"], "told once");
    member.begin_slots(seen.now, &seen, sight.clone());
    member.go_on_with_slots(seen.now, &seen, Answer::Failed("another reason".into()));
    assert_eq!(warnings(&mut member).len(), 1);
}

/// Positions move on between the beats; a slot whose turn it is does not wait for ever.
#[test]
fn more_slots_than_steps_of_a_beat_are_moved_in_turn() {
    let (mut member, mut seen, mut sight) = leader(&[]);
    let names: Vec<String> = (10..10 + STEPS_MAX + 8).map(|n| format!("n{n}")).collect();
    sight.slots.extend(names.iter().map(|name| Slot::physical(name, Lsn(10))));
    let mut moved = std::collections::BTreeSet::new();
    for position in [50, 60] {
        let Seen::Known(view) = &mut seen.store else { panic!("the store is known") };
        for name in &names {
            let record =
                format!(r#"{{"tags":{{"replicatefrom":"b"}},"xlog_location":{position}}}"#);
            view.take_sample(&format!("members/{name}"), &record, 1, 1);
        }
        let mut effect = member.begin_slots(seen.now, &seen, sight.clone());
        while let Some(step) = step_of(&effect) {
            moved.extend(names.iter().filter(|name| step.contains(&format!("`{name}`"))));
            effect = member.go_on_with_slots(seen.now, &seen, Answer::Done);
        }
    }
    assert_eq!(moved.len(), names.len());
}

#[test]
fn a_slot_that_is_not_known_is_named_before_it_is_dropped() {
    let (mut member, mut seen, sight) = leader(&[("b", true), ("c", true), ("old", false)]);
    assert!(member.begin_slots(seen.now, &seen, sight.clone()).is_none());
    let told = warnings(&mut member);
    assert!(told[0].contains("add {\"name\": \"old\"} to `ignore_slots`"), "{told:?}");
    seen = sample_at(&seen, seen.now + member.dynamic.loop_wait_ms);
    seen.now = seen.now + member.dynamic.loop_wait_ms;
    let step = member.begin_slots(seen.now, &seen, sight);
    assert!(step_of(&step).is_some_and(|step| step.starts_with("dropping the slot `old`")));
}

#[test]
fn while_a_member_opens_or_none_leads_no_slot_is_changed() {
    let (mut member, mut seen, sight) = leader(&[]);
    seen.postgres.process = sample::standby_of(Some("b"));
    assert!(member.begin_slots(seen.now, &seen, sight.clone()).is_none(), "it opens");
    seen.lock = Lock::Other("b".into());
    let step = member.begin_slots(seen.now, &seen, sight.clone());
    assert_eq!(step_of(&step).as_deref(), Some("creating the slot `b`"));
    let Seen::Known(view) = &mut seen.store else { panic!("the store is known") };
    view.leader = None;
    assert!(member.begin_slots(seen.now, &seen, sight).is_none(), "none leads");
}

/// The store is silent after a beat in which it was not; `next` cascades from b.
fn in_failsafe(promise: Option<Promise>) -> (Member, Observation, SlotSight) {
    let (mut member, mut seen, sight) =
        leader(&[("a", true), ("b", true), ("c", true), ("me", false), ("next", false)]);
    member.dynamic.failsafe_mode = true;
    let Seen::Known(view) = &mut seen.store else { panic!("the store is known") };
    view.take_sample("members/next", r#"{"tags":{"replicatefrom":"b"}}"#, 1, 1);
    view.take_sample("status", r#"{"optime":9,"slots":{"next":5}}"#, 1, 0);
    if promise.is_some() {
        seen.postgres.process = sample::standby_of(Some("b"));
        seen.lock = Lock::Other("b".into());
        view.take_sample("leader", "b", 2, 1);
    }
    assert!(member.begin_slots(seen.now, &seen, sight.clone()).is_none());
    (seen.store, seen.lock) = (Seen::Unknown, Lock::Unknown);
    seen.failsafe.proof = promise.is_none().then(|| seen.now + 20_000);
    seen.failsafe.promise = promise;
    (member, seen, sight)
}

#[test]
fn heard_positions_move_slots_of_cascades() {
    let (mut member, mut seen, mut sight) = in_failsafe(None);
    sight.slots.push(Slot::physical("old", Lsn(1)));
    assert!(member.begin_slots(seen.now, &seen, sight.clone()).is_none());
    member.heard.insert("next".into(), Lsn(60));
    let step = member.begin_slots(seen.now, &seen, sight.clone());
    assert_eq!(step_of(&step), Some(format!("advancing the slot `next` to {}", Lsn(60))));
    assert!(member.go_on_with_slots(seen.now, &seen, Answer::Done).is_none(), "none is dropped");
    seen.failsafe.proof = None;
    assert!(member.begin_slots(seen.now, &seen, sight).is_none(), "the mode is not active");
}

#[test]
fn a_member_that_promised_moves_its_slots_by_what_the_leader_said() {
    let slots = [("next".to_string(), Lsn(70)), ("me".to_string(), Lsn(80))].into();
    let promise = Promise { to: "b".into(), slots, until: Millis(0), ..Promise::default() };
    let (mut member, mut seen, sight) = in_failsafe(Some(promise));
    let step = member.begin_slots(seen.now, &seen, sight.clone());
    assert_eq!(step_of(&step), Some(format!("advancing the slot `next` to {}", Lsn(70))));
    seen.failsafe.promise = None;
    assert!(member.begin_slots(seen.now, &seen, sight).is_none());
}

#[test]
fn every_row_comes_to_a_step() {
    let mut bad = vec![
        Slot { is_lost: true, ..Slot::physical("b", Lsn(10)) },
        Slot { holds_rows: true, ..Slot::physical("c", Lsn(10)) },
        Slot { restart_lsn: None, ..Slot::physical("d", Lsn(10)) },
        Slot::physical("e", Lsn(10)),
        Slot::physical("old", Lsn(10)),
    ];
    let kind = standby::slots::Kind::Logical { database: "d".into(), plugin: "p".into() };
    bad.push(Slot { kind, ..Slot::physical("f", Lsn(10)) });
    let (mut member, mut seen, sight) = leader(&[]);
    let Seen::Known(view) = &mut seen.store else { panic!("the store is known") };
    for name in ["c", "d", "e", "f", "g"] {
        let record = r#"{"tags":{"replicatefrom":"b"},"xlog_location":50}"#;
        view.take_sample(&format!("members/{name}"), record, 1, 1);
    }
    member.slots.unknown.look(["old".to_string()].into(), seen.now - 60_000);
    let sight = SlotSight { slots: bad, ..sight };
    let mut effect = member.begin_slots(seen.now, &seen, sight);
    let mut steps = Vec::new();
    while let Some(step) = step_of(&effect) {
        steps.push(step);
        effect = member.go_on_with_slots(seen.now, &seen, Answer::Done);
    }
    let begin = [
        "dropping the slot `b`: the WAL",
        "dropping the slot `c`: it keeps dead rows",
        "dropping the slot `d`: it reserves no WAL",
        "dropping the slot `f`: one of another type",
        "dropping the slot `old`: no member",
        "advancing the slot `e`",
        "creating the slot `b`",
    ];
    assert!(steps.iter().zip(begin).all(|(step, begin)| step.starts_with(begin)), "{steps:?}");
    assert_eq!(steps.len(), begin.len() + 4, "c, d, f and g: {steps:?}");
    assert_eq!(SLOTS.len(), 15, "the others are in logical_slots_tests.rs");
}
