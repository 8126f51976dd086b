//! How a beat's memory changes: by what was done, and by what was seen.

use super::facts::Facts;
use super::observation::*;
use standby::sync::Confirmations;
use topology::{GroupView, Lsn, MemberName, Millis, Seen, SyncState};

/// A restart that was asked for begins within this, or within three loops.
const BEGIN_MS: u64 = 30_000;

impl Memory {
    /// What is remembered once `action` had this outcome.
    pub fn fold(&mut self, action: &super::Action, outcome: &super::Outcome, now: Millis) {
        use super::{Action, Outcome};
        if let Action::Begin(job) = action {
            return self.begin(job, now);
        }
        if let Action::CheckDivergence { with } = action {
            // Also when there was no answer: it is not asked for without end.
            self.compared_with = Some(with.member.clone());
            self.compared_at = now;
            self.uncompared_why = match outcome {
                Outcome::Unknown(why) | Outcome::Failed(why) => Some(why.clone()),
                Outcome::Done | Outcome::Lost => None,
            };
            if self.uncompared_why.is_some() {
                self.upstream_trouble.clone_from(&self.uncompared_why);
            }
        }
        // A claim that is no longer there is as good as given back.
        if *action == Action::GiveUpBootstrap && *outcome == Outcome::Lost {
            self.bootstrap = Bootstrapping::No;
        }
        if *action == Action::Renew {
            let missed = matches!(outcome, Outcome::Unknown(_));
            self.lease_misses = if missed { self.lease_misses.saturating_add(1) } else { 0 };
            self.lease_refused = matches!(outcome, Outcome::Lost | Outcome::Failed(_));
        }
        if *action == Action::FinishBootstrap {
            self.entry_refused = (*outcome == Outcome::Lost).then_some(now);
        }
        if let Action::NameSync(names) = action {
            // Also when it was not seen to be in force: the files say so, and no
            // chore may take it back behind what is decided on it.
            self.names = Some(names.write());
            self.names_failed = (*outcome != Outcome::Done).then_some(now);
        }
        if let Action::RecordSync(_) = action {
            self.is_sync_unsure = match outcome {
                Outcome::Done => false,
                Outcome::Unknown(_) => true,
                Outcome::Lost | Outcome::Failed(_) => self.is_sync_unsure,
            };
        }
        if *action == Action::AcquireLock {
            self.is_lock_unanswered = matches!(outcome, Outcome::Unknown(_));
        }
        if *outcome != Outcome::Done {
            return;
        }
        match action {
            Action::ClaimInitialize => self.bootstrap = Bootstrapping::Claimed,
            Action::FinishBootstrap => self.bootstrap = Bootstrapping::No,
            Action::GiveUpBootstrap => self.bootstrap = Bootstrapping::GivenUp,
            Action::Promote => {
                self.promoting = Some(now);
                self.won_in_pause = false;
            }
            Action::CancelJob => self.handover = None,
            Action::EndReceivers(which) => self.receivers_told_to_end(*which, now),
            Action::AcquireLock => {
                self.won_in_pause = true;
                // A leader is the last one to throw its data away.
                self.asked = self.asked.filter(|asked| *asked == Asked::Restart);
                self.gate = Gate::Untried;
            }
            Action::Follow(to) => self.pointed_to = to.clone(),
            Action::Sign { id, .. } => self.signed = Some(id.clone()),
            Action::WriteWal => self.confirmed.nudged(),
            _ => {}
        }
    }

    /// What was found about the own log holds no longer.
    pub fn forget_comparison(&mut self) {
        self.divergence = Divergence::Unchecked;
        (self.compared_with, self.compared_timeline) = (None, None);
    }

    /// A log that grows from another source may leave the history that it was found to fit.
    /// One that had no source since it was compared did not grow.
    pub fn forget_before_following(&mut self, to: Option<&Following>, seen: &Observation) {
        let with = to.map(|to| &to.member);
        if seen.follows().is_some() || with.is_none() || with != self.compared_with.as_ref() {
            self.forget_comparison();
        }
        self.note_source(to);
    }

