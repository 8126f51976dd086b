//! Small groups, followed through everything that can happen to them.
//!
//! Members stream, fall behind, leave and come back; commits are acknowledged as
//! soon as the names in force allow it; the daemon forgets what it remembered;
//! the leader dies between any two steps and any member that `/sync` allows takes
//! over, or dies on the way. In every state each member that may lead has
//! everything that was acknowledged; from every state the steps end, and where all
//! streaming standbys go on streaming they end in what is wanted.
//!
//! The model checker is `stateright`, breadth first: a counterexample is one of the
//! shortest. A run in which a guard is taken out must find one, else the model does
//! not see what the guard is for.
//!
//! The model is harsher than reality: a commit is acknowledged at once, any set
//! of voters may be the ones that are reached, and the leader of `/sync` may
//! always lead. It is milder in one thing: a diverged log is cut to the new
//! leader's when that leader opens.

mod check;
mod group;
mod properties;

use super::{Policy, SyncRank};
use check::{counterexample, explore};
use topology::SyncMode;

/// A guard that a run takes out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Flaw {
    /// A new leader opens before `/sync` and the names are its own.
    OpensUnprepared,
    /// A standby is ready as soon as it is named.
    TrustsWithoutProof,
    /// A standby that leaves is taken from the names before it is taken from `/sync`.
    DropsNamesFirst,
    /// In quorum mode any voter leads, without the votes of others.
    LeadsWithoutVotes,
}

fn policy(mode: SyncMode, strict: bool, node_count: u64) -> Policy {
    Policy { mode, strict, node_count, maximum_lag: None }
}

const KINDS: [(bool, u64); 4] = [(false, 1), (false, 2), (true, 1), (true, 2)];

#[test]
fn priority_loses_nothing_and_settles() {
    for (strict, count) in KINDS {
        explore(3, &[policy(SyncMode::On, strict, count)]);
    }
}

#[test]
fn quorum_loses_nothing_and_settles() {
    for (strict, count) in KINDS {
        explore(3, &[policy(SyncMode::Quorum, strict, count)]);
    }
}

#[test]
fn switching_between_the_modes_and_counts_loses_nothing() {
    let policies = [
        policy(SyncMode::On, false, 2),
        policy(SyncMode::Quorum, false, 1),
        policy(SyncMode::Quorum, true, 2),
    ];
    explore(3, &policies);
}

#[test]
fn larger_groups_lose_nothing_and_settle() {
    for count in 1..=3 {
        for mode in [SyncMode::On, SyncMode::Quorum] {
            explore(4, &[policy(mode, false, count)]);
        }
    }
}

#[test]
fn without_one_of_the_guards_a_commit_is_lost() {
    let (on, quorum) = (policy(SyncMode::On, true, 1), policy(SyncMode::Quorum, false, 1));
    for (flaw, policy) in [
        (Flaw::OpensUnprepared, on),
        (Flaw::OpensUnprepared, quorum),
        (Flaw::TrustsWithoutProof, on),
        (Flaw::TrustsWithoutProof, quorum),
        (Flaw::DropsNamesFirst, on),
        (Flaw::DropsNamesFirst, quorum),
        (Flaw::LeadsWithoutVotes, quorum),
    ] {
        counterexample(3, policy, flaw);
    }
}

/// What PostgreSQL would say of the `at`th of those that stream.
fn rank(method: super::Method, is_named: bool, is_counted: bool) -> SyncRank {
    match (method, is_named, is_counted) {
        (super::Method::Quorum, true, _) => SyncRank::Quorum,
        (super::Method::Priority, true, true) => SyncRank::Sync,
        (super::Method::Priority, true, false) => SyncRank::Potential,
        _ => SyncRank::Async,
    }
}
