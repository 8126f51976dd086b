//! What one member sees in one beat: a value, complete, without a clock.
//!
//! `decide` reads this and nothing else; the simulator builds the same value
//! from its model. What a beat remembers for the next one is in `Memory`.

mod detour;
mod failsafe;
mod job;
mod memory;
mod postgres;

pub use detour::Detour;
pub use failsafe::{Asker, Failsafe, Promise};
pub use job::{Ending, Job, Rebuild, Running, StopHow};
pub use memory::{Asked, Bootstrapping, Divergence, Failed, Fit, Gate, Memory};
pub use postgres::{
    DataDir, End, Following, Postgres, Process, Server, ServerRole, Shut, ShutdownState,
};

use standby::promotion::PeerAnswer;
use standby::switch::ownership::{Order, Ownership};
use topology::{Dynamic, Group, GroupView, History, MemberName, Millis, Seen, SystemId, Tags};

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

    pub fn shutdown_state(&self) -> Option<&ShutdownState> {
        match &self.postgres.process {
            Process::Stopped(Seen::Known(shutdown_state)) => Some(shutdown_state),
            _ => None,
        }
    }

    /// A server runs that is not known to be read-only: a primary, one that opens or
    /// recovers after a backend crashed, or one that does not answer.
    pub fn may_write(&self) -> bool {
        match &self.postgres.process {
            Process::Running(server) => {
                !matches!(server.role, Seen::Known(ServerRole::Standby { .. }))
            }
            Process::Starting { as_primary, .. } => *as_primary,
            Process::Stopped(_) => false,
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
            ServerRole::Standby { follows, .. } => follows.as_deref(),
            ServerRole::Primary => None,
        }
    }

    /// A standby is set to stream from this member, by its address: the settings of a server
    /// name none.
    pub fn follows_member(&self, name: &MemberName) -> bool {
        let record = self.view().and_then(|view| view.member(name));
        let address = record.and_then(|record| record.address());
        address.zip(self.follows()).is_some_and(|((host, port), source)| {
            (host.as_str(), port) == (source.host.as_str(), source.port)
        })
    }

    /// A walreceiver streams, from whatever server.
    pub fn receives(&self) -> bool {
        let role = self.server().map(|s| &s.role);
        matches!(role, Some(Seen::Known(ServerRole::Standby { streaming: true, .. })))
    }

    /// Streams, and not from a timeline that the group has left: a diverged
    /// standby connects again and again and streams for moments in between.
    pub fn is_streaming(&self) -> bool {
        let streams = self.receives();
        let mine = self.server().and_then(|s| s.timeline);
        let group = self.view().map(GroupView::timeline);
        let left = matches!((mine, group), (Some(mine), Some(group)) if mine < group);
        streams && !(left && self.may_own())
    }

    pub fn view(&self) -> Option<&GroupView> {
        self.store.known()
    }

    /// Until when this member may write: by its lock, or because all members
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
