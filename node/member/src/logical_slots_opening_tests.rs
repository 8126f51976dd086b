//! What a member that opens does with the logical slots of its server.

use super::*;
use crate::made_up::TakeSample;

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
    open.member.slots.logical.work.under_way.clear();
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
    let rule = |stage: &mut Stage, ms: u64| {
        let mut seen = stage.seen.clone();
        seen.now = seen.now + ms;
        seen.lock = Lock::Mine { renewed: seen.now, deadline: seen.now + 30_000 };
        stage.member.note_unseen_slots(&seen);
        seen.memory = Memory { lease_renewed: seen.now, ..stage.member.memory.clone() };
        decide(&seen).rule
    };
    assert_eq!(rule(&mut stage, 0), 709);
    assert_eq!(rule(&mut stage, 1_999), 709);
    assert_eq!(rule(&mut stage, 2_000), 731, "the slots cannot be looked at");
    stage.beat();
    assert_eq!(rule(&mut stage, 0), 731);
    let drops = stage.member.before_opening(&stage.seen).expect("slots").drops;
    assert_eq!(drops, ["x"], "no reader has passed it");
    let mut undefined = Stage::standby();
    undefined.member.dynamic.slots = Default::default();
    assert_eq!(rule(&mut undefined, 0), 731);
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
