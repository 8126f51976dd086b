//! When copies of logical slots are made on a standby, moved, and ready.

use super::*;
use crate::ha::observation::Process;
use crate::made_up::TakeSample;

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
    stage.sight.started = Some("later".into());
    stage.hears(&[slot("x", 85, 700)], Some(700));
    stage.beat();
    assert_eq!(stage.member.memory.slots_to_copy, None, "not twice in ten minutes");
}

#[test]
fn a_restart_for_copies_that_could_not_be_read_is_tried_again_two_minutes_later() {
    let mut stage = Stage::standby();
    let due = |stage: &mut Stage| {
        stage.hears(&[slot("x", 80, 700)], None);
        stage.beat();
        stage.member.memory.slots_to_copy.clone()
    };
    stage.beat();
    assert_eq!(due(&mut stage).as_deref(), Some("x"));
    let job = Job::Restart { as_primary: false };
    stage.member.slot_copies(&stage.seen, &job).expect("copies");
    // The job has ended before it stopped the server.
    let waits = (0..20).take_while(|_| due(&mut stage).is_none()).count();
    assert_eq!(waits as u64, READ_AGAIN_MS / stage.seen.dynamic.loop_wait_ms - 1);
    stage.member.slot_copies(&stage.seen, &job).expect("copies");
    stage.sight.started = Some("later".into());
    assert_eq!(due(&mut stage), None, "this time it was stopped, and the copy is not there");
}

/// The restartpoint of the stop may remove the WAL that the copy begins in.
#[test]
fn a_restart_for_copies_that_was_in_vain_doubles_the_wait_for_the_next_one() {
    let mut stage = Stage::standby();
    stage.beat();
    let due = |stage: &mut Stage| {
        stage.hears(&[slot("x", 80, 700)], None);
        stage.beat();
        stage.member.memory.slots_to_copy.is_some()
    };
    let restart = |stage: &mut Stage, started: &str| {
        let job = Job::Restart { as_primary: false };
        stage.member.slot_copies(&stage.seen, &job).expect("copies");
        stage.sight.started = Some(started.into());
    };
    // Loops until the next one.
    let wait = |stage: &mut Stage| (1..20_000).find(|_| due(stage));
    assert!(due(&mut stage));
    for (started, minutes) in [("1", 20), ("2", 40), ("3", 80)] {
        restart(&mut stage, started);
        assert_eq!(wait(&mut stage), Some(minutes * 6));
    }
    for started in ["4", "5", "6", "7"] {
        restart(&mut stage, started);
        wait(&mut stage);
    }
    restart(&mut stage, "8");
    assert_eq!(wait(&mut stage), Some(24 * 360), "a day is the most");
    restart(&mut stage, "9");
    stage.has(&[slot("x", 80, 700)]);
    assert!((0..60).all(|_| !due(&mut stage)), "it is there");
    stage.has(&[]);
    assert!(due(&mut stage), "this one was not in vain");
    restart(&mut stage, "10");
    assert_eq!(wait(&mut stage), Some(20 * 6));
}

/// A base backup begins behind a reader that stands still.
#[test]
fn a_copy_that_begins_before_the_wal_of_this_server_is_made_anew_once_its_reader_has_come_there() {
    let begins = |at: u64| Slot { restart_lsn: Some(Lsn(at)), ..slot("x", at + 5, 700) };
    let mut stage = Stage::standby();
    stage.sight.wal_from = Some(Lsn(60));
    stage.has(&[begins(50)]);
    let mut steps = Vec::new();
    for _ in 0..3 {
        stage.hears(&[begins(50)], Some(700));
        steps.extend(stage.beat());
    }
    assert_eq!(stage.words()[0], "x behind", "its reader could not go on here");
    let told: Vec<String> = stage.told();
    let why = "the logical slot `x` is not copied yet: it begins at 0/32, and the WAL of this server at \
               0/3C. It is copied once its reader has come there";
    assert_eq!(told.iter().filter(|text| *text == why).count(), 1, "{told:?}");
    assert!(steps.iter().any(|step| step.starts_with("dropping the slot `x`")), "{steps:?}");
    assert!(!steps.iter().any(|step| step.contains("advancing the logical slot `x`")), "{steps:?}");
    stage.has(&[]);
    stage.hears(&[begins(59)], Some(700));
    stage.beat();
    assert_eq!(stage.member.memory.slots_to_copy, None, "a copy would be lost again");
    assert!(!stage.told().iter().any(|text| text.contains("not copied yet")), "once is enough");
    stage.hears(&[begins(60)], Some(700));
    stage.beat();
    assert_eq!(stage.member.memory.slots_to_copy.as_deref(), Some("x"));
    stage.has(&[begins(60)]);
    for _ in 0..2 {
        stage.hears(&[begins(60)], Some(700));
        stage.beat();
    }
    assert_eq!(stage.words()[0], "x ready");
}

