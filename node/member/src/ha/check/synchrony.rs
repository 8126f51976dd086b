//! The synchronous modes: what holds for every observation, and single moments.

use super::{action, always};
use crate::ha::action::{Action, Outcome, Step};
use crate::ha::decide;
use crate::ha::facts::Facts;
use crate::ha::observation::{Job, Lock, Observation, Process};
use crate::ha::sample::{NOW, follower, leader};
use crate::made_up::TakeSample;
use standby::sync::{Names, Replication, Sender, SyncRank};
use topology::{Lsn, Millis, Seen, SyncMode, SyncState};

#[test]
fn no_leader_opens_before_it_is_settled_which_standbys_must_have_its_commits() {
    always("opens with names that do not fit", |o, action| {
        *action != Action::Promote || !Facts::of(o).is_sync_due_before_opening()
    });
}

#[test]
fn names_and_sync_are_the_leaders_in_its_region() {
    always("changes who must have commits without leading", |o, action| {
        let changes = matches!(action, Action::RecordSync(_) | Action::NameSync(_));
        !changes || (o.holds_lock() && o.may_own() && o.view().is_some())
    });
}

fn replication(o: &mut Observation) -> &mut Replication {
    let Process::Running(server) = &mut o.postgres.process else { panic!("it runs") };
    server.replication.get_or_insert_with(|| Replication {
        is_acting: true,
        lsn: Lsn(1_000),
        names: String::new(),
        commit: "on".into(),
        senders: Vec::new(),
    })
}

fn streams(o: &mut Observation, name: &str, sync: SyncRank) {
    let lsn = Some(Lsn(1_000));
    let sender =
        Sender { name: name.into(), streaming: true, sync, write: lsn, flush: lsn, replay: lsn };
    replication(o).senders.push(sender);
}

fn record(o: &mut Observation, text: &str) {
    let Seen::Known(view) = &mut o.store else { panic!("the store answers") };
    view.take_sample("sync", text, 3, 0);
}

/// `me` leads in this mode, and both others stream from it.
fn leads(mode: SyncMode) -> Observation {
    let mut o = leader();
    o.dynamic.synchronous_mode = mode;
    o.dynamic.is_synchronous = true;
    for name in ["a", "b"] {
        streams(&mut o, name, SyncRank::Async);
    }
    o
}

/// What is decided until nothing changes any more, as the world would answer.
fn settle(mut o: Observation) -> (Observation, Vec<String>) {
    let mut told = Vec::new();
    for round in 0..20 {
        o.memory.update_from(&o.clone());
        let decision = decide(&o);
        let Some(done) = action(&decision) else {
            // Nothing is left but to wait for confirmations, which then come.
            if decision.rule != 790 {
                return (o, told);
            }
            o.now = Millis(NOW + 100 * round);
            continue;
        };
        match done {
            Action::RecordSync(state) => {
                told.push(format!("/sync {}", state.write()));
                record(&mut o, &state.write());
            }
            Action::NameSync(names) => {
                told.push(format!("names {}", names.write()));
                take_names(&mut o, names);
            }
            Action::WriteWal => {}
            other => panic!("{other:?}"),
        }
        let done = done.clone();
        o.memory.fold(&done, &crate::ha::Outcome::Done, o.now);
    }
    panic!("no end: {told:?}");
}

fn take_names(o: &mut Observation, names: &Names) {
    let all = replication(o);
    all.names = names.write();
    let rank = match names.method {
        standby::sync::Method::Quorum => SyncRank::Quorum,
        _ => SyncRank::Sync,
    };
    for sender in &mut all.senders {
        let named = names.names.contains(&sender.name);
        sender.sync = if named { rank } else { SyncRank::Async };
    }
}

