//! The terms of a job, as of the look at which it was decided.

use super::Member;
use super::events::EventRow;
use super::overrides::Overrides;
use crate::ha::Observation;
use crate::ha::facts::Facts;
use crate::ha::observation::{Asked, Disk, Following, Job, Rebuild};
use topology::{SystemId, Timeline};

/// For `pre_promote` where `primary_start_timeout` is 0, which is meant for crashes.
const GATE_MS: u64 = 300_000;

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
    /// A checkpoint before a stop is no risk: the disk takes writes.
    pub may_checkpoint: bool,
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

/// How long the start of a restarted server may take.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum StartLimit {
    /// As the request says: a start that takes longer has failed.
    Asked(u64),
    /// As any start of a primary.
    General(u64),
    /// As long as PostgreSQL's tools wait for a start (`pg_ctl_timeout`).
    #[default]
    OfTools,
}

impl Member {
    pub(super) fn job_terms(&self, job: &Job, seen: &Observation) -> JobTerms {
        JobTerms {
            overrides: self.overrides_of(seen, job),
            follow: seen.follows().cloned().or_else(|| Facts::of(seen).upstream()),
            start: self.start_limit(),
            gate_ms: match self.dynamic.primary_start_timeout_ms {
                0 => GATE_MS,
                limit => limit,
            },
            may_checkpoint: seen.disk == Disk::Well,
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

    fn start_limit(&self) -> StartLimit {
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
        assert!(terms.follow.is_some() && terms.may_checkpoint && !terms.plain_copy);
        seen.disk = Disk::Failing { since: seen.now, why: "it is full".into() };
        assert!(!member.job_terms(&restart, &seen).may_checkpoint);
        seen.memory.asked = Some(Asked::ReinitializeFromLeader);
        let from = terms.follow.expect("just seen");
        assert!(member.job_terms(&Job::Clone { from: from.clone() }, &seen).plain_copy);
        let diverged = Job::Rebuild { from, why: Rebuild::Diverged };
        assert!(!member.job_terms(&diverged, &seen).plain_copy, "for another reason");
    }
}
