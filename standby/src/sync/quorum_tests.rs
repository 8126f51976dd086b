//! Quorum mode, step by step as a primary takes it.

use crate::sync::SyncRank::{Async, Quorum, Sync};
use crate::sync::fixture::{World, record, text, world};
use serde_json::json;
use topology::{Lsn, Millis, SyncMode};

fn quorum(sync: &str, names: &str, node_count: u64) -> World {
    let mut world = world(sync);
    world.policy.mode = SyncMode::Quorum;
    world.policy.node_count = node_count;
    world.names(names);
    world
}

/// `a` and `b` vote, one of them confirms.
fn pair(node_count: u64) -> World {
    let mut world = quorum(&record("a,b", 1), "ANY 1 (a,b)", node_count);
    world.standby("a", Quorum, 100);
    world.standby("b", Quorum, 100);
    world
}

#[test]
fn standbys_are_named_and_vote_when_they_have_confirmed() {
    let mut world = quorum("", "", 1);
    world.standby("a", Async, 90);
    assert_eq!(text(world.step()), record("", 0));
    assert_eq!(text(world.step()), "names ANY 1 (a)");
    world.sender("a", Quorum, 99);
    assert_eq!(text(world.step()), "wait 1000");
    world.now = Millis(53_000);
    assert_eq!(text(world.step()), "rest");
    world.sender("a", Quorum, 100);
    assert_eq!(text(world.step()), record("a", 0));
    world.standby("b", Async, 10);
    assert_eq!(text(world.step()), record("a,b", 1));
    assert_eq!(text(world.step()), "names ANY 1 (a,b)");
    assert_eq!(text(world.step()), "rest");
}

#[test]
fn a_higher_count_lowers_the_quorum_when_all_have_what_one_had() {
    let mut world = pair(1);
    assert_eq!(text(world.step()), "rest");
    world.policy.node_count = 2;
    assert_eq!(text(world.step()), "names ANY 2 (a,b)");
    world.seen.lsn = Lsn(200);
    world.sender("a", Quorum, 200);
    assert_eq!(text(world.step()), "wait 1000", "b may lack what a alone has confirmed");
    world.sender("b", Quorum, 200);
    assert_eq!(text(world.step()), record("a,b", 0));
    assert_eq!(text(world.step()), "rest");
}

#[test]
fn the_one_that_stays_leads_alone_only_with_what_the_other_had() {
    let mut world = pair(1);
    assert_eq!(text(world.step()), "rest");
    world.leaves("b");
    world.seen.lsn = Lsn(200);
    assert_eq!(text(world.step()), "names ANY 1 (a)");
    assert_eq!(text(world.step()), "wait 1000");
    world.sender("a", Quorum, 200);
    assert_eq!(text(world.step()), record("a", 0));
    world.leaves("a");
    world.now = Millis(60_000);
    assert_eq!(text(world.step()), record("", 0));
    assert_eq!(text(world.step()), "names ");
    assert_eq!(text(world.step()), "rest");
}

#[test]
fn a_strict_group_keeps_its_voters_while_they_are_away() {
    let mut world = pair(1);
    world.policy.strict = true;
    world.leaves("a");
    world.leaves("b");
    assert_eq!(text(world.step()), "rest");
    world.names("");
    assert_eq!(text(world.step()), "names ANY 1 (a,b)");
    let mut world = quorum(&record("", 0), "", 1);
    world.policy.strict = true;
    assert_eq!(text(world.step()), format!("names ANY 1 ({})", crate::sync::PLACEHOLDER));
    assert_eq!(text(world.step()), "rest");
    world.policy.strict = false;
    assert_eq!(text(world.step()), "names ");
}

#[test]
fn an_old_leader_votes_when_the_names_have_been_those_of_the_vote() {
    let old = r#"{"leader":"old","quorum":1,"sync_standby":"b,me"}"#;
    let mut world = quorum(old, "ANY 1 (b,old)", 1);
    assert_eq!(text(world.step()), record("b,old", 1));
    // They have a moment to come back.
    assert_eq!(text(world.step()), "wait 2000");
    world.now = Millis(53_000);
    assert_eq!(text(world.step()), record("", 0));
    assert_eq!(text(world.step()), "names ");
    for names in ["", "ANY 1 (b,old,x)", "ANY 1 (x,y)"] {
        assert_eq!(text(quorum(old, names, 1).step()), record("", 0), "{names}");
    }
}

#[test]
fn the_names_of_priority_mode_take_the_form_of_this_one() {
    let mut world = quorum(&record("a,b", 0), "2 (a,b)", 2);
    world.standby("a", Sync, 100);
    world.standby("b", Sync, 100);
    assert_eq!(text(world.step()), "names ANY 2 (a,b)");
    world.sender("a", Quorum, 100);
    world.sender("b", Quorum, 100);
    assert_eq!(text(world.step()), "rest");
    let mut world = quorum(&record("", 0), "ANY 5 (me,a)", 1);
    world.standby("a", Quorum, 10);
    assert_eq!(text(world.step()), "names ANY 1 (a)");
}

#[test]
fn voters_that_no_commit_waits_for_lose_their_votes() {
    let mut world = quorum(&record("a", 0), "ANY 1 (b)", 1);
    world.standby("b", Quorum, 100);
    assert_eq!(text(world.step()), record("", 0));
    let mut world = quorum(&record("a,b", 0), "ANY 1 (a,b)", 1);
    world.standby("b", Quorum, 100);
    assert_eq!(text(world.step()), record("", 0));
}

#[test]
fn who_may_not_lead_is_waited_for_only_if_there_are_too_few() {
    let mut world = quorum(&record("", 0), "", 1);
    world.member("a", json!({"nofailover": true}));
    world.sender("a", Async, 90);
    world.standby("b", Async, 90);
    assert_eq!(text(world.step()), "names ANY 1 (b)");
    world.names("");
    world.policy.node_count = 2;
    assert_eq!(text(world.step()), "names ANY 2 (a,b)");
}
