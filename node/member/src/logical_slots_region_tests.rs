//! What a member of a standby region makes of the logical slots of the owner's leader.

use super::*;
use crate::ha::observation::{Process, ServerRole};
use crate::made_up::TakeSample;
use standby::switch::ownership::{Ownership, Upstream};

/// The leader of a standby region before PostgreSQL 17, which follows `far` in the owner's.
fn region_leader() -> Stage {
    let mut stage = Stage::leader();
    stage.seen.postgres.process = sample::standby_of(Some("far"));
    follow(&mut stage, "far");
    stage.seen.lock = Lock::Mine { renewed: stage.seen.now, deadline: stage.seen.now + 30_000 };
    stage
}

/// The remote leader is this one from now on.
fn follow(stage: &mut Stage, name: &str) {
    let (host, port, slot) = (name.to_string(), 1, "region_b".to_string());
    let upstream = Upstream { host: host.clone(), port, slot: slot.clone(), member: name.into() };
    stage.seen.ownership = Ownership::Standby { epoch: 1, upstream: Some(upstream) };
    if let Process::Running(server) = &mut stage.seen.postgres.process
        && let Seen::Known(ServerRole::Standby { follows: Some(follows), .. }) = &mut server.role
    {
        (follows.host, follows.port, follows.slot) = (host, port, Some(slot));
    }
}

/// The remote leader's answer, with what its slot for this region keeps.
fn hears_from_far(stage: &mut Stage, slots: &[Slot], physical: Option<u32>) {
    let ours = Slot { catalog_xmin: physical.map(Xid), ..Slot::physical("region_b", Lsn(80)) };
    let all = slots.iter().cloned().chain([ours]).collect();
    stage.ends(SlotStep::AskLeader, Ok(all));
}

#[test]
fn row_714_copies_the_slots_of_the_remote_leader_in_a_standby_region() {
    let mut stage = region_leader();
    assert_eq!(stage.beat(), [SlotStep::AskLeader.to_string()]);
    assert!(stage.overrides().feedback && !stage.overrides().syncs_slots);
    assert_eq!(stage.words(), ["x missing", "y missing"]);
    assert!(!stage.told().iter().any(|text| text.contains("follows another one")));
    hears_from_far(&mut stage, &[slot("x", 80, 700)], Some(700));
    stage.beat();
    assert_eq!(stage.member.memory.slots_to_copy.as_deref(), Some("x"));
    stage.seen.memory.slots_to_copy = stage.member.memory.slots_to_copy.clone();
    stage.seen.memory.lease_renewed = stage.seen.now;
    assert_eq!(crate::ha::decide(&stage.seen).rule, 714);
    let job = Job::Restart { as_primary: false };
    let copies = stage.member.slot_copies(&stage.seen, &job).expect("copies");
    assert_eq!((copies.from.host.as_str(), copies.is_purpose), ("far", true));
    stage.has(&[slot("x", 80, 700)]);
    hears_from_far(&mut stage, &[slot("x", 85, 705)], Some(700));
    let steps = stage.beat();
    assert_eq!(stage.words(), ["x pending", "y missing"], "its rows may have gone before");
    assert!(steps.contains(&"advancing the logical slot `x` to 0/55".to_string()), "{steps:?}");
    stage.has(&[slot("x", 85, 705)]);
    hears_from_far(&mut stage, &[slot("x", 85, 705)], Some(705));
    stage.beat();
    assert_eq!(stage.words(), ["x ready", "y missing"]);
}

#[test]
fn a_copy_of_a_region_is_proven_anew_under_another_remote_leader_or_timeline() {
    let mut stage = region_leader();
    stage.has(&[slot("x", 80, 700)]);
    let mut ready = |change: &dyn Fn(&mut Stage)| {
        for _ in 0..2 {
            hears_from_far(&mut stage, &[slot("x", 80, 700)], Some(700));
            stage.beat();
        }
        assert!(stage.words().contains(&"x ready".to_string()), "{:?}", stage.words());
        change(&mut stage);
        stage.beat();
        stage.words()
    };
    assert_eq!(ready(&|stage| follow(stage, "other"))[0], "x pending");
    let turn = |stage: &mut Stage| {
        let Process::Running(server) = &mut stage.seen.postgres.process else { panic!() };
        server.timeline = server.timeline.map(|timeline| topology::Timeline(timeline.0 + 2));
    };
    assert_eq!(ready(&turn)[0], "x pending", "there and back again");
    let down = |stage: &mut Stage| {
        stage.seen.ownership = Ownership::Standby { epoch: 1, upstream: None };
    };
    assert_eq!(ready(&down)[0], "x ready", "it stops for a move");
}

/// The remote leader's slot keeps as much as before, and shows nothing of the gap.
#[test]
fn a_copy_is_proven_anew_after_a_gap_in_the_feedback() {
    let mut stage = region_leader();
    stage.has(&[slot("x", 80, 700)]);
    for _ in 0..2 {
        hears_from_far(&mut stage, &[slot("x", 80, 700)], Some(700));
        stage.beat();
    }
    assert_eq!(stage.words()[0], "x ready");
    let tagged = |stage: &mut Stage, is: bool| {
        let record = json!({"tags": {"nofailover": is}, "state": "running"}).to_string();
        stage.view().take_sample("members/me", &record, 4, 1);
        stage.beat();
    };
    tagged(&mut stage, true);
    assert!(!stage.overrides().feedback);
    tagged(&mut stage, false);
    assert!(stage.overrides().feedback);
    hears_from_far(&mut stage, &[slot("x", 90, 705)], Some(700));
    stage.beat();
    assert_eq!(stage.words()[0], "x pending", "the primary kept no more than 705 meanwhile");
    stage.has(&[slot("x", 90, 705)]);
    hears_from_far(&mut stage, &[slot("x", 90, 705)], Some(705));
    stage.beat();
    assert_eq!(stage.words()[0], "x ready");
}

