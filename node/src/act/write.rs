//! The writes of a group: what is written, and what it is decided on.
//!
//! Pure values, so that each decision can be read and tested in one place; the
//! daemon and the simulator perform the same ones.

use crate::ha::Publish;
use topology::cluster::Claim;
use topology::status::reads_legacy_optime;
use topology::write::{Acquisition, LeaderWrite, NewCluster, Release, Replacement};
use topology::{
    Failover, GroupView, Lsn, MemberName, Session, Status, SyncMode, SystemId, Timeline, Version,
    Versioned, Write,
};

fn version_of<T>(read: &Option<Versioned<T>>) -> Option<Version> {
    read.as_ref().map(|read| read.version)
}

/// Take the lock if no member has it. A request that named this member (or any
/// other) is answered by that, so it is cleared in the same write. A standby, now
/// on `mine`, claims the timeline that it will begin.
pub fn acquire(
    me: &MemberName,
    session: Session,
    view: &GroupView,
    mine: Option<Timeline>,
) -> Write {
    let asked = view.failover.as_ref().filter(|f| f.value != Failover::default());
    Write::AcquireLock(Box::new(Acquisition {
        me: me.clone(),
        session,
        failsafe: version_of(&view.failsafe),
        sync: version_of(&view.sync),
        failover: version_of(&view.failover),
        request: asked.map(|failover| left_of(&failover.value, me, view)),
        claim: mine.map(|mine| claim_on(me, view, mine)),
    }))
}

/// What is left of a request once `me` took the lock. In pause only named
/// members are promoted: one that was not reached is still wanted.
///
/// Not in a synchronous mode: without its leader a planned switchover, which loses
/// nothing, would become a manual failover, which may go to any member that it names.
fn left_of(request: &Failover, me: &MemberName, view: &GroupView) -> Failover {
    let wanted = request.candidate.as_ref().filter(|candidate| *candidate != me);
    let mode = view.config.as_ref().map(|config| config.value.synchronous_mode);
    let in_sync = mode.is_some_and(|mode| mode != SyncMode::Off)
        && view.sync.as_ref().is_some_and(|sync| sync.value.is_active());
    match (view.is_paused() && request.leader.is_some() && !in_sync, wanted) {
        (true, Some(_)) => Failover { leader: None, ..request.clone() },
        _ => Failover::default(),
    }
}

/// Claim a timeline while holding the lock: it was taken without a claim.
pub fn claim(me: &MemberName, session: Session, view: &GroupView, mine: Timeline) -> Write {
    let write = LeaderWrite::ClaimTimeline(claim_on(me, view, mine));
    Write::AsLeader { session, write }
}

fn claim_on(me: &MemberName, view: &GroupView, mine: Timeline) -> Replacement<Claim> {
    let value = Claim { timeline: view.claimable(mine), by: me.clone() };
    Replacement { value, on: version_of(&view.claim) }
}

/// Release the lock, with the position that a successor must have. A handover writes
/// the request again in the same write: if `/status` and `/failover` have one version,
/// the leader completed it; if not, the leader died first. A leader that releases
/// without a request names itself as the old leader.
pub fn release(me: &MemberName, publish: Publish, view: &GroupView) -> Write {
    let known = || view.status.as_ref().map(|s| s.value.clone()).unwrap_or_default();
    let (status, lsn) = match publish {
        Publish::Handover(lsn) => (Some(known().moved_to(lsn)), Some(lsn)),
        Publish::End(lsn, timeline) => (Some(known().ended_by(me, timeline, lsn)), Some(lsn)),
        Publish::Nothing => (None, None),
    };
    let is_handover = matches!(publish, Publish::Handover(_));
    Write::ReleaseLock(Box::new(Release {
        me: me.clone(),
        on: version_of(&view.leader),
        status,
        legacy_optime: lsn.and_then(|lsn| legacy_optime(lsn, view)),
        request: is_handover.then(|| handed_over(me, view)),
    }))
}

fn handed_over(me: &MemberName, view: &GroupView) -> Replacement<Failover> {
    let made_room = || Failover { leader: Some(me.clone()), ..Failover::default() };
    let value = view.request().cloned().unwrap_or_else(made_room);
    Replacement { value, on: version_of(&view.failover) }
}

/// Answer a request: it asks for nothing any more, if it is still the one that was
/// seen.
pub fn clear_request(view: &GroupView) -> Option<Write> {
    let on = Some(view.failover.as_ref()?.version);
    let request = Replacement { value: Failover::default(), on };
    Some(Write::PutRequest { request, leader: None })
}

