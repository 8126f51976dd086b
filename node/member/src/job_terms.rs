//! The terms of a job, as of the look at which it was decided.

use super::Member;
use super::events::EventRow;
use super::overrides::Overrides;
use super::stop::StopPlan;
use crate::ha::Observation;
use crate::ha::facts::Facts;
use crate::ha::observation::{Asked, Disk, Following, Job, Rebuild};
use standby::slots::NATIVE;
use std::time::Duration;
use topology::{SystemId, Timeline};

/// Longer than any recovery of a new cluster should take.
const NEW_CLUSTER_MS: u64 = 24 * 3_600_000;
/// A crashed standby that is to be stopped in order may take this long to replay what it has.
const REPLAY_MS: u64 = 3_600_000;
/// For `pre_promote` where `primary_start_timeout` is 0, which is meant for crashes.
const GATE_MS: u64 = 300_000;
/// A start waits this long for the leader's slots.
const SLOTS_MS: u64 = 3_000;
/// A server that restarts for them alone runs meanwhile, but takes part in no election. A distant
/// leader takes some round trips for each slot.
const SLOTS_OF_PURPOSE_MS: u64 = 10_000;

/// What a job goes by. A job uses what concerns it.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct JobTerms {
    pub overrides: Overrides,
    /// The server that a restarted standby streams from.
    pub follow: Option<Following>,
    pub start: StartLimit,
    /// How long `pre_promote` may take. The lock is held meanwhile, and another member
    /// might open sooner.
    pub gate_ms: u64,
    /// The stop that is a part of it.
    pub stop: StopPlan,
    /// A copy by pg_basebackup alone: an operator wants the leader's own data.
    pub plain_copy: bool,
    /// The source of a rewind must be a primary. Elsewhere a standby may lead the group.
    pub from_primary: bool,
    /// The timeline of the history that this log was compared with.
    pub at_least: Option<Timeline>,
    /// The cluster that a copy must be of.
    pub system: Option<SystemId>,
    /// What the coordinator is told before an orderly stop is signalled.
    pub event: Option<&'static EventRow>,
    /// Logical slots that a standby gets before it starts.
    pub copies: Option<SlotCopies>,
}

/// Logical slots to copy from a leader before a standby starts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SlotCopies {
    pub from: Following,
    pub system: SystemId,
    pub slots: Vec<SlotCopy>,
    /// The server restarts for nothing else.
    pub is_purpose: bool,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SlotCopy {
    pub name: String,
    pub database: String,
    pub plugin: String,
    /// The one that is there is of no use.
    pub replaces: bool,
}

/// How long the start of a server may take.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum StartLimit {
    /// As the request says: a start that takes longer has failed.
    Asked(u64),
    /// As any start of its kind.
    General(u64),
    /// As long as PostgreSQL's tools wait for a start (`pg_ctl_timeout`).
    #[default]
    OfTools,
}

/// What a restart comes to when it was not said how long it may take.
pub const STILL_STARTING: &str = "postgres is still starting";

impl StartLimit {
    /// `of_tools_ms`: `pg_ctl_timeout`.
    pub fn ms(self, of_tools_ms: u64) -> u64 {
        match self {
            StartLimit::Asked(ms) | StartLimit::General(ms) => ms,
            StartLimit::OfTools => of_tools_ms,
        }
    }
}

impl JobTerms {
    /// What the job comes to when its server does not accept connections in time. The start goes
    /// on, and a long recovery is watched by the beats, in which others may take over.
    pub fn late_start(&self, job: &Job) -> Result<(), String> {
        match (job, self.start) {
            (Job::Restart { .. }, StartLimit::Asked(ms)) => {
                let limit = Duration::from_millis(ms);
                Err(format!("no connections are accepted after {limit:?}"))
            }
            (Job::Restart { .. }, _) => Err(STILL_STARTING.to_string()),
            _ => Ok(()),
        }
    }
}

impl SlotCopies {
    /// Only a server before PostgreSQL 17 takes copies at its start; a later one makes its own.
    pub fn fits(major: u32) -> bool {
        major < NATIVE
    }

    /// How long they may take to be read.
    pub fn limit_ms(&self) -> u64 {
        if self.is_purpose { SLOTS_OF_PURPOSE_MS } else { SLOTS_MS }
    }

    /// With this many slots read, the stop of a restart removes no WAL: they begin in what the
    /// server has, and it does not know of them yet.
    pub fn need_log(read: usize) -> bool {
        read > 0
    }

    /// Why the restart is not worth it, with this many slots read from the leader.
    pub fn refusal(&self, read: usize) -> Option<&'static str> {
        let is_vain = self.is_purpose && read == 0;
        is_vain.then_some("no logical slot could be copied from the leader")
    }
}