    fn note_source(&mut self, source: Option<&Following>) {
        let is_other = |leader: &MemberName| source.is_some_and(|source| source.member != *leader);
        if matches!(&self.fit, Fit::Known { leader, .. } if is_other(leader)) {
            self.fit = Fit::Stale;
        }
    }

    /// What the group is like, and was before, is what some rules go by.
    pub fn update_from(&mut self, seen: &Observation) {
        self.update_leader(seen);
        self.update_request(seen);
        self.update_lock(seen);
        self.update_success(seen);
        self.update_comparison(seen);
        let damaged = matches!(seen.postgres.data, DataDir::Damaged(_));
        self.damaged_since = damaged.then(|| self.damaged_since.unwrap_or(seen.now));
        // A detour that ends now is left with notice.
        self.update_detour(seen);
        self.update_duty(seen);
        self.update_receivers(seen);
        self.update_asked(seen);
        self.update_sync(seen);
        self.stopping_since = self.stopping.then(|| self.stopping_since.unwrap_or(seen.now));
        let down = seen.is_stopped();
        self.stopped_since = down.then(|| self.stopped_since.unwrap_or(seen.now));
        if let Some(server) = seen.server().filter(|s| s.lsn > self.grown_to) {
            (self.grown_to, self.grew_at) = (server.lsn, seen.now);
        }
        let Some(view) = seen.view() else { return };
        if let Some(status) = &view.status {
            self.majority_leader.clone_from(&status.value.failsafe_majority);
        }
        let claimed = view.initialize.as_ref().is_some_and(|i| i.value.is_none());
        if claimed && self.bootstrap == Bootstrapping::No {
            self.claimed_elsewhere = Some(seen.now);
        }
        let named = view.initialize.as_ref().is_some_and(|i| i.value.is_some());
        self.knew_system |= named;
        if let Some(leader) = view.leader_name() {
            self.former_leader = Some(leader.clone());
            self.forgotten_at = None;
        } else if !named && seen.system().is_some() {
            self.forgotten_at = self.forgotten_at.or(Some(seen.now));
        }
    }

    /// A leader's names are kept as they were found until a step changes them, also
    /// those of a standby that is about to open;
    /// without a mode, and with nothing left of one, they are the user's.
    fn update_sync(&mut self, seen: &Observation) {
        let facts = Facts::of(seen);
        let known = seen.server().and_then(|server| server.replication.as_ref());
        let leads = seen.is_primary() || seen.holds_lock();
        let is_over = !facts.is_sync_mode_on() && facts.is_sync_record_gone();
        if !leads || is_over {
            (self.names, self.confirmed) = (None, Confirmations::default());
            (self.names_failed, self.is_sync_unsure) = (None, false);
        }
        let Some(known) = known.filter(|_| leads && !is_over) else { return };
        self.names.get_or_insert_with(|| known.names.clone());
        let acts = known.is_acting && seen.is_primary();
        if let Some(view) = seen.view().filter(|_| acts) {
            let nothing = SyncState::default();
            let sync = view.sync.as_ref().map_or(&nothing, |sync| &sync.value);
            self.confirmed.look(known, sync, &facts.sync_policy(), seen.now);
        }
    }

    /// Another leader, or the same one on another timeline: what was found about the
    /// own log holds no longer.
    fn update_leader(&mut self, seen: &Observation) {
        let Some(view) = seen.view() else { return };
        let leads = view.leader_record().and_then(|record| record.timeline);
        self.pinned = self.pinned.filter(|pinned| leads.is_none_or(|leads| leads == *pinned));
        let another = |leader| self.former_leader.as_ref().is_some_and(|former| former != leader);
        if view.leader_name().is_some_and(another) {
            self.fit = Fit::Stale;
        }
        if let Some((leader, timeline)) = Facts::of(seen).streams_leader_timeline() {
            self.fit = Fit::Known { leader, timeline };
        }
        let line = (view.leader_name().cloned(), view.timeline());
        if self.line.as_ref() != Some(&line) {
            self.forget_comparison();
            self.line = Some(line);
        }
    }

