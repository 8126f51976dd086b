//! The writes of a member, performed on a store: each compares what it was decided on.

use super::keys::{Keys, split_groups};
use super::kv::{Edit, Txn};
use super::memory::MemoryStore;
use member::ha::Publish;
use member::write::{acquire, finish_bootstrap, release, status};
use std::time::Duration;
use topology::write::{LeaderWrite, Replacement};
use topology::{Group, GroupView, Lsn, Session, Status, SyncState, SystemId, Version, Write};

const LEADS: Session = Session::of_store(1);

/// A store in which `n1` leads.
fn store() -> (MemoryStore, Keys) {
    let (store, keys) = (MemoryStore::new(), Keys::new("/service/", "shop", Group::PLAIN));
    assert_eq!(store.grant_now(Duration::from_secs(30)).unwrap(), LEADS);
    let key = keys.leader();
    by_hand(&store, Edit::Put { key, value: "n1".into(), session: Some(LEADS) });
    (store, keys)
}

fn by_hand(store: &MemoryStore, op: Edit) {
    store.txn_now(&Txn { when: vec![], then: vec![op] }).expect("reachable");
}

fn put(store: &MemoryStore, key: String, value: String) {
    by_hand(store, Edit::Put { key, value, session: None });
}

fn sent(store: &MemoryStore, write: &Write) -> bool {
    let keys = Keys::new("/service/", "shop", Group::PLAIN);
    store.write_now(&keys, write).expect("reachable").succeeded
}

fn view(store: &MemoryStore, keys: &Keys) -> GroupView {
    let read = store.read_now(&[keys.scope_prefix()]).expect("reachable");
    split_groups(&keys.scope_prefix(), &read.entries).remove(&Group::PLAIN).unwrap_or_default()
}

fn value(store: &MemoryStore, key: &str) -> Option<String> {
    let read = store.read_now(&[key.to_string()]).expect("reachable");
    read.entries.into_iter().find(|entry| entry.key == key).map(|entry| entry.value)
}

