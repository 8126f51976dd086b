//! Settings that a server of this member has beside the configured ones.
//!
//! Every row that applies adds its part. The values that PostgreSQL reads are made of
//! the result by its performer (`daemon/overrides.rs`); the simulator takes it as it is.

use super::Member;
use crate::ha::Observation;
use crate::ha::facts::Facts;
use crate::ha::observation::Job;
use standby::switch::ownership::Ownership;
use topology::{MemberRole, Timeline};

/// What the files of a server say beside the configuration.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Overrides {
    /// Citus leaves transactions of other nodes alone, and sessions are read-only.
    pub is_quarantined: bool,
    /// `synchronous_standby_names`; `None`: the user's own.
    pub names: Option<String>,
    /// `recovery_target_timeline`; `None`: the latest.
    pub target: Option<Timeline>,
    /// No segment of the log is removed.
    pub keeps_log: bool,
    /// `hot_standby_feedback`.
    pub feedback: bool,
    /// `sync_replication_slots`.
    pub syncs_slots: bool,
    /// `synchronized_standby_slots`.
    pub awaited_slots: Option<Vec<String>>,
}

/// One reason for a setting.
pub struct Override {
    /// Shown on the page of rules; never reused.
    pub id: u16,
    when: fn(&Member, &Purpose) -> bool,
    sets: fn(&Purpose, &mut Overrides),
    pub why: &'static str,
}

/// Which server the settings are for.
struct Purpose<'a> {
    seen: &'a Observation,
    /// The job that starts it; `None`: it runs.
    job: Option<&'a Job>,
    /// What readers of logical slots wait for.
    awaited: Option<Vec<String>>,
}

impl Purpose<'_> {
    /// It is about to be started as a primary.
    fn opens(&self) -> bool {
        matches!(self.job, Some(Job::StartPrimary | Job::Restart { as_primary: true }))
    }

    fn names(&self) -> Option<String> {
        Facts::of(self.seen).sync_names(self.opens())
    }
}

/// A later row replaces what an earlier one has set.
pub const OVERRIDES: &[Override] = &[
    Override {
        id: 1410,
        when: Member::is_quarantined,
        sets: |_, set| set.is_quarantined = true,
        why: "this region is not to be written, or its `pg_dist_node` still names another \
              region: Citus recovers no transactions here, and sessions are read-only",
    },
    Override {
        id: 1420,
        when: |_, purpose| purpose.names().is_some(),
        sets: |purpose, set| set.names = purpose.names(),
        why: "a synchronous mode is or was on: commits wait for the standbys that `/sync` demands",
    },
    Override {
        id: 1430,
        when: |_, purpose| purpose.seen.memory.pinned.is_some() && !purpose.opens(),
        sets: |purpose, set| set.target = purpose.seen.memory.pinned,
        why: "the latest timeline was refused: the standby recovers to the one that it can follow",
    },
    Override {
        id: 1440,
        when: |_, purpose| matches!(purpose.job, Some(Job::StartStandby { .. })),
        sets: |purpose, set| {
            if let Some(Job::StartStandby { target, .. }) = purpose.job {
                set.target = *target;
            }
        },
        why: "a standby is started: it recovers to the timeline that its rule names",
    },
    // pg_rewind reads the log back to the last common checkpoint.
    Override {
        id: 1450,
        when: |_, purpose| matches!(purpose.job, Some(Job::RecoverStandby { .. })),
        sets: |purpose, set| {
            if let Some(Job::RecoverStandby { timeline }) = purpose.job {
                (set.target, set.keeps_log) = (Some(*timeline), true);
            }
        },
        why: "a crashed standby is recovered for a rewind: it stays on its own timeline, and its \
              log is kept",
    },
    Override {
        id: 1460,
        when: |member, purpose| member.keeps_feedback(purpose.seen),
        sets: |_, set| set.feedback = true,
        why: "this member, or one that cascades from it, keeps copies of permanent logical slots: \
              the upstream server must keep the catalogue rows that they need",
    },
    Override {
        id: 1470,
        when: Member::syncs_slots,
        sets: |_, set| set.syncs_slots = true,
        why: "PostgreSQL 17: a standby that streams from the primary has the server copy logical \
              slots, once it runs with wal_level logical and no slot of a former primary is left",
    },
    Override {
        id: 1480,
        when: |_, purpose| purpose.awaited.is_some(),
        sets: |purpose, set| set.awaited_slots.clone_from(&purpose.awaited),
        why: "PostgreSQL 17: readers of logical slots get what the standbys that may lead have, so \
              that none of them is ahead of the next primary",
    },
];

impl Member {
    /// For the server that runs.
    pub(super) fn overrides(&self, seen: &Observation) -> Overrides {
        let awaited = self.awaited_slots(seen).filter(|_| seen.is_primary());
        self.overrides_for(&Purpose { seen, job: None, awaited })
    }

    /// For the server that this job starts.
    pub(super) fn overrides_of(&self, seen: &Observation, job: &Job) -> Overrides {
        let mut purpose = Purpose { seen, job: Some(job), awaited: None };
        purpose.awaited = self.awaited_slots(seen).filter(|_| purpose.opens());
        self.overrides_for(&purpose)
    }

    fn overrides_for(&self, purpose: &Purpose) -> Overrides {
        let mut set = Overrides::default();
        for row in OVERRIDES.iter().filter(|row| (row.when)(self, purpose)) {
            (row.sets)(purpose, &mut set);
        }
        set
    }

    /// A server that cascades has nothing to copy from, and only the leader of a cluster that
    /// follows another one streams from a primary. The server's worker fails beside a leader that
    /// is not open yet, and then rests for a minute. A server that is started gets the setting
    /// when its `wal_level` was seen: a reload is enough for it.
    fn syncs_slots(&self, purpose: &Purpose) -> bool {
        let seen = purpose.seen;
        let is_running = purpose.job.is_none();
        if self.has_broken_copies() || !is_running || !self.may_sync_natively() {
            return false;
        }
        if self.copies_natively_from_remote(seen) {
            return true;
        }
        let leader = seen.view().and_then(|view| view.leader_record());
        if !leader.is_some_and(|leader| leader.role == MemberRole::Primary) {
            return false;
        }
        let is_replica = seen.may_own() && !seen.holds_lock() && !seen.is_primary();
        self.syncs_natively(seen) && is_replica && is_set_to_leader(seen)
    }

    fn is_quarantined(&self, purpose: &Purpose) -> bool {
        self.refuses_writes(purpose.seen)
    }

    /// Only groups of Citus have rows that could name another region.
    pub fn refuses_writes(&self, seen: &Observation) -> bool {
        let is_closed = match &seen.ownership {
            Ownership::NoRegions => false,
            Ownership::Owner { opening, .. } => *opening && !self.is_rewired(),
            Ownership::Standby { .. } | Ownership::Doubtful(_) => true,
        };
        is_closed && seen.me.group.0.is_some()
    }
}

/// This standby streams from the leader, or is to: also one whose tag names another member while
/// no WAL arrives through that.
fn is_set_to_leader(seen: &Observation) -> bool {
    let leader = seen.view().and_then(|view| view.leader_name());
    let wanted = Facts::of(seen).wanted_upstream();
    let is_wanted = wanted.is_some_and(|wanted| Some(&wanted.member) == leader);
    let is_below_another =
        seen.follows().is_some() && leader.is_none_or(|leader| !seen.follows_member(leader));
    is_wanted && !is_below_another
}