/// A new cluster, entered at once: system id, configuration, lock. It replaces
/// the own claim (`claim`), or nothing, if the store has forgotten that.
pub fn finish_bootstrap(
    me: &MemberName,
    session: Session,
    system: &SystemId,
    config: String,
    claim: Option<Version>,
    view: &GroupView,
) -> Write {
    Write::FinishBootstrap(Box::new(NewCluster {
        me: me.clone(),
        session,
        system: system.clone(),
        claim: claim.filter(|_| view.initialize.is_some()),
        config: view.missing_config().map(|on| Replacement { value: config, on }),
    }))
}

/// The leader's report, if it says anything new.
pub fn status(session: Session, status: &Status, view: &GroupView) -> Option<Write> {
    let is_new = view.status.as_ref().is_none_or(|known| known.value != *status);
    let legacy_optime = legacy_optime(status.optime, view);
    let status = is_new.then(|| status.clone());
    let says_something = status.is_some() || legacy_optime.is_some();
    let write = LeaderWrite::PutStatus { status, legacy_optime };
    says_something.then_some(Write::AsLeader { session, write })
}

/// The position as releases before `/status` read it, while one of them is here.
fn legacy_optime(lsn: Lsn, view: &GroupView) -> Option<Lsn> {
    let wanted = view.members.values().any(|m| reads_legacy_optime(&m.value));
    let is_new = view.legacy_optime != Some(lsn);
    (wanted && is_new).then_some(lsn)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dcs::keys::{Keys, split_groups};
    use crate::dcs::kv::{Op, Txn};
    use crate::dcs::memory::MemoryStore;
    use std::time::Duration;
    use topology::{Group, SyncState};

    const LEADS: Session = Session::of_store(1);

    /// A store in which `n1` leads.
    fn store() -> (MemoryStore, Keys) {
        let (store, keys) = (MemoryStore::new(), Keys::new("/service/", "shop", Group::PLAIN));
        assert_eq!(store.grant_now(Duration::from_secs(30)).unwrap(), LEADS);
        let key = keys.leader();
        by_hand(&store, Op::Put { key, value: "n1".into(), session: Some(LEADS) });
        (store, keys)
    }

    fn by_hand(store: &MemoryStore, op: Op) {
        store.txn_now(&Txn { when: vec![], then: vec![op] }).expect("reachable");
    }

    fn put(store: &MemoryStore, key: String, value: String) {
        by_hand(store, Op::Put { key, value, session: None });
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

    /// A planned switchover, seen by `n3` that takes the lock in pause.
    fn left(config: &str, sync: &str) -> Failover {
        let mut view = GroupView::default();
        view.take_sample("config", config, 1, 0);
        view.take_sample("sync", sync, 2, 0);
        let asked = Failover {
            leader: Some("n1".into()),
            candidate: Some("n2".into()),
            scheduled_at: None,
        };
        left_of(&asked, &"n3".into(), &view)
    }

    #[test]
    fn a_switchover_that_waits_in_pause_becomes_no_failover_that_may_lose_something() {
        let waits = Failover { candidate: Some("n2".into()), ..Failover::default() };
        let sync = r#"{"leader":"n1","sync_standby":null,"quorum":0}"#;
        assert_eq!(left(r#"{"pause":true}"#, sync), waits);
        assert_eq!(left("{}", sync), Failover::default());
        let on = r#"{"pause":true,"synchronous_mode":true}"#;
        assert_eq!(left(on, sync), Failover::default());
        assert_eq!(left(on, "{}"), waits, "no mode is in force");
    }

    /// The copy that a candidate judges by may be old: the store compares.
    #[test]
    fn known_bug_21_a_lock_is_not_taken_on_an_old_sync_state() {
        let (store, keys) = store();
        by_hand(&store, Op::Delete { key: keys.leader() });
        let record = |names: &str| {
            let text = format!(r#"{{"leader":"n1","sync_standby":"{names}","quorum":0}}"#);
            put(&store, keys.sync(), text);
        };
        let lease = store.grant_now(Duration::from_secs(30)).expect("reachable");
        let take = |view: &GroupView| sent(&store, &acquire(&"n2".into(), lease, view, None));
        let unrecorded = view(&store, &keys);
        record("n2");
        assert!(!take(&unrecorded), "a mode came into force since");
        let old = view(&store, &keys);
        record("n3");
        assert!(!take(&old), "another one is the standby now");
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
            &release(&"n1".into(), Publish::Handover(Lsn(9)), &view(&store, &keys))
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
            &release(&"n1".into(), Publish::Handover(Lsn(7)), &view(&store, &keys))
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
        by_hand(store, Op::DeletePrefix { prefix: keys.scope_prefix() });
    }

    #[test]
    fn a_new_cluster_is_entered_over_the_own_claim_or_over_nothing() {
        let (store, keys) = store();
        forget_everything(&store, &keys);
        let (me, system) = ("n1".into(), SystemId("7000000000000000001".into()));
        let new = |claim, view: &GroupView| {
            finish_bootstrap(&me, LEADS, &system, "{}".into(), claim, view)
        };
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
}