/// The copy that a candidate judges by may be old: the store compares.
#[test]
fn known_bug_21_a_lock_is_not_taken_on_an_old_sync_state() {
    let (store, keys) = store();
    by_hand(&store, Edit::Delete { key: keys.leader() });
    let record = |names: &str| {
        let text = format!(r#"{{"leader":"n1","sync_standby":"{names}","quorum":0}}"#);
        put(&store, keys.sync(), text);
    };
    let lease = store.grant_now(Duration::from_secs(30)).expect("reachable");
    let take = |view: &GroupView| sent(&store, &acquire(&"n2".into(), lease, view, None, None));
    let unrecorded = view(&store, &keys);
    record("n2");
    assert!(!take(&unrecorded), "a mode came into force since");
    let old = view(&store, &keys);
    record("n3");
    assert!(!take(&old), "another one is the standby now");
    assert!(take(&view(&store, &keys)));
}

/// An old release keeps the position in another key, and no `/status`.
#[test]
fn a_lock_is_taken_where_only_the_old_key_tells_the_position() {
    let (store, keys) = store();
    by_hand(&store, Edit::Delete { key: keys.leader() });
    put(&store, keys.initialize(), "7710375988543033523".to_string());
    put(&store, keys.legacy_optime(), "5".to_string());
    let lease = store.grant_now(Duration::from_secs(30)).expect("reachable");
    let take = |view: &GroupView| sent(&store, &acquire(&"n2".into(), lease, view, None, None));
    let old = view(&store, &keys);
    assert_eq!(old.optime(), Lsn(5));
    put(&store, keys.status(), r#"{"optime":6}"#.to_string());
    assert!(!take(&old), "a report came since");
    by_hand(&store, Edit::Delete { key: keys.status() });
    assert!(take(&view(&store, &keys)));
}

#[test]
fn a_report_is_written_when_it_is_new_and_a_release_keeps_its_slots() {
    let (store, keys) = store();
    let told = Status::read(r#"{"optime":5,"slots":{"n2":4},"retain_slots":["n2"]}"#);
    let write = status(LEADS, &told, &view(&store, &keys)).expect("it is new");
    assert!(sent(&store, &write));
    assert_eq!(status(LEADS, &told, &view(&store, &keys)), None);
    assert!(sent(
        &store,
        &release(&"n1".into(), Publish::Handover(Lsn(9), None), &view(&store, &keys))
    ));
    let left = value(&store, &keys.status()).expect("it stays");
    assert_eq!(left, r#"{"optime":9,"slots":{"n2":4},"retain_slots":["n2"]}"#);
    assert_eq!(value(&store, &keys.leader()), None);
    assert_eq!(value(&store, &keys.legacy_optime()), None);
}

#[test]
fn the_old_key_is_written_while_an_old_release_is_there() {
    let (store, keys) = store();
    let member = |version: &str| {
        put(&store, keys.member(&"n2".into()), format!(r#"{{"version":"{version}"}}"#));
    };
    let told = |lsn| Status { optime: Lsn(lsn), ..Status::default() };
    let tell = |lsn| {
        let write = status(LEADS, &told(lsn), &view(&store, &keys));
        write.is_some_and(|write| sent(&store, &write))
    };
    member("2.0.2");
    assert!(tell(5) && !tell(5));
    assert_eq!(value(&store, &keys.legacy_optime()).as_deref(), Some("5"));
    member("2.1.0");
    assert!(tell(6));
    assert_eq!(value(&store, &keys.legacy_optime()).as_deref(), Some("5"));
    // The report is known; the old release that came back lacks it.
    member("2.0.2");
    assert!(tell(6));
    assert!(sent(
        &store,
        &release(&"n1".into(), Publish::Handover(Lsn(7), None), &view(&store, &keys))
    ));
    assert_eq!(value(&store, &keys.legacy_optime()).as_deref(), Some("7"));
}

/// A claim, as a version of the store.
fn claimed(store: &MemoryStore, keys: &Keys) -> Version {
    let result = store.write_now(keys, &Write::ClaimInitialize).expect("reachable");
    assert!(result.succeeded);
    result.version
}

fn step(version: Version, count: i64) -> Version {
    Version::of_store(version.number() + count)
}

fn forget_everything(store: &MemoryStore, keys: &Keys) {
    by_hand(store, Edit::DeletePrefix { prefix: keys.scope_prefix() });
}

#[test]
fn a_new_cluster_is_entered_over_the_own_claim_or_over_nothing() {
    let (store, keys) = store();
    forget_everything(&store, &keys);
    let (me, system) = ("n1".into(), SystemId("7000000000000000001".into()));
    let new =
        |claim, view: &GroupView| finish_bootstrap(&me, LEADS, &system, "{}".into(), claim, view);
    let enter = |claim| sent(&store, &new(claim, &view(&store, &keys)));
    let give_back = |claim| sent(&store, &Write::GiveBackInitialize { claim });
    let claim = claimed(&store, &keys);
    assert!(!give_back(step(claim, 1)), "another one's claim");
    assert!(!enter(Some(step(claim, -1))) && !enter(None), "another one's claim");
    assert!(enter(Some(claim)));
    assert_eq!(value(&store, &keys.initialize()).as_deref(), Some("7000000000000000001"));
    assert_eq!(value(&store, &keys.leader()).as_deref(), Some("n1"));
    assert_eq!(value(&store, &keys.config()).as_deref(), Some("{}"));
    forget_everything(&store, &keys);
    let seen = view(&store, &keys);
    assert!(enter(Some(claim)), "the store has forgotten the claim");
    // A view from before another member claimed the key does not permit a write.
    forget_everything(&store, &keys);
    let other = claimed(&store, &keys);
    assert!(!sent(&store, &new(Some(claim), &seen)));
    assert!(!enter(Some(claim)), "claims look alike, their versions do not");
    assert!(give_back(other));
    assert_eq!(value(&store, &keys.initialize()), None);
}

#[test]
fn the_synchronous_state_is_chained_from_version_to_version() {
    let (store, keys) = store();
    let alone = SyncState::alone("n1".into());
    let sync = |state: &SyncState, on| {
        let state = Replacement { value: state.clone(), on };
        sent(&store, &Write::AsLeader { session: LEADS, write: LeaderWrite::PutSync(state) })
    };
    let end_sync = |session, on| {
        sent(&store, &Write::AsLeader { session, write: LeaderWrite::DeleteSync { on } })
    };
    assert!(sync(&alone, None));
    assert!(!sync(&alone, None), "there is one");
    let first = view(&store, &keys).sync.expect("written").version;
    let pair = SyncState { standbys: vec!["n2".into()], ..alone };
    assert!(sync(&pair, Some(first)));
    assert!(!sync(&pair, Some(first)), "an old version");
    assert!(!end_sync(LEADS, first), "an old version");
    let second = view(&store, &keys).sync.expect("written").version;
    assert!(!end_sync(Session::of_store(2), second), "not the leader");
    assert!(end_sync(LEADS, second));
    assert_eq!(value(&store, &keys.sync()), None);
}

/// Two pauses of one formation would end each other's sessions.
#[test]
fn one_pause_is_open_and_ends_with_the_lease_of_its_leader() {
    let (store, keys) = store();
    let take = |session: Session, on: Option<Version>| {
        let write = LeaderWrite::TakePause { group: 1, by: "n1".into(), on };
        sent(&store, &Write::AsLeader { session, write })
    };
    assert!(take(LEADS, None));
    assert_eq!(value(&store, &keys.pause()).as_deref(), Some(r#"{"group":1,"by":"n1"}"#));
    assert!(!take(LEADS, None), "one is open");
    let other = store.grant_now(Duration::from_secs(30)).expect("reachable");
    assert!(!take(other, None), "only the leader opens one");
    assert!(!sent(&store, &Write::EndPause { session: other }), "it is not its own");
    let read = store.read_now(&[keys.pause()]).expect("reachable");
    assert!(take(LEADS, Some(read.entries[0].version)), "what was left is taken over");
    // Also one that leads no more frees what is its own.
    by_hand(&store, Edit::Delete { key: keys.leader() });
    assert!(sent(&store, &Write::EndPause { session: LEADS }));
    assert_eq!(value(&store, &keys.pause()), None);
    assert!(!sent(&store, &Write::EndPause { session: LEADS }));
}
