//! The transactions of a group: what is written, and under which condition.
//!
//! Pure values, so that each condition can be read and tested in one place;
//! the daemon and the simulator send the same ones.

use crate::dcs::keys::Keys;
use crate::dcs::{Compare, Op, Session, Txn};
use crate::ha::Publish;
use topology::cluster::Claim;
use topology::status::reads_legacy_optime;
use topology::{
    Failover, GroupView, Lsn, MemberName, Status, SyncMode, SyncState, SystemId, Timeline, Version,
};

fn put(key: String, value: impl Into<String>) -> Op {
    Op::Put { key, value: value.into(), session: None }
}

fn put_on(lease: Session, key: String, value: impl Into<String>) -> Op {
    Op::Put { key, value: value.into(), session: Some(lease) }
}

/// The key as it was read: absent, or at that version.
pub fn unchanged(key: String, version: Option<Version>) -> Compare {
    match version {
        Some(version) => Compare::VersionIs(key, version),
        None => Compare::Absent(key),
    }
}

/// Take the lock if no member has it. A request that named this member (or any
/// other) is answered by that, so it is cleared in the same transaction. A
/// standby, now on `mine`, claims the timeline that it will begin.
pub fn acquire(
    keys: &Keys,
    me: &MemberName,
    lease: Session,
    view: &GroupView,
    mine: Option<Timeline>,
) -> Txn {
    let mut then = vec![put_on(lease, keys.leader(), me.as_str())];
    let mut when = vec![Compare::Absent(keys.leader())];
    // Who is not in the map that stands there was not asked by a leader that
    // leads on without a store.
    when.push(unchanged(keys.failsafe(), view.failsafe.as_ref().map(|map| map.version)));
    // By `/sync` it was judged whether this member may lead: it still holds now.
    when.push(unchanged(keys.sync(), view.sync.as_ref().map(|sync| sync.version)));
    // Nor did an operator, or a leader that released the lock, ask for another since.
    when.push(unchanged(keys.failover(), view.failover.as_ref().map(|f| f.version)));
    if let Some(failover) = view.failover.as_ref().filter(|f| f.value != Default::default()) {
        then.push(put(keys.failover(), left_of(&failover.value, me, view).write()));
    }
    if let Some(mine) = mine {
        let (unclaimed, put_claim) = claim_parts(keys, me, view, mine);
        when.push(unclaimed);
        then.push(put_claim);
    }
    Txn { when, then }
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
pub fn claim(
    keys: &Keys,
    me: &MemberName,
    lease: Session,
    view: &GroupView,
    mine: Timeline,
) -> Txn {
    let (unclaimed, put_claim) = claim_parts(keys, me, view, mine);
    Txn { when: vec![Compare::SessionIs(keys.leader(), lease), unclaimed], then: vec![put_claim] }
}

fn claim_parts(keys: &Keys, me: &MemberName, view: &GroupView, mine: Timeline) -> (Compare, Op) {
    let version = view.claim.as_ref().map(|c| c.version);
    let claim = Claim { timeline: view.claimable(mine), by: me.clone() };
    (unchanged(keys.claim(), version), put(keys.claim(), claim.write()))
}

/// Move the own leader key onto the lease of this process.
pub fn readopt(keys: &Keys, me: &MemberName, lease: Session) -> Txn {
    Txn {
        when: vec![Compare::ValueIs(keys.leader(), me.0.clone())],
        then: vec![put_on(lease, keys.leader(), me.as_str())],
    }
}

/// Prove that the lock is ours, writing nothing.
pub fn prove(keys: &Keys, me: &MemberName, lease: Session) -> Txn {
    Txn {
        when: vec![
            Compare::ValueIs(keys.leader(), me.0.clone()),
            Compare::SessionIs(keys.leader(), lease),
        ],
        then: Vec::new(),
    }
}

/// Give the lock away, with the position a successor must have. The request
/// that it is done for is written again beside it: equal versions tell a
/// handover from a request that the leader did not live to meet. A leader that
/// ends without having been asked says that it made room.
pub fn release(keys: &Keys, me: &MemberName, publish: Publish, view: &GroupView) -> Txn {
    let mut then = Vec::new();
    if let Publish::Handover(lsn) | Publish::End(lsn, _) = publish {
        let known = view.status.as_ref().map(|s| s.value.clone()).unwrap_or_default();
        let status = match publish {
            Publish::End(_, timeline) => known.ended_by(me, timeline, lsn),
            Publish::Handover(_) | Publish::Nothing => known.moved_to(lsn),
        };
        then.push(put(keys.status(), status.write()));
        then.extend(legacy_optime(keys, lsn, view));
    }
    let mut when = vec![Compare::ValueIs(keys.leader(), me.0.clone())];
    // A release that arrives late must not meet a lock that was proven since.
    when.extend(view.leader.as_ref().map(|l| Compare::VersionIs(keys.leader(), l.version)));
    if let Publish::Handover(_) = publish {
        let version = view.failover.as_ref().map(|f| f.version);
        let made_room = Failover { leader: Some(me.clone()), ..Failover::default() };
        let request = view.request().unwrap_or(&made_room);
        when.push(unchanged(keys.failover(), version));
        then.push(put(keys.failover(), request.write()));
    }
    then.push(Op::Delete { key: keys.leader() });
    Txn { when, then }
}

/// Answer a request: it becomes `{}`, if it is still the one that was seen.
pub fn clear_request(keys: &Keys, view: &GroupView) -> Option<Txn> {
    let failover = view.failover.as_ref()?;
    Some(Txn {
        when: vec![Compare::VersionIs(keys.failover(), failover.version)],
        then: vec![put(keys.failover(), "{}")],
    })
}

pub fn claim_initialize(keys: &Keys) -> Txn {
    Txn {
        when: vec![Compare::Absent(keys.initialize()), Compare::Absent(keys.leader())],
        then: vec![put(keys.initialize(), "")],
    }
}

/// Undo the claim that was written at version `claim`: all claims look alike,
/// and another member's stays.
pub fn give_back_initialize(keys: &Keys, claim: Version) -> Txn {
    Txn {
        when: vec![Compare::VersionIs(keys.initialize(), claim)],
        then: vec![Op::Delete { key: keys.initialize() }],
    }
}

/// A new cluster: who makes it, what it is, and where it was claimed.
pub struct NewCluster<'a> {
    pub me: &'a MemberName,
    pub system: &'a SystemId,
    pub config: &'a str,
    /// The version of the own claim on `/initialize`.
    pub claim: Option<Version>,
}

