//! The local PostgreSQL: its data directory, and the process on it or what that left.
//!
//! Invariant: what could not be read is `Unknown`, and no variant guesses.

use standby::sync::Replication;
use topology::{Lsn, MemberName, Millis, Seen, SystemId, Timeline};

#[derive(Clone, Debug, PartialEq)]
pub struct Postgres {
    pub data: DataDir,
    pub process: Process,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DataDir {
    /// No file is in it, or it is not there.
    Empty,
    /// This member's daemon has begun to fill it, when it was empty or when that
    /// was permitted, and did not come to the end: what, and by which permission.
    Half(String),
    /// There, but not to be touched: foreign files, or another program fills it.
    Refused(String),
    /// PostgreSQL's, but something is missing or cannot be read: only an operator
    /// may have it made anew.
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
    Stopped(Seen<ShutdownState>),
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
    /// Which servers stream from here, and which its commits wait for. `None`: not known.
    pub replication: Option<Replication>,
}

#[derive(Clone, Debug, PartialEq)]
pub enum ServerRole {
    Primary,
    Standby {
        /// Host, port and slot it is configured to stream from.
        follows: Option<Box<Following>>,
        streaming: bool,
    },
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Following {
    pub host: String,
    pub port: u16,
    pub slot: Option<String>,
    /// The database that its address names; `None`: the own maintenance database.
    pub database: Option<String>,
    /// Empty where the settings of a server were read: they name none.
    pub member: MemberName,
}

/// What a stopped server left behind, from its control file.
#[derive(Clone, Debug, PartialEq)]
pub struct ShutdownState {
    pub end: End,
    pub timeline: Timeline,
    /// A backup that an operator or a tool put here and that was never started.
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
    /// The same, with a log that no standby replays: pg_resetwal made it, or a server
    /// with `wal_level = minimal`.
    Minimal,
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
