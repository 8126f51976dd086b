//! A store in memory with etcd's contract, for the simulator and for tests.
//!
//! All handles of one store share its state. Each handle (`client`) has faults
//! of its own, so that one daemon may lose the store while another keeps it.
//! Leases run on a virtual clock that moves only when it is told to.
//!
//! The `*_now` functions are the store; the trait's answers delegate to them,
//! so a simulator needs no async runtime.

mod state;

use super::by_hand::{ByHand, Edit};
use super::keys::Keys;
use super::kv::{KeyValueStore, Txn, lower};
use super::outlet::Outlet;
use super::{
    Answer, DcsError, Event, Renewal, Session, Snapshot, Store, Version, WatchItem, Write, Written,
    covering,
};
pub use state::Saved;
use state::{State, Watcher};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::mpsc::Receiver;

/// Virtual milliseconds; several stores may share one clock.
pub type Clock = Arc<AtomicU64>;

/// One client's handle. Its clones share its faults.
#[derive(Clone)]
pub struct MemoryStore {
    state: Arc<Mutex<State>>,
    clock: Clock,
    line: Arc<Line>,
}

/// What stands between one client and the store.
struct Line {
    client: u64,
    unreachable: AtomicBool,
    lose_replies: AtomicBool,
}

impl Default for MemoryStore {
    fn default() -> MemoryStore {
        MemoryStore::new()
    }
}

impl MemoryStore {
    pub fn new() -> MemoryStore {
        MemoryStore::with_clock(Clock::default())
    }

    pub fn with_clock(clock: Clock) -> MemoryStore {
        let mut state = State::default();
        let line = Arc::new(Line::new(state.next_client()));
        MemoryStore { state: Arc::new(Mutex::new(state)), clock, line }
    }

    /// Another client of the same store, without faults.
    pub fn client(&self) -> MemoryStore {
        let line = Arc::new(Line::new(self.lock().next_client()));
        MemoryStore { state: self.state.clone(), clock: self.clock.clone(), line }
    }

    pub fn clock(&self) -> Clock {
        self.clock.clone()
    }

    /// Lets time pass and ends the leases whose time is over.
    pub fn advance(&self, milliseconds: u64) {
        self.clock.fetch_add(milliseconds, Ordering::SeqCst);
        self.expire();
    }

    /// Ends the leases whose time is over, after another holder of the clock moved it.
    pub fn expire(&self) {
        drop(self.lock());
    }

    /// An unreachable client gets errors, and nothing of what it asks happens.
    pub fn set_unreachable(&self, unreachable: bool) {
        self.line.unreachable.store(unreachable, Ordering::SeqCst);
        if unreachable {
            self.lock().lose_watches(|w| w.client == self.line.client, "the connection broke");
        }
    }

    /// What the client asks happens, but it gets errors for an answer.
    pub fn set_lose_replies(&self, lose: bool) {
        self.line.lose_replies.store(lose, Ordering::SeqCst);
    }

    /// Forgets the history up to and including `revision`.
    pub fn compact(&self, version: Version) {
        self.lock().compact(version);
    }

    /// Ends all watches of all clients, as a restart of the store would.
    pub fn break_watches(&self) {
        self.lock().lose_watches(|_| true, "the store was restarted");
    }

    /// How far the store is, without reading it.
    pub fn version(&self) -> Version {
        self.lock().version()
    }

    pub fn read_now(&self, prefixes: &[String]) -> Result<Snapshot, DcsError> {
        let prefixes = covering(prefixes)?;
        self.ask(|state, _| Ok(state.read(&prefixes)))
    }

    pub fn write_now(&self, keys: &Keys, write: &Write) -> Result<Written, DcsError> {
        self.txn_now(&lower(keys, write))
    }

    pub(super) fn txn_now(&self, txn: &Txn) -> Result<Written, DcsError> {
        self.ask(|state, _| state.txn(txn))
    }

    /// What another program does, whatever the store holds.
    pub fn edit_now(&self, edits: impl IntoIterator<Item = Edit>) -> Result<(), DcsError> {
        let then = edits.into_iter().collect();
        self.txn_now(&Txn { when: Vec::new(), then }).map(|_| ())
    }

    /// Loses the keys that `is_lost` names, and nothing else.
    pub fn wipe_now(&self, is_lost: impl Fn(&str) -> bool) {
        self.lock().wipe(is_lost);
    }

