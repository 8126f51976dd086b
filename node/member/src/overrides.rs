//! Settings that a server of this member has beside the configured ones.
//!
//! Every row that applies adds its part. The values that PostgreSQL reads are made of
//! the result by its performer (`daemon/overrides.rs`); the simulator takes it as it is.

use super::Member;
use crate::ha::Observation;
use crate::ha::facts::Facts;
use crate::ha::observation::Job;
use standby::switch::ownership::Ownership;
use topology::Timeline;

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
];

impl Member {
    /// For the server that runs.
    pub(super) fn overrides(&self, seen: &Observation) -> Overrides {
        self.overrides_for(&Purpose { seen, job: None })
    }

    /// For the server that this job starts.
    pub(super) fn overrides_of(&self, seen: &Observation, job: &Job) -> Overrides {
        self.overrides_for(&Purpose { seen, job: Some(job) })
    }

    fn overrides_for(&self, purpose: &Purpose) -> Overrides {
        let mut set = Overrides::default();
        for row in OVERRIDES.iter().filter(|row| (row.when)(self, purpose)) {
            (row.sets)(purpose, &mut set);
        }
        set
    }

    /// Only groups of Citus have rows that could name another region.
    fn is_quarantined(&self, purpose: &Purpose) -> bool {
        let is_closed = match &purpose.seen.ownership {
            Ownership::NoRegions => false,
            Ownership::Owner { opening, .. } => *opening && !self.is_rewired(),
            Ownership::Standby { .. } | Ownership::Doubtful(_) => true,
        };
        is_closed && purpose.seen.me.group.0.is_some()
    }
}
