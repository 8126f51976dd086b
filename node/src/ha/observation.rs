//! What one member sees in one beat: a value, complete, without a clock.
//!
//! `decide` reads this and nothing else; the simulator builds the same value
//! from its model. What a beat remembers for the next one is in `Memory`.

use super::failsafe::Failsafe;
use standby::promotion::PeerAnswer;
use standby::switch::ownership::{Order, Ownership};
use topology::{
    Dynamic, Group, GroupView, History, Lsn, MemberName, Millis, Seen, SystemId, Tags, Timeline,
};

#[derive(Clone, Debug)]
pub struct Observation {
    pub now: Millis,
    pub me: Me,
    /// The group as the store tells it; `Unknown` while the store is silent.
    pub store: Seen<GroupView>,
    pub lock: Lock,
    pub postgres: Postgres,
    /// What runs in the one background slot.
    pub job: Option<Running>,
    /// Answers of the other members, once they were asked in this beat.
    pub peers: Option<Vec<PeerAnswer>>,
    pub ownership: Ownership,
    pub watchdog: Guarding,
    pub disk: Disk,
    pub order: Option<Order>,
    /// Worker groups that are not open, while a coordinator opens a region.
    pub closed_workers: Vec<Group>,
    /// The settings in force: the store's, or the last that were read.
    pub dynamic: Dynamic,
    pub failsafe: Failsafe,
    /// The history of the own timeline, as far as it lies on disk.
    pub history: Option<History>,
    pub memory: Memory,
}

/// This member, as far as rules need it.
#[derive(Clone, Debug)]
pub struct Me {
    pub name: MemberName,
    pub group: Group,
    pub tags: Tags,
    /// A `bootstrap` section is there: this member may initialise a cluster.
    pub may_initialise: bool,
    /// A method makes a replica from a backup, without any member.
    pub may_restore: bool,
    pub rewind: Rewind,
    /// A `pre_promote` command must say yes before this member opens.
    pub has_gate: bool,
    /// The setting that permits to throw diverged data away.
    pub may_rebuild_diverged: bool,
    /// The same once pg_rewind was tried and has failed.
    pub may_rebuild_failed: bool,
}

/// Can pg_rewind be used on the own data?
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rewind {
    Possible,
    /// `use_pg_rewind` is off.
    Off,
    /// The program is not there.
    NoProgram,
    /// The control file shows neither data checksums nor wal_log_hints.
    NoHints,
}

/// The leader key, as this member may rely on it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Lock {
    /// Known to be absent.
    Free,
    /// Ours until the deadline, counted from before the last renewal was sent.
    /// `renewed` is when that was; 0 when this process has never renewed it.
    Mine {
        renewed: Millis,
        deadline: Millis,
    },
    Other(MemberName),
    /// The store is silent and we never held it, or no longer do.
    Unknown,
}

/// The watchdog of this machine.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Guarding {
    /// None is wanted, or there is none and none is required.
    #[default]
    Unwanted,
    /// It can be armed, as far as can be told without opening it.
    Ready,
    Armed,
    /// It is required and cannot be armed: why.
    Broken(String),
}

/// Whether new files can be written where the data and the log lie.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Disk {
    /// They can, as far as is known.
    #[default]
    Well,
    /// It is full, read-only or broken.
    Failing { since: Millis, why: String },
}

