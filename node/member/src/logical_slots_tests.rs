//! What a member makes of its logical slots, answered by the test.

use super::super::effect::{Answer, Call, Effect};
use super::super::{Local, SlotEnd, SlotFailure, overrides::Overrides};
use super::*;
use crate::ha::observation::{Divergence, Job, Lock, Memory, ServerRole};
use crate::ha::{decide, sample};
use crate::made_up::TakeSample;
use serde_json::{Value, json};
use standby::slots::Xid;
use topology::write::{LeaderWrite, Written};
use topology::{Lsn, Seen, Tags, Write};

/// A member with its server, beat after beat.
struct Stage {
    member: Member,
    seen: Observation,
    sight: SlotSight,
}

fn slot(name: &str, at: u64, xmin: u32) -> Slot {
    let kind = Kind::Logical { database: "d".into(), plugin: "p".into() };
    let (confirmed_flush, catalog_xmin) = (Some(Lsn(at)), Some(Xid(xmin)));
    Slot { kind, confirmed_flush, catalog_xmin, ..Slot::physical(name, Lsn(1)) }
}

impl Stage {
    /// `me` of the sample with b and c; it follows b.
    fn standby() -> Stage {
        let mut stage = Stage::leader();
        stage.seen.lock = Lock::Other("b".into());
        stage.seen.postgres.process = sample::standby_of(Some("b"));
        let view = stage.view();
        view.take_sample("leader", "b", 2, 1);
        let running =
            r#"{"role":"primary","state":"running","conn_url":"postgres://host-b:5432/d"}"#;
        view.take_sample("members/b", running, 2, 1);
        stage
    }

    fn leader() -> Stage {
        let mut seen = sample::leader();
        let reader = json!({"database": "d", "plugin": "p"});
        let config = json!({"ttl": 30, "slots": {"x": reader, "y": reader}});
        seen.dynamic = Dynamic::read(&config).expect("a good document");
        let mut member = Member::new("me".into(), 20, seen.now);
        member.dynamic = seen.dynamic.clone();
        let slots = vec![Slot { active: true, ..Slot::physical("b", Lsn(90)) }];
        let mut sight = SlotSight { slots, end: Lsn(90), ..SlotSight::default() };
        (sight.major, sight.decodes, sight.started) = (15, true, Some("then".into()));
        let mut stage = Stage { member, seen, sight };
        let view = stage.view();
        view.members.clear();
        for name in ["me", "b", "c"] {
            let record = r#"{"role":"replica","state":"running","replication_state":"streaming"}"#;
            view.take_sample(&format!("members/{name}"), record, 1, 1);
        }
        view.take_sample("config", &config.to_string(), 1, 0);
        let names = ["b", "c"].into_iter().filter(|name| *name != "b");
        stage.sight.slots.extend(names.map(|name| Slot::physical(name, Lsn(90))));
        stage
    }

    fn view(&mut self) -> &mut GroupView {
        let Seen::Known(view) = &mut self.seen.store else { panic!("the store is known") };
        view
    }

    fn has(&mut self, slots: &[Slot]) {
        self.sight.slots.retain(|slot| slot.is_physical());
        self.sight.slots.extend(slots.iter().cloned());
    }

    /// One beat, in which all calls succeed; what was begun or done.
    fn beat(&mut self) -> Vec<String> {
        self.seen.now = self.seen.now + self.seen.dynamic.loop_wait_ms;
        if self.seen.holds_lock() {
            let (renewed, deadline) = (self.seen.now, self.seen.now + 30_000);
            self.seen.lock = Lock::Mine { renewed, deadline };
        }
        let mut steps = Vec::new();
        let mut next = self.member.begin_slots(self.seen.now, &self.seen, self.sight.clone());
        self.sight.ended.clear();
        while let Some(Effect::Call { call, .. }) = next {
            match call {
                Call::ChangeSlot(step) | Call::BeginSlotWork { step, .. } => {
                    steps.push(step.to_string());
                }
                other => panic!("no call about slots: {other:?}"),
            }
            next = self.member.go_on_with_slots(self.seen.now, &self.seen, Answer::Done);
        }
        steps
    }

    fn ends(&mut self, step: SlotStep, result: Result<Vec<Slot>, SlotFailure>) {
        self.sight.ended.push(SlotEnd { step, result });
    }

    /// The leader's answer, with what this member's slot there keeps.
    fn hears(&mut self, slots: &[Slot], physical: Option<u32>) {
        let mine = Slot { catalog_xmin: physical.map(Xid), ..Slot::physical("me", Lsn(80)) };
        let all = slots.iter().cloned().chain([mine]).collect();
        self.ends(SlotStep::AskLeader, Ok(all));
    }

    fn words(&self) -> Vec<String> {
        let words = self.member.slots.logical.words().into_iter();
        words.map(|(name, word)| format!("{name} {word}")).collect()
    }

    fn told(&mut self) -> Vec<String> {
        let local = self.member.take_local().into_iter();
        let told = local.filter_map(|local| match local {
            Local::Note(_, text) => Some(text),
            _ => None,
        });
        told.collect()
    }

    fn overrides(&self) -> Overrides {
        self.member.overrides(&self.seen)
    }
}

fn create(name: &str) -> SlotStep {
    let (database, plugin) = ("d".to_string(), "p".to_string());
    SlotStep::CreateLogical { name: name.into(), database, plugin, failover: false }
}

