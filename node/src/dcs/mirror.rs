//! A local copy of the store's prefixes, fed by a watch.
//!
//! A beat must not wait for the network to know what changed, and a change must
//! wake it. The copy is read whole, then follows the watch; a lost watch means
//! reading again. The copy may be old: a caller that writes because of what it
//! shows compares versions in the transaction, or reads first (`refresh`).
//!
//! Invariant *never backwards*: in the copy no key goes from a newer version to
//! an older one, whichever of a read, an event or an own write arrives last.
//! Only a store that itself went back in time (restored, replaced) starts anew.
//!
//! Invariant *own is own*: what this process writes through the mirror is reported
//! as its own, whether the watch or the answer brings it first.

mod fold;
mod sent;

use super::keys::Keys;
use super::kv::{Txn, lower};
use super::{DcsError, Snapshot, Store, WatchItem, Write, Written};
use fold::Fold;
use sent::{InFlight, SentOps};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};
use tokio::sync::{Notify, broadcast, watch};
use topology::write::LeaderWrite;

/// Pauses between attempts while the store fails.
const PAUSE_MIN: Duration = Duration::from_millis(100);
const PAUSE_MAX: Duration = Duration::from_secs(1);
/// Batches that wait for a slow subscriber; one more and it is told `Missed`.
const CHANGES_MAX: usize = 256;

pub struct Mirror {
    shared: Arc<Shared>,
    task: tokio::task::JoinHandle<()>,
}

/// The copy at one moment.
#[derive(Clone, Debug)]
pub struct View {
    pub snapshot: Arc<Snapshot>,
    /// When the store last told us anything: a read (its beginning), an event,
    /// the answer to an own write.
    pub confirmed: Instant,
    /// The watch is down: changes since then are missing.
    pub lost: bool,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// These keys changed; `own`: by a write of ours.
    Keys { keys: Arc<[String]>, own: bool },
    /// The subscriber was too slow: anything may have changed.
    Missed,
}

/// What changed since the last question. Dropping the mirror ends it.
pub struct Changes(broadcast::Receiver<Change>);

struct Shared {
    store: Arc<dyn Store>,
    prefixes: Vec<String>,
    state: Mutex<State>,
    changes: broadcast::Sender<Change>,
    ready: watch::Sender<bool>,
    /// The watch is begun anew: it has told less than the store knows.
    anew: Notify,
}

/// Why the copy no longer follows a watch.
enum Over {
    Lost,
    Anew,
}

struct State {
    fold: Fold,
    sent: SentOps,
    /// `None` until the first read.
    confirmed: Option<Instant>,
    lost: bool,
}

impl Mirror {
    pub fn spawn(store: Arc<dyn Store>, prefixes: Vec<String>) -> Mirror {
        let state =
            State { fold: Fold::default(), sent: SentOps::default(), confirmed: None, lost: true };
        let shared = Arc::new(Shared {
            store,
            prefixes,
            state: Mutex::new(state),
            changes: broadcast::Sender::new(CHANGES_MAX),
            ready: watch::Sender::new(false),
            anew: Notify::new(),
        });
        let task = tokio::spawn(keep_up(shared.clone()));
        Mirror { shared, task }
    }

    /// The copy, however old; `None` until the first read succeeded.
    pub fn snapshot(&self) -> Option<View> {
        let mut state = self.shared.lock();
        let confirmed = state.confirmed?;
        Some(View { snapshot: state.fold.snapshot(), confirmed, lost: state.lost })
    }

    /// Is everything below `prefix` in the copy?
    pub fn covers(&self, prefix: &str) -> bool {
        self.shared.prefixes.iter().any(|own| prefix.starts_with(own))
    }

    /// The copy once it is there, waiting for the first read.
    pub async fn ready(&self, timeout: Duration) -> Option<View> {
        let mut ready = self.shared.ready.subscribe();
        let _ = tokio::time::timeout(timeout, ready.wait_for(|ready| *ready)).await;
        self.snapshot()
    }

    /// Tells of every change from now on.
    pub fn subscribe(&self) -> Changes {
        Changes(self.shared.changes.subscribe())
    }

    /// Reads everything anew, linearizably, and folds it in.
    pub async fn refresh(&self) -> Result<Snapshot, DcsError> {
        self.shared.read().await
    }

    /// Folds the answer to an own write in. One that lost shows how far the store
    /// is: a copy that is behind is read anew, and so is the watch that should have
    /// told.
    async fn settle(&self, txn: &Txn, result: Written) {
        self.fold(txn, result);
        if result.succeeded || self.shared.lock().fold.version() >= result.version {
            return;
        }
        if let Err(error) = self.shared.read().await {
            tracing::debug!("the store's copy is behind and cannot be read anew: {error}");
        }
        self.shared.anew.notify_one();
    }

    /// Performs a write and folds its answer in at once.
    pub async fn write(&self, keys: &Keys, write: &Write) -> Result<Written, DcsError> {
        let txn = lower(keys, write);
        self.carry(&txn, self.shared.store.write(keys, write)).await
    }

    async fn carry(
        &self,
        txn: &Txn,
        asked: impl Future<Output = Result<Written, DcsError>>,
    ) -> Result<Written, DcsError> {
        let _in_flight = InFlight::begin(&self.shared, txn);
        let result = asked.await?;
        self.settle(txn, result).await;
        Ok(result)
    }

