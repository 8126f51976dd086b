//! Priority mode: every name confirms every commit, and each may lead alone.
//!
//! Invariant: a name in `/sync` is in the names in force, all of which are
//! required, and was confirmed there. It is added to the names first and waited
//! for, then to `/sync`; it is removed from `/sync` first.

use super::facts::Facts;
use super::names::Method;
use super::record::Record;
use super::set::NameSet;
use super::{CONFIRM_MS, Names, Step, SyncRank};

pub(super) fn next(f: &Facts) -> Option<Step> {
    if !f.is_mine {
        return Some(f.alone());
    }
    let (picked, confirmed) = (picked(f), confirmed(f));
    let standbys = &f.record.standbys;
    if picked == *standbys && *standbys != confirmed {
        return f.write(&Record::of(confirmed));
    }
    if (picked.len() as u64) < f.policy.least() {
        return f.name(Names::all(standbys, f.policy.least()));
    }
    // A quorum left over from the other mode is as little wanted as a name.
    let common = standbys.common(&confirmed);
    if common != *standbys || f.record.quorum > 0 {
        return f.write(&Record::of(common));
    }
    let wanted = Names::all(&picked, f.policy.least());
    if !f.names.is_same(&wanted) {
        return f.name(wanted);
    }
    if confirmed != picked && f.elapsed_ms < CONFIRM_MS {
        return f.wait(CONFIRM_MS);
    }
    if confirmed == *standbys {
        return None;
    }
    f.write(&Record::of(confirmed))
}

/// The best ones, as many as are wanted.
fn picked(f: &Facts) -> NameSet {
    let wanted = usize::try_from(f.policy.node_count).unwrap_or(usize::MAX);
    f.candidates.iter().take(wanted).map(|c| c.name.clone()).collect()
}

/// Those of them who may lead: nothing is acknowledged without them, now and
/// since they proved to have the rest.
fn confirmed(f: &Facts) -> NameSet {
    let required = f.names.required();
    let are_all_waited_for = f.names.method == Method::Priority;
    let is_now = |c: &&super::candidates::Candidate| {
        c.rank == SyncRank::Sync
            && are_all_waited_for
            && f.ready.contains(c.name)
            && required.contains(c.name)
    };
    let wanted = picked(f);
    let now = f.candidates.iter().filter(is_now).map(|c| c.name.clone());
    now.filter(|name| wanted.contains(name)).collect()
}

#[cfg(test)]
#[path = "priority_tests.rs"]
mod tests;