/// A new cluster, entered at once: system id, configuration, lock. It replaces
/// the own claim, or nothing, if the store has forgotten that.
pub fn finish_bootstrap(keys: &Keys, lease: Session, new: &NewCluster, view: &GroupView) -> Txn {
    let claim = new.claim.filter(|_| view.initialize.is_some());
    let mut when = vec![unchanged(keys.initialize(), claim), Compare::Absent(keys.leader())];
    let mut then = vec![put(keys.initialize(), new.system.0.clone())];
    if let Some(empty_at) = view.missing_config() {
        when.push(unchanged(keys.config(), empty_at));
        then.push(put(keys.config(), new.config));
    }
    then.push(put_on(lease, keys.leader(), new.me.as_str()));
    Txn { when, then }
}

/// Enter the system id of a cluster that exists into a store that forgot it.
pub fn adopt_system(keys: &Keys, system: &SystemId) -> Txn {
    Txn {
        when: vec![Compare::Absent(keys.initialize())],
        then: vec![put(keys.initialize(), system.0.clone())],
    }
}

/// A value of the leader's: written only while the lock is on this lease.
pub fn as_leader(keys: &Keys, lease: Session, key: String, value: String) -> Txn {
    Txn { when: vec![Compare::SessionIs(keys.leader(), lease)], then: vec![put(key, value)] }
}

/// The leader's report, if it says anything new.
pub fn status(keys: &Keys, lease: Session, status: &Status, view: &GroupView) -> Option<Txn> {
    let is_new = view.status.as_ref().is_none_or(|known| known.value != *status);
    let report = is_new.then(|| put(keys.status(), status.write()));
    let then: Vec<Op> =
        report.into_iter().chain(legacy_optime(keys, status.optime, view)).collect();
    let when = vec![Compare::SessionIs(keys.leader(), lease)];
    (!then.is_empty()).then_some(Txn { when, then })
}

