//! The start of a server, and what was tried and failed.
//!
//! Invariant: every wait has an end, and it is a named one.

use super::Facts;
use crate::ha::observation::{Job, Process};

/// Between two tries of a job that failed; doubled each time up to 32 times.
const JOB_RETRY_MS: u64 = 1_000;
/// A starting server that holds a lock may take `primary_start_timeout`; one
/// that does not may take this long before it is stopped and tried again.
const STANDBY_START_MS: u64 = 3_600_000;

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

    pub fn start_took_too_long(&self) -> bool {
        let Process::Starting { since, .. } = self.o.postgres.process else {
            return false;
        };
        let limit =
            if self.o.holds_lock() { self.primary_start_limit_ms() } else { STANDBY_START_MS };
        // A start that was given up is on its way down.
        let given_up = self.o.holds_lock() && self.has_start_failed();
        given_up || self.o.now.since(since) > limit.max(1)
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
