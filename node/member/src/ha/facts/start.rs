//! The start of a server, and what was tried and failed.
//!
//! Invariant: every wait has an end, and it is a named one.

use super::Facts;
use crate::ha::observation::{Job, Process};
use topology::Timeline;

/// Between two tries of a job that failed; doubled each time up to 32 times.
const JOB_RETRY_MS: u64 = 1_000;
/// A standby that has been starting for this long is compared with its leader.
const SLOW_START_MS: u64 = 5_000;
/// A promotion may take `primary_start_timeout`, or this long where that is 0.
const PROMOTION_MIN_MS: u64 = 10_000;
/// Between two looks at a promotion: a part of its age, within these limits.
const PACE_PARTS: u64 = 20;
const PACE_MIN_MS: u64 = 10;
const PACE_MAX_MS: u64 = 1_000;

/// What PostgreSQL says of a timeline that this log does not lead to.
const OTHER_HISTORY: &str = "is not a child of this server's history";

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

    /// A standby that was told to leave recovery and has not yet.
    pub fn is_promoting(&self) -> bool {
        self.o.is_standby() && self.o.memory.promoting.is_some()
    }

    /// It will accept writes, but does not yet: it starts, or leaves recovery.
    pub fn is_on_its_way(&self) -> bool {
        self.is_starting() || self.is_promoting()
    }

    /// How long the promotion has lasted is also how carefully it is looked at: often
    /// at first, for clients wait, and hardly ever when it hangs.
    pub fn promotion_pace_ms(&self) -> u64 {
        let age = self.o.memory.promoting.map_or(0, |since| self.o.now.since(since));
        (age / PACE_PARTS).clamp(PACE_MIN_MS, PACE_MAX_MS)
    }

    fn promotion_took_too_long(&self) -> bool {
        let limit = match self.o.dynamic.primary_start_timeout_ms {
            // At once is meant for a crash: a promotion takes its time.
            0 => PROMOTION_MIN_MS,
            limit => limit,
        };
        let since = self.o.memory.promoting.filter(|_| self.is_promoting());
        since.is_some_and(|since| self.o.now.since(since) >= limit)
    }

    /// For a promotion that takes longer than it may.
    pub fn what_holds_the_promotion(&self) -> Option<String> {
        if !self.promotion_took_too_long() {
            return None;
        }
        let why = match self.is_replay_paused() {
            true => "replay is paused, perhaps for want of a setting that the log demands",
            false => "PostgreSQL's log says what it waits for, such as a restore_command",
        };
        let unled =
            self.successor(None).err().map(|why| format!("; no member can take over: {why}"));
        Some(format!("longer than primary_start_timeout: {why}{}", unled.unwrap_or_default()))
    }

    /// A promotion of this member was given up less than a ttl ago: another member
    /// should try, unless an operator names this one.
    pub fn has_promotion_failed(&self) -> bool {
        let failed = self.o.memory.promotion_failed;
        let lately = failed.is_some_and(|at| self.o.now.since(at) < self.o.dynamic.ttl_ms);
        let me = Some(&self.o.me.name);
        lately && self.request().is_none_or(|request| request.candidate.as_ref() != me)
    }

    /// Asked of a lock holder. A server that starts without the lock replays for as long
    /// as it has something to replay, and keeps no member from leading.
    pub fn start_took_too_long(&self) -> bool {
        if self.promotion_took_too_long() {
            return true;
        }
        let Process::Starting { since, .. } = self.o.postgres.process else {
            return false;
        };
        // A start that was given up is on its way down.
        let limit = self.primary_start_limit_ms();
        self.has_start_failed() || self.o.now.since(since) > limit.max(1)
    }

    /// The leader's timeline, where PostgreSQL refused to recover to the latest one because
    /// that is not a child of this log's history: the archive may hold timelines that no
    /// member leads. Every second try is towards the latest again.
    pub fn start_target(&self) -> Option<Timeline> {
        let failed = self.o.memory.failed.as_ref().filter(|failed| failed.times % 2 == 1)?;
        let as_standby =
            matches!(failed.job, Job::StartStandby { .. } | Job::Restart { as_primary: false });
        let leads = self.view()?.leader_record()?.timeline;
        let other = as_standby && failed.why.contains(OTHER_HISTORY);
        leads.filter(|_| other && self.is_leader_elsewhere())
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

    /// The last start as a primary, or of a standby that is to become one, failed or was
    /// given up.
    pub fn has_start_failed(&self) -> bool {
        self.o.memory.failed.as_ref().is_some_and(|failed| self.is_to_lead(&failed.job))
    }

    /// A start from whose end on this member leads.
    fn is_to_lead(&self, job: &Job) -> bool {
        match job {
            Job::StartPrimary | Job::Restart { as_primary: true } => true,
            Job::StartStandby { .. } => self.o.holds_lock() && self.may_own(),
            _ => false,
        }
    }

    /// The running action starts a server that is to lead here.
    pub fn starts_to_lead(&self) -> bool {
        let starts = |job: &Job| !matches!(job, Job::Restart { .. }) && self.is_to_lead(job);
        self.job().is_some_and(starts)
    }

    /// How long a primary may take to start before another member leads.
    pub fn primary_start_limit_ms(&self) -> u64 {
        let asked = self.o.memory.start_limit_ms;
        asked.unwrap_or(self.o.dynamic.primary_start_timeout_ms)
    }
}