    pub fn grant_now(&self, ttl: Duration) -> Result<Session, DcsError> {
        self.ask(|state, now| Ok(state.grant(ttl, now)))
    }

    pub fn renew_now(&self, session: Session) -> Result<Renewal, DcsError> {
        self.ask(|state, now| Ok(state.renew(session, now)))
    }

    pub fn revoke_now(&self, session: Session) -> Result<(), DcsError> {
        self.ask(|state, _| {
            state.revoke(session);
            Ok(())
        })
    }

    /// A snapshot as a backup of the store keeps it, leases included.
    pub fn save_now(&self) -> Saved {
        self.lock().save()
    }

    /// The store comes back as it was saved. Revisions go back, all leases that were
    /// saved live once more for their whole time, and every watch breaks.
    pub fn restore_now(&self, saved: &Saved) {
        let now = self.clock.load(Ordering::SeqCst);
        self.lock().restore(saved, now);
    }

    /// As after an election among the store's own members: every lease begins anew.
    pub fn prolong_leases(&self) {
        let now = self.clock.load(Ordering::SeqCst);
        self.lock().prolong_leases(now);
    }

    /// Every change after `revision`, in order.
    pub fn events_since(&self, version: Version) -> Result<Vec<Event>, DcsError> {
        self.ask(|state, _| state.events_since(version))
    }

    pub fn watch_now(
        &self,
        prefixes: &[String],
        version: Version,
    ) -> Result<Receiver<WatchItem>, DcsError> {
        let prefixes = covering(prefixes)?;
        let client = self.line.client;
        self.ask(|state, _| {
            let (outlet, receiver) = Outlet::new();
            state.watch(Watcher { client, prefixes, outlet }, version)?;
            Ok(receiver)
        })
    }

    fn ask<T>(
        &self,
        question: impl FnOnce(&mut State, u64) -> Result<T, DcsError>,
    ) -> Result<T, DcsError> {
        if self.line.unreachable.load(Ordering::SeqCst) {
            return Err(unreachable("no connection"));
        }
        let now = self.clock.load(Ordering::SeqCst);
        let answer = question(&mut self.lock(), now);
        if self.line.lose_replies.load(Ordering::SeqCst) {
            return Err(unreachable("the reply was lost"));
        }
        answer
    }

    /// The state as of now. A panic of another thread left it whole: every
    /// change is checked before it begins.
    fn lock(&self) -> MutexGuard<'_, State> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.expire(self.clock.load(Ordering::SeqCst));
        state
    }
}

impl Line {
    fn new(client: u64) -> Line {
        Line { client, unreachable: AtomicBool::new(false), lose_replies: AtomicBool::new(false) }
    }
}

fn unreachable(reason: &str) -> DcsError {
    DcsError::Unreachable { waited: Duration::ZERO, reason: reason.to_string() }
}

impl Store for MemoryStore {
    fn read<'a>(&'a self, prefixes: &'a [String]) -> Answer<'a, Snapshot> {
        Box::pin(async move { self.read_now(prefixes) })
    }

    fn write<'a>(&'a self, keys: &'a Keys, write: &'a Write) -> Answer<'a, Written> {
        Box::pin(async move { self.write_now(keys, write) })
    }

    fn watch<'a>(
        &'a self,
        prefixes: &'a [String],
        version: Version,
    ) -> Answer<'a, Receiver<WatchItem>> {
        Box::pin(async move { self.watch_now(prefixes, version) })
    }

    fn grant(&self, ttl: Duration) -> Answer<'_, Session> {
        Box::pin(async move { self.grant_now(ttl) })
    }

    fn renew(&self, session: Session) -> Answer<'_, Renewal> {
        Box::pin(async move { self.renew_now(session) })
    }

    fn by_hand(&self) -> Option<&dyn ByHand> {
        Some(self)
    }
}

