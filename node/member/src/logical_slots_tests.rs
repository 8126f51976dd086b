//! What a member makes of its logical slots, answered by the test.

use super::super::effect::{Answer, Call, Effect};
use super::super::{Local, SlotFailure, overrides::Overrides};
use super::*;
use crate::ha::observation::{Job, Lock};
use crate::ha::{Outcome, sample};
use crate::next::Next;
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
        let running = r#"{"role":"primary","state":"running","conn_url":"postgres://h:1/d"}"#;
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

#[test]
fn row_1300_asks_the_leader_once_a_loop_and_its_answer_makes_a_copy_ready() {
    let mut stage = Stage::standby();
    let ask = SlotStep::AskLeader.to_string();
    stage.has(&[slot("x", 80, 700), slot("y", 80, 700)]);
    assert_eq!(stage.beat(), [ask.as_str()]);
    assert_eq!(stage.words(), ["x pending", "y pending"]);
    assert!(stage.beat().is_empty(), "it is under way");
    stage.hears(&[slot("x", 80, 700), slot("y", 80, 710)], Some(700));
    assert_eq!(stage.beat(), [ask]);
    assert_eq!(stage.words(), ["x ready", "y pending"]);
    stage.hears(&[], None);
    stage.sight.started = Some("later".into());
    stage.beat();
    assert_eq!(stage.words(), ["x pending", "y pending"], "the server was started anew");
}

#[test]
fn row_1290_moves_copies_and_what_cannot_be_moved_is_copied_again() {
    let mut stage = Stage::standby();
    stage.view().take_sample("status", r#"{"optime":90,"slots":{"x":85,"y":85}}"#, 2, 0);
    stage.has(&[slot("x", 80, 700), slot("y", 85, 700)]);
    let (name, database, to) = ("x".to_string(), "d".to_string(), Lsn(85));
    let step = SlotStep::AdvanceLogical { name, database, to };
    assert!(stage.beat().contains(&step.to_string()));
    stage.hears(&[slot("x", 85, 700), slot("y", 85, 700)], Some(700));
    stage.beat();
    assert_eq!(stage.member.memory.slots_to_copy, None);
    let failure = SlotFailure { why: "WAL is gone".into(), copy_again: true };
    stage.ends(step, Err(failure));
    stage.hears(&[slot("x", 85, 700), slot("y", 85, 700)], Some(700));
    stage.beat();
    assert_eq!(stage.member.memory.slots_to_copy.as_deref(), Some("x"));
    let job = Job::Restart { as_primary: false };
    let copies = stage.member.slot_copies(&stage.seen, &job).expect("copies");
    let replaced = copies.slots.iter().map(|slot| (slot.name.as_str(), slot.replaces));
    assert_eq!(replaced.collect::<Vec<_>>(), [("x", true), ("y", false)]);
    assert!(copies.is_purpose && copies.from.member == "b".into());
    stage.hears(&[slot("x", 85, 700)], Some(700));
    stage.beat();
    assert_eq!(stage.member.memory.slots_to_copy, None, "not twice in ten minutes");
}

/// Of several members that lack copies the first by name goes first, and none while
/// another one is away; but not for ever.
#[test]
fn a_copy_restarts_one_member_at_a_time() {
    let mut stage = Stage::standby();
    let record = |word: &str, state: &str| {
        format!(
            r#"{{"role":"replica","state":"running","replication_state":"{state}",
            "logical_slots":{{"x":"{word}"}}}}"#
        )
    };
    let mut due = |before: &str, after: &str| {
        stage.view().take_sample("members/c", before, 3, 1);
        stage.view().take_sample("members/z", after, 3, 1);
        stage.hears(&[slot("x", 80, 700)], None);
        stage.beat();
        stage.member.memory.slots_to_copy.clone()
    };
    let (lacks, has) = (record("missing", "streaming"), record("ready", "streaming"));
    let away = record("ready", "in archive recovery");
    assert_eq!(due(&lacks, &has), None);
    assert_eq!(due(&has, &away), None);
    assert_eq!(due(&has, &lacks).as_deref(), Some("x"));
    // One that lacks copies comes before: it gets the first two `ttl`.
    let times = 4 * 30_000 / 10_000;
    let all: Vec<_> = (0..times).map(|_| due(&lacks, &away)).collect();
    let first = all.iter().position(|due| due.is_some());
    assert!(first.is_some_and(|first| first > times / 2), "the wait has an end: {all:?}");
}

