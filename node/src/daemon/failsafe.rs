//! Failsafe mode, both sides: asking all members, and keeping a promise.
//!
//! The rules of who may promise what are in `ha/failsafe.rs`. What was promised, and
//! what was agreed to, also lies on disk (`kept`).
//!
//! Absent on purpose: agreement of a majority. A member that was not asked could lead.

mod kept;

pub use kept::write_promise;

use super::Daemon;
use super::upkeep::Kept;
use crate::act::txn;
use crate::clock;
use crate::ha::failsafe::{self, Failsafe, Map, PromiseStore};
use crate::ha::observation::{Job, Lock, Process};
use crate::ha::{Action, Observation, Outcome};
use kept::Proof;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use topology::id::slot_name;
use topology::{GroupView, Lsn, Millis, Seen};

/// One member may take this long to answer, tried twice.
const ANSWER: Duration = Duration::from_secs(2);

/// Shared with the API, which gives the promises.
pub type SharedPromises = Arc<Mutex<PromiseStore>>;

pub fn lock(promises: &SharedPromises) -> MutexGuard<'_, PromiseStore> {
    // Every change leaves it whole.
    promises.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What a daemon keeps for failsafe mode.
#[derive(Default)]
pub(super) struct FailsafeState {
    pub promises: SharedPromises,
    pub peer_set: failsafe::PeerSet,
    pub proof: Option<Millis>,
    pub asked: Millis,
    /// What standbys said to have, for those who stream from them.
    pub positions: BTreeMap<topology::MemberName, Lsn>,
}

impl FailsafeState {
    pub fn new(data_dir: &Path, me: &topology::MemberName, ttl_ms: u64) -> FailsafeState {
        let promise = kept::read_promise(data_dir, me, ttl_ms);
        let promises = Arc::new(Mutex::new(PromiseStore::with_promise(promise)));
        match kept::read_proof(data_dir, me) {
            Some(Proof { until, known, unsure }) => {
                let peer_set = failsafe::PeerSet::kept(known, unsure);
                FailsafeState { promises, peer_set, proof: Some(until), ..FailsafeState::default() }
            }
            None => FailsafeState { promises, ..FailsafeState::default() },
        }
    }
}

impl Daemon {
    /// What this beat sees of failsafe mode. Where the store shows no leader, the member
    /// that this member's promise was made to counts as the leader.
    pub(super) fn apply_failsafe(&mut self, seen: &mut Observation) {
        let me = &self.settings.name;
        if let Some(view) = seen.view() {
            self.failsafe.peer_set.read(view);
        }
        let promise = {
            let mut promises = lock(&self.failsafe.promises);
            promises.is_on = self.dynamic.failsafe_mode;
            seen.view().inspect(|view| promises.learn(view));
            promises.promise(seen.now).cloned()
        };
        let asks = Failsafe {
            proof: self.failsafe.proof,
            asked: self.failsafe.asked,
            is_ready: self.failsafe.peer_set.names(me),
            ..Failsafe::default()
        };
        let view = match &mut seen.store {
            Seen::Known(view) => Some(view),
            Seen::Unknown => None,
        };
        seen.failsafe = failsafe::promised(asks, promise, view);
    }

    pub(super) fn update_proof(&mut self, seen: &mut Observation) {
        if self.failsafe.proof.is_some_and(|proof| failsafe::is_proof_over(seen, proof)) {
            self.failsafe.proof = None;
            kept::remove_proof(&self.settings.postgresql.data_dir);
        }
        seen.failsafe.proof = self.failsafe.proof;
    }

    /// Sets out to lead; not against a promise. One that a release has ended binds
    /// no longer: then the store decides whether that release is the last one.
    pub(super) fn set_out(&self, action: &Action, seen: &Observation) -> bool {
        let mut promises = lock(&self.failsafe.promises);
        if *action == Action::AcquireLock && seen.failsafe.is_released {
            promises.claim_released();
            return true;
        }
        promises.claim(clock::now())
    }

    /// The lock was taken. A promise that still stands was made to the leader that
    /// released it.
    pub(super) fn end_promise(&self) {
        if lock(&self.failsafe.promises).end_promise() {
            kept::remove_promise(&self.settings.postgresql.data_dir);
        }
    }

    /// At the end of a beat: does this member lead, or may its server open?
    pub(super) fn update_promises(&self, seen: &Observation) {
        let leader = match &seen.lock {
            Lock::Other(name) if seen.failsafe.promise.is_none() => Some(name.clone()),
            _ => None,
        };
        lock(&self.failsafe.promises)
            .update(occupied(seen, self.memory.promoting.is_some()), leader);
    }