impl Member {
    pub(super) fn job_terms(&self, job: &Job, seen: &Observation) -> JobTerms {
        JobTerms {
            overrides: self.overrides_of(seen, job),
            follow: seen.follows().cloned().or_else(|| Facts::of(seen).upstream()),
            start: match job {
                Job::Restart { .. } => self.restart_limit(),
                Job::Bootstrap => StartLimit::General(NEW_CLUSTER_MS),
                Job::RecoverStandby { .. } => StartLimit::General(REPLAY_MS),
                _ => StartLimit::OfTools,
            },
            gate_ms: match self.dynamic.primary_start_timeout_ms {
                0 => GATE_MS,
                limit => limit,
            },
            // On a full disk a checkpoint would end in a PANIC, and the stop would then wait for a
            // crash recovery that has no room either.
            stop: StopPlan::of(job, &self.dynamic, seen.disk == Disk::Well),
            plain_copy: match job {
                Job::Rebuild { why, .. } => *why == Rebuild::AskedFromLeader,
                _ => seen.memory.asked == Some(Asked::ReinitializeFromLeader),
            },
            from_primary: seen.may_own(),
            at_least: seen.memory.compared_timeline,
            system: seen.view().and_then(|view| view.initialize.as_ref()?.value.clone()),
            event: self.event_before(job, seen),
            copies: None,
        }
    }

    fn restart_limit(&self) -> StartLimit {
        match (self.memory.start_limit_ms, self.dynamic.primary_start_timeout_ms) {
            (Some(asked), _) => StartLimit::Asked(asked),
            (None, 0) => StartLimit::OfTools,
            (None, limit) => StartLimit::General(limit),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ha::sample;
    use topology::Millis;

    fn member(seen: &Observation) -> Member {
        let mut member = Member::new(seen.me.name.clone(), 20, Millis(0));
        member.dynamic = seen.dynamic.clone();
        member
    }

    #[test]
    fn a_start_may_take_what_was_asked_for_else_what_is_configured() {
        let seen = sample::follower();
        let mut member = member(&seen);
        let limits = |member: &Member| {
            let terms = member.job_terms(&Job::Restart { as_primary: false }, &seen);
            (terms.start, terms.gate_ms)
        };
        member.dynamic.primary_start_timeout_ms = 0;
        assert_eq!(limits(&member), (StartLimit::OfTools, GATE_MS));
        member.dynamic.primary_start_timeout_ms = 7_000;
        assert_eq!(limits(&member), (StartLimit::General(7_000), 7_000));
        member.memory.start_limit_ms = Some(5_000);
        assert_eq!(limits(&member), (StartLimit::Asked(5_000), 7_000));
    }

    #[test]
    fn a_restarted_standby_streams_from_where_it_did_and_only_a_leaders_data_is_copied_plain() {
        let mut seen = sample::follower();
        let member = member(&seen);
        let restart = Job::Restart { as_primary: false };
        let terms = member.job_terms(&restart, &seen);
        assert_eq!(terms.follow.as_ref(), seen.follows());
        assert!(terms.follow.is_some() && !terms.plain_copy);
        let planned = Job::Restart { as_primary: true };
        assert!(member.job_terms(&planned, &seen).stop.checkpoints);
        seen.disk = Disk::Failing { since: seen.now, why: "it is full".into() };
        assert!(!member.job_terms(&planned, &seen).stop.checkpoints);
        seen.memory.asked = Some(Asked::ReinitializeFromLeader);
        let from = terms.follow.expect("just seen");
        assert!(member.job_terms(&Job::Clone { from: from.clone() }, &seen).plain_copy);
        let diverged = Job::Rebuild { from, why: Rebuild::Diverged };
        assert!(!member.job_terms(&diverged, &seen).plain_copy, "for another reason");
    }

    #[test]
    fn only_a_restart_that_is_late_has_failed() {
        let terms = |start| JobTerms { start, ..JobTerms::default() };
        let restart = Job::Restart { as_primary: true };
        let asked = terms(StartLimit::Asked(5_000)).late_start(&restart);
        assert_eq!(asked, Err("no connections are accepted after 5s".into()));
        let general = terms(StartLimit::General(5_000)).late_start(&restart);
        assert_eq!(general, Err(STILL_STARTING.into()));
        let seen = sample::follower();
        let terms = member(&seen).job_terms(&Job::StartPrimary, &seen);
        assert_eq!((terms.start, terms.start.ms(60_000)), (StartLimit::OfTools, 60_000));
        assert_eq!(terms.late_start(&Job::StartPrimary), Ok(()), "the beats watch it");
    }

    #[test]
    fn a_restart_for_nothing_but_copies_is_refused_without_any() {
        let from = sample::follower().follows().cloned().expect("it streams");
        let (system, slots) = (SystemId("1".into()), Vec::new());
        let copies = SlotCopies { from, system, slots, is_purpose: true };
        assert!(copies.refusal(0).is_some() && copies.refusal(1).is_none());
        assert!(SlotCopies::need_log(1) && !SlotCopies::need_log(0));
        assert!(SlotCopies::fits(16) && !SlotCopies::fits(17));
        let beside = SlotCopies { is_purpose: false, ..copies.clone() };
        assert!(beside.refusal(0).is_none());
        assert!(
            beside.limit_ms() < copies.limit_ms(),
            "a server that is down does not wait for long"
        );
    }
}