    /// A restart begins soon, or is dropped: hours later it would surprise the operator.
    /// While another action runs it waits for that.
    fn update_asked(&mut self, seen: &Observation) {
        let waits = self.asked == Some(Asked::Restart) && seen.job.is_none();
        self.asked_since = waits.then(|| self.asked_since.unwrap_or(seen.now));
        let Some(since) = self.asked_since else { return };
        if seen.now.since(since) < BEGIN_MS.max(3 * seen.dynamic.loop_wait_ms) {
            return;
        }
        let state = match &seen.postgres.process {
            Process::Starting { .. } => "PostgreSQL is still starting",
            Process::Running(server) if server.role == Seen::Unknown => {
                "PostgreSQL does not answer"
            }
            Process::Running(_) => "the leader still counts on this standby",
            Process::Stopped(_) if seen.order.is_some() => {
                "a region move has told this group to stop, and is not decided yet"
            }
            Process::Stopped(_) => "PostgreSQL is down",
        };
        self.dropped = Some(format!("the restart could not begin in time and is dropped: {state}"));
        (self.asked, self.asked_since, self.start_limit_ms) = (None, None, None);
    }

    /// The lock is free, or is not: since when.
    fn update_lock(&mut self, seen: &Observation) {
        let free = seen.lock == Lock::Free;
        self.is_lock_unanswered &= free || seen.lock == Lock::Unknown;
        let could_not_read = std::mem::replace(&mut self.could_not_read, seen.view().is_none());
        if could_not_read && seen.view().is_some() {
            // Renewals that were lost while the store was away say nothing of it now.
            self.lease_misses = 0;
        }
        self.leaderless_since = free.then(|| self.leaderless_since.unwrap_or(seen.now));
        let facts = Facts::of(seen);
        let is_known = seen.view().is_some() && facts.other_majority_leader().is_none();
        let is_cleared = self.is_tenure_cleared || is_known || seen.now < self.promised_until;
        self.is_tenure_cleared = seen.holds_lock() && is_cleared;
        let is_uncleared = seen.holds_lock() && !is_cleared;
        self.uncleared_since = is_uncleared.then(|| self.uncleared_since.unwrap_or(seen.now));
        let lacks_token = facts.lacks_token_as_leader();
        self.untokened_since = lacks_token.then(|| self.untokened_since.unwrap_or(seen.now));
    }

    /// A request of an operator is new, still stands, or is over.
    fn update_request(&mut self, seen: &Observation) {
        let stands =
            seen.is_primary() && seen.holds_lock() || Facts::of(seen).leads_standby_group();
        let request = seen.view().and_then(GroupView::request);
        let due = stands && request.is_some_and(|r| r.scheduled_at.is_none());
        let here = seen.server().map_or(Lsn(0), |server| server.lsn);
        // Of a standby leader that starts it is not known yet.
        let known = self.request_seen.map(|(at, had)| (at, if had.0 == 0 { here } else { had }));
        self.request_seen = due.then(|| known.unwrap_or((seen.now, here)));
    }

    /// A former primary waits until its log is compared; the wait goes on while a
    /// server is tried that does not come up.
    fn update_comparison(&mut self, seen: &Observation) {
        let facts = Facts::of(seen);
        let was_primary = facts.ended(End::Clean) || facts.ended(End::Crashed);
        let is_known = !self.divergence.is_open();
        let runs = seen.is_primary() || seen.is_standby();
        if is_known || runs || facts.is_lock_free() || facts.ended(End::Standby) {
            (self.uncompared_since, self.uncompared_why) = (None, None);
        } else if was_primary && (facts.is_leader_elsewhere() || !facts.may_own()) {
            self.uncompared_since.get_or_insert(seen.now);
        }
    }

    /// A primary that runs has no failed start behind it any more.
    fn update_success(&mut self, seen: &Observation) {
        if seen.is_primary() && seen.job.is_none() {
            self.failed = None;
            if self.asked != Some(Asked::Restart) {
                self.start_limit_ms = None;
            }
        }
    }