/// The position as releases before `/status` read it, while one of them is here.
fn legacy_optime(keys: &Keys, lsn: Lsn, view: &GroupView) -> Option<Op> {
    let wanted = view.members.values().any(|m| reads_legacy_optime(&m.value));
    let is_new = view.legacy_optime != Some(lsn);
    (wanted && is_new).then(|| put(keys.legacy_optime(), lsn.0.to_string()))
}

/// Who has what was acknowledged: a new state for the one that was read.
pub fn sync(keys: &Keys, lease: Session, state: &SyncState, version: Option<Version>) -> Txn {
    let mut txn = as_leader(keys, lease, keys.sync(), state.write());
    txn.when.push(unchanged(keys.sync(), version));
    txn
}

/// No synchronous mode is in force any more: all members may race again.
pub fn end_sync(keys: &Keys, lease: Session, version: Version) -> Txn {
    let when =
        vec![Compare::SessionIs(keys.leader(), lease), Compare::VersionIs(keys.sync(), version)];
    Txn { when, then: vec![Op::Delete { key: keys.sync() }] }
}

/// The configuration in force, for a store that has none, or one without any
/// settings at that version.
pub fn give_config(keys: &Keys, lease: Session, text: String, empty_at: Option<Version>) -> Txn {
    let mut txn = as_leader(keys, lease, keys.config(), text);
    txn.when.push(unchanged(keys.config(), empty_at));
    txn
}

/// The same, for a document that others write too: only on what was read.
pub fn as_leader_on(
    keys: &Keys,
    lease: Session,
    key: String,
    value: String,
    version: Option<Version>,
) -> Txn {
    let when = vec![Compare::SessionIs(keys.leader(), lease), unchanged(key.clone(), version)];
    Txn { when, then: vec![put(key, value)] }
}

