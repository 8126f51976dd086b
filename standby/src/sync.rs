//! Synchronous replication: who must have a commit before it is acknowledged,
//! and who may lead because of it.
//!
//! Two places say it: `synchronous_standby_names` of the primary (who confirms)
//! and `/sync` in the store (who may be elected). Only one of them changes at a
//! time, and somebody may die between any two changes.
//!
//! Invariant *nothing acknowledged is lost*: whoever `/sync` allows to lead has
//! every commit that was acknowledged. A name is first waited for, then proves
//! that it has what was acknowledged before, and only then comes into `/sync`;
//! it leaves `/sync` first and is waited for no longer afterwards. `gate.rs`
//! says when a single change keeps that; no step leaves here that it refuses.
//!
//! One step at a time: the caller does it, looks at the world again, and asks
//! again. All is computed from what is seen, so it does not matter who began.
//!
//! Absent on purpose: doing it (`node`), and the election itself
//! (`promotion`).

mod candidates;
mod confirm;
mod gate;
mod names;
mod opening;
mod priority;
mod quorum;
mod set;
mod situation;

#[cfg(test)]
mod fixture;
#[cfg(test)]
mod model;

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
    /// So many standbys must be waited for, even where there are none.
    pub fn least(&self) -> u64 {
        u64::from(self.strict)
    }
}

/// One step; the caller does it, looks again, and asks again.
#[derive(Clone, Debug, PartialEq)]
pub enum Step {
    /// Write `/sync`, on the revision that is in the view (create if absent).
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