/// A slot that this server had as the primary may be ahead of the new primary's.
#[test]
fn a_former_primary_s_slot_is_a_copy_that_waits_for_its_reader() {
    let mut stage = region_leader();
    stage.has(&[slot("x", 90, 700)]);
    hears_from_far(&mut stage, &[slot("x", 85, 700)], Some(700));
    stage.beat();
    assert_eq!(stage.words()[0], "x pending");
    assert_eq!(stage.member.memory.slots_to_copy, None);
    hears_from_far(&mut stage, &[slot("x", 90, 700)], Some(700));
    stage.beat();
    assert_eq!(stage.words()[0], "x ready");
}

#[test]
fn row_1187_drops_a_copy_whose_slot_the_remote_leader_has_not() {
    let mut stage = region_leader();
    stage.has(&[slot("x", 80, 700), slot("y", 80, 700)]);
    let dropped = |steps: Vec<String>| -> Vec<String> {
        steps.into_iter().filter(|step| step.starts_with("dropping")).collect()
    };
    assert!(dropped(stage.beat()).is_empty(), "it has not said yet");
    hears_from_far(&mut stage, &[slot("x", 80, 700)], Some(700));
    let steps = dropped(stage.beat());
    assert!(steps.len() == 1 && steps[0].starts_with("dropping the slot `y`"), "{steps:?}");
    let failure = SlotFailure { why: "no answer".into(), copy_again: false };
    stage.ends(SlotStep::AskLeader, Err(failure));
    stage.seen.now = stage.seen.now + 60_000;
    assert!(dropped(stage.beat()).is_empty(), "what is old says nothing");
}

/// Any of them may lead when the region opens.
#[test]
fn other_members_of_a_standby_region_copy_from_the_remote_leader_too() {
    let mut stage = Stage::standby();
    let upstream =
        Upstream { host: "far".into(), port: 1, slot: "region_b".into(), member: "far".into() };
    stage.seen.ownership = Ownership::Standby { epoch: 1, upstream: Some(upstream) };
    stage.has(&[slot("x", 80, 700)]);
    assert_eq!(stage.beat(), [SlotStep::AskLeader.to_string()]);
    hears_from_far(&mut stage, &[slot("x", 85, 700), slot("y", 85, 700)], Some(700));
    let steps = stage.beat();
    assert!(steps.contains(&"advancing the logical slot `x` to 0/55".to_string()), "{steps:?}");
    assert!(stage.overrides().feedback);
    assert_eq!(stage.words(), ["x ready", "y missing"]);
    let job = Job::Restart { as_primary: false };
    let copies = stage.member.slot_copies(&stage.seen, &job).expect("copies");
    assert_eq!(copies.from.host, "far");
    // The server of 17 does it, on the leader alone.
    stage.sight.major = 17;
    stage.has(&[]);
    stage.beat();
    assert!(stage.words().is_empty() && !stage.overrides().feedback);
}

/// A daemon that was started after the decision has not seen its region follow another one.
#[test]
fn a_region_that_opens_makes_no_slot_that_may_have_been_used_elsewhere() {
    let mut stage = Stage::standby();
    stage.seen.lock = Lock::Mine { renewed: stage.seen.now, deadline: stage.seen.now + 30_000 };
    stage.seen.ownership = Ownership::Owner { epoch: 2, token: None, opening: true };
    stage.has(&[]);
    stage.member.before_opening(&stage.seen);
    let refused = stage.member.slots.logical.refused(&[]);
    assert_eq!(refused.into_keys().collect::<Vec<_>>(), ["x", "y"]);
}

/// The leader restarts for copies there, too: its turn is by its name.
#[test]
fn in_a_standby_region_the_leader_takes_its_turn_among_the_others() {
    let lacks = r#"{"role":"replica","state":"running","replication_state":"streaming",
        "logical_slots":{"x":"missing"}}"#;
    let mut leader = region_leader();
    leader.beat();
    let mut due = |name: &str| {
        leader.view().take_sample(&format!("members/{name}"), lacks, 3, 1);
        hears_from_far(&mut leader, &[slot("x", 80, 700)], None);
        leader.beat();
        leader.member.memory.slots_to_copy.clone()
    };
    assert_eq!(due("z").as_deref(), Some("x"), "z comes after `me`");
    assert_eq!(due("a"), None);
    let replica = |leader: &str| {
        let mut stage = Stage::standby();
        follow(&mut stage, "far");
        stage.seen.lock = Lock::Other(leader.into());
        stage.view().take_sample("leader", leader, 5, 1);
        stage.view().take_sample(&format!("members/{leader}"), lacks, 5, 1);
        stage.view().take_sample("members/b", r#"{"tags":{"nofailover":true}}"#, 6, 1);
        stage.beat();
        hears_from_far(&mut stage, &[slot("x", 80, 700)], None);
        stage.beat();
        stage.member.memory.slots_to_copy
    };
    assert_eq!(replica("a"), None, "the leader goes first");
    assert_eq!(replica("z").as_deref(), Some("x"));
}