/// The own member record.
pub fn member(
    keys: &Keys,
    me: &MemberName,
    lease: Session,
    record: String,
    version: Option<Version>,
) -> Txn {
    let key = keys.member(me);
    Txn { when: vec![unchanged(key.clone(), version)], then: vec![put_on(lease, key, record)] }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dcs::keys::split_groups;
    use crate::dcs::memory::MemoryStore;
    use std::time::Duration;
    use topology::Group;

    const LEADS: Session = Session::of_store(1);

    /// A store in which `n1` leads.
    fn store() -> (MemoryStore, Keys) {
        let (store, keys) = (MemoryStore::new(), Keys::new("/service/", "shop", Group::PLAIN));
        assert_eq!(store.grant_now(Duration::from_secs(30)).unwrap(), LEADS);
        let lead = Txn { when: vec![], then: vec![put_on(LEADS, keys.leader(), "n1")] };
        assert!(sent(&store, lead));
        (store, keys)
    }

    fn sent(store: &MemoryStore, txn: Txn) -> bool {
        store.txn_now(&txn).expect("reachable").succeeded
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
        let gone = Txn { when: vec![], then: vec![Op::Delete { key: keys.leader() }] };
        assert!(sent(&store, gone));
        let record = |names: &str| {
            let text = format!(r#"{{"leader":"n1","sync_standby":"{names}","quorum":0}}"#);
            assert!(sent(&store, Txn { when: vec![], then: vec![put(keys.sync(), text)] }));
        };
        let lease = store.grant_now(Duration::from_secs(30)).expect("reachable");
        let take = |view: &GroupView| sent(&store, acquire(&keys, &"n2".into(), lease, view, None));
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
        let txn = status(&keys, LEADS, &told, &view(&store, &keys)).expect("it is new");
        assert!(sent(&store, txn));
        assert_eq!(status(&keys, LEADS, &told, &view(&store, &keys)), None);
        assert!(sent(
            &store,
            release(&keys, &"n1".into(), Publish::Handover(Lsn(9)), &view(&store, &keys))
        ));
        let left = value(&store, &keys.status()).expect("it stays");
        assert_eq!(left, r#"{"optime":9,"slots":{"n2":4},"retain_slots":["n2"]}"#);
        assert_eq!(value(&store, &keys.leader()), None);
        assert_eq!(value(&store, &keys.legacy_optime()), None);
    }

    #[test]
    fn the_old_key_is_written_while_an_old_release_is_there() {
        let (store, keys) = store();
        let member = |version: &str| Txn {
            when: vec![],
            then: vec![put(keys.member(&"n2".into()), format!(r#"{{"version":"{version}"}}"#))],
        };
        let told = |lsn| Status { optime: Lsn(lsn), ..Status::default() };
        let tell = |lsn| {
            let txn = status(&keys, LEADS, &told(lsn), &view(&store, &keys));
            txn.is_some_and(|txn| sent(&store, txn))
        };
        assert!(sent(&store, member("2.0.2")));
        assert!(tell(5) && !tell(5));
        assert_eq!(value(&store, &keys.legacy_optime()).as_deref(), Some("5"));
        assert!(sent(&store, member("2.1.0")));
        assert!(tell(6));
        assert_eq!(value(&store, &keys.legacy_optime()).as_deref(), Some("5"));
        // The report is known; the old release that came back lacks it.
        assert!(sent(&store, member("2.0.2")));
        assert!(tell(6));
        assert!(sent(
            &store,
            release(&keys, &"n1".into(), Publish::Handover(Lsn(7)), &view(&store, &keys))
        ));
        assert_eq!(value(&store, &keys.legacy_optime()).as_deref(), Some("7"));
    }

    /// A claim, as a version of the store.
    fn claimed(store: &MemoryStore, keys: &Keys) -> Version {
        let result = store.txn_now(&claim_initialize(keys)).expect("reachable");
        assert!(result.succeeded);
        result.version
    }

    fn step(version: Version, count: i64) -> Version {
        Version::of_store(version.number() + count)
    }

    fn forget_everything(store: &MemoryStore, keys: &Keys) {
        let then = vec![Op::DeletePrefix { prefix: keys.scope_prefix() }];
        assert!(sent(store, Txn { when: vec![], then }));
    }

    #[test]
    fn a_new_cluster_is_entered_over_the_own_claim_or_over_nothing() {
        let (store, keys) = store();
        forget_everything(&store, &keys);
        let (me, system) = ("n1".into(), SystemId("7000000000000000001".into()));
        let enter = |claim| {
            let new = NewCluster { me: &me, system: &system, config: "{}", claim };
            sent(&store, finish_bootstrap(&keys, LEADS, &new, &view(&store, &keys)))
        };
        let claim = claimed(&store, &keys);
        assert!(!sent(&store, give_back_initialize(&keys, step(claim, 1))), "another one's claim");
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
        let new = NewCluster { me: &me, system: &system, config: "{}", claim: Some(claim) };
        assert!(!sent(&store, finish_bootstrap(&keys, LEADS, &new, &seen)));
        assert!(!enter(Some(claim)), "claims look alike, their versions do not");
        assert!(sent(&store, give_back_initialize(&keys, other)));
        assert_eq!(value(&store, &keys.initialize()), None);
    }

    #[test]
    fn the_synchronous_state_is_chained_from_version_to_version() {
        let (store, keys) = store();
        let alone = SyncState::alone("n1".into());
        assert!(sent(&store, sync(&keys, LEADS, &alone, None)));
        assert!(!sent(&store, sync(&keys, LEADS, &alone, None)), "there is one");
        let first = view(&store, &keys).sync.expect("written").version;
        let pair = SyncState { standbys: vec!["n2".into()], ..alone };
        assert!(sent(&store, sync(&keys, LEADS, &pair, Some(first))));
        assert!(!sent(&store, sync(&keys, LEADS, &pair, Some(first))), "an old version");
        assert!(!sent(&store, end_sync(&keys, LEADS, first)), "an old version");
        let second = view(&store, &keys).sync.expect("written").version;
        assert!(!sent(&store, end_sync(&keys, Session::of_store(2), second)), "not the leader");
        assert!(sent(&store, end_sync(&keys, LEADS, second)));
        assert_eq!(value(&store, &keys.sync()), None);
    }
}