/// A standby leader, whose cluster follows another one through a slot.
fn standby_leader(major: u32) -> Stage {
    let mut stage = Stage::leader();
    stage.seen.postgres.process = sample::standby_of(Some("remote"));
    let mut config = stage.member.dynamic.raw.clone();
    config["standby_cluster"] = json!({"host": "h"});
    stage.seen.dynamic = Dynamic::read(&config).expect("a good document");
    stage.member.dynamic = stage.seen.dynamic.clone();
    stage.sight.major = major;
    stage.beat();
    stage
}

/// Both copies are ready under b.
fn ready_standby() -> Stage {
    let mut stage = Stage::standby();
    let slots = [slot("x", 80, 700), slot("y", 80, 700)];
    stage.has(&slots);
    stage.beat();
    stage.hears(&slots, Some(700));
    stage.beat();
    assert_eq!(stage.words(), ["x ready", "y ready"]);
    stage
}

#[test]
fn row_1270_makes_one_slot_of_a_database_at_a_time_and_tells_what_fails_once() {
    let mut stage = Stage::leader();
    assert_eq!(stage.beat(), [create("x").to_string()]);
    assert!(stage.beat().is_empty(), "it is under way");
    let failure = SlotFailure { why: "no such plugin".into(), copy_again: false };
    stage.ends(create("x"), Err(failure.clone()));
    stage.told();
    assert_eq!(stage.beat(), [create("y").to_string()], "what has failed rests for a loop");
    let told = stage.told();
    assert!(told.len() == 1 && told[0].ends_with("no such plugin"), "{told:?}");
    stage.has(&[slot("y", 80, 700)]);
    stage.ends(create("y"), Ok(Vec::new()));
    assert_eq!(stage.beat(), [create("x").to_string()], "and is tried again");
    stage.told();
    stage.ends(create("x"), Err(failure));
    assert!(stage.beat().is_empty());
    assert!(stage.told().is_empty());
    assert_eq!(stage.words(), ["x missing", "y ready"]);
}

#[test]
fn a_slot_that_was_used_elsewhere_is_refused_and_one_that_a_person_dropped_is_made() {
    let mut stage = Stage::leader();
    stage.view().take_sample("status", r#"{"optime":90,"slots":{"x":70,"y":80}}"#, 2, 0);
    stage.has(&[slot("y", 80, 700)]);
    assert!(stage.beat().is_empty());
    let told = stage.told();
    assert!(told[0].contains("`x` is not made on this server"), "{told:?}");
    stage.has(&[]);
    assert_eq!(stage.beat(), [create("y").to_string()]);
}

/// A member that has not even a copy refuses; another member that has one may resume it, unless
/// the reader is ahead of what the group has.
#[test]
fn row_1180_drops_copies_of_a_refused_slot_whose_reader_is_ahead_on_all_members() {
    let mut stage = Stage::standby();
    stage.has(&[slot("x", 80, 700), slot("y", 80, 700)]);
    let refused = r#"{"optime":90,"refused_slots":{"x":85,"y":85},"skipping_slots":["y"]}"#;
    stage.view().take_sample("status", refused, 2, 0);
    let steps = stage.beat();
    assert!(steps[0].starts_with("dropping the slot `y`: its reader"), "{steps:?}");
    assert!(!steps.iter().any(|step| step.contains("`x`")), "{steps:?}");
    // The store forgets it, and a member that could not drop its copy is promoted.
    stage.view().status = None;
    stage.beat();
    stage.view().take_sample("status", r#"{"optime":95}"#, 3, 0);
    stage.seen.postgres.process = sample::standby_of(Some("b"));
    let before = stage.member.before_opening(&stage.seen).expect("it has slots");
    assert_eq!(before.drops, ["y"], "however long its log is now");
    // Nor is it copied from a primary that could not drop it at once.
    stage.has(&[slot("x", 80, 700)]);
    stage.hears(&[slot("x", 85, 700), slot("y", 85, 700)], Some(700));
    stage.beat();
    assert_eq!(stage.member.memory.slots_to_copy, None);
    stage.has(&[]);
    stage.hears(&[slot("x", 85, 700), slot("y", 85, 700)], Some(700));
    stage.beat();
    assert_eq!(stage.member.memory.slots_to_copy.as_deref(), Some("x"));
}

#[test]
fn row_1180_drops_a_slot_from_under_a_reader_that_confirms_more_than_an_open_primary_has() {
    let mut stage = Stage::leader();
    stage.has(&[slot("x", 95, 700), slot("y", 80, 700)]);
    assert!(stage.beat().is_empty(), "both are read in one look, one after the other");
    let steps = stage.beat();
    assert!(steps.len() == 1 && steps[0].starts_with("dropping the slot `x`"), "{steps:?}");
    stage.has(&[slot("y", 80, 700)]);
    assert!(stage.beat().is_empty(), "it is not made anew");
}

#[test]
fn without_a_report_no_slot_is_made_for_it_may_have_been_used() {
    let mut stage = Stage::leader();
    stage.view().status = None;
    assert!(stage.beat().is_empty());
    stage.view().take_sample("status", r#"{"optime":90}"#, 2, 0);
    assert_eq!(stage.beat(), [create("x").to_string()]);
}

#[path = "logical_slots_copies_tests.rs"]
mod copies;
#[path = "logical_slots_opening_tests.rs"]
mod opening;
#[path = "logical_slots_region_tests.rs"]
mod region;
#[path = "logical_slots_settings_tests.rs"]
mod settings;
