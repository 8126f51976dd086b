//! Does the own log fit the leader's, and which server may it be repaired from?
//!
//! Invariant: only a comparison finds a divergence. Silence is its occasion and no
//! proof, and streaming is no proof that there is none.

use super::Facts;
use crate::ha::observation::{Divergence, End, Following, Job};
use standby::switch::ownership::Ownership;
use topology::{GroupView, MemberRole};

/// A standby that does not stream for this long is compared with its leader.
const QUIET_MS: u64 = 2_000;
/// Between two tries to compare the own log.
const COMPARE_RETRY_MS: u64 = 1_000;
/// A former primary waits this long to be compared, then it goes on without.
const COMPARE_MAX_MS: u64 = 60_000;
/// A standby whose log fits but that does not stream is compared again after this.
const COMPARE_AGAIN_MS: u64 = 10_000;

impl<'a> Facts<'a> {
    pub fn is_quiet(&self) -> bool {
        let quiet = self.o.memory.quiet_since;
        !self.o.is_streaming() && quiet.is_some_and(|since| self.o.now.since(since) >= QUIET_MS)
    }

    pub fn divergence(&self) -> &'a Divergence {
        &self.o.memory.divergence
    }

    /// Is it time to compare the own log with the leader's, or, as a standby leader, with
    /// the remote side's?
    ///
    /// A result holds for the history that the other server had then. A standby that
    /// still does not stream compares again: its leader may have been rewound.
    pub fn is_comparison_due(&self) -> bool {
        let memory = &self.o.memory;
        let Some(with) = self.leader_source() else { return false };
        let age = self.o.now.since(memory.compared_at);
        let known = memory.compared_with.as_ref() == Some(&with.member);
        match memory.divergence {
            Divergence::Unchecked => !known || age >= COMPARE_RETRY_MS,
            Divergence::Prefix | Divergence::Unreadable(_) => age >= COMPARE_AGAIN_MS,
            Divergence::Diverged(_) | Divergence::Alien(_) => false,
        }
    }

    /// Whether the own log has left the history is known.
    pub fn is_compared(&self) -> bool {
        !self.divergence().is_open()
    }

    /// A former primary has waited long enough for a comparison.
    pub fn is_comparison_overdue(&self) -> bool {
        let since = self.o.memory.uncompared_since;
        since.is_some_and(|since| self.o.now.since(since) >= COMPARE_MAX_MS)
    }

    /// Why a comparison gave no answer yet.
    pub fn why_uncompared(&self) -> Option<String> {
        match self.divergence() {
            Divergence::Unreadable(why) => Some(format!("the end of this log: {why}")),
            _ => self.o.memory.uncompared_why.clone(),
        }
    }

    pub fn is_diverged(&self) -> bool {
        matches!(self.o.memory.divergence, Divergence::Diverged(_) | Divergence::Alien(_))
    }

    pub fn diverged_how(&self) -> Option<String> {
        match &self.o.memory.divergence {
            Divergence::Diverged(how) | Divergence::Alien(how) => Some(how.clone()),
            _ => None,
        }
    }

    /// A standby that was never compared with this leader. Streaming is no
    /// proof: a log that has left the history may stream for moments.
    pub fn is_first_sight(&self) -> bool {
        let memory = &self.o.memory;
        let with = self.leader_source().map(|source| source.member);
        self.o.is_standby()
            && memory.divergence == Divergence::Unchecked
            && with.is_some()
            && memory.compared_with != with
    }

    /// Failed twice against the source there is now, which answered each time
    /// when it was compared with.
    pub fn rewind_failed(&self) -> bool {
        let Some(failed) = self.o.memory.failed.as_ref().filter(|f| f.times >= 2) else {
            return false;
        };
        let source = self.rewind_source().map(|source| source.member);
        match &failed.job {
            Job::Rewind { from } => source.is_none_or(|member| member == from.member),
            job => is_before_rewind(job),
        }
    }

    /// Crash recovery failed as often, and with it what comes before a rewind.
    pub fn recovery_failed(&self) -> bool {
        let failed = self.o.memory.failed.as_ref();
        self.rewind_failed() && failed.is_some_and(|failed| is_before_rewind(&failed.job))
    }

    /// A former primary that could not be compared, nor recovered or started as a
    /// standby: it is treated as one that has diverged, until it is compared.
    pub fn is_given_up(&self) -> bool {
        let Some(failed) = &self.o.memory.failed else { return false };
        let refused = match failed.job {
            Job::Recover | Job::StartStandby { .. } => failed.times >= 2,
            Job::Rewind { .. } | Job::Rebuild { .. } => true,
            _ => false,
        };
        let was_primary = self.ended(End::Clean) || self.ended(End::Crashed);
        let overdue = self.is_comparison_overdue() && !self.is_compared();
        refused && was_primary && overdue && !self.is_comparison_due()
    }

    /// The server to rewind against, or to rebuild from. A standby group without a
    /// leader uses the remote side.
    pub fn rewind_source(&self) -> Option<Following> {
        let remote = || self.remote().filter(|_| self.is_lock_free() && !self.may_own());
        self.leader_source().or_else(remote)
    }

    /// The server to copy when the own data are given up.
    pub fn rebuild_source(&self) -> Option<Following> {
        self.clone_source().or_else(|| self.rewind_source())
    }

    /// The leader said that its checkpoint after the promotion is still running:
    /// its control file shows the timeline before.
    pub fn is_source_unready(&self) -> bool {
        let leader = self.view().and_then(GroupView::leader_record);
        !self.o.holds_lock() && leader.is_some_and(|r| r.checkpoint_after_promote == Some(false))
    }

    /// It has the lock and has not opened: it may still give up, and then its
    /// history is not the group's. Where ownership is in doubt, this may be such a leader.
    pub fn is_leader_closed(&self) -> bool {
        let leader = self.view().and_then(GroupView::leader_record);
        let is_closed = leader.is_some_and(|record| record.role != MemberRole::Primary);
        let is_doubtful = matches!(self.o.ownership, Ownership::Doubtful(_));
        is_closed && (self.may_own() || is_doubtful) && !self.o.holds_lock()
    }
}

/// The job brings a crashed server to an orderly stop, so that it can be rewound.
fn is_before_rewind(job: &Job) -> bool {
    matches!(job, Job::Recover | Job::RecoverStandby { .. })
}
