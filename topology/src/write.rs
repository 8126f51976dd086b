//! What a store is asked to write, and the marks that it puts on what it holds.
//!
//! A `Write` says what changes and under which condition, in the words of a group:
//! "acquire the lock", "put the status". Where the keys lie and how a store compares
//! is the store module's business (`node/src/dcs/kv/lower.rs`).
//!
//! Invariant *no blind put*: a `Write` carries what it was decided on. The store
//! compares, and writes all of it or nothing.
//!
//! A `Version` says which write a value comes from, a `Session` on which lease it
//! hangs. Both are opaque: rules keep them, compare them and hand them back. Only
//! the store module makes them of a store's own numbers and reads those numbers;
//! `tests/tidy.rs` checks that.

mod region;

use crate::cluster::{Claim, Failover, HistoryEntry, SyncState};
use crate::{Lsn, MemberName, MemberRecord, Status, SystemId};
pub use region::{Acceptance, JournalWrite, Mark, RegionWrite};
use std::collections::BTreeMap;

/// What a store says of a write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Written {
    /// False: a condition did not hold and nothing was written.
    pub succeeded: bool,
    /// The store's version; after a success the version of the keys written.
    pub version: Version,
}

/// The write that a value comes from. A later write has a greater version.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Version(i64);

/// A lease: what is written on it ends with it. No store gives out the default one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Session(i64);

impl Version {
    /// For the store module, and for values that tests make up.
    pub const fn of_store(number: i64) -> Version {
        Version(number)
    }

    /// For the store module.
    pub const fn number(self) -> i64 {
        self.0
    }
}

impl Session {
    /// For the store module, and for values that tests make up.
    pub const fn of_store(number: i64) -> Session {
        Session(number)
    }

    /// For the store module.
    pub const fn number(self) -> i64 {
        self.0
    }
}

/// A value in the place of what was read: of that version, or of nothing.
#[derive(Clone, Debug, PartialEq)]
pub struct Replacement<T> {
    pub value: T,
    pub on: Option<Version>,
}

/// One change of a store. It happens as a whole, if what it was decided on holds
/// still; else nothing happens.
#[derive(Clone, Debug, PartialEq)]
pub enum Write {
    /// Take the lock if no member has it.
    AcquireLock(Box<Acquisition>),
    /// Put the own lock on the lease of this process.
    AdoptLock { me: MemberName, session: Session },
    /// Prove that the lock is this member's and on this lease. Nothing is written.
    ProveLock { me: MemberName, session: Session },
    /// Give the lock away.
    ReleaseLock(Box<Release>),

    /// Begin to make a cluster that the store does not know.
    ClaimInitialize,
    /// Undo that claim. All claims look alike; their versions do not.
    GiveBackInitialize { claim: Version },
    /// Enter the cluster that was made, with its lock.
    FinishBootstrap(Box<NewCluster>),
    /// Enter the system id of a cluster that exists into a store that forgot it.
    EnterSystem(SystemId),

    /// What only the holder of the lock writes: while the lock hangs on this lease.
    AsLeader { session: Session, write: LeaderWrite },

    /// The own record, on the own lease.
    PutRecord { me: MemberName, session: Session, record: Replacement<Box<MemberRecord>> },

    /// The configuration as an operator wants it.
    ReplaceConfig(Replacement<String>),
    /// A request, or the answer to it, which asks for nothing. `leader`: only while
    /// that member leads.
    PutRequest { request: Replacement<Failover>, leader: Option<MemberName> },
    /// Delete all that a cluster may have, and its `others`, while this member leads
    /// or none does. `others` are named relative to the group's place.
    RemoveGroup { leader: Option<MemberName>, others: Vec<String> },
    /// Free the lock of pauses, if it hangs on this lease.
    EndPause { session: Session },
    /// Delete more keys of a cluster that was removed, while no member leads.
    RemoveOthers(Vec<String>),

    /// What regions write of the formation.
    Region(RegionWrite),
}

/// What a leader keeps up to date.
#[derive(Clone, Debug, PartialEq)]
pub enum LeaderWrite {
    /// The timeline to begin: the lock was taken without that claim.
    ClaimTimeline(Replacement<Claim>),
    /// The system id, where the store names none.
    PutSystem(Replacement<SystemId>),
    /// The configuration in force, where the store has no settings.
    PutConfig(Replacement<String>),
    /// The members that may take the lock, with their URLs.
    PutFailsafe(BTreeMap<MemberName, String>),
    /// The report, and its position where old releases read it.
    PutStatus {
        status: Option<Box<Status>>,
        legacy_optime: Option<Lsn>,
    },
    PutSync(Replacement<SyncState>),
    DeleteSync {
        on: Version,
    },
    PutHistory(Vec<HistoryEntry>),
    /// Take the lock that lets one pause of the formation be open. `on`: a lock that this
    /// process has left.
    TakePause {
        group: u32,
        by: MemberName,
        on: Option<Version>,
    },
    /// The coordinator has rewritten its metadata for the region move `id`.
    EndRewiring {
        id: String,
    },
}

/// How a candidate takes the lock, with the versions that it was decided on.
#[derive(Clone, Debug, PartialEq)]
pub struct Acquisition {
    pub me: MemberName,
    pub session: Session,
    pub failsafe: Option<Version>,
    pub status_on: Option<Version>,
    pub sync: Option<Version>,
    pub failover: Option<Version>,
    /// What is left of the request in `/failover`, if there is one.
    pub request: Option<Failover>,
    /// The timeline that a standby claims.
    pub claim: Option<Replacement<Claim>>,
    /// The position from now on, where an operator named a member that is behind the last
    /// one: WAL beyond it is abandoned. Or the end that was handed over, kept until a member
    /// has opened.
    pub status: Option<Status>,
}

/// How a leader gives the lock away.
#[derive(Clone, Debug, PartialEq)]
pub struct Release {
    pub me: MemberName,
    /// The lock as it was seen: a release that arrives late must not meet a lock that
    /// was proven since.
    pub on: Option<Version>,
    /// The position that a successor must have.
    pub status: Option<Status>,
    pub legacy_optime: Option<Lsn>,
    /// The request that the lock is released for, written again beside it.
    pub request: Option<Replacement<Failover>>,
}

/// A cluster that was made.
#[derive(Clone, Debug, PartialEq)]
pub struct NewCluster {
    pub me: MemberName,
    pub session: Session,
    pub system: SystemId,
    /// The own claim on `/initialize`; `None`: the store has forgotten it.
    pub claim: Option<Version>,
    /// Its configuration, where the store has no settings.
    pub config: Option<Replacement<String>>,
}