#[test]
fn nothing_is_copied_in_pause_without_wal_level_or_to_a_member_that_never_leads() {
    let changes: [fn(&mut Stage); 5] = [
        |stage| {
            stage.member.dynamic.pause = true;
            stage.seen.dynamic.pause = true;
        },
        |stage| stage.sight.decodes = false,
        |stage| stage.sight.major = 17,
        |stage| {
            stage.seen.me.tags =
                Tags([("nofailover".to_string(), true.into())].into_iter().collect())
        },
        |stage| stage.has(&[slot("x", 80, 700)]),
    ];
    for (index, change) in changes.into_iter().enumerate() {
        let mut stage = Stage::standby();
        change(&mut stage);
        stage.hears(&[slot("x", 80, 700)], None);
        stage.beat();
        assert_eq!(stage.member.memory.slots_to_copy, None, "{index}");
    }
}

#[test]
fn a_promotion_names_what_is_not_ready_and_drops_what_would_skip() {
    let mut stage = Stage::standby();
    stage.view().take_sample("status", r#"{"optime":2000,"slots":{"x":2000,"y":80}}"#, 2, 0);
    stage.has(&[slot("x", 80, 700), slot("y", 80, 700)]);
    stage.beat();
    stage.told();
    let before = stage.member.before_opening(&stage.seen).expect("it has slots");
    assert_eq!(before.drops, ["x"], "its reader has more than this log");
    let told = stage.told();
    assert!(told[0].contains("`x` is not resumed") && told[1].contains("y (pending)"), "{told:?}");
    let with = stage.member.slots.logical.promoted_with.as_deref();
    assert_eq!(with, Some("y (pending), x (refused)"));
    // It could not be dropped before the opening.
    let mut open = Stage::leader();
    open.member.slots.logical = std::mem::take(&mut stage.member.slots.logical);
    open.view().take_sample("status", r#"{"optime":2000,"slots":{"x":2000,"y":80}}"#, 2, 0);
    open.has(&[slot("x", 80, 700), slot("y", 80, 700)]);
    open.member.slots.logical.under_way.clear();
    let steps = open.beat();
    assert!(steps[0].starts_with("dropping the slot `x`: its reader"), "{steps:?}");
    open.has(&[slot("y", 80, 700)]);
    assert!(open.beat().is_empty(), "it is not made anew");
}

#[test]
fn a_member_without_logical_slots_opens_at_once() {
    let mut stage = Stage::standby();
    stage.has(&[]);
    stage.sight.decodes = false;
    assert!(stage.member.before_opening(&stage.seen).is_none());
}

#[test]
fn row_1460_keeps_rows_for_copies_here_and_below() {
    let on = |change: &dyn Fn(&mut Stage)| {
        let mut stage = Stage::standby();
        change(&mut stage);
        stage.beat();
        stage.overrides().feedback
    };
    assert!(on(&|_| {}));
    let without = Dynamic::read(&json!({"slots": {"x": null}})).expect("a good document");
    assert!(!on(&|stage| stage.member.dynamic = without.clone()));
    let never = |stage: &mut Stage, name: &str, tags: Value| {
        let record = json!({"tags": tags, "state": "running"}).to_string();
        stage.view().take_sample(&format!("members/{name}"), &record, 4, 1);
    };
    assert!(!on(&|stage| never(stage, "me", json!({"nofailover": true}))));
    // One that cascades from this member keeps them.
    assert!(on(&|stage| {
        never(stage, "me", json!({"nofailover": true}));
        never(stage, "c", json!({"replicatefrom": "me"}));
    }));
}

#[test]
fn row_1470_has_the_server_copy_slots_on_a_standby_that_streams_from_the_primary() {
    let mut stage = Stage::standby();
    stage.beat();
    assert!(!stage.overrides().syncs_slots, "before 17 there is no such setting");
    stage.sight.major = 17;
    stage.beat();
    assert!(stage.overrides().syncs_slots);
    stage.has(&[Slot { failover: true, ..slot("x", 80, 700) }]);
    stage.beat();
    assert!(!stage.overrides().syncs_slots, "the worker would fail for it");
    stage.has(&[]);
    stage.beat();
    let below = Tags([("replicatefrom".to_string(), "c".into())].into_iter().collect());
    stage.seen.me.tags = below;
    assert!(!stage.overrides().syncs_slots);
    stage.seen.me.tags = Tags::default();
    stage.member.dynamic.slots = Default::default();
    stage.beat();
    assert!(!stage.overrides().syncs_slots, "nothing is defined");
    stage.has(&[Slot { failover: true, synced: true, ..slot("x", 80, 700) }]);
    stage.beat();
    assert!(stage.overrides().syncs_slots, "the worker removes its copy");
    let mut leader = Stage::leader();
    leader.sight.major = 17;
    leader.beat();
    assert!(!leader.overrides().syncs_slots);
}

#[test]
fn row_1480_lets_readers_wait_for_standbys_that_may_lead() {
    let mut stage = Stage::leader();
    stage.beat();
    assert_eq!(stage.overrides().awaited_slots, None);
    stage.sight.major = 17;
    stage.beat();
    let awaited = stage.overrides().awaited_slots;
    assert_eq!(awaited, Some(vec!["b".to_string()]), "c was never seen to stream");
    stage.sight.slots.iter_mut().for_each(|slot| slot.active = false);
    stage.seen.now = stage.seen.now + 30_000;
    assert_eq!(stage.overrides().awaited_slots, Some(vec![]), "it is away for long");
    let own = json!({"postgresql": {"parameters": {"synchronized_standby_slots": "b"}}});
    stage.member.dynamic.raw = own;
    assert_eq!(stage.overrides().awaited_slots, None, "an operator has said which");
    let mut standby = Stage::standby();
    standby.sight.major = 17;
    standby.beat();
    assert_eq!(standby.overrides().awaited_slots, None);
}

#[test]
fn rows_1185_and_1280_hand_slots_to_the_server() {
    let mut stage = Stage::standby();
    stage.sight.major = 17;
    stage.has(&[Slot { failover: true, ..slot("x", 80, 700) }]);
    let steps = stage.beat();
    assert!(steps[0].starts_with("dropping the slot `x`: PostgreSQL"), "{steps:?}");
    stage.has(&[Slot { failover: true, synced: true, ..slot("x", 80, 700) }]);
    stage.beat();
    assert_eq!(stage.words(), ["x ready", "y missing"]);
    let mut leader = Stage::leader();
    leader.sight.major = 17;
    leader.has(&[slot("x", 80, 700), Slot { failover: true, ..slot("y", 80, 700) }]);
    let wanted = SlotStep::SetFailover { name: "x".into() };
    assert_eq!(leader.beat(), [wanted.to_string()]);
    // A definition that goes takes its slot with it; one of a subscription stays.
    let native = |name| Slot { failover: true, ..slot(name, 80, 700) };
    leader.has(&[native("x"), native("y"), native("of_a_subscription")]);
    leader.beat();
    let less = json!({"ttl": 30, "slots": {"y": {"database": "d", "plugin": "p"}}});
    leader.member.dynamic = Dynamic::read(&less).expect("a good document");
    leader.beat();
    let steps = leader.beat();
    assert!(
        steps.len() == 1 && steps[0].starts_with("dropping the slot `x`: no member"),
        "{steps:?}"
    );
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

#[test]
fn row_1470_has_a_standby_leader_s_server_copy_the_slots_of_the_remote_side() {
    let mut stage = standby_leader(17);
    assert!(stage.overrides().syncs_slots && stage.overrides().feedback);
    assert!(!stage.told().iter().any(|text| text.contains("follows another one")));
    stage.has(&[Slot { failover: true, synced: true, ..slot("x", 80, 700) }]);
    assert!(stage.beat().is_empty());
    assert_eq!(stage.words(), ["x ready", "y missing"]);
    let mut before = standby_leader(15);
    assert!(!before.overrides().syncs_slots && !before.overrides().feedback);
    let told = before.told();
    assert!(
        told.iter().any(|text| text.starts_with("this cluster follows another one")),
        "{told:?}"
    );
}

#[test]
fn a_promoted_standby_cluster_does_not_make_slots_that_may_have_been_used_elsewhere() {
    let mut stage = standby_leader(15);
    let mut config = stage.member.dynamic.raw.clone();
    config["standby_cluster"] = Value::Null;
    stage.seen.dynamic = Dynamic::read(&config).expect("a good document");
    stage.member.dynamic = stage.seen.dynamic.clone();
    assert!(stage.beat().is_empty(), "it opens");
    stage.member.before_opening(&stage.seen);
    let refused = stage.member.slots.logical.refused(&[]);
    assert_eq!(refused.into_keys().collect::<Vec<_>>(), ["x", "y"]);
    stage.seen.postgres.process = sample::primary();
    assert!(stage.beat().is_empty(), "they are not made");
    let told = stage.told();
    assert!(told.iter().any(|text| text.contains("`x` is not made on this server")), "{told:?}");
}

/// The daemon that promotes may be another process than the one that has followed.
#[test]
fn row_1140_tells_of_slots_that_a_standby_leader_lacks_and_a_fresh_daemon_makes_none() {
    let mut stage = standby_leader(15);
    stage.member.lease.id = Some(topology::Session::of_store(7));
    let told = |stage: &mut Stage| {
        let about = crate::Particulars::default();
        let mut next = stage.member.begin_upkeep(stage.seen.now, &stage.seen, about);
        let mut told = None;
        while let Some(Effect::Call { call, .. }) = next {
            if let Call::Report { write: Write::AsLeader { write, .. }, .. } = call
                && let LeaderWrite::PutStatus { status, .. } = write
            {
                told = status;
            }
            let version = topology::Version::of_store(99);
            let written = Answer::Written(Written { succeeded: true, version });
            next = stage.member.go_on_with_upkeep(stage.seen.now, &stage.seen, written);
        }
        told
    };
    let status = told(&mut stage).expect("they are news");
    assert_eq!(status.refused_slots.keys().collect::<Vec<_>>(), ["x", "y"]);
    stage.view().take_sample("status", &status.write(), 3, 0);
    if let crate::ha::observation::Process::Running(server) = &mut stage.seen.postgres.process {
        server.lsn = Lsn(2_000);
    }
    assert!(told(&mut stage).is_none(), "its log got longer, and that is no news");
    let mut fresh = Stage::leader();
    fresh.view().take_sample("status", &status.write(), 3, 0);
    assert!(fresh.beat().is_empty(), "no slot is made");
}

/// Its beginning lies behind what the reader has confirmed: what lies between would be skipped.
#[test]
fn row_1285_makes_a_slot_of_its_own_on_16_that_is_resumed_once_its_reader_has_passed_it() {
    let mut stage = Stage::standby();
    stage.sight.major = 16;
    stage.view().take_sample("status", r#"{"optime":90,"slots":{"x":70,"y":70}}"#, 2, 0);
    stage.beat();
    stage.hears(&[slot("x", 70, 700), slot("y", 70, 700)], Some(700));
    let own = |name: &str| SlotStep::CreateOnStandby {
        name: name.into(),
        database: "d".into(),
        plugin: "p".into(),
    };
    assert!(stage.beat().contains(&own("x").to_string()));
    assert_eq!(stage.member.memory.slots_to_copy, None, "nothing restarts");
    stage.ends(own("x"), Ok(Vec::new()));
    stage.has(&[slot("x", 80, 700), slot("y", 60, 700)]);
    stage.hears(&[slot("x", 70, 700), slot("y", 70, 700)], Some(700));
    stage.beat();
    assert_eq!(stage.words(), ["x pending", "y ready"]);
    let before = stage.member.before_opening(&stage.seen).expect("it has slots");
    assert_eq!(before.drops, ["x"]);
    let mut passed = Stage::standby();
    passed.sight.major = 16;
    passed.has(&[slot("x", 80, 700), slot("y", 60, 700)]);
    passed.view().take_sample("status", r#"{"optime":90,"slots":{"x":80,"y":70}}"#, 2, 0);
    passed.beat();
    passed.hears(&[slot("x", 80, 700), slot("y", 70, 700)], Some(700));
    passed.beat();
    assert_eq!(passed.words(), ["x ready", "y ready"]);
    assert!(passed.member.before_opening(&passed.seen).expect("slots").drops.is_empty());
    // Its reader does not come that far: a copy is better.
    for _ in 0..=RESTART_AGAIN_MS / 10_000 {
        stage.hears(&[slot("x", 70, 700), slot("y", 70, 700)], Some(700));
        stage.beat();
    }
    assert_eq!(stage.member.memory.slots_to_copy.as_deref(), Some("x"));
    stage.hears(&[slot("x", 80, 700), slot("y", 70, 700)], Some(700));
    stage.beat();
    assert_eq!(stage.member.memory.slots_to_copy, None, "the reader has passed it");
}

/// A daemon that has not looked at the slots knows of none that would skip data.
#[test]
fn a_promotion_waits_for_the_first_look_at_the_slots_but_not_for_ever() {
    let mut stage = Stage::standby();
    stage.sight.major = 16;
    stage.view().take_sample("status", r#"{"optime":90,"slots":{"x":70}}"#, 2, 0);
    stage.seen.lock = Lock::Mine { renewed: stage.seen.now, deadline: stage.seen.now + 30_000 };
    stage.has(&[slot("x", 80, 700)]);
    let now = stage.seen.now;
    let open = |stage: &mut Stage, ms: u64| match stage.member.make_ready_to_open(
        Timeline(3),
        &stage.seen,
        now + ms,
    ) {
        Next::Goes(_, Effect::Call { call: Call::EndSlotWork { drops }, .. }) => Some(drops),
        Next::Goes(_, Effect::Call { call: Call::Promote { .. }, .. }) => Some(Vec::new()),
        Next::Over(Outcome::Failed(_)) => None,
        _ => panic!("it opens, or fails"),
    };
    assert_eq!(open(&mut stage, 0), None);
    assert_eq!(open(&mut stage, 3_000), Some(Vec::new()), "the slots cannot be looked at");
    stage.beat();
    assert_eq!(open(&mut stage, 3_000), Some(vec!["x".to_string()]), "no reader has passed it");
    let mut undefined = Stage::standby();
    undefined.seen.lock = Lock::Mine { renewed: now, deadline: now + 30_000 };
    undefined.member.dynamic.slots = Default::default();
    assert_eq!(open(&mut undefined, 0), Some(Vec::new()));
}

/// It may be there when the member opens, and begins behind its reader.
#[test]
fn a_slot_of_a_standby_s_own_that_was_not_looked_at_since_it_was_begun_is_dropped() {
    let mut stage = Stage::standby();
    stage.sight.major = 16;
    stage.beat();
    let own =
        SlotStep::CreateOnStandby { name: "x".into(), database: "d".into(), plugin: "p".into() };
    stage.member.slots.logical.begun(&own, stage.seen.now);
    let drops = |stage: &mut Stage| {
        stage.member.before_opening(&stage.seen).expect("work is under way").drops
    };
    assert_eq!(drops(&mut stage), ["x"]);
    let refused = stage.member.slots.logical.refused(&[]);
    assert_eq!(refused.into_keys().collect::<Vec<_>>(), ["x"], "the leader had it");
    // Its end was told, and the server not looked at since.
    let end = SlotEnd { step: own, result: Ok(Vec::new()) };
    stage.member.slot_work_ended(&[end], stage.seen.now);
    assert_eq!(drops(&mut stage), ["x"]);
    stage.has(&[slot("x", 80, 700), slot("mine", 80, 700)]);
    stage.hears(&[slot("x", 80, 700)], Some(700));
    stage.beat();
    assert!(drops(&mut stage).is_empty(), "its reader has passed it, and `mine` is a person's");
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

/// b's record is the sample's: c leads.
fn led_by_c(stage: &mut Stage) {
    stage.seen.lock = Lock::Other("c".into());
    let view = stage.view();
    view.take_sample("leader", "c", 5, 1);
    let running = r#"{"role":"primary","state":"running","conn_url":"postgres://h:1/d"}"#;
    view.take_sample("members/c", running, 5, 1);
}

#[test]
fn the_answer_of_a_former_leader_makes_no_copy_ready() {
    let mut stage = ready_standby();
    led_by_c(&mut stage);
    stage.beat();
    assert_eq!(stage.words(), ["x pending", "y pending"]);
    // It was asked of b.
    stage.hears(&[slot("x", 80, 700), slot("y", 80, 700)], Some(700));
    stage.beat();
    assert_eq!(stage.words(), ["x pending", "y pending"]);
    stage.hears(&[slot("x", 80, 700), slot("y", 80, 700)], Some(700));
    stage.beat();
    assert_eq!(stage.words(), ["x ready", "y ready"], "and this of c");
}

#[test]
fn a_copy_stays_ready_while_no_member_leads_but_not_after_a_start() {
    let mut stage = ready_standby();
    stage.seen.lock = Lock::Free;
    stage.view().leader = None;
    stage.beat();
    assert_eq!(stage.words(), ["x ready", "y ready"]);
    stage.sight.started = Some("later".into());
    stage.beat();
    assert_eq!(stage.words(), ["x pending", "y pending"]);
    let mut stage = ready_standby();
    stage.view().leader = None;
    stage.beat();
    led_by_c(&mut stage);
    stage.beat();
    assert_eq!(stage.words(), ["x pending", "y pending"]);
}

/// What it needs was kept through its own slot.
#[test]
fn a_member_that_moves_below_another_one_is_judged_anew() {
    let mut stage = ready_standby();
    let below = r#"{"role":"replica","state":"running","tags":{"replicatefrom":"c"}}"#;
    stage.view().take_sample("members/me", below, 5, 1);
    stage.beat();
    assert_eq!(stage.words(), ["x pending", "y pending"]);
}

/// Rows that the primary removes while the feedback is off do not come back.
#[test]
fn row_1460_keeps_rows_while_it_is_in_doubt_which_region_owns() {
    let doubt = |stage: &mut Stage| stage.seen.ownership = Ownership::Doubtful("a test".into());
    let mut stage = ready_standby();
    assert!(stage.overrides().feedback);
    doubt(&mut stage);
    assert!(stage.overrides().feedback);
    stage.beat();
    assert!(stage.overrides().feedback);
    assert_eq!(stage.words(), ["x ready", "y ready"]);
    let mut remote = standby_leader(17);
    doubt(&mut remote);
    remote.beat();
    assert!(remote.overrides().feedback);
    let mut fresh = Stage::standby();
    doubt(&mut fresh);
    assert!(fresh.overrides().feedback, "slots are defined");
    fresh.member.dynamic.slots = Default::default();
    assert!(!fresh.overrides().feedback);
}

/// A restart is no use without the copies.
#[test]
fn row_944_waits_for_a_leader_that_runs_and_a_restart_without_copies_is_refused() {
    let mut stage = Stage::standby();
    stage.beat();
    let mut ends = BTreeMap::new();
    for state in ["running", "stopping"] {
        stage.hears(&[slot("x", 80, 700)], None);
        stage.beat();
        let record = format!(
            r#"{{"role":"primary","state":"{state}","conn_url":"postgres://h:1/d","timeline":2}}"#
        );
        stage.view().take_sample("members/b", &record, 3, 1);
        stage.seen.memory = stage.member.memory.clone();
        let due = crate::ha::follow::copies_slots(&Facts::of(&stage.seen));
        ends.insert(state, due);
    }
    assert_eq!(ends["running"].as_deref(), Some("x"));
    assert_eq!(ends["stopping"], None);
    let job = Job::Restart { as_primary: false };
    assert!(stage.member.memory.slots_to_copy.is_some());
    assert!(stage.member.is_restart_for_copies(&stage.seen, &job));
    assert_eq!(stage.member.slot_copies(&stage.seen, &job), None);
    assert!(stage.member.slots.logical.due.is_empty(), "it is not tried again at once");
    assert_eq!(stage.member.memory.slots_to_copy, None);
}

/// An archive brings no row that is kept for it.
#[test]
fn a_member_that_streams_from_no_server_or_stands_below_one_gets_no_copies() {
    let copies = |tags: Value, above: Value| {
        let mut stage = Stage::standby();
        for (name, tags) in [("me", tags), ("c", above)] {
            let record = json!({"role": "replica", "state": "running", "tags": tags}).to_string();
            stage.view().take_sample(&format!("members/{name}"), &record, 4, 1);
        }
        let job = Job::StartStandby { follow: None, target: None };
        stage.member.slot_copies(&stage.seen, &job).is_some()
    };
    let none = || json!({});
    assert!(copies(none(), none()) && copies(json!({"replicatefrom": "c"}), none()));
    assert!(!copies(json!({"nostream": true}), none()));
    assert!(!copies(json!({"replicatefrom": "c"}), json!({"nostream": true})));
}

#[test]
fn what_was_to_be_copied_again_is_not_once_it_has_moved() {
    let mut stage = ready_standby();
    let step = SlotStep::AdvanceLogical { name: "x".into(), database: "d".into(), to: Lsn(85) };
    let failure = SlotFailure { why: "WAL is gone".into(), copy_again: true };
    stage.ends(step.clone(), Err(failure.clone()));
    stage.beat();
    assert!(stage.member.slots.logical.again.contains_key("x"));
    stage.ends(step.clone(), Ok(Vec::new()));
    stage.beat();
    assert!(stage.member.slots.logical.again.is_empty());
    stage.ends(step, Err(failure));
    stage.seen.postgres.process = sample::primary();
    stage.seen.lock = Lock::Mine { renewed: stage.seen.now, deadline: stage.seen.now + 30_000 };
    stage.beat();
    assert!(stage.member.slots.logical.again.is_empty(), "it leads");
}

#[path = "logical_slots_region_tests.rs"]
mod region;
