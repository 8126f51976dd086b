//! Doing what was decided.

use super::Daemon;
use super::local_end::NoEnd;
use crate::act::{timeline, txn};
use crate::clock;
use crate::dcs::{DcsError, KeyValue, Txn};
use crate::ha::observation::{DataDir, Divergence, Following, Job, Lock, Rewind};
use crate::ha::{Action, Observation, Outcome, Publish};
use crate::observe::lock::OwnLease;
use crate::region;
use standby::rewind::{Verdict, judge};
use std::collections::BTreeMap;
use topology::region::Token;
use topology::{GroupView, Lsn, MemberName};

/// The store's own deadline of a call is not longer.
const STORE_WAIT_MAX: std::time::Duration = super::run::STORE_CALL;
/// Enough for a store that is well, short beside the budget for fencing.
const STORE_WAIT_MIN: std::time::Duration = std::time::Duration::from_millis(500);

impl Daemon {
    pub(super) async fn carry_out(&mut self, action: &Action, seen: &Observation) -> Outcome {
        if leads_on(action) && !self.set_out(action, seen) {
            crate::log::warn(&format!(
                "{action:?}: not against the promise that another member leads on"
            ));
            return Outcome::Lost;
        }
        let empty = GroupView::default();
        let view = seen.view().unwrap_or(&empty);
        match action {
            Action::Renew => self.renew(seen).await,
            Action::AcquireLock => self.acquire(seen, view).await,
            Action::ReleaseLock { publish } => self.release(*publish, view).await,
            Action::ClearRequest => match txn::clear_request(&self.keys, view) {
                Some(txn) => self.try_write(txn).await,
                None => Outcome::Done,
            },
            Action::ClaimInitialize => self.claim_initialize().await,
            Action::GiveUpBootstrap => self.give_up_bootstrap().await,
            Action::FinishBootstrap => self.finish_bootstrap(seen, view).await,
            Action::AdoptSystem => match seen.system() {
                Some(system) => self.try_write(txn::adopt_system(&self.keys, system)).await,
                None => Outcome::Failed("the system id is not known".into()),
            },
            // The answers are part of the next look.
            Action::AskPeers => Outcome::Done,
            Action::AskAll => self.ask_all(seen).await,
            Action::CheckDivergence { with } => self.check_divergence(with, seen).await,
            Action::ArmWatchdog => match self.watchdog.arm(&self.dynamic, clock::now()) {
                Ok(()) => Outcome::Done,
                Err(why) => Outcome::Failed(why),
            },
            Action::Promote => self.promote(seen).await,
            Action::Follow(upstream) => self.follow(upstream.as_ref(), seen).await,
            Action::ResumeReplay => match self.server.resume_replay().await {
                Ok(()) => Outcome::Done,
                Err(why) => Outcome::Failed(why),
            },
            Action::RecordSync(state) => self.record_sync(state, view).await,
            Action::NameSync(names) => self.name_sync(names, seen).await,
            Action::WriteWal => self.write_wal().await,
            Action::Sign { id, lsn } => self.sign(id, *lsn, seen).await,
            Action::Begin(job) => self.begin(job, seen),
            Action::CancelJob => self.cancel().await,
            Action::EndReceivers(which) => {
                self.server.end_receivers(*which);
                Outcome::Done
            }
            Action::CutStop => {
                self.server.cut_stop();
                Outcome::Done
            }
            Action::Exit(_) => Outcome::Done,
        }
    }

    pub(super) async fn try_write(&self, txn: Txn) -> Outcome {
        outcome_of(self.write(txn).await.map(|r| r.succeeded))
    }

    async fn renew(&mut self, seen: &Observation) -> Outcome {
        let sent = clock::now();
        let limit = self.until_fence(seen);
        let result = tokio::time::timeout(limit, self.renew_lease(sent, seen)).await;
        let outcome = match result {
            Ok(result) => outcome_of(result),
            Err(_) => {
                let limit = crate::words::span(limit);
                Outcome::Unknown(format!("the store did not answer within {limit}"))
            }
        };
        // Counted from the end: a silent store must leave time for other rules.
        self.memory.lease_tried = clock::now();
        if let Outcome::Unknown(why) = &outcome {
            crate::log::warn(&format!("the lease could not be renewed: {why}"));
        }
        outcome
    }

