//! The start of a server, and what was tried and failed.
//!
//! Invariant: every wait has an end, and it is a named one.

use super::Facts;
use crate::ha::observation::{Job, Process};
use topology::Timeline;

/// Between two tries of a job that failed; doubled each time up to 32 times.
const JOB_RETRY_MS: u64 = 1_000;
/// A standby that starts for so long is compared with its leader.
const SLOW_START_MS: u64 = 5_000;

impl Facts<'_> {
    /// A job of this kind failed a moment ago: wait before the next try.
    pub fn is_backing_off(&self) -> bool {
        let Some(failed) = &self.o.memory.failed else {
            return false;
        };
        let wait = JOB_RETRY_MS << failed.times.saturating_sub(1).min(5);
        self.o.now.since(failed.at) < wait
    }

    pub fn why_failed(&self) -> Option<String> {
        self.o.memory.failed.as_ref().map(|f| f.why.clone())
    }

    /// Asked of a lock holder. What starts without the lock replays for as long as
    /// it has something to replay, and keeps nobody from leading.
    pub fn start_took_too_long(&self) -> bool {
        let Process::Starting { since, .. } = self.o.postgres.process else {
            return false;
        };
        // A start that was given up is on its way down.
        let limit = self.primary_start_limit_ms();
        self.has_start_failed() || self.o.now.since(since) > limit.max(1)
    }

    /// The leader's timeline, where a standby did not start towards the latest one: the
    /// archive may know timelines that nobody leads. Every second try is towards the
    /// latest again.
    pub fn start_target(&self) -> Option<Timeline> {
        let failed = self.o.memory.failed.as_ref().filter(|failed| failed.times % 2 == 1)?;
        let as_standby =
            matches!(failed.job, Job::StartStandby { .. } | Job::Restart { as_primary: false });
        let leads = self.view()?.leader_record()?.timeline;
        leads.filter(|_| as_standby && self.is_leader_elsewhere())
    }

    /// A standby that starts was pointed to another member than the one to follow
    /// now; or it is not known where it was pointed to.
    pub fn is_start_misdirected(&self) -> bool {
        let starts = matches!(self.o.postgres.process, Process::Starting { as_primary: false, .. });
        let wanted = self.upstream();
        let pointed = self.o.memory.pointed_to.as_ref();
        starts && wanted.is_some() && pointed != wanted.as_ref()
    }

    /// How long ago the daemon was told to end.
    pub fn stopping_ms(&self) -> u64 {
        self.o.memory.stopping_since.map_or(0, |since| self.o.now.since(since))
    }

    /// A standby that does not accept connections yet, though it has had time to.
    pub fn is_start_slow(&self) -> bool {
        let Process::Starting { since, as_primary } = self.o.postgres.process else {
            return false;
        };
        !as_primary && self.o.now.since(since) >= SLOW_START_MS
    }

    /// The last start as a primary failed, or was given up.
    pub fn has_start_failed(&self) -> bool {
        let primary =
            |job: &Job| matches!(job, Job::StartPrimary | Job::Restart { as_primary: true });
        self.o.memory.failed.as_ref().is_some_and(|failed| primary(&failed.job))
    }

    /// How long a primary may take to start before somebody else leads.
    pub fn primary_start_limit_ms(&self) -> u64 {
        let asked = self.o.memory.start_limit_ms;
        asked.unwrap_or(self.o.dynamic.primary_start_timeout_ms)
    }
}