    /// The write without what the copy shows already; `None` when nothing is left of
    /// it. Only a report has parts that make sense alone.
    pub fn news(&self, keys: &Keys, write: Write) -> Option<Write> {
        let is_old = |write: &Write| self.shows(&lower(keys, write));
        let Write::AsLeader { session, write: LeaderWrite::PutStatus { status, legacy_optime } } =
            write
        else {
            return (!is_old(&write)).then_some(write);
        };
        let report = |status, legacy_optime| {
            let write = LeaderWrite::PutStatus { status, legacy_optime };
            Write::AsLeader { session, write }
        };
        let status = status.filter(|status| !is_old(&report(Some(status.clone()), None)));
        let legacy_optime = legacy_optime.filter(|lsn| !is_old(&report(None, Some(*lsn))));
        let is_news = status.is_some() || legacy_optime.is_some();
        is_news.then(|| report(status, legacy_optime))
    }

    /// Does the copy show all that this transaction would leave behind?
    fn shows(&self, txn: &Txn) -> bool {
        let state = self.shared.lock();
        state.confirmed.is_some() && txn.then.iter().all(|op| state.fold.holds(op))
    }

    /// Folds an own write in without waiting for the watch to bring it.
    pub fn apply(&self, keys: &Keys, write: &Write, result: Written) {
        self.fold(&lower(keys, write), result);
    }

    fn fold(&self, txn: &Txn, result: Written) {
        let mut state = self.shared.lock();
        state.heard(Instant::now());
        if result.succeeded {
            let below = |key: &str| self.shared.prefixes.iter().any(|p| key.starts_with(p));
            let keys = state.fold.own(&txn.then, result.version, below);
            self.shared.tell_as(keys, true);
        }
    }
}

impl Drop for Mirror {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Changes {
    /// The next change; `None` when the mirror is gone. Cancelling loses nothing.
    pub async fn next(&mut self) -> Option<Change> {
        match self.0.recv().await {
            Ok(change) => Some(change),
            Err(broadcast::error::RecvError::Lagged(_)) => Some(Change::Missed),
            Err(broadcast::error::RecvError::Closed) => None,
        }
    }
}

impl State {
    fn heard(&mut self, at: Instant) {
        self.confirmed = self.confirmed.map(|before| before.max(at));
    }
}

impl Shared {
    /// Every fold leaves the state whole, so a poisoned lock does no harm.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What a watch or a read brought: own writes may be among it.
    fn tell(&self, state: &State, keys: Vec<String>) {
        let is_own = |key: &String| state.sent.explains(key, |op| state.fold.holds(op));
        let (own, others) = keys.into_iter().partition(is_own);
        self.tell_as(own, true);
        self.tell_as(others, false);
    }

    /// Told under the lock, so that changes are told in the order of the folds.
    fn tell_as(&self, keys: Vec<String>, own: bool) {
        if !keys.is_empty() {
            // There may be no subscriber.
            let _ = self.changes.send(Change::Keys { keys: keys.into(), own });
        }
    }

    async fn read(&self) -> Result<Snapshot, DcsError> {
        let began = Instant::now();
        let known = self.lock().fold.version();
        let read = self.store.read(&self.prefixes).await?;
        let mut state = self.lock();
        state.confirmed = Some(state.confirmed.map_or(began, |before| before.max(began)));
        // A linearizable read never shows less than what was known before it.
        let keys = if read.version < known {
            tracing::warn!(
                "the store went back from revision {} to {}: it was restored or replaced",
                known.number(),
                read.version.number()
            );
            state.fold.anew(&read)
        } else {
            state.fold.whole(&read)
        };
        self.tell(&state, keys);
        self.ready.send_replace(true);
        Ok(read)
    }

    /// Reads, watches, and returns when the watch is over.
    async fn follow(&self) -> Result<Over, DcsError> {
        let read = self.read().await?;
        let mut watch = self.store.watch(&self.prefixes, read.version).await?;
        self.lock().lost = false;
        loop {
            let item = tokio::select! {
                item = watch.recv() => item,
                () = self.anew.notified() => return Ok(Over::Anew),
            };
            let Some(WatchItem::Events(events)) = item else { return Ok(Over::Lost) };
            let mut state = self.lock();
            state.heard(Instant::now());
            let keys = state.fold.events(events);
            self.tell(&state, keys);
        }
    }
}

/// A watch that lived long is read again at once; one that fails again and
/// again waits longer and longer.
async fn keep_up(shared: Arc<Shared>) {
    let mut pause = PAUSE_MIN;
    loop {
        let began = Instant::now();
        let ended = shared.follow().await;
        if matches!(ended, Ok(Over::Anew)) {
            // What was read for it counts until the next watch stands.
            continue;
        }
        let failed = ended.is_err();
        shared.lock().lost = true;
        if !failed && began.elapsed() > PAUSE_MAX {
            pause = PAUSE_MIN;
            continue;
        }
        tokio::time::sleep(spread(pause)).await;
        pause = (pause * 2).min(PAUSE_MAX);
    }
}

/// Up to four fifths longer, so that not all members ask a store that comes back
/// in the same moment.
fn spread(pause: Duration) -> Duration {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    pause + pause * (now.subsec_micros() % 81) / 100
}

#[cfg(test)]
mod tests;