    fn begin(&mut self, job: &Job, now: Millis) {
        let promoted = self.promoting.take().is_some();
        if promoted && *job == (Job::Stop { how: StopHow::Overdue }) {
            self.promotion_failed = Some(now);
        }
        self.has_begun = true;
        (self.receivers_ended, self.logical_ended) = (None, None);
        match job {
            Job::Stop { how: StopHow::Planned } => self.handover = Some(now),
            Job::StartPrimary | Job::StartStandby { .. } => {
                self.handover = None;
                self.rebuilt_in_pause = false;
                self.start_limit_ms = None;
                (self.pointed_to, self.pinned) = match job {
                    Job::StartStandby { follow, target } => (follow.clone(), *target),
                    _ => (None, None),
                };
                self.note_source(self.pointed_to.clone().as_ref());
            }
            Job::Restart { .. } | Job::Rebuild { .. } => self.asked = None,
            Job::Clone { .. } | Job::Restore => {
                self.asked = self.asked.filter(|asked| *asked == Asked::Restart);
                if self.bootstrap == Bootstrapping::GivenUp {
                    self.bootstrap = Bootstrapping::No;
                }
            }
            _ => {}
        }
    }

    /// A job came to its end; `Err` says why it failed.
    pub fn finish(&mut self, job: &Job, result: &Result<(), String>, now: Millis) {
        if result.is_ok() && matches!(job, Job::StartPrimary | Job::Restart { .. }) {
            // It has begun with what /sync demands, and what was confirmed before
            // was to the names of then. A start that failed may be tried again
            // while the store is silent.
            (self.names, self.confirmed) = (None, Confirmations::default());
        }
        match (job, result) {
            (Job::PrePromote, Ok(())) => return self.gate = Gate::Passed,
            (Job::PrePromote, Err(_)) => return self.gate = Gate::Failed(now),
            (_, Err(why)) => return self.fail(job, why, now),
            (_, Ok(())) => {}
        }
        self.failed = None;
        match job {
            Job::Stop { how: StopHow::Overdue } => {
                self.fail(&Job::StartPrimary, "the start took too long", now);
            }
            Job::Bootstrap => self.bootstrap = Bootstrapping::Built,
            Job::Stop { how: StopHow::Planned } => {
                self.handover = self.handover.map(|_| now);
            }
            Job::Rewind { .. } | Job::Rebuild { .. } | Job::Clone { .. } | Job::Restore => {
                self.rebuilt_in_pause = matches!(job, Job::Rebuild { .. });
                self.divergence = Divergence::Prefix;
                self.note_fit_after(job);
            }
            // What a stopped server's control file told may have been less than
            // its log holds: if it does not stream, it is compared as it runs.
            Job::StartStandby { .. } => self.forget_comparison(),
            // Its end is easier to read now.
            Job::Recover if self.divergence.is_open() => self.forget_comparison(),
            _ => {}
        }
    }

    /// A copy of the leader, or a log rewound against it, has what the leader has.
    fn note_fit_after(&mut self, job: &Job) {
        let source = match job {
            Job::Rewind { from } | Job::Rebuild { from, .. } | Job::Clone { from } => {
                Some(&from.member)
            }
            _ => None,
        };
        self.fit = match self.line.clone() {
            Some((Some(leader), timeline)) if source == Some(&leader) => {
                Fit::Known { leader, timeline }
            }
            _ => Fit::Stale,
        };
    }

    fn fail(&mut self, job: &Job, why: &str, now: Millis) {
        let times = match &self.failed {
            Some(f) if f.job.is_again(job) => f.times + 1,
            _ => 1,
        };
        if matches!(job, Job::Rewind { .. }) {
            // Whether the source is well, and history still what it was, is
            // asked before this failure counts.
            self.divergence = Divergence::Unchecked;
        }
        self.failed = Some(Failed { job: job.clone(), at: now, times, why: why.to_string() });
        if *job == Job::Bootstrap {
            self.bootstrap = Bootstrapping::Failed;
        }
    }
}