#[derive(Clone, Debug, PartialEq)]
pub struct Postgres {
    pub data: DataDir,
    pub process: Process,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DataDir {
    Empty,
    /// There, but not to be touched: foreign files.
    Refused(String),
    /// PostgreSQL's, but it cannot be read: only an operator may have it made
    /// anew.
    Damaged(String),
    Valid {
        system: SystemId,
    },
}

#[derive(Clone, Debug, PartialEq)]
pub enum Process {
    /// A postmaster runs and does not accept connections yet.
    /// `as_primary`: without being asked again it will accept writes.
    Starting {
        since: Millis,
        as_primary: bool,
    },
    Running(Server),
    /// No postmaster. `Unknown`: the control file could not be read.
    Stopped(Seen<Remains>),
}

/// A server that answers.
#[derive(Clone, Debug, PartialEq)]
pub struct Server {
    /// `Unknown`: it runs but did not answer the monitoring query.
    pub role: Seen<ServerRole>,
    pub timeline: Option<Timeline>,
    /// A primary: flushed. A standby: the larger of received and replayed.
    pub lsn: Lsn,
    /// A standby that stands still: an operator paused it, or its primary has
    /// more of something than it has (PostgreSQL 14 and later).
    pub replay_paused: bool,
    /// What of a standby's recovery is not as it is set up, and comes by a
    /// restart only.
    pub restart_due: Option<String>,
}

#[derive(Clone, Debug, PartialEq)]
pub enum ServerRole {
    Primary,
    Standby {
        /// Host, port and slot it is configured to stream from.
        follows: Option<Following>,
        streaming: bool,
    },
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Following {
    pub host: String,
    pub port: u16,
    pub slot: Option<String>,
    pub member: MemberName,
}

/// What a stopped server left behind, from its control file.
#[derive(Clone, Debug, PartialEq)]
pub struct Remains {
    pub end: End,
    pub timeline: Timeline,
    /// A backup that somebody put here and that was never started.
    pub copied: bool,
    /// A clean stop of a primary: where the shutdown checkpoint begins.
    /// A standby: up to where it must replay to be consistent.
    pub lsn: Lsn,
    pub shut: Shut,
}

/// Whether the data directory is as pg_rewind wants it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shut {
    /// Stopped in order.
    Orderly,
    /// Crash recovery is left to do.
    Abrupt,
    /// There is a backup_label: crash recovery would damage it.
    InBackup,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// A primary that shut down cleanly.
    Clean,
    /// A standby, however it ended.
    Standby,
    /// A primary that crashed.
    Crashed,
    /// A rewind did not come to its end: it looks whole and is not.
    Half,
}

/// What the slot is doing.
#[derive(Clone, Debug, PartialEq)]
pub struct Running {
    pub job: Job,
    pub since: Millis,
    /// A stop has written its shutdown checkpoint; the postmaster still lives,
    /// for its archiver or its receivers.
    pub closed: Option<Remains>,
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
    /// to somebody else.
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

/// What a daemon remembers from beat to beat. Lost when it restarts; nothing
/// here may be needed for safety.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Memory {
    /// The daemon was told to end.
    pub stopping: bool,
    /// This member won `/initialize` and its bootstrap is under way.
    pub bootstrap: Bootstrapping,
    /// Stopped on purpose to hand the lock over, since when.
    pub handover: Option<Millis>,
    /// An operator's request that this leader has seen: since when, and what it
    /// had flushed then.
    pub request_seen: Option<(Millis, Lsn)>,
    /// The lock was taken for an operator's request while paused.
    pub won_in_pause: bool,
    /// Promotion was signalled, since when.
    pub promoting: Option<Millis>,
    pub divergence: Divergence,
    /// Whom the last divergence check was made (or tried) against, and when.
    pub compared_with: Option<MemberName>,
    pub compared_at: Millis,
    /// The own lease: last renewed, and last tried to.
    pub lease_renewed: Millis,
    pub lease_tried: Millis,
    /// A restart or a reinitialize that an operator asked for.
    pub asked: Option<Asked>,
    /// How long the start of an asked restart may take, if that was said.
    pub start_limit_ms: Option<u64>,
    /// What the `pre_promote` command said to the lock held now.
    pub gate: Gate,
    /// The last job that failed: what, when, how often in a row.
    pub failed: Option<Failed>,
    /// When this process began to run.
    pub started: Millis,
    /// The token of the running move was written.
    pub signed: Option<String>,
    /// The standby has not streamed since.
    pub quiet_since: Option<Millis>,
    /// Nobody has held the lock since.
    pub leaderless_since: Option<Millis>,
    /// Who led last, as far as this process has seen.
    pub former_leader: Option<MemberName>,
    /// With data here and nobody leading, `/initialize` was seen to name no
    /// system; until somebody leads again.
    pub forgotten_at: Option<Millis>,
    /// `/initialize` named a system once in this process's life.
    pub knew_system: bool,
    /// A job was begun: the server is no longer as this process found it.
    pub has_begun: bool,
    /// Where the server's log ended, and when it was last seen to grow.
    pub grown_to: Lsn,
    pub grew_at: Millis,
    /// Built anew in pause, and not started yet.
    pub rebuilt_in_pause: bool,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Bootstrapping {
    #[default]
    No,
    Claimed,
    /// The new server runs; the store must be told.
    Built,
    Failed,
    /// `/initialize` was given back: this process ends.
    GivenUp,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Divergence {
    #[default]
    Unchecked,
    Prefix,
    /// The end of the own log cannot be read.
    Unreadable(String),
    Diverged(String),
    /// Diverged, on a timeline of the leader's number: no rewind helps.
    Alien(String),
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Gate {
    #[default]
    Untried,
    Passed,
    Failed(Millis),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Asked {
    Restart,
    Reinitialize,
    ReinitializeFromLeader,
}

#[derive(Clone, Debug, PartialEq)]
pub struct Failed {
    pub job: Job,
    pub at: Millis,
    pub times: u32,
    pub why: String,
}

impl Asked {
    /// What the API calls it.
    pub fn title(self) -> &'static str {
        match self {
            Asked::Restart => "restart",
            Asked::Reinitialize | Asked::ReinitializeFromLeader => "reinitialize",
        }
    }
}

impl Observation {
    pub fn is_primary(&self) -> bool {
        matches!(self.server().map(|s| &s.role), Some(Seen::Known(ServerRole::Primary)))
    }

    pub fn is_standby(&self) -> bool {
        let role = self.server().map(|s| &s.role);
        matches!(role, Some(Seen::Known(ServerRole::Standby { .. })))
    }

    pub fn server(&self) -> Option<&Server> {
        match &self.postgres.process {
            Process::Running(server) => Some(server),
            _ => None,
        }
    }

    pub fn remains(&self) -> Option<&Remains> {
        match &self.postgres.process {
            Process::Stopped(Seen::Known(remains)) => Some(remains),
            _ => None,
        }
    }

    /// A server that will accept writes without being asked again.
    pub fn is_opening(&self) -> bool {
        matches!(self.postgres.process, Process::Starting { as_primary: true, .. })
    }

    pub fn is_stopped(&self) -> bool {
        matches!(self.postgres.process, Process::Stopped(_))
    }

    /// Host and port a standby streams from, by its own settings.
    pub fn follows(&self) -> Option<&Following> {
        match self.server()?.role.known()? {
            ServerRole::Standby { follows, .. } => follows.as_ref(),
            ServerRole::Primary => None,
        }
    }

    /// Streams, and not from a timeline that the group has left: a diverged
    /// standby connects again and again and streams for moments in between.
    pub fn is_streaming(&self) -> bool {
        let role = self.server().map(|s| &s.role);
        let streams =
            matches!(role, Some(Seen::Known(ServerRole::Standby { streaming: true, .. })));
        let mine = self.server().and_then(|s| s.timeline);
        let group = self.view().map(GroupView::timeline);
        let left = matches!((mine, group), (Some(mine), Some(group)) if mine < group);
        streams && !(left && self.may_own())
    }

    pub fn view(&self) -> Option<&GroupView> {
        self.store.known()
    }

    /// Until when this member may write: by its lock, or because everybody
    /// agreed that it leads on.
    pub fn relied_until(&self) -> Option<Millis> {
        let lock = match self.lock {
            Lock::Mine { deadline, .. } if deadline.0 > 0 => Some(deadline),
            _ => None,
        };
        lock.max(self.failsafe.proof)
    }

    pub fn system(&self) -> Option<&SystemId> {
        match &self.postgres.data {
            DataDir::Valid { system } => Some(system),
            _ => None,
        }
    }

    pub fn holds_lock(&self) -> bool {
        matches!(self.lock, Lock::Mine { .. })
    }

    /// May this member's group be open for writes in this region?
    pub fn may_own(&self) -> bool {
        match self.ownership {
            Ownership::NoRegions => self.dynamic.standby_cluster.is_none(),
            Ownership::Owner { .. } => true,
            Ownership::Standby { .. } | Ownership::Doubtful(_) => false,
        }
    }
}

impl Job {
    /// The same once more; a rewind against another source is another one.
    pub fn is_again(&self, job: &Job) -> bool {
        match (self, job) {
            (Job::Rewind { from: old }, Job::Rewind { from: new }) => old.member == new.member,
            _ => self.title() == job.title(),
        }
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
            Job::Rewind { .. } => "running pg_rewind",
            Job::Rebuild { .. } => "reinitialize",
        }
    }
}