    /// How long a call to the store may hold up the beat of a server that may
    /// have to be fenced.
    pub(super) fn until_fence(&self, seen: &Observation) -> std::time::Duration {
        let fence = match seen.lock {
            _ if seen.relied_until().is_some() => {
                seen.relied_until().expect("just seen") - self.dynamic.fence_budget_ms()
            }
            Lock::Mine { .. } | Lock::Unknown => {
                self.memory.started + self.dynamic.retry_timeout_ms
            }
            Lock::Free | Lock::Other(_) => return STORE_WAIT_MAX,
        };
        let left = std::time::Duration::from_millis(fence.since(clock::now()));
        if self.may_open(seen) {
            left.clamp(STORE_WAIT_MIN, STORE_WAIT_MAX)
        } else {
            STORE_WAIT_MAX
        }
    }

    /// How long what is told beside the decisions may hold up the next beat: a leader's
    /// next renewal must fit in before it would have to stop.
    pub(super) fn report_limit(&self, seen: &Observation) -> std::time::Duration {
        let limit = self.until_fence(seen);
        match seen.relied_until() {
            Some(until) if self.may_open(seen) => {
                let kept = self.dynamic.fence_budget_ms() + self.dynamic.renewal_reserve_ms();
                limit.min(std::time::Duration::from_millis((until - kept).since(clock::now())))
            }
            _ => limit,
        }
    }

    async fn acquire(&mut self, seen: &Observation, view: &GroupView) -> Outcome {
        let mine = seen.server().and_then(|s| s.timeline).filter(|_| seen.is_standby());
        let (keys, me) = (self.keys.clone(), self.settings.name.clone());
        let take = |lease| txn::acquire(&keys, &me, lease, view, mine);
        let outcome = outcome_of(self.write_on_lease(take).await.map(|r| r.succeeded));
        self.held |= outcome == Outcome::Done;
        if outcome == Outcome::Done {
            self.end_promise();
        }
        if outcome == Outcome::Done && !seen.may_own() {
            tracing::info!("promoted self to a standby leader by acquiring session lock");
        }
        if let Outcome::Unknown(_) = outcome {
            // A reply that was lost: the store is read before anything else.
            let read = self.mirror.refresh().await;
            let (key, me) = (self.keys.leader(), self.settings.name.as_str());
            let is_mine = |entry: &KeyValue| entry.key == key && entry.value == me;
            if read.is_ok_and(|read| read.entries.iter().any(is_mine)) {
                self.end_promise();
            }
        }
        outcome
    }

    async fn release(&mut self, publish: Publish, view: &GroupView) -> Outcome {
        let publish = match publish {
            Publish::End(lsn, timeline) => {
                Publish::End(self.server.end_without_checkpoint(lsn).await, timeline)
            }
            other => other,
        };
        let txn = txn::release(&self.keys, &self.settings.name, publish, view);
        let outcome = self.try_write(txn).await;
        if outcome == Outcome::Done {
            self.deadman.disarm();
            if self.memory.failed.is_some() {
                self.call_demoted();
            }
        }
        if let Outcome::Unknown(_) = outcome {
            // It may have happened, or happen yet. Only a key moved onto a new
            // lease, which the release on its way no longer meets, is ours.
            self.lease = OwnLease::default();
        }
        self.held &= matches!(outcome, Outcome::Failed(_));
        outcome
    }

    async fn give_up_bootstrap(&mut self) -> Outcome {
        // Before anything was begun here, what is there is another program's.
        if self.memory.has_begun
            && let Err(why) = self.server.move_aside().await
        {
            return Outcome::Failed(why);
        }
        match self.memory.claim {
            Some(claim) => self.try_write(txn::give_back_initialize(&self.keys, claim)).await,
            None => Outcome::Lost,
        }
    }

    async fn claim_initialize(&mut self) -> Outcome {
        let written = self.write(txn::claim_initialize(&self.keys)).await;
        if let Ok(result) = &written
            && result.succeeded
        {
            self.memory.claim = Some(result.revision);
        }
        outcome_of(written.map(|result| result.succeeded))
    }

    async fn finish_bootstrap(&mut self, seen: &Observation, view: &GroupView) -> Outcome {
        let DataDir::Valid { system } = &seen.postgres.data else {
            return Outcome::Failed("the new data directory cannot be read yet".into());
        };
        let config = topology::document::compact(&self.dynamic.raw);
        let (keys, me) = (self.keys.clone(), self.settings.name.clone());
        let new = txn::NewCluster { me: &me, system, config: &config, claim: self.memory.claim };
        let enter = |lease| txn::finish_bootstrap(&keys, lease, &new, view);
        let outcome = outcome_of(self.write_on_lease(enter).await.map(|r| r.succeeded));
        if outcome == Outcome::Done {
            tracing::info!("initialized a new cluster");
            self.held = true;
        }
        outcome
    }

