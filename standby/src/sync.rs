//! Synchronous replication: which standbys must have a commit before it is
//! acknowledged, and which members may lead because of it.
//!
//! Two places say it: `synchronous_standby_names` of the primary (which standbys
//! confirm) and `/sync` in the store (which members may be elected). Only one of
//! them changes at a time, and a member may die between any two changes.
//!
//! Invariant *nothing acknowledged is lost*: every member that `/sync` allows to
//! lead has every acknowledged commit. A standby is first waited for, then proves
//! that it has what was acknowledged before, and only then enters `/sync`; it
//! leaves `/sync` first, and only afterwards commits stop waiting for it.
//! `gate.rs` says when a single change keeps that; no step that it refuses is
//! returned.
//!
//! One step at a time: the caller takes it, reads the state again, and asks
//! again. All is computed from what is seen, so it does not matter which daemon
//! began.
//!
//! Absent on purpose: taking the steps (`node`), and the election itself
//! (`promotion`).

mod acting;
mod candidates;
mod confirm;
mod facts;
mod gate;
mod names;
mod opening;
mod priority;
mod quorum;
mod record;
mod set;
mod situation;

#[cfg(test)]
mod fixture;
#[cfg(test)]
mod model;

pub use acting::{ActingNames, AwaitedNames, NotActing};
pub use confirm::Confirmations;
pub use names::{Method, Names, PLACEHOLDER, never_synchronous};
pub use opening::{at_start, before_opening};
pub use situation::Situation;

use topology::{Lsn, MemberName, SyncMode, SyncState};

/// What a primary sees of those who stream from it.
#[derive(Clone, Debug, PartialEq)]
pub struct Replication {
    /// Its own flushed end of WAL.
    pub lsn: Lsn,
    /// `synchronous_standby_names` in force.
    pub names: String,
    /// Every process of the server has read them; else commits may still go by
    /// what was there before.
    pub is_acting: bool,
    /// `synchronous_commit` of the server: decides which position counts.
    pub commit: String,
    pub senders: Vec<Sender>,
}

/// One row of `pg_stat_replication`.
#[derive(Clone, Debug, PartialEq)]
pub struct Sender {
    /// `application_name`
    pub name: MemberName,
    pub streaming: bool,
    pub sync: SyncRank,
    pub write: Option<Lsn>,
    pub flush: Option<Lsn>,
    pub replay: Option<Lsn>,
}

/// `sync_state`, from the one that matters least.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum SyncRank {
    Async,
    Potential,
    Quorum,
    Sync,
}

impl SyncRank {
    /// As PostgreSQL writes it; what it does not write counts as the least.
    pub fn read(text: &str) -> SyncRank {
        match text {
            "sync" => SyncRank::Sync,
            "quorum" => SyncRank::Quorum,
            "potential" => SyncRank::Potential,
            _ => SyncRank::Async,
        }
    }
}

/// What the operator wants.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Policy {
    pub mode: SyncMode,
    /// Without a standby nothing is acknowledged.
    pub strict: bool,
    pub node_count: u64,
    /// Bytes; `None`: any standby is near enough.
    pub maximum_lag: Option<u64>,
}

impl Policy {
    /// The minimum number of standbys that a commit waits for, even if there are none.
    pub fn least(&self) -> u64 {
        u64::from(self.strict)
    }
}

/// One step; the caller does it, looks again, and asks again.
#[derive(Clone, Debug, PartialEq)]
pub enum Step {
    /// Write `/sync`, on the version that is in the view (create if absent).
    Record(SyncState),
    /// Set `synchronous_standby_names` and reload.
    Names(Names),
    /// Nothing to do before standbys have confirmed, or until so much later.
    Wait { ms: u64 },
}

/// How long standbys have after a change of the names to confirm it before the
/// rest goes on without them.
const CONFIRM_MS: u64 = 2_000;

/// On a primary that leads: what brings `/sync` and the names closer to what is
/// wanted? `None`: all is as it should be, or waits for others.
pub fn next(s: &Situation) -> Option<Step> {
    match s.policy.mode {
        SyncMode::On => priority::next(&s.facts()),
        SyncMode::Quorum => quorum::next(&s.facts()),
        SyncMode::Off => None,
    }
}
