//! Failsafe mode, seen from one beat: asking all members, and keeping a promise.
//!
//! The rules of who may promise what are in `ha/failsafe.rs`. A promise is given at the
//! moment the question arrives, whatever the beat is doing; so promises are kept beside
//! the machine, and every step of it sees them.

use super::effect::{Answer, Call, Effect};
use super::{Level, Local, Member};
use crate::ha::failsafe::{Failsafe, PromiseStore, is_proof_over, promised};
use crate::ha::observation::{Job, Lock, Process};
use crate::ha::{Action, Observation, Outcome};
use topology::{Millis, Seen};

impl Member {
    /// What this beat sees of failsafe mode. Where the store shows no leader, the member
    /// that this member's promise was made to counts as the leader.
    pub(super) fn apply_failsafe(&mut self, seen: &mut Observation, promises: &mut PromiseStore) {
        if let Some(view) = seen.view() {
            self.peer_set.read(view);
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

    /// Asks all other members at once. All of them must agree.
    pub(super) fn ask_all(&self, seen: &Observation, now: Millis) -> Effect {
        let others = self.peer_set.others(&self.name);
        let call = Call::AskAll { others, ttl_ms: self.dynamic.ttl_ms };
        Effect::Call { call, limit_ms: Some(self.until_fence_ms(seen, now)) }
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
        self.local.push(Local::KeepProof(proof));
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
