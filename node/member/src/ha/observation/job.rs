//! The one background slot: what may run there, and what it is called.
//!
//! Invariant: one at a time; the server that a job works against is part of the job.

use super::{Following, ShutdownState};
use topology::{Millis, Timeline};

/// What the slot is doing.
#[derive(Clone, Debug, PartialEq)]
pub struct Running {
    pub job: Job,
    pub since: Millis,
    /// A stop has written its shutdown checkpoint; the postmaster still lives,
    /// for its archiver or its receivers.
    pub closed: Option<ShutdownState>,
    pub ending: Ending,
}

/// How far a stop has come, and who still receives its log.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Ending {
    /// No client is left.
    pub quiet_since: Option<Millis>,
    /// The shutdown checkpoint is written.
    pub closed_since: Option<Millis>,
    pub physical: usize,
    pub logical: usize,
}

impl Ending {
    pub fn receivers(&self) -> usize {
        self.physical + self.logical
    }
}

/// A long action. One at a time; `decide` may cancel it.
#[derive(Clone, Debug, PartialEq)]
pub enum Job {
    /// initdb, first start, users.
    Bootstrap,
    /// A copy of `from` into the empty data directory.
    Clone {
        from: Following,
    },
    /// A copy from a backup, without a member to ask.
    Restore,
    StartPrimary,
    StartStandby {
        follow: Option<Following>,
        /// The timeline to recover to; `None`: the latest there is.
        target: Option<Timeline>,
    },
    /// `checkpoint`: flush first, while clients still write.
    Stop {
        how: StopHow,
    },
    Restart {
        as_primary: bool,
    },
    /// The operator's `pre_promote` command.
    PrePromote,
    /// Crash recovery in single-user mode: an orderly stop, for a rewind.
    Recover,
    /// The same for a standby, on its own timeline. No record is added to its log: it is
    /// started without a source and stopped in order.
    RecoverStandby {
        timeline: Timeline,
    },
    Rewind {
        from: Following,
    },
    /// Throws the data directory away and clones: only ever decided with a
    /// good source at hand and the permission to do so.
    Rebuild {
        from: Following,
        why: Rebuild,
    },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StopHow {
    /// CHECKPOINT, then fast: the shortest time without a primary.
    Planned,
    Fast,
    Immediate,
    /// Fast, of a primary whose cluster is to follow another one: that one must
    /// get the end of this log, by the archive if by nothing else.
    Demoted,
    /// Immediate, of a server that takes too long to start and whose lock goes
    /// to another member.
    Overdue,
}

impl StopHow {
    pub fn is_immediate(self) -> bool {
        matches!(self, StopHow::Immediate | StopHow::Overdue)
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rebuild {
    /// An operator asked (reinitialize).
    Asked,
    /// The same, with a base backup of the leader.
    AskedFromLeader,
    /// Diverged, and the setting for it is on.
    Diverged,
}

impl Job {
    /// The same once more; a rewind against another source is another one.
    pub fn is_again(&self, job: &Job) -> bool {
        match (self, job) {
            (Job::Rewind { from: old }, Job::Rewind { from: new }) => old.member == new.member,
            _ => self.title() == job.title(),
        }
    }

    /// It makes or replaces the data directory: nothing else writes there.
    pub fn writes_the_data(&self) -> bool {
        use Job::{Bootstrap, Clone, Rebuild, Restore, Rewind};
        matches!(self, Bootstrap | Clone { .. } | Rebuild { .. } | Restore | Rewind { .. })
    }

    /// What the API and the logs call it.
    pub fn title(&self) -> &'static str {
        match self {
            Job::Bootstrap => "bootstrap",
            Job::Clone { .. } => "bootstrap from leader",
            Job::Restore => "bootstrap without leader",
            Job::StartPrimary => "starting primary after failure",
            Job::StartStandby { .. } => "starting",
            Job::Stop { .. } => "stopping",
            Job::Restart { .. } => "restart",
            Job::PrePromote => "promote",
            Job::Recover => "crash recovery in single-user mode",
            Job::RecoverStandby { .. } => "crash recovery of a standby",
            Job::Rewind { .. } => "running pg_rewind",
            Job::Rebuild { .. } => "reinitialize",
        }
    }
}