    /// Compares the own log with the history of the server to follow.
    async fn check_divergence(&mut self, with: &Following, seen: &Observation) -> Outcome {
        let may_rewind = seen.me.rewind != Rewind::Off;
        let history = match self.server.remote_history(with, may_rewind).await {
            Ok(history) => history,
            Err(why) => return Outcome::Unknown(why),
        };
        let local = match self.server.local_end(&seen.postgres).await {
            Ok(local) => local,
            Err(NoEnd::NotNow(why)) => return Outcome::Unknown(why),
            Err(NoEnd::Unreadable(why)) => {
                crate::log::warn(&format!("the end of this log cannot be read: {why}"));
                self.memory.divergence = Divergence::Unreadable(why);
                return Outcome::Done;
            }
        };
        self.memory.divergence = match judge(&local, &history) {
            Verdict::Prefix => Divergence::Prefix,
            Verdict::Diverged(how) => Divergence::Diverged(how),
            Verdict::Alien(how) => Divergence::Alien(how),
        };
        if let Divergence::Diverged(how) | Divergence::Alien(how) = &self.memory.divergence {
            crate::log::warn(&format!("this log has left the history of {}: {how}", with.member));
        }
        Outcome::Done
    }

    async fn promote(&mut self, seen: &Observation) -> Outcome {
        let Lock::Mine { deadline, .. } = seen.lock else {
            panic!("rule of promotion: only a lock holder promotes");
        };
        if let Err(outcome) = self.claim_timeline(seen).await {
            return outcome;
        }
        if clock::now() + 1_000 >= deadline {
            return Outcome::Failed("the lock ends before the promotion would".into());
        }
        self.arm(deadline);
        self.chores.promoted();
        match self.server.promote() {
            Ok(()) => {
                self.call_promoted();
                Outcome::Done
            }
            Err(why) => Outcome::Failed(why),
        }
    }

    /// No two histories of a group may share a number: the one to begin was
    /// claimed with the lock, or is now.
    async fn claim_timeline(&mut self, seen: &Observation) -> Result<(), Outcome> {
        let missing = || Outcome::Failed("the own timeline is not known".into());
        let view = seen.view().ok_or_else(|| Outcome::Unknown("the store is silent".into()))?;
        let mine = seen.server().and_then(|s| s.timeline).ok_or_else(missing)?;
        let claimed = match view.claimed_by(&self.settings.name, mine) {
            Some(claimed) => claimed,
            None => {
                let lease = self.lease.id.ok_or(Outcome::Lost)?;
                let txn = txn::claim(&self.keys, &self.settings.name, lease, view, mine);
                match self.try_write(txn).await {
                    Outcome::Done => view.claimable(mine),
                    outcome => return Err(outcome),
                }
            }
        };
        let data_dir = &self.settings.postgresql.data_dir;
        timeline::reserve(data_dir, mine, claimed).map_err(|e| Outcome::Failed(e.to_string()))
    }

    async fn follow(&mut self, upstream: Option<&Following>, seen: &Observation) -> Outcome {
        self.memory.forget_comparison();
        let overrides = self.overrides(seen, false);
        match self.server.follow(upstream, &self.dynamic.raw, &overrides).await {
            Ok(()) => {
                self.expect_reload_callback();
                Outcome::Done
            }
            Err(why) => Outcome::Failed(why),
        }
    }

    async fn sign(&mut self, id: &str, lsn: Lsn, seen: &Observation) -> Outcome {
        let (Some(system), Some(shutdown_state)) = (seen.system(), seen.shutdown_state()) else {
            return Outcome::Failed("the control file is not known".into());
        };
        let token = Token { system_id: system.clone(), timeline: shutdown_state.timeline, lsn };
        let local = &self.chores.local_topology;
        match region::ownership::sign(&self.keys, local, &self.settings.name, id, &token) {
            Some(txn) => self.try_write(txn).await,
            None => Outcome::Lost,
        }
    }

    fn begin(&mut self, job: &Job, seen: &Observation) -> Outcome {
        match (job, &seen.lock) {
            (
                Job::StartPrimary | Job::Restart { as_primary: true },
                Lock::Mine { deadline, .. },
            ) if deadline.0 > 0 => self.arm(*deadline),
            (Job::StartStandby { .. }, _) => self.deadman.disarm(),
            (Job::Stop { .. } | Job::Restart { .. }, _) => self.server.begin_stop(),
            (Job::Clone { from }, _) => tracing::info!("{}", copying(from, seen)),
            _ => {}
        }
        let work = self.work(job, seen);
        self.background.begin(job.clone(), clock::now(), work);
        Outcome::Done
    }

