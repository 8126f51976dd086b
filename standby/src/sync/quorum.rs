//! Quorum mode: any `count` of the names confirm a commit, and a candidate needs
//! the votes of enough members that at least one of them has it.
//!
//! All moves to the wanted state are computed each time from what is seen
//! (`resolve.rs`), and the first that changes anything is made. Moves that would
//! rely on confirmations that are not there yet wait for them, or are made with
//! a higher quorum: `gate.rs` decides.
//!
//! Invariant: after every single step, each set of voters that can elect meets
//! each set of standbys that can confirm.

mod resolve;

use super::facts::Facts;
use super::record::Record;
use super::set::NameSet;
use super::{CONFIRM_MS, Names, Step};
use resolve::{Move, State};

/// Between two looks while no standby has confirmed yet.
const LOOK_AGAIN_MS: u64 = 1_000;

pub(super) fn next(f: &Facts) -> Option<Step> {
    if !f.is_mine {
        return Some(take_over(f));
    }
    let active = active(f);
    let voters = &f.record.standbys;
    if (active.len() as u64) < f.policy.least() {
        let count = (voters.len() as u64).saturating_sub(f.record.quorum);
        return f.name(Names::any(count.max(f.policy.least()), voters));
    }
    if active.is_empty() && voters.is_empty() {
        return f.name(Names::none());
    }
    if is_no_standby_back(f, &active)
        && let Some(wait) = f.wait(CONFIRM_MS)
    {
        return Some(wait);
    }
    if let Some(form) = form(f) {
        return Some(form);
    }
    let state = state(f, active);
    // The contract would let all the names vote here, whether or not they have
    // what was acknowledged before. I have it, and they join once they do.
    if !state.is_sound() {
        return Some(f.alone());
    }
    // A quorum higher than it need be waits for confirmations.
    let is_high = state.quorum > state.names.count() - state.count;
    let rest = || if is_high { f.wait(LOOK_AGAIN_MS) } else { None };
    first(f, &state.moves()).unwrap_or_else(rest)
}

/// `/sync` of an earlier leader: that leader votes like its standbys from now on,
/// if the names in force allow it. Else only this member is known to have what it
/// has acknowledged since it opened.
fn take_over(f: &Facts) -> Step {
    let state = state(f, NameSet::default());
    let is_named = !f.names.names.is_empty() && state.is_sound();
    f.write(&f.record).filter(|_| is_named).unwrap_or_else(|| f.alone())
}

/// Just opened, or cut off: none of those that have what is acknowledged streams
/// yet. They get a moment before the others go on without them.
fn is_no_standby_back(f: &Facts, active: &NameSet) -> bool {
    let names = f.names.set();
    !f.record.standbys.is_empty() && !names.is_empty() && names.common(active).is_empty()
}

/// The standbys to wait for: all; those that may not lead only if there are too few.
fn active(f: &Facts) -> NameSet {
    let wanted = usize::try_from(wanted(f)).unwrap_or(usize::MAX);
    let taken = f.candidates.iter().enumerate().filter(|(at, c)| !c.nofailover || *at < wanted);
    taken.map(|(_, c)| c.name.clone()).collect()
}

fn wanted(f: &Facts) -> i64 {
    i64::try_from(f.policy.node_count).unwrap_or(i64::MAX).max(1)
}

fn state(f: &Facts, active: NameSet) -> State {
    let names = f.names.set().without(f.me);
    State {
        quorum: i64::try_from(f.record.quorum).unwrap_or(i64::MAX / 2),
        voters: f.record.standbys.clone(),
        count: (f.names.promised() as i64).min(names.count()),
        confirmed: f.ready.common(&active).common(&names).count(),
        names,
        active,
        wanted: wanted(f),
    }
}

/// The first move that changes anything. `Some(None)`: there is one, but not yet.
fn first(f: &Facts, moves: &[Move]) -> Option<Option<Step>> {
    let same_kind = |a: &Move, b: &Move| std::mem::discriminant(a) == std::mem::discriminant(b);
    for run in moves.chunk_by(same_kind) {
        match run.last()? {
            Move::Restart => return Some(f.wait(LOOK_AGAIN_MS)),
            Move::Sync { count, names } => {
                let count = u64::try_from(*count).unwrap_or(0).max(f.policy.least());
                let names = Names::any(count, names);
                if !f.names.is_same(&names) {
                    return Some(f.name(names));
                }
            }
            Move::Quorum { quorum, voters } => {
                let quorum = u64::try_from(*quorum).unwrap_or(0);
                let record = Record { standbys: voters.clone(), quorum };
                if record != f.record {
                    return Some(record_or_wait(f, &record));
                }
            }
        }
    }
    None
}

/// With the smallest quorum that loses nothing; the rest when more have
/// confirmed.
fn record_or_wait(f: &Facts, wanted: &Record) -> Option<Step> {
    let highest = (wanted.standbys.len() as u64).saturating_sub(1).max(wanted.quorum);
    let records = (wanted.quorum..=highest).map(|quorum| Record { quorum, ..wanted.clone() });
    match records.into_iter().find(|record| f.may_write(record)) {
        Some(record) if record != f.record => f.write(&record),
        _ => f.wait(LOOK_AGAIN_MS),
    }
}

/// Only names in the form of this mode are confirmed in its way; and as many
/// are to confirm as there are at most.
fn form(f: &Facts) -> Option<Step> {
    let names = f.names.set().without(f.me);
    if names.is_empty() {
        return None;
    }
    let count = f.names.promised().min(names.len() as u64);
    f.name(Names::any(count.max(f.policy.least()), &names))
}

#[cfg(test)]
#[path = "quorum_tests.rs"]
mod tests;