#[test]
fn a_leader_names_a_standby_first_and_records_it_when_it_has_confirmed() {
    let (o, told) = settle(leads(SyncMode::On));
    assert_eq!(
        told,
        [
            r#"/sync {"leader":"me","quorum":0,"sync_standby":null}"#,
            "names a",
            r#"/sync {"leader":"me","quorum":0,"sync_standby":"a"}"#,
        ]
    );
    assert_eq!(decide(&o).rule, 791, "{}", decide(&o).line());
    // It is gone: it leaves /sync before commits stop waiting for it.
    let mut o = o;
    replication(&mut o).senders.retain(|sender| sender.name.as_str() != "a");
    let (_, told) = settle(o);
    assert_eq!(told[0], r#"/sync {"leader":"me","quorum":0,"sync_standby":null}"#);
    assert_eq!(told[1], "names b");
    assert!(told[2].contains(r#""sync_standby":"b""#), "{told:?}");
}

#[test]
fn a_quorum_of_two_is_named_with_votes_that_overlap() {
    let (o, told) = settle(leads(SyncMode::Quorum));
    assert_eq!(replication(&mut o.clone()).names, "ANY 1 (a,b)", "{told:?}");
    let last = told.iter().rfind(|step| step.starts_with("/sync")).expect("it was recorded");
    assert_eq!(last, r#"/sync {"leader":"me","quorum":1,"sync_standby":"a,b"}"#);
}

#[test]
fn without_a_mode_nothing_is_touched() {
    let mut o = leads(SyncMode::Off);
    o.dynamic.is_synchronous = false;
    replication(&mut o).names = "of_the_user".into();
    let (o, told) = settle(o);
    assert_eq!((told.len(), Facts::of(&o).sync_names(false)), (0, None));
}

#[test]
fn a_mode_that_ends_keeps_the_names_until_the_record_is_gone() {
    let (mut o, _) = settle(leads(SyncMode::On));
    o.dynamic.synchronous_mode = SyncMode::Off;
    o.memory.update_from(&o.clone());
    assert_eq!(Facts::of(&o).sync_names(false).as_deref(), Some("a"));
    let Seen::Known(view) = &mut o.store else { panic!("the store answers") };
    view.sync = None;
    o.memory.update_from(&o.clone());
    assert_eq!(Facts::of(&o).sync_names(false), None);
}

/// Elections go by the record: without the names, commits would wait for no member that may lead.
#[test]
fn a_new_process_keeps_the_names_of_an_open_primary_until_the_record_is_gone() {
    for mode in [SyncMode::On, SyncMode::Off] {
        let (mut o, _) = settle(leads(SyncMode::On));
        o.dynamic.synchronous_mode = mode;
        o.memory.names = None;
        o.memory.update_from(&o.clone());
        assert_eq!(Facts::of(&o).sync_names(false).as_deref(), Some("a"), "{mode:?}");
    }
    let (mut o, _) = settle(leads(SyncMode::On));
    o.dynamic.synchronous_mode = SyncMode::Off;
    o.memory.names = None;
    let Seen::Known(view) = &mut o.store else { panic!("the store answers") };
    view.sync = None;
    o.memory.update_from(&o.clone());
    assert_eq!(Facts::of(&o).sync_names(false), None);
}

#[test]
fn a_primary_is_started_with_what_the_record_demands() {
    let mut o = leads(SyncMode::On);
    record(&mut o, r#"{"leader":"me","quorum":0,"sync_standby":"a"}"#);
    assert_eq!(Facts::of(&o).sync_names(true).as_deref(), Some("a"));
    // The leader in the record votes like its standbys: commits wait for it as well.
    record(&mut o, r#"{"leader":"b","quorum":0,"sync_standby":"me"}"#);
    assert_eq!(Facts::of(&o).sync_names(true).as_deref(), Some("b"));
}

/// Unknown is not absent: a crash while the store is silent begins as it ended.
#[test]
fn a_primary_that_starts_without_the_store_waits_as_before() {
    let (mut o, _) = settle(leads(SyncMode::On));
    o.store = Seen::Unknown;
    assert_eq!(Facts::of(&o).sync_names(true).as_deref(), Some("a"));
    let failed = Err("the server ended while it started".to_string());
    o.memory.finish(&Job::StartPrimary, &failed, Millis(NOW));
    assert_eq!(Facts::of(&o).sync_names(true).as_deref(), Some("a"));
    o.memory.names = None;
    let names = Facts::of(&o).sync_names(true).expect("a mode is on");
    assert_eq!(Names::parse(&names).set().len(), 0);
    assert!(!names.is_empty(), "it would wait for nobody");
}

/// Names set for the opening stay, whichever process set them and whatever the outcome.
#[test]
fn names_of_a_standby_that_is_about_to_open_are_kept() {
    let mut o = won(SyncMode::On);
    replication(&mut o).names = "a".into();
    o.memory.update_from(&o.clone());
    assert_eq!(Facts::of(&o).sync_names(false).as_deref(), Some("a"));
    let names = Action::NameSync(Names::parse("2 (a,b)"));
    o.memory.fold(&names, &Outcome::Failed("not in force".into()), Millis(NOW));
    o.memory.update_from(&o.clone());
    assert_eq!(Facts::of(&o).sync_names(false).as_deref(), Some("2 (a,b)"));
}

/// `me` has won the lock of a group in which `a` led and `me` was its standby.
fn won(mode: SyncMode) -> Observation {
    let mut o = follower();
    o.dynamic.synchronous_mode = mode;
    o.dynamic.is_synchronous = true;
    let Seen::Known(view) = &mut o.store else { panic!("the store answers") };
    view.take_sample("leader", "me", 5, 9);
    o.lock = Lock::Mine { renewed: Millis(NOW), deadline: Millis(NOW + 30_000) };
    replication(&mut o);
    o
}

#[test]
fn a_new_leader_takes_the_record_over_before_it_opens() {
    let mut o = won(SyncMode::On);
    record(&mut o, r#"{"leader":"a","quorum":0,"sync_standby":"me"}"#);
    let alone = SyncState::alone("me".into());
    assert_eq!(decide(&o).step, Step::Do(Action::RecordSync(alone.clone())));
    record(&mut o, &alone.write());
    assert_eq!(decide(&o).step, Step::Do(Action::Promote), "{}", decide(&o).line());
}

#[test]
fn a_new_leader_of_a_quorum_waits_until_the_votes_overlap_again() {
    let mut o = won(SyncMode::Quorum);
    record(&mut o, r#"{"leader":"a","quorum":1,"sync_standby":"b,me"}"#);
    let Step::Do(Action::NameSync(names)) = decide(&o).step else { panic!("{:?}", decide(&o)) };
    assert_eq!(names.write(), "ANY 1 (a,b)");
    replication(&mut o).names = names.write();
    // Who led before votes now, and has nothing of what is acknowledged from here on.
    let Step::Do(Action::RecordSync(state)) = decide(&o).step else { panic!("{:?}", decide(&o)) };
    assert_eq!(state.write(), r#"{"leader":"me","quorum":1,"sync_standby":"a,b"}"#);
    record(&mut o, &state.write());
    assert_eq!(decide(&o).step, Step::Do(Action::Promote), "{}", decide(&o).line());
}

#[test]
fn a_server_whose_names_are_not_known_does_not_open() {
    let mut o = won(SyncMode::On);
    let Process::Running(server) = &mut o.postgres.process else { panic!("it runs") };
    server.replication = None;
    assert_eq!(decide(&o).rule, 727);
    o.dynamic.synchronous_mode = SyncMode::Off;
    assert_eq!(decide(&o).step, Step::Do(Action::Promote));
}

/// In pause the daemon came back under another name, beside the same server.
#[test]
fn known_bug_05_a_leader_with_a_new_name_is_recorded_in_pause() {
    for mode in [SyncMode::On, SyncMode::Quorum] {
        let mut o = leads(mode);
        o.dynamic.pause = true;
        record(&mut o, r#"{"leader":"old_name","quorum":0,"sync_standby":"a"}"#);
        o.memory.update_from(&o.clone());
        let step = decide(&o).step;
        let Step::Do(Action::RecordSync(state)) = step else { panic!("{mode:?}: {step:?}") };
        assert_eq!(state.leader, Some("me".into()), "{mode:?}");
    }
}

/// A mode that cannot be read may be a synchronous one: no member is taken for
/// synchronous, and commits wait for every other member in the record.
#[test]
fn known_bug_20_a_mode_that_is_not_known_does_not_read_as_no_names() {
    let mut o = leads(SyncMode::Off);
    let unknown = serde_json::json!({"synchronous_mode": "perhaps"});
    o.dynamic = topology::Dynamic::read(&unknown).expect("a document");
    record(&mut o, r#"{"leader":"b","quorum":0,"sync_standby":"a,me"}"#);
    assert_eq!(Facts::of(&o).sync_names(true).as_deref(), Some("2 (a,b)"));
    o.store = Seen::Unknown;
    let names = Facts::of(&o).sync_names(true).expect("a mode may be on");
    assert!(!names.is_empty(), "it would wait for nobody");
}

#[test]
fn a_restart_of_the_leader_forgets_the_names_it_had_set() {
    let (mut o, _) = settle(leads(SyncMode::On));
    assert!(o.memory.names.is_some());
    o.memory.finish(&Job::Restart { as_primary: true }, &Ok(()), o.now);
    assert_eq!(o.memory.names, None);
}