    pub(super) async fn cancel(&mut self) -> Outcome {
        let Some(job) = self.background.cancel() else { return Outcome::Done };
        tracing::warn!("cancelled: {}", job.title());
        // A gate that was not heard to its end has said nothing.
        if job != Job::PrePromote {
            let cancelled = Err("cancelled".to_string());
            self.memory.finish(&job, &cancelled, clock::now());
            self.answer_restart(&job, &cancelled);
        }
        // A server that the job was starting must not live on as a primary.
        if matches!(job, Job::StartPrimary | Job::Restart { as_primary: true } | Job::Bootstrap) {
            self.server.stop_now();
        }
        Outcome::Done
    }

    /// `only`: this member, if the answers of others do not count.
    pub(super) async fn ask_peers(
        &self,
        view: &GroupView,
        only: Option<&MemberName>,
    ) -> Vec<standby::promotion::PeerAnswer> {
        let urls = view.members.iter();
        let mut all: BTreeMap<_, _> =
            urls.filter_map(|(name, m)| Some((name.clone(), m.value.api_url.clone()?))).collect();
        if view.leader.is_none() {
            // Records end with their leases; who is well may be on its way back.
            let asked = view.failsafe.as_ref().filter(|_| self.dynamic.failsafe_mode);
            let named = asked.iter().flat_map(|map| map.value.iter());
            for (name, url) in named.chain(&self.chores.seen_urls) {
                all.entry(name.clone()).or_insert_with(|| url.clone());
            }
        }
        all.remove(&self.settings.name);
        all.retain(|name, _| only.is_none_or(|only| only == name));
        let addresses: Vec<_> = all.into_iter().collect();
        self.peers.statuses(&addresses).await
    }

    pub(super) fn arm(&self, deadline: topology::Millis) {
        if !self.dynamic.pause {
            self.deadman.arm(self.server.guarded(), deadline);
        }
    }
}

fn copying(from: &Following, seen: &Observation) -> String {
    let leader = seen.view().and_then(GroupView::leader_name);
    let kind = if leader == Some(&from.member) { "leader" } else { "replica" };
    format!("trying to bootstrap from {kind} '{}'", from.member)
}

/// From here on this member may come to accept writes.
fn leads_on(action: &Action) -> bool {
    matches!(
        action,
        Action::AcquireLock
            | Action::ClaimInitialize
            | Action::FinishBootstrap
            | Action::Promote
            | Action::Begin(Job::StartPrimary | Job::Bootstrap)
    )
}

fn outcome_of(result: Result<bool, DcsError>) -> Outcome {
    match result {
        Ok(true) => Outcome::Done,
        Ok(false) => Outcome::Lost,
        Err(error) => Outcome::Unknown(error.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ha::{Step, decide, sample};
    use std::time::Duration;
    use topology::Seen;

    /// "No leader", timeouts, refused connections, a store without space, a login that
    /// is refused: with the watch still alive, or not.
    #[test]
    fn known_bug_12_every_error_of_the_store_leads_to_the_question_to_all() {
        let why = || "why".to_string();
        let errors = [
            DcsError::Unreachable { waited: Duration::ZERO, reason: why() },
            DcsError::Denied(why()),
            DcsError::LeaseGone,
            DcsError::Compacted,
            DcsError::Settings(why()),
            DcsError::Refused(why()),
        ];
        for error in errors {
            let text = error.to_string();
            let outcome = outcome_of(Err(error));
            assert_eq!(outcome, Outcome::Unknown(text.clone()));
            for silent in [false, true] {
                let mut seen = sample::leader();
                let (renewed, deadline) = (seen.now - 11_000, seen.now + 19_000);
                seen.lock = Lock::Mine { renewed, deadline };
                seen.dynamic.failsafe_mode = true;
                seen.failsafe.is_ready = true;
                seen.memory.lease_renewed = renewed;
                seen.memory.lease_tried = seen.now;
                seen.memory.fold(&Action::Renew, &outcome, seen.now);
                if silent {
                    seen.store = Seen::Unknown;
                }
                assert_eq!(decide(&seen).step, Step::Do(Action::AskAll), "{text}");
            }
        }
    }
}
