//! Steps of logical slots on a primary and on its standby `me`.

use super::*;
use crate::made_up::TakeSample;
use crate::slots::{ClusterKind, Situation, Unknown, step, wanted};
use serde_json::{Value, json};
use topology::{Dynamic, GroupView, MemberName, Millis};

struct Bench {
    view: GroupView,
    dynamic: Dynamic,
    role: Role,
    there: Vec<Slot>,
    logical: Logical,
    end: Lsn,
    copies_region: bool,
}

impl Bench {
    fn of(role: Role) -> Bench {
        let reader = |database: &str| json!({"database": database, "plugin": "pgoutput"});
        let config = json!({"ttl": 30, "slots": {"a": reader("one"), "b": reader("one"),
            "c": reader("two"), "plain": null}});
        let mut view = GroupView::default();
        for name in ["l", "me"] {
            view.take_sample(&format!("members/{name}"), "{}", 1, 1);
        }
        let leader = if role == Role::Primary { "me" } else { "l" };
        view.take_sample("leader", leader, 1, 1);
        view.take_sample("config", &config.to_string(), 1, 0);
        view.take_sample("status", r#"{"optime":90,"slots":{"a":70,"b":80}}"#, 1, 0);
        let dynamic = Dynamic::read(&config).unwrap();
        let logical =
            Logical { major: 15, decodes: true, knows_readers: true, ..Logical::default() };
        Bench {
            view,
            dynamic,
            role,
            there: Vec::new(),
            logical,
            end: Lsn(75),
            copies_region: false,
        }
    }

    fn with(mut self, slots: &[Slot]) -> Bench {
        self.there = slots.to_vec();
        self
    }

    fn config(mut self, change: impl FnOnce(&mut Value)) -> Bench {
        let mut raw = self.dynamic.raw.clone();
        change(&mut raw);
        self.view.take_sample("config", &raw.to_string(), 2, 0);
        self.dynamic = Dynamic::read(&raw).unwrap();
        self
    }

    fn on<T>(&self, look: impl FnOnce(&Scene) -> T) -> T {
        let (me, heard) = (MemberName::new("me"), BTreeMap::new());
        let situation = Situation {
            me: &me,
            nofailover: false,
            view: &self.view,
            dynamic: &self.dynamic,
            role: self.role,
            cluster: Some(match self.copies_region {
                true => ClusterKind::Standby,
                false => ClusterKind::Primary,
            }),
            copies_region: self.copies_region,
            end: self.end,
            regions: &[],
            doubtful_regions: &[],
            heard: &heard,
            citus_databases: &[],
        };
        let (plan, unknown) = (wanted(&situation), Unknown::default());
        let (situation, plan, unknown) = (&situation, &plan, &unknown);
        let (there, logical, now) = (&self.there[..], &self.logical, Millis(1_000));
        look(&Scene { situation, plan, logical, there, unknown, now })
    }

    fn steps(&self, of: fn(&Scene) -> Vec<SlotStep>) -> Vec<String> {
        self.on(|scene| of(scene).iter().map(ToString::to_string).collect())
    }
}

fn slot(name: &str, database: &str, at: u64) -> Slot {
    let kind = Kind::Logical { database: database.into(), plugin: "pgoutput".into() };
    let xmin = Some(crate::slots::Xid(700));
    Slot {
        kind,
        confirmed_flush: Some(Lsn(at)),
        catalog_xmin: xmin,
        holds_rows: true,
        ..Slot::physical(name, Lsn(at - 10))
    }
}

#[test]
fn a_primary_makes_what_is_new_in_one_database_at_a_time() {
    let mut bench = Bench::of(Role::Primary).with(&[slot("a", "one", 70)]);
    let made = bench.steps(creations);
    let b = "creating the logical slot `b` in the database `one` with the plugin `pgoutput`";
    assert_eq!(made.len(), 2, "{made:?}");
    assert_eq!(made[0], b);
    bench.logical.busy = ["one".to_string()].into();
    assert!(bench.steps(creations)[0].contains("`c`") && bench.steps(creations).len() == 1);
    bench.logical.busy.clear();
    bench.logical.refused = [("b".to_string(), Lsn(80))].into();
    assert!(bench.steps(creations)[0].contains("`c`"));
    let found = bench.on(findings);
    assert!(found[0].contains(
        "`b` is not made on this server: its reader has used it on another one, up to 0/50"
    ));
    bench.logical.decodes = false;
    assert!(bench.steps(creations).is_empty());
    let found = bench.on(findings);
    assert!(found[0].starts_with("wal_level is not logical, so the logical slots `a`, `b`, `c`"));
    assert!(Bench::of(Role::Replica).steps(creations).is_empty());
}

#[test]
fn a_copy_moves_to_what_is_confirmed_and_replayed_and_never_back() {
    let there = [slot("a", "one", 60), slot("b", "one", 60), slot("c", "two", 60)];
    let mut bench = Bench::of(Role::Replica).with(&there);
    let moved = bench.steps(advances);
    let wanted =
        ["advancing the logical slot `a` to 0/46", "advancing the logical slot `b` to 0/4B"];
    assert_eq!(moved, wanted, "b no further than is replayed; c is not told of");
    bench.logical.busy = ["one".to_string()].into();
    assert!(bench.steps(advances).is_empty());
    bench.logical.busy.clear();
    for change in [
        |slot: &mut Slot| slot.active = true,
        |slot: &mut Slot| slot.is_lost = true,
        |slot: &mut Slot| slot.confirmed_flush = Some(Lsn(75)),
        |slot: &mut Slot| slot.restart_lsn = None,
        |slot: &mut Slot| slot.failover = true,
    ] {
        let mut changed = there.clone();
        changed.iter_mut().for_each(change);
        assert!(Bench::of(Role::Replica).with(&changed).steps(advances).is_empty());
    }
    let primary = Bench::of(Role::Primary).with(&there);
    assert!(primary.steps(advances).is_empty());
    let physical = primary.steps(step::advances);
    assert!(physical.is_empty(), "{physical:?}");
}

/// A step that did not end in time would be begun again from where it began.
#[test]
fn a_copy_moves_in_bounded_steps() {
    const STEP: u64 = 8 << 30;
    let mut bench = Bench::of(Role::StandbyLeader).with(&[slot("c", "two", 60)]);
    bench.copies_region = true;
    bench.end = Lsn(9 * STEP);
    let last = 2 * STEP + 75;
    bench.logical.remote = [("c".to_string(), Lsn(last))].into();
    let mut at = 60;
    for to in [60 + STEP, 60 + 2 * STEP, last] {
        assert_eq!(
            bench.steps(advances),
            [format!("advancing the logical slot `c` to {}", Lsn(to))],
            "from {at}"
        );
        bench.there[0].confirmed_flush = Some(Lsn(to));
        at = to;
    }
    assert!(bench.steps(advances).is_empty(), "it is where its reader is");
}

/// Its own `/status` tells how far copies are.
#[test]
fn the_leader_of_a_standby_region_moves_copies_to_what_the_remote_leader_says() {
    let there = [slot("a", "one", 60), slot("c", "two", 60)];
    let mut bench = Bench::of(Role::StandbyLeader).with(&there);
    bench.logical.asks_leader = true;
    bench.logical.remote = [("c".to_string(), Lsn(72))].into();
    assert!(bench.steps(advances).is_empty() && bench.steps(leader_asked).is_empty());
    bench.copies_region = true;
    assert_eq!(bench.steps(advances), ["advancing the logical slot `c` to 0/48"]);
    assert_eq!(bench.steps(leader_asked).len(), 1);
    assert!(bench.on(findings).is_empty(), "they are kept here");
    assert!(bench.steps(gone).is_empty());
    bench.logical.gone = ["a".to_string()].into();
    assert!(bench.steps(gone)[0].starts_with("dropping the slot `a`: the remote leader"));
    bench.there[0].active = true;
    assert!(bench.steps(gone).is_empty());
}

#[test]
fn the_leader_is_asked_by_a_standby_that_keeps_copies() {
    let mut bench = Bench::of(Role::Replica);
    assert!(bench.steps(leader_asked).is_empty(), "not yet again");
    bench.logical.asks_leader = true;
    assert_eq!(bench.steps(leader_asked).len(), 1);
    bench.logical.major = 17;
    assert!(bench.steps(leader_asked).is_empty(), "the server compares them itself");
    let mut without = Bench::of(Role::Replica).config(|raw| raw["slots"] = json!({"plain": null}));
    without.logical.asks_leader = true;
    assert!(without.steps(leader_asked).is_empty());
}

#[test]
fn from_17_on_slots_are_handed_to_the_server() {
    let mut bench = Bench::of(Role::Primary).with(&[slot("a", "one", 70), slot("b", "one", 70)]);
    assert!(bench.steps(failover).is_empty());
    bench.logical.major = 17;
    assert_eq!(bench.steps(failover).len(), 2);
    bench.there[0].active = true;
    assert_eq!(bench.steps(failover).len(), 1);
    bench.there[1].failover = true;
    assert!(bench.steps(failover).is_empty());
    bench.there.clear();
    bench.on(|scene| {
        let made = creations(scene);
        let native =
            |step: &SlotStep| matches!(step, SlotStep::CreateLogical { failover: true, .. });
        assert!(made.iter().all(native) && made.len() == 3);
    });
}

#[test]
fn a_failover_slot_that_is_not_synced_is_dropped_on_a_standby_only() {
    let native = Slot { failover: true, ..slot("a", "one", 70) };
    let copied = Slot { synced: true, ..native.clone() };
    let used = Slot { active: true, ..native.clone() };
    let all = [native, copied, slot("b", "one", 70)];
    let bench = Bench::of(Role::Replica).with(&all);
    let dropped = bench.steps(not_synced);
    assert!(dropped.len() == 1 && dropped[0].starts_with("dropping the slot `a`"), "{dropped:?}");
    assert!(Bench::of(Role::Primary).with(&all).steps(not_synced).is_empty());
    assert!(Bench::of(Role::Replica).with(&[used]).steps(not_synced).is_empty());
    let paused = Bench::of(Role::Replica).with(&all).config(|raw| raw["pause"] = json!(true));
    assert!(paused.steps(not_synced).is_empty());
}

#[test]
fn a_lost_copy_is_dropped_and_a_primary_s_own_is_left_and_named() {
    let lost = [Slot { is_lost: true, ..slot("a", "one", 70) }];
    assert_eq!(Bench::of(Role::Replica).with(&lost).steps(step::lost).len(), 1);
    let primary = Bench::of(Role::Primary).with(&lost);
    assert!(primary.steps(step::lost).is_empty());
    assert!(primary.on(findings)[0].starts_with("the logical slot `a` is lost"));
}

#[test]
fn another_plugin_or_database_is_another_slot() {
    let bench = Bench::of(Role::Primary).with(&[slot("a", "other", 70), slot("b", "one", 70)]);
    let dropped = bench.steps(step::of_another_kind);
    assert!(dropped.len() == 1 && dropped[0].starts_with("dropping the slot `a`"), "{dropped:?}");
}

#[test]
fn what_skips_is_dropped_on_all_members_and_on_a_primary_from_under_its_reader() {
    let mut bench = Bench::of(Role::Primary).with(&[slot("a", "one", 70), slot("b", "one", 70)]);
    assert!(bench.steps(skipping).is_empty());
    bench.logical.skipping = ["a".to_string()].into();
    assert!(bench.steps(skipping)[0].starts_with("dropping the slot `a`: its reader"));
    bench.there[0].active = true;
    assert_eq!(bench.steps(skipping).len(), 1);
    bench.role = Role::Replica;
    assert!(bench.steps(skipping).is_empty());
    bench.there[0].active = false;
    assert_eq!(bench.steps(skipping).len(), 1);
    bench.there[0].synced = true;
    assert!(bench.steps(skipping).is_empty(), "the server's worker has it");
}
