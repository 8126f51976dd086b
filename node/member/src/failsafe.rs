//! Failsafe mode, seen from one beat: asking all members, and keeping a promise.
//!
//! The rules of who may promise what are in `ha/failsafe.rs`. A promise is given at the
//! moment the question arrives, whatever the beat is doing; so promises are kept beside
//! the machine, and every step of it sees them.

use super::effect::{Answer, Call, Effect};
use super::{Level, Local, Member};
use crate::ha::facts::Facts;
use crate::ha::failsafe::{
    Asker, CANDIDATE_MS, Failsafe, PromiseStore, electors, enough_for_candidate, is_proof_over,
    promised,
};
use crate::ha::observation::{Job, Lock, Process};
use crate::ha::{Action, Observation, Outcome};
use topology::{Millis, Seen};

/// A candidate counts on promises for this much less than they last: the lock must be
/// seen to be its own before.
const CANDIDATE_MARGIN_MS: u64 = 500;

impl Member {
    /// What this beat sees of failsafe mode. Where the store shows no leader, the member
    /// that this member's promise was made to counts as the leader.
    pub(super) fn apply_failsafe(&mut self, seen: &mut Observation, promises: &mut PromiseStore) {
        if let Some(view) = seen.view() {
            self.peer_set.read(&self.name, view);
        }
        promises.is_on = self.dynamic.failsafe_mode;
        seen.view().inspect(|view| promises.learn(view));
        let asks = Failsafe {
            proof: self.proof,
            asked: self.asked_all,
            is_ready: self.peer_set.names(&self.name),
            ..Failsafe::default()
        };
        let promise = promises.promise(seen.now).cloned();
        let view = match &mut seen.store {
            Seen::Known(view) => Some(view),
            Seen::Unknown => None,
        };
        seen.failsafe = promised(asks, promise, view);
    }

    pub(super) fn update_proof(&mut self, seen: &mut Observation) {
        if self.proof.is_some_and(|proof| is_proof_over(seen, proof)) {
            self.proof = None;
            self.local.push(Local::ForgetProof);
        }
        seen.failsafe.proof = self.proof;
    }

    /// Registers that this member begins to campaign. False: a promise to another leader is
    /// in force. A promise that a release has ended no longer binds; the store then decides
    /// whether that release was the last one.
    pub(super) fn claim_to_lead(
        &self,
        now: Millis,
        action: &Action,
        seen: &Observation,
        promises: &mut PromiseStore,
    ) -> bool {
        if *action == Action::AcquireLock && seen.failsafe.is_released {
            promises.claim_released();
            return true;
        }
        promises.claim(now)
    }

    /// The lock was taken. A promise that still stands was made to the leader that
    /// released it.
    pub(super) fn end_promise(&mut self, promises: &mut PromiseStore) {
        if promises.end_promise() {
            self.local.push(Local::ForgetPromise);
        }
    }

    /// At the end of a beat: does this member lead, or may its server open?
    pub(super) fn update_promises(&self, seen: &Observation, promises: &mut PromiseStore) {
        let leader = match &seen.lock {
            Lock::Other(name) if seen.failsafe.promise.is_none() => Some(name.clone()),
            _ => None,
        };
        promises.update(leads_or_may_write(seen, self.memory.promoting.is_some()), leader);
    }

    /// Asks all other members at once. All of them must agree, or a majority.
    pub(super) fn ask_all(&self, seen: &Observation, now: Millis) -> Effect {
        let others = self.peer_set.others(&self.name);
        let enough = match self.dynamic.failsafe_majority {
            true => self.peer_set.majority(),
            false => None,
        };
        let enough = enough.unwrap_or(others.len());
        let call = Call::AskAll { others, enough, ttl_ms: self.dynamic.ttl_ms, by: Asker::Leader };
        Effect::Call { call, limit_ms: Some(self.until_fence_ms(seen, now)) }
    }

    /// A candidate, or a holder of the lock that has not opened, asks for promises. Its own
    /// is given first: it supports no leader until the others' are over.
    pub(super) fn ask_promises(
        &mut self,
        seen: &Observation,
        now: Millis,
        promises: &mut PromiseStore,
    ) -> Option<Effect> {
        self.memory.promises_asked = Some(now);
        if !promises.stand(&self.name, now, now + CANDIDATE_MS) {
            return None;
        }
        let electors = electors(seen.view()?, self.peer_set.last(), &self.name);
        let enough = enough_for_candidate(&electors, &self.name);
        let others = electors.into_iter().filter(|(name, _)| *name != self.name).collect();
        let by = Asker::Candidate;
        let call = Call::AskAll { others, enough, ttl_ms: CANDIDATE_MS, by };
        Some(Effect::Call { call, limit_ms: Some(CANDIDATE_MS / 2) })
    }

    pub(super) fn asked_promises(
        &mut self,
        sent: Millis,
        answer: Answer,
        now: Millis,
        promises: &PromiseStore,
    ) -> Outcome {
        let why = match answer {
            Answer::Agreed(_) if promises.stands(now) => {
                self.memory.promised_until = sent + (CANDIDATE_MS - CANDIDATE_MARGIN_MS);
                self.memory.unpromised_why = None;
                return Outcome::Done;
            }
            Answer::Agreed(_) => "this member has promised another candidate".to_string(),
            Answer::Failed(why) => why,
            _ => "not enough members answered in time".to_string(),
        };
        self.memory.unpromised_why = Some(format!(": {why}"));
        Outcome::Lost
    }

    /// An operator's word stands for the promises.
    pub(super) fn note_operators_word(&mut self, action: &Action, seen: &Observation, now: Millis) {
        let facts = Facts::of(seen);
        if *action == Action::AcquireLock && facts.is_named_without_failsafe() {
            self.memory.promised_until = now + CANDIDATE_MS;
        }
    }

    pub(super) fn asked_all(&mut self, sent: Millis, answer: Answer, now: Millis) -> Outcome {
        self.asked_all = now;
        match answer {
            Answer::Agreed(positions) => self.heard.extend(positions),
            Answer::Failed(why) => {
                self.note(Level::Warn, format!("failsafe: {why}"));
                return Outcome::Lost;
            }
            _ => {
                self.note(Level::Warn, "failsafe: not every member answered in time");
                return Outcome::Lost;
            }
        }
        let proof = sent + self.dynamic.ttl_ms;
        self.proof = self.proof.max(Some(proof));
        self.local.push(Local::KeepProof(Box::new(self.proof_to_keep(proof))));
        self.arm(proof);
        self.local.push(Local::FeedWatchdog { ttl_ms: self.dynamic.ttl_ms });
        Outcome::Done
    }
}

/// Leads, or has a server that accepts writes or is about to.
fn leads_or_may_write(seen: &Observation, promoting: bool) -> bool {
    let job = seen.job.as_ref().map(|running| &running.job);
    let opens = matches!(job, Some(Job::StartPrimary | Job::Bootstrap));
    let opening = matches!(seen.postgres.process, Process::Starting { as_primary: true, .. });
    seen.holds_lock() || seen.is_primary() || promoting || opens || opening
}