    /// Asks all other members at once. All of them must agree.
    pub(super) async fn ask_all(&mut self, seen: &Observation) -> Outcome {
        let sent = clock::now();
        let others = self.failsafe.peer_set.others(&self.settings.name);
        let limit = self.until_fence(seen);
        let body = self.question();
        let asked = self.peers.agree(&others, &body, self.dynamic.ttl_ms, ANSWER);
        let answers = tokio::time::timeout(limit, asked).await;
        self.failsafe.asked = clock::now();
        let Ok(answers) = answers else {
            crate::log::warn("failsafe: not every member answered in time");
            return Outcome::Lost;
        };
        let silent = others.iter().zip(&answers).find(|(_, answer)| answer.is_err());
        if let Some(((name, _), Err(why))) = silent {
            crate::log::warn(&format!("failsafe: {name} does not agree: {why}"));
            return Outcome::Lost;
        }
        for ((name, _), answer) in others.into_iter().zip(answers) {
            if let Ok(Some(lsn)) = answer {
                self.failsafe.positions.insert(name, lsn);
            }
        }
        let proof = sent + self.dynamic.ttl_ms;
        self.failsafe.proof = self.failsafe.proof.max(Some(proof));
        self.keep_proof(proof);
        self.arm(proof);
        self.watchdog.feed(&self.dynamic);
        Outcome::Done
    }

    /// A daemon that is started anew while its store is away goes on asking.
    fn keep_proof(&self, until: Millis) {
        let known = self.failsafe.peer_set.known().unwrap_or_default();
        let kept = Proof { until, known, unsure: self.failsafe.peer_set.unsure().clone() };
        let (data_dir, me) = (&self.settings.postgresql.data_dir, &self.settings.name);
        if let Err(error) = kept::write_proof(data_dir, me, &kept) {
            tracing::warn!("a daemon started anew could not lead on without the store: {error}");
        }
    }

    /// Until when the mode is active, on either side.
    pub(super) fn failsafe_until(&self, seen: &Observation) -> Option<Millis> {
        seen.failsafe.promise.as_ref().map(|p| p.until).max(self.failsafe.proof)
    }

    fn question(&self) -> Value {
        let settings = &self.settings;
        let mut slots: serde_json::Map<String, Value> = self
            .server
            .slots()
            .iter()
            .filter_map(|slot| Some((slot.name.clone(), slot.restart_lsn?.0.into())))
            .collect();
        if let Some(lsn) = self.server.status().and_then(|s| s.position()) {
            slots.insert(slot_name(settings.name.as_str()), lsn.0.into());
        }
        json!({
            "name": settings.name.as_str(),
            "conn_url": self.server.served_url(),
            "api_url": settings.restapi.api_url(),
            "slots": slots,
        })
    }

    /// `/failsafe` names all members that may take the lock. Once it exists, the leader
    /// keeps it up to date, also when the mode is off: members judge by it.
    pub(super) async fn keep_failsafe(&mut self, seen: &Observation, view: &GroupView) {
        if !self.dynamic.failsafe_mode && view.failsafe.is_none() {
            return;
        }
        let Some(lease) = self.lease.id else { return };
        let (me, url) = (&self.settings.name, self.settings.restapi.api_url());
        let ttl_ms = self.dynamic.ttl_ms;
        let map = self.failsafe.peer_set.next(me, &url, view, seen.now, ttl_ms);
        if view.failsafe.as_ref().is_some_and(|known| known.value == map) {
            return;
        }
        // Before it is sent: this beat's limit may cut the call off.
        let before = self.failsafe.peer_set.sending(&map);
        let (key, text) = (self.keys.failsafe(), text_of(&map));
        match self.keep("/failsafe", txn::as_leader(&self.keys, lease, key, text)).await {
            Kept::Written => self.failsafe.peer_set.written(map),
            Kept::Known | Kept::Lost => self.failsafe.peer_set.not_taken(before),
            Kept::Unanswered => {}
        }
    }
}

fn text_of(map: &Map) -> String {
    let urls = map.iter().map(|(name, url)| (name.to_string(), Value::from(url.clone())));
    Value::Object(urls.collect()).to_string()
}

/// Leads, or has a server that accepts writes or is about to.
fn occupied(seen: &Observation, promoting: bool) -> bool {
    let job = seen.job.as_ref().map(|running| &running.job);
    let opens = matches!(job, Some(Job::StartPrimary | Job::Bootstrap));
    let opening = matches!(seen.postgres.process, Process::Starting { as_primary: true, .. });
    seen.holds_lock() || seen.is_primary() || promoting || opens || opening
}

/// `slots` of a question or of a kept promise.
pub fn slots_of(value: &Value) -> BTreeMap<String, Lsn> {
    let slots = value.get("slots").and_then(Value::as_object).into_iter().flatten();
    slots.filter_map(|(name, lsn)| Some((name.clone(), Lsn(lsn.as_u64()?)))).collect()
}
