//! Priority mode, row by row.

use crate::sync::SyncRank::{Async, Potential, Quorum, Sync};
use crate::sync::fixture::{World, record, text, world};
use serde_json::json;
use topology::Millis;

fn steps(world: &mut World) -> Vec<String> {
    (0..8).map(|_| text(world.step())).take_while(|step| step != "rest").collect()
}

/// `a` leads beside me, confirmed.
fn settled() -> World {
    let mut world = world(&record("a", 0));
    world.names("a");
    world.standby("a", Sync, 100);
    world.now = Millis(50_000);
    assert_eq!(text(world.step()), "rest");
    world.now = Millis(60_000);
    world
}

#[test]
fn a_leader_first_writes_that_it_is_alone() {
    for sync in ["", "{}", r#"{"leader":"old","quorum":0,"sync_standby":"me,a"}"#] {
        let mut world = world(sync);
        world.standby("a", Async, 100);
        assert_eq!(text(world.step()), record("", 0), "{sync}");
    }
}

#[test]
fn a_standby_is_named_confirms_and_only_then_may_lead() {
    let mut world = world(&record("", 0));
    world.standby("a", Async, 90);
    assert_eq!(text(world.step()), "names a");
    assert_eq!(text(world.step()), "wait 2000");
    world.sender("a", Sync, 99);
    world.now = Millis(51_500);
    assert_eq!(text(world.step()), "wait 500", "not past the change point");
    world.now = Millis(53_000);
    assert_eq!(text(world.step()), "rest", "the beat goes on without it");
    world.sender("a", Sync, 100);
    assert_eq!(text(world.step()), record("a", 0));
    assert_eq!(text(world.step()), "rest");
}

#[test]
fn a_standby_that_leaves_is_taken_from_the_record_first() {
    let mut world = settled();
    world.leaves("a");
    assert_eq!(steps(&mut world), [record("", 0), "names ".to_string()]);
}

#[test]
fn another_one_takes_its_place_in_the_same_order() {
    let mut world = settled();
    world.leaves("a");
    world.standby("b", Async, 100);
    assert_eq!(text(world.step()), record("", 0));
    assert_eq!(text(world.step()), "names b");
    world.sender("b", Sync, 100);
    assert_eq!(text(world.step()), record("b", 0));
    assert_eq!(text(world.step()), "rest");
}

#[test]
fn who_is_recorded_but_not_sync_now_is_taken_out() {
    let mut world = settled();
    world.sender("a", Potential, 100);
    assert_eq!(text(world.step()), record("", 0));
}

#[test]
fn several_are_named_together_and_recorded_as_they_confirm() {
    let mut world = settled();
    world.policy.node_count = 2;
    world.standby("b", Async, 90);
    assert_eq!(text(world.step()), "names 2 (a,b)");
    assert_eq!(text(world.step()), "wait 2000");
    world.sender("b", Sync, 100);
    assert_eq!(text(world.step()), record("a,b", 0));
    // One fewer: the record first.
    world.policy.node_count = 1;
    assert_eq!(steps(&mut world), [record("a", 0), "names a".to_string()]);
}

#[test]
fn those_that_confirm_in_time_are_recorded_without_the_slow_one() {
    let mut world = world(&record("", 0));
    world.policy.node_count = 2;
    world.standby("a", Async, 90);
    world.standby("b", Async, 90);
    assert_eq!(text(world.step()), "names 2 (a,b)");
    world.sender("a", Sync, 100);
    assert_eq!(text(world.step()), "wait 2000");
    world.now = Millis(52_000);
    assert_eq!(text(world.step()), record("a", 0));
    world.sender("b", Sync, 100);
    assert_eq!(text(world.step()), record("a,b", 0));
}

#[test]
fn names_that_do_not_require_all_allow_no_member_to_lead() {
    let mut world = world(&record("a,b", 0));
    world.policy.node_count = 2;
    world.names("FIRST 1 (a,b)");
    world.standby("a", Sync, 100);
    world.standby("b", Potential, 90);
    assert_eq!(text(world.step()), record("", 0));
    assert_eq!(text(world.step()), "names 2 (a,b)");
    world.sender("b", Sync, 99);
    assert_eq!(text(world.step()), "wait 2000");
    world.now = Millis(60_000);
    assert_eq!(text(world.step()), record("a", 0), "b proves nothing yet");
}

#[test]
fn without_standbys_a_strict_group_acknowledges_nothing() {
    let mut world = world(&record("", 0));
    world.policy.strict = true;
    let placeholder = format!("names {}", super::super::PLACEHOLDER);
    assert_eq!(steps(&mut world), [placeholder]);
    world.standby("a", Async, 90);
    assert_eq!(text(world.step()), "names a");
    world.sender("a", Sync, 100);
    assert_eq!(text(world.step()), record("a", 0));
    // It stays the one that may lead, and the one that is waited for.
    world.leaves("a");
    assert_eq!(text(world.step()), "rest");
    world.policy.strict = false;
    assert_eq!(steps(&mut world), [record("", 0), "names ".to_string()]);
}

#[test]
fn a_strict_group_waits_for_all_that_are_recorded() {
    let mut world = world(&record("a,b", 0));
    world.policy.strict = true;
    world.names("a");
    assert_eq!(steps(&mut world), ["names 2 (a,b)"]);
}

#[test]
fn a_quorum_becomes_names_of_which_each_is_required() {
    let mut world = world(&record("a,b", 1));
    world.policy.node_count = 2;
    world.names("ANY 1 (a,b)");
    world.standby("a", Quorum, 100);
    world.standby("b", Quorum, 90);
    assert_eq!(text(world.step()), record("", 0), "neither is known to have everything");
    assert_eq!(text(world.step()), "names 2 (a,b)");
    world.sender("a", Sync, 100);
    world.sender("b", Sync, 100);
    assert_eq!(text(world.step()), record("a,b", 0));
    assert_eq!(text(world.step()), "rest");
}

#[test]
fn a_name_is_written_as_the_member_spells_it() {
    let mut world = world(&record("node-a", 0));
    world.names("\"node-a\"");
    world.member("Node-A", json!(null));
    world.sender("node-a", Sync, 100);
    assert_eq!(text(world.step()), "rest", "for PostgreSQL it is the same name");
    world.standby("b", Async, 100);
    world.policy.node_count = 2;
    assert_eq!(text(world.step()), "names 2 (\"Node-A\",b)");
}

#[test]
fn without_a_mode_nothing_is_done() {
    let mut world = settled();
    world.policy.mode = topology::SyncMode::Off;
    assert_eq!(text(world.step()), "rest");
}
