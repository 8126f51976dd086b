//! The steps of several beats on one server, in the order of the machine's rows.

use super::*;
use crate::made_up::TakeSample;
use crate::slots::{ClusterKind, Why, wanted};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use topology::{Dynamic, GroupView, MemberName};

/// A server with its slots, and the member that keeps them.
struct Desk {
    view: GroupView,
    dynamic: Dynamic,
    there: Vec<Slot>,
    unknown: Unknown,
    role: Role,
    now: Millis,
}

const WAIT_MS: u64 = 10_000;
const KINDS: [fn(&Scene) -> Vec<SlotStep>; 7] =
    [lost, holding_rows, unreserved, of_another_kind, unknown, advances, creations];

impl Desk {
    /// `me` replicates from `l`; b cascades from a.
    fn replica(config: Value) -> Desk {
        let mut view = GroupView::default();
        for (name, tags) in [
            ("l", json!({})),
            ("me", json!({})),
            ("a", json!({})),
            ("b", json!({"replicatefrom": "a"})),
        ] {
            let record = json!({"tags": tags, "xlog_location": 80, "version": "4.1.5"});
            view.take_sample(&format!("members/{name}"), &record.to_string(), 1, 1);
        }
        view.take_sample("leader", "l", 1, 1);
        view.take_sample("status", r#"{"optime":90,"slots":{"a":70,"b":10,"l":90}}"#, 1, 0);
        let mut config = config;
        config["ttl"] = json!(30);
        view.take_sample("config", &config.to_string(), 1, 0);
        let dynamic = Dynamic::read(&config).unwrap();
        let (unknown, there, now) = (Unknown::default(), Vec::new(), Millis(1_000_000));
        Desk { view, dynamic, there, unknown, role: Role::Replica, now }
    }

    fn leader(config: Value) -> Desk {
        let mut desk = Desk::replica(config);
        desk.view.take_sample("leader", "me", 2, 1);
        desk.role = Role::Primary;
        desk
    }

    /// With the slots that are wanted, at this position.
    fn with_all(mut self, at: u64) -> Desk {
        let names = ["l", "a", "b"].into_iter();
        self.there.extend(names.map(|name| Slot::physical(name, Lsn(at))));
        self
    }

    fn on<T>(&self, look: impl FnOnce(&Scene) -> T) -> T {
        let (me, heard) = (MemberName::new("me"), BTreeMap::new());
        let databases = ["shop".to_string()];
        let situation = Situation {
            me: &me,
            nofailover: false,
            view: &self.view,
            dynamic: &self.dynamic,
            role: self.role,
            cluster: Some(ClusterKind::Primary),
            copies_region: false,
            end: Lsn(75),
            regions: &[],
            doubtful_regions: &[],
            heard: &heard,
            citus_databases: &databases,
        };
        let plan = wanted(&situation);
        let (there, unknown, now) = (&self.there[..], &self.unknown, self.now);
        let logical = &Logical { major: 15, decodes: true, ..Logical::default() };
        look(&Scene { situation: &situation, plan: &plan, logical, there, unknown, now })
    }

    /// One beat, in which the steps that `fails` names fail.
    fn beat(&mut self, fails: impl Fn(&SlotStep) -> bool) -> Vec<SlotStep> {
        let names = self.on(unknown_names);
        self.unknown.look(names, self.now);
        let (mut tried, mut done) = (BTreeSet::new(), Vec::new());
        while let Some(step) = self.on(|scene| {
            KINDS.iter().flat_map(|kind| kind(scene)).find(|step| !tried.contains(step))
        }) {
            if !fails(&step) {
                apply(&step, &mut self.there, Lsn(75));
                done.push(step.clone());
            }
            assert!(tried.insert(step), "no step is tried twice");
        }
        self.now = self.now + WAIT_MS;
        done
    }

    fn text(&mut self) -> String {
        let done = self.beat(|_| false);
        let shown = done.iter().map(|step| match step {
            SlotStep::Drop { name, why } => format!("-{name} {why:?}"),
            SlotStep::Advance { name, to } => format!("{name}>{}", to.0),
            SlotStep::CreatePhysical { name } => format!("+{name}"),
            other => panic!("no step of these rows: {other}"),
        });
        shown.collect::<Vec<_>>().join(", ")
    }
}

fn logical(name: &str, database: &str, plugin: &str) -> Slot {
    let kind = Kind::Logical { database: database.into(), plugin: plugin.into() };
    Slot { kind, confirmed_flush: Some(Lsn(5)), ..Slot::physical(name, Lsn(1)) }
}

#[test]
fn missing_slots_are_made_those_of_members_first() {
    let mut desk = Desk::replica(json!({"slots": {"aa": null}}));
    assert_eq!(desk.text(), "+a, +b, +l, +aa");
    assert_eq!(desk.text(), "", "all is well");
    desk.on(|scene| assert_eq!(scene.plan.wanted["aa"].why, Why::Permanent));
}

#[test]
fn n7_a_step_that_fails_keeps_no_other_from_being_done() {
    let mut desk = Desk::replica(json!({"slots": {"full": null}})).with_all(20);
    desk.there.retain(|slot| slot.name != "l");
    desk.there.push(Slot::physical("old", Lsn(1)));
    let fails = |step: &SlotStep| match step {
        SlotStep::CreatePhysical { name } => name == "full",
        SlotStep::Advance { name, .. } => name == "a",
        SlotStep::Drop { .. } => false,
        other => panic!("no step of these rows: {other}"),
    };
    let done = desk.beat(fails);
    assert_eq!(done.len(), 2, "b moves and l is made: {done:?}");
    let done = desk.beat(fails);
    assert_eq!(done[0], SlotStep::Drop { name: "old".into(), why: DropWhy::Unknown });
}

#[test]
fn n7_a_slot_of_a_member_that_left_is_dropped_by_a_daemon_that_never_knew_it() {
    for mut desk in [Desk::replica(json!({})), Desk::leader(json!({}))] {
        desk = desk.with_all(75);
        desk.there.push(Slot::physical("left", Lsn(1)));
        desk.there.push(logical("by_hand", "d", "p"));
        assert_eq!(desk.text(), "", "it may be used in a moment");
        assert_eq!(desk.text(), "-by_hand Unknown, -left Unknown");
    }
}

#[test]
fn what_drops_comes_before_what_advances_and_that_before_what_creates() {
    let mut desk = Desk::replica(json!({"slots": {"new": null}})).with_all(20);
    desk.there.push(Slot::physical("left", Lsn(1)));
    desk.there.push(Slot { holds_rows: true, ..Slot::physical("x", Lsn(1)) });
    desk.view.take_sample("members/x", r#"{"version":"4.1.5"}"#, 1, 1);
    desk.there[0].is_lost = true;
    desk.unknown.look(["left".to_string()].into(), desk.now - WAIT_MS);
    // What is made anew begins here, at the end of what was replayed.
    let all = "-l Lost, -x HoldsRows, -left Unknown, a>70, b>75, +l, +x, +new";
    assert_eq!(desk.text(), all);
}

/// Another program wrote it, for the REST API refuses it.
#[test]
fn a_definition_that_cannot_be_read_protects_every_slot() {
    for (dynamic, text) in [
        (json!({"ignore_slots": []}), "-left Unknown"),
        (json!({"ignore_slots": {"name": "left"}}), ""),
        (json!({"slots": ["left"]}), ""),
        (json!({"standby_clusters": "left"}), ""),
    ] {
        let mut desk = Desk::leader(dynamic.clone()).with_all(75);
        desk.there.push(Slot::physical("left", Lsn(1)));
        desk.unknown.look(["left".to_string()].into(), desk.now - WAIT_MS);
        assert_eq!(desk.text(), text, "{dynamic}");
    }
}

#[test]
fn slots_in_use_and_slots_of_others_are_left_alone() {
    let ignored = json!([{"type": "logical", "plugin": "wal2json"}, {"name": "mine"}]);
    let config = json!({"ignore_slots": ignored, "slots": {"half": {"type": "logical"}}});
    let mut desk = Desk::leader(config).with_all(75);
    desk.there.extend([
        Slot { active: true, ..Slot::physical("busy", Lsn(1)) },
        Slot { active: true, is_lost: true, ..Slot::physical("a2", Lsn(1)) },
        Slot { failover: true, ..logical("copied", "d", "p") },
        Slot::physical("mine", Lsn(1)),
        Slot::physical("half", Lsn(1)),
        logical("other", "d", "wal2json"),
        logical("citus_shard_move_slot_1_2", "shop", "pgoutput"),
        logical("pg_16394_sync_16385_7371234567890123456", "d", "pgoutput"),
    ]);
    assert_eq!(
        (desk.text(), desk.text(), desk.text()),
        (String::new(), String::new(), String::new())
    );
    // The same on a standby are none of a running move or copy.
    desk.role = Role::Replica;
    desk.view.take_sample("leader", "l", 3, 1);
    assert!(desk.text().is_empty());
    let dropped = desk.text();
    for name in ["citus_shard_move_slot_1_2", "pg_16394_sync_16385_7371234567890123456"] {
        assert!(dropped.contains(&format!("-{name} Unknown")), "{dropped}");
    }
}

#[test]
fn in_a_pause_and_without_a_configuration_no_slot_is_dropped() {
    let bad = |desk: &mut Desk| {
        desk.there.push(Slot::physical("left", Lsn(1)));
        desk.there[0].is_lost = true;
        desk.there[1].holds_rows = true;
    };
    let mut paused = Desk::replica(json!({"pause": true})).with_all(20);
    bad(&mut paused);
    assert_eq!((paused.text(), paused.text()), ("b>75".into(), String::new()));
    let mut bare = Desk::replica(json!({})).with_all(20);
    bad(&mut bare);
    bare.view.config = None;
    assert_eq!((bare.text(), bare.text()), ("b>75".into(), String::new()));
    // An empty one defines none.
    bare.view.take_sample("config", "{}", 3, 0);
    assert!(bare.text().starts_with("-l Lost"));
}

#[test]
fn n5_the_slot_of_a_member_that_streams_from_another_moves_with_it() {
    let mut leads = Desk::leader(json!({})).with_all(20);
    assert_eq!(leads.text(), "b>75", "on the leader too, and not past its own end");
    let mut follows = Desk::replica(json!({})).with_all(20);
    assert_eq!(follows.text(), "l>75, a>70, b>75");
    // Streaming itself moves it where the member streams from.
    let mut used = Desk::leader(json!({})).with_all(20);
    used.there[2].active = true;
    assert_eq!(used.text(), "");
}

#[test]
fn a_slot_moves_forward_only_and_a_small_step_is_one_step() {
    let mut desk = Desk::replica(json!({})).with_all(75);
    assert_eq!(desk.text(), "", "no call that PostgreSQL would refuse");
    desk.there[0].restart_lsn = Some(Lsn(74));
    assert_eq!(desk.text(), "l>75");
}

#[test]
fn n6_a_slot_that_holds_rows_for_a_former_standby_is_made_anew() {
    let mut desk = Desk::replica(json!({})).with_all(75);
    desk.there[0].holds_rows = true;
    assert_eq!(desk.text(), "-l HoldsRows, +l", "its user is another one's standby now");
    desk.there[1].holds_rows = true;
    desk.there[1].active = true;
    assert_eq!(desk.text(), "");
    // A standby that is down for a moment finds its rows.
    let mut leads = Desk::leader(json!({})).with_all(75);
    leads.there[1].holds_rows = true;
    assert_eq!(leads.text(), "");
}

/// The reader of a permanent slot, or a member that has gone and may come back.
#[test]
fn n6_a_slot_of_no_member_that_holds_rows_is_made_anew_once_its_reader_is_past_it() {
    let status = |kept: u64| {
        json!({"optime": 90, "slots": {"kept": kept}, "retain_slots": ["kept"]}).to_string()
    };
    for config in [json!({"slots": {"kept": null}}), json!({})] {
        let mut desk = Desk::replica(config.clone()).with_all(75);
        desk.there.push(Slot { holds_rows: true, ..Slot::physical("kept", Lsn(20)) });
        desk.view.take_sample("status", r#"{"optime":90,"retain_slots":["kept"]}"#, 2, 0);
        assert_eq!(desk.text(), "", "the leader has not told of it: {config}");
        desk.view.take_sample("status", &status(20), 3, 0);
        assert_eq!(desk.text(), "", "its reader has confirmed nothing since");
        desk.view.take_sample("status", &status(21), 4, 0);
        desk.there[3].active = true;
        assert_eq!(desk.text(), "", "a standby reads from it here");
        desk.there[3].active = false;
        assert_eq!(desk.text(), "-kept HoldsRows, +kept");
        assert_eq!(desk.text(), "", "and once only");
        // On the leader its reader finds its rows.
        desk.there[3] = Slot { holds_rows: true, ..Slot::physical("kept", Lsn(20)) };
        desk.view.take_sample("leader", "me", 5, 1);
        desk.view.take_sample("status", &status(20), 6, 0);
        desk.role = Role::Primary;
        assert_eq!(desk.text(), "");
    }
}

#[test]
fn lost_unreserved_and_other_slots_of_a_wanted_name_are_made_anew() {
    for mut desk in [Desk::replica(json!({})), Desk::leader(json!({}))] {
        desk = desk.with_all(75);
        desk.there[1] = Slot { is_lost: true, restart_lsn: None, ..desk.there[1].clone() };
        assert_eq!(desk.text(), "-a Lost, +a");
        desk.there[1] = Slot { restart_lsn: None, ..Slot::physical("b", Lsn(1)) };
        assert_eq!(desk.text(), "-b Unreserved, +b");
        desk.there[0] = logical("l", "d", "p");
        assert_eq!(desk.text(), "-l OtherKind, +l");
    }
    let mut desk = Desk::leader(json!({})).with_all(75);
    desk.there[1].restart_lsn = None;
    assert_eq!(desk.text(), "", "a's first standby reserves it");
}

#[test]
fn a_permanent_logical_slot_that_is_lost_is_left_and_one_of_another_plugin_dropped() {
    let slots = json!({"slots": {"p": {"type": "logical", "database": "d", "plugin": "pgoutput"}}});
    let mut desk = Desk::leader(slots).with_all(75);
    desk.there.push(logical("p", "d", "pgoutput"));
    assert_eq!(desk.text(), "");
    desk.there.last_mut().expect("just pushed").is_lost = true;
    assert_eq!(desk.text(), "", "its reader has missed data: a person decides");
    desk.there.pop();
    desk.there.push(logical("p", "d", "test_decoding"));
    assert_eq!(desk.text(), "-p OtherKind");
}

#[test]
fn copies_that_the_server_keeps_itself_are_not_looked_at_on_a_standby() {
    let mut desk = Desk::replica(json!({})).with_all(75);
    let copied = Slot { synced: true, failover: true, ..logical("a", "d", "p") };
    desk.there[1] = copied;
    assert_eq!(desk.text(), "", "its worker owns it");
    // On a promoted server it is a slot like any other.
    desk.role = Role::Primary;
    desk.view.take_sample("leader", "me", 2, 1);
    assert_eq!(desk.text(), "-a OtherKind, +a");
}