/// What was there before the slot was read, and not after, may have been removed behind it.
#[test]
fn a_copy_is_lost_only_by_wal_that_two_listings_do_not_show() {
    let mut stage = Stage::standby();
    stage.has(&[Slot { restart_lsn: Some(Lsn(50)), ..slot("x", 80, 700) }]);
    let mut word = |listed: Option<u64>| {
        stage.sight.wal_from = listed.map(Lsn);
        stage.beat();
        stage.words()[0].clone()
    };
    assert_eq!(word(Some(60)), "x pending", "what was there before is not known");
    assert_eq!(word(Some(60)), "x missing");
    assert_eq!(word(Some(40)), "x pending");
    assert_eq!(word(Some(60)), "x pending");
    assert_eq!(word(None), "x pending");
    assert_eq!(word(Some(60)), "x pending");
    assert_eq!(word(Some(60)), "x missing");
}

/// b was followed by another leader, which kept no rows for this member, and leads again.
#[test]
fn a_copy_is_not_ready_on_another_timeline_of_the_same_leader() {
    let on = |stage: &mut Stage, timeline: Option<u32>| {
        let Process::Running(server) = &mut stage.seen.postgres.process else { panic!("it runs") };
        server.timeline = timeline.map(topology::Timeline);
        stage.beat();
        stage.words()
    };
    let mut stage = ready_standby();
    let there = stage.seen.server().and_then(|server| server.timeline).expect("a timeline").0;
    assert_eq!(on(&mut stage, None), ["x ready", "y ready"], "it is not known for a moment");
    assert_eq!(on(&mut stage, Some(there)), ["x ready", "y ready"]);
    assert_eq!(on(&mut stage, Some(there + 2)), ["x pending", "y pending"]);
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
    let waits = record("behind", "streaming");
    let away = record("ready", "in archive recovery");
    assert_eq!(due(&lacks, &has), None);
    assert_eq!(due(&has, &away), None);
    assert_eq!(due(&waits, &lacks).as_deref(), Some("x"), "c restarts for none");
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

/// A restart is no use without the copies.
#[test]
fn rows_944_and_996_a_restart_waits_for_a_leader_that_runs_and_without_copies_there_is_none() {
    let mut stage = Stage::standby();
    stage.beat();
    let rule = |stage: &mut Stage| {
        stage.member.note_copies(&stage.seen);
        let follows = Facts::of(&stage.seen).upstream().map(Box::new);
        if let Process::Running(server) = &mut stage.seen.postgres.process {
            server.role = Seen::Known(ServerRole::Standby { follows, streaming: true });
        }
        let lease_renewed = stage.seen.now;
        let divergence = Divergence::Prefix;
        stage.seen.memory = Memory { lease_renewed, divergence, ..stage.member.memory.clone() };
        decide(&stage.seen).rule
    };
    let mut due = |state: &str, uses_slots: bool| {
        stage.hears(&[slot("x", 80, 700)], None);
        stage.beat();
        let record = format!(
            r#"{{"role":"primary","state":"{state}","conn_url":"postgres://h:1/d","timeline":2}}"#
        );
        stage.view().take_sample("members/b", &record, 3, 1);
        stage.member.dynamic.use_slots = uses_slots;
        rule(&mut stage)
    };
    assert_eq!(due("running", true), 944);
    assert_eq!(due("running", false), 996);
    assert_eq!(due("stopping", true), 998);
    // Its feedback was off meanwhile: what the leader told before says nothing now.
    assert_eq!(due("running", true), 998);
    assert_eq!(due("running", true), 944, "it is tried when it is possible");
    let job = Job::Restart { as_primary: false };
    assert!(stage.member.is_restart_for_copies(&stage.seen, &job));
    assert!(stage.member.slot_copies(&stage.seen, &job).expect("copies").is_purpose);
    assert!(stage.member.slots.logical.copying.due.is_empty(), "it is not tried again at once");
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
    assert!(stage.member.slots.logical.copying.again.contains_key("x"));
    stage.ends(step.clone(), Ok(Vec::new()));
    stage.beat();
    assert!(stage.member.slots.logical.copying.again.is_empty());
    stage.ends(step, Err(failure));
    stage.seen.postgres.process = sample::primary();
    stage.seen.lock = Lock::Mine { renewed: stage.seen.now, deadline: stage.seen.now + 30_000 };
    stage.beat();
    assert!(stage.member.slots.logical.copying.again.is_empty(), "it leads");
}
