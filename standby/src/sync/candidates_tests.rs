//! Who is waited for, and who first.

use super::*;
use crate::made_up::TakeSample;
use crate::sync::fixture::{World, world};
use SyncRank::{Async, Potential, Quorum, Sync};
use serde_json::json;

fn order(world: &World) -> Vec<String> {
    candidates(&world.situation()).iter().map(|c| c.name.to_string()).collect()
}

#[test]
fn only_running_members_that_stream_with_a_position_count() {
    let mut world = world("");
    world.standby("a", Async, 90);
    world.standby("stopped", Async, 90);
    world.view.take_sample("members/stopped", r#"{"state":"stopped"}"#, 1, 1);
    world.sender("pg_basebackup", Async, 90);
    world.sender("me", Async, 90);
    world.standby("starting", Async, 90);
    world.seen.senders.last_mut().unwrap().streaming = false;
    world.standby("blank", Async, 90);
    world.seen.senders.last_mut().unwrap().flush = None;
    world.member("away", json!(null));
    assert_eq!(order(&world), ["a"]);
}

#[test]
fn names_are_compared_without_case_and_a_name_of_two_members_is_none() {
    let mut world = world("");
    world.member("Node-A", json!(null));
    world.sender("node-a", Async, 90);
    assert_eq!(order(&world), ["Node-A"]);
    world.member("node-a", json!(null));
    assert!(order(&world).is_empty());
}

#[test]
fn the_position_that_counts_is_the_one_that_commits_wait_for() {
    let mut world = world("");
    world.standby("a", Async, 0);
    let sender = &mut world.seen.senders[0];
    (sender.write, sender.flush, sender.replay) = (Some(Lsn(3)), Some(Lsn(2)), Some(Lsn(1)));
    let cases = [("remote_apply", 1), ("remote_write", 3), ("on", 2), ("local", 2), ("off", 2)];
    for (commit, position) in cases {
        world.seen.commit = commit.to_string();
        assert_eq!(candidates(&world.situation())[0].position, Lsn(position), "{commit}");
    }
}

#[test]
fn priority_goes_before_state_and_state_before_position() {
    let mut world = world("");
    world.standby("far", Async, 10);
    world.standby("near", Async, 90);
    world.standby("potential", Potential, 5);
    world.standby("quorum", Quorum, 5);
    world.standby("sync", Sync, 5);
    world.member("wanted", json!({"sync_priority": 2}));
    world.sender("wanted", Async, 1);
    world.member("never-leads", json!({"nofailover": true, "sync_priority": "9"}));
    world.sender("never-leads", Sync, 99);
    let order = order(&world);
    assert_eq!(order, ["wanted", "sync", "quorum", "potential", "near", "far", "never-leads"]);
}

#[test]
fn nosync_and_a_priority_below_one_exclude() {
    let mut world = world("");
    let excluded =
        [json!({"nosync": "true"}), json!({"sync_priority": 0}), json!({"sync_priority": -1})];
    for (index, tags) in excluded.into_iter().enumerate() {
        world.member(&format!("n{index}"), tags);
        world.sender(&format!("n{index}"), Async, 90);
    }
    assert!(order(&world).is_empty());
    // Said twice, the flag counts.
    world.member("both", json!({"nosync": false, "sync_priority": 0}));
    world.sender("both", Async, 90);
    assert_eq!(order(&world), ["both"]);
}

/// It streams from the primary while its own upstream is away, or until it is told.
#[test]
fn known_bug_17_a_cascading_replica_that_visits_the_primary_is_not_counted() {
    let mut world = world("");
    world.standby("a", Quorum, 80);
    world.member("visitor", json!({"replicatefrom": "a"}));
    for rank in [Async, Potential, Quorum, Sync] {
        world.sender("visitor", rank, 100);
        assert_eq!(order(&world), ["a"], "{rank:?}");
        world.seen.senders.pop();
    }
}

#[test]
fn who_is_to_follow_another_standby_is_no_candidate() {
    let mut world = world("");
    world.standby("a", Async, 90);
    world.member("b", json!({"replicatefrom": "a"}));
    world.sender("b", Async, 90);
    world.member("c", json!({"replicatefrom": "b"}));
    world.sender("c", Async, 90);
    world.member("mine", json!({"replicatefrom": "me"}));
    world.sender("mine", Async, 90);
    world.member("lost", json!({"replicatefrom": "gone"}));
    world.sender("lost", Async, 90);
    assert_eq!(order(&world), ["a", "lost", "mine"]);
    // What it should follow does not stream from here, or may not be waited for.
    world.leaves("a");
    assert_eq!(order(&world), ["b", "c", "lost", "mine"]);
    world.member("a", json!({"nosync": true}));
    world.sender("a", Async, 90);
    assert_eq!(order(&world), ["b", "lost", "mine"]);
}

#[test]
fn a_circle_of_members_cascades_from_no_leader() {
    let mut world = world("");
    for (name, from) in [("a", "b"), ("b", "a")] {
        world.member(name, json!({"replicatefrom": from}));
        world.sender(name, Async, 90);
    }
    assert_eq!(order(&world), ["a", "b"]);
}

#[test]
fn who_is_too_far_behind_is_passed_over() {
    let mut world = world("");
    world.policy.maximum_lag = Some(10);
    world.standby("a", Async, 89);
    assert!(order(&world).is_empty(), "one alone is measured by the primary");
    world.standby("a", Async, 90);
    assert_eq!(order(&world), ["a"]);
    world.standby("a", Async, 50);
    world.standby("b", Async, 60);
    assert_eq!(order(&world), ["b", "a"], "several are measured by the best of them");
    world.standby("a", Async, 49);
    assert_eq!(order(&world), ["b"]);
    world.policy.maximum_lag = None;
    assert_eq!(order(&world), ["b", "a"]);
}
