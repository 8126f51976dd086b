//! Who is ready, and how a change of the names makes them prove it again.

use crate::sync::SyncRank::{Quorum, Sync};
use crate::sync::fixture::{World, record, world};
use topology::{Lsn, MemberName, Millis, SyncMode};

fn ready(world: &World) -> Vec<MemberName> {
    world.confirmed.about(&world.seen, &world.me).0.sorted()
}

fn names(text: &str) -> Vec<MemberName> {
    text.split_whitespace().map(MemberName::from).collect()
}

#[test]
fn a_standby_is_ready_when_it_is_past_the_change_and_waited_for() {
    let mut world = world(&record("", 0));
    world.standby("a", Sync, 99);
    world.look();
    world.names("a");
    world.look();
    assert_eq!(ready(&world), names(""), "not past the change point");
    world.seen.lsn = Lsn(200);
    world.sender("a", Sync, 100);
    world.look();
    assert_eq!(ready(&world), names("a"), "the change point does not move");
    world.sender("a", Sync, 10);
    world.look();
    assert_eq!(ready(&world), names("a"), "kept while it is named");
    world.names("b");
    assert_eq!(ready(&world), names(""), "what was remembered is of other names");
    world.look();
    world.names("a");
    world.look();
    assert_eq!(ready(&world), names(""), "it has to prove it again");
}

#[test]
fn the_server_must_count_on_it_in_the_way_of_the_mode() {
    for (mode, text, other, right) in
        [(SyncMode::On, "a", Quorum, Sync), (SyncMode::Quorum, "ANY 1 (a)", Sync, Quorum)]
    {
        let mut world = world(&record("", 0));
        world.policy.mode = mode;
        world.names(text);
        world.standby("a", other, 100);
        world.look();
        assert_eq!(ready(&world), names(""));
        world.sender("a", right, 100);
        world.seen.senders[0].streaming = false;
        world.look();
        assert_eq!(ready(&world), names(""));
        world.sender("a", right, 100);
        world.look();
        assert_eq!(ready(&world), names("a"));
    }
}

#[test]
fn more_is_promised_only_by_who_proves_it_again() {
    let mut world = world(&record("", 0));
    world.policy.mode = SyncMode::Quorum;
    world.names("ANY 1 (a,b)");
    world.standby("a", Quorum, 100);
    world.standby("b", Quorum, 100);
    world.look();
    assert_eq!(ready(&world), names("a b"));
    world.seen.lsn = Lsn(150);
    world.names("ANY 1 (a,b,c)");
    world.look();
    assert_eq!(ready(&world), names("a b"), "one of them has each commit, as before");
    world.names("ANY 2 (a,b,c)");
    world.look();
    assert_eq!(ready(&world), names(""), "a commit may be on one of them alone");
    world.sender("a", Quorum, 150);
    world.look();
    assert_eq!(ready(&world), names("a"));
    world.seen.lsn = Lsn(200);
    world.names("ANY 2 (a,b)");
    world.look();
    assert_eq!(ready(&world), names(""), "one of two may have been the one that left");
}

#[test]
fn who_had_every_commit_has_it_under_other_names_too() {
    let mut world = world(&record("", 0));
    world.names("2 (a,b)");
    for name in ["a", "b"] {
        world.standby(name, Sync, 100);
    }
    world.look();
    world.seen.lsn = Lsn(150);
    world.names("2 (a,c)");
    world.look();
    assert_eq!(ready(&world), names("a"));
}

#[test]
fn a_new_daemon_believes_what_its_own_record_lists() {
    for (sync, text, believed) in [
        (record("a", 0), "a", "a"),
        (record("a", 0), "2 (a,b)", "a"),
        (record("a,b", 0), "FIRST 1 (a,b)", ""),
        (record("a,b", 1), "ANY 2 (a,b)", ""),
        (r#"{"leader":"b","quorum":0,"sync_standby":"a"}"#.to_string(), "a", ""),
    ] {
        let mut world = world(&sync);
        world.names(text);
        world.look();
        assert_eq!(ready(&world), names(believed), "{sync} {text}");
    }
}

#[test]
fn a_record_is_wanted_once_after_a_change_that_names_a_standby() {
    let mut world = world(&record("", 0));
    world.look();
    assert!(!world.confirmed.wants_record());
    world.names("a");
    world.now = Millis(60_000);
    world.look();
    assert!(world.confirmed.wants_record());
    assert_eq!(world.confirmed.about(&world.seen, &world.me).1, Some(Millis(60_000)));
    world.confirmed.nudged();
    world.now = Millis(61_000);
    world.look();
    assert!(!world.confirmed.wants_record());
    assert_eq!(world.confirmed.about(&world.seen, &world.me).1, Some(Millis(60_000)));
}