impl KeyValueStore for MemoryStore {
    fn txn(&self, txn: Txn) -> Answer<'_, Written> {
        Box::pin(async move { self.txn_now(&txn) })
    }

    fn revoke(&self, session: Session) -> Answer<'_, ()> {
        Box::pin(async move { self.revoke_now(session) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dcs::kv::{Compare, Edit};
    use crate::dcs::{conform, kv};

    fn put(key: &str, session: Option<Session>) -> Txn {
        let put = Edit::Put { key: key.into(), value: "v".into(), session };
        Txn { when: vec![Compare::Absent(key.into())], then: vec![put] }
    }

    #[tokio::test]
    async fn conforms() {
        let store = MemoryStore::new();
        let time = store.clone();
        let elapse = async |d: Duration| time.advance(d.as_millis() as u64);
        conform::run(Arc::new(store.clone()), "/conform/", elapse).await.expect("conformance");
        kv::conform::run(&store, "/conform-keys/").await.expect("conformance of keys");
    }

    /// etcd's `snapshot restore`: revisions go back, and a lease of then is renewed.
    #[test]
    fn a_store_that_is_restored_has_its_leases_and_numbers_of_then() {
        let store = MemoryStore::new();
        let all = ["/".to_string()];
        let lease = store.grant_now(Duration::from_secs(10)).expect("reachable");
        store.txn_now(&put("/a", Some(lease))).expect("reachable");
        let then = store.read_now(&all).expect("reachable");
        let saved = store.save_now();
        store.advance(11_000);
        store.txn_now(&put("/b", None)).expect("reachable");
        assert!(matches!(store.renew_now(lease), Ok(Renewal::Gone)));
        store.restore_now(&saved);
        assert_eq!(store.read_now(&all).expect("reachable"), then);
        let earlier = store.events_since(Version::of_store(1));
        assert!(matches!(earlier, Err(DcsError::Compacted)), "{earlier:?}");
        store.advance(9_000);
        store.prolong_leases();
        store.advance(9_000);
        assert!(matches!(store.renew_now(lease), Ok(Renewal::Alive)));
        assert_ne!(store.grant_now(Duration::from_secs(10)).expect("reachable"), lease);
    }

    #[test]
    fn an_unreachable_client_changes_nothing() {
        let store = MemoryStore::new();
        let other = store.client();
        store.set_unreachable(true);
        assert!(matches!(store.txn_now(&put("/a", None)), Err(DcsError::Unreachable { .. })));
        assert_eq!(other.read_now(&["/".into()]).expect("reachable").entries, []);
        store.set_unreachable(false);
        assert!(store.txn_now(&put("/a", None)).expect("reachable").succeeded);
    }

    #[test]
    fn a_lost_reply_hides_a_success() {
        let store = MemoryStore::new();
        store.set_lose_replies(true);
        assert!(matches!(store.txn_now(&put("/a", None)), Err(DcsError::Unreachable { .. })));
        assert_eq!(store.client().read_now(&["/".into()]).expect("reachable").entries.len(), 1);
    }

    #[test]
    fn a_lease_ends_when_anybody_moves_the_shared_clock() {
        let store = MemoryStore::new();
        let twin = MemoryStore::with_clock(store.clock());
        let lease = store.grant_now(Duration::from_secs(30)).expect("reachable");
        store.txn_now(&put("/leader", Some(lease))).expect("reachable");
        twin.advance(29_999);
        assert_eq!(store.read_now(&["/".into()]).expect("reachable").entries.len(), 1);
        twin.advance(1);
        assert_eq!(store.renew_now(lease).expect("reachable"), Renewal::Gone);
        let events = store.events_since(Version::of_store(2)).expect("not compacted");
        assert_eq!(
            events,
            [Event::Deleted { key: "/leader".into(), version: Version::of_store(3) }]
        );
    }

    #[test]
    fn forgotten_history_is_said_to_be_forgotten() {
        let store = MemoryStore::new();
        store.txn_now(&put("/a", None)).expect("reachable");
        store.txn_now(&put("/b", None)).expect("reachable");
        store.compact(Version::of_store(2));
        assert!(matches!(store.events_since(Version::of_store(1)), Err(DcsError::Compacted)));
        assert_eq!(store.events_since(Version::of_store(2)).expect("kept").len(), 1);
        assert!(matches!(
            store.watch_now(&["/".into()], Version::of_store(1)),
            Err(DcsError::Compacted)
        ));
    }

    #[tokio::test]
    async fn faults_end_watches() {
        let store = MemoryStore::new();
        let other = store.client();
        let mut mine = store.watch_now(&["/".into()], Version::of_store(1)).expect("reachable");
        let mut others = other.watch_now(&["/".into()], Version::of_store(1)).expect("reachable");
        store.set_unreachable(true);
        assert!(matches!(mine.recv().await, Some(WatchItem::Lost(_))));
        other.txn_now(&put("/a", None)).expect("reachable");
        assert!(matches!(others.recv().await, Some(WatchItem::Events(_))));
        store.break_watches();
        assert!(matches!(others.recv().await, Some(WatchItem::Lost(_))));
    }
}
