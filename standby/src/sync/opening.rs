//! What has to hold before a server opens, and with which names it starts.
//!
//! A server that opens acknowledges commits at once. Before it does, `/sync`
//! must not let a member lead that may lack them, and its names must be
//! those that `/sync` relies on.

use super::record::Record;
use super::set::NameSet;
use super::{Names, Policy, Step};
use topology::{MemberName, SyncMode, SyncState};

/// Before this standby opens: what has to be done first? `None`: it may.
///
/// In quorum mode the names come first, then `/sync` with the old leader among
/// those who vote. (The contract writes `/sync` only after the promotion. Until
/// then the old leader would pass for the one that has everything, and could
/// lead alone without what this one has acknowledged meanwhile.)
pub fn before_opening(
    me: &MemberName,
    sync: Option<&SyncState>,
    in_force: &Names,
    policy: &Policy,
) -> Option<Step> {
    let sync = sync.filter(|sync| sync.is_active());
    let wanted = wanted(me, sync, policy)?;
    let names = at_start_with(me, sync, &wanted, policy);
    let is_named = in_force.is_same(&names);
    match sync {
        _ if policy.mode == SyncMode::Quorum && !is_named => Some(Step::Names(names)),
        Some(sync) if is_written(sync, me, &wanted) => (!is_named).then_some(Step::Names(names)),
        _ => Some(Step::Record(SyncState {
            leader: Some(me.clone()),
            standbys: wanted.standbys.sorted(),
            quorum: wanted.quorum,
        })),
    }
}

/// The names with which a primary must start when nothing else is known of
/// them, so that nothing is acknowledged that a member of `/sync` may lack.
/// `None`: the user's own.
pub fn at_start(me: &MemberName, sync: Option<&SyncState>, policy: &Policy) -> Option<Names> {
    let sync = sync.filter(|sync| sync.is_active());
    let wanted = match (policy.mode, sync) {
        (SyncMode::Off, _) => return None,
        (_, Some(sync)) => Record::read(sync, me),
        (_, None) => Record::default(),
    };
    Some(at_start_with(me, sync, &wanted, policy))
}

/// Those who may lead beside me once I have opened.
fn wanted(me: &MemberName, sync: Option<&SyncState>, policy: &Policy) -> Option<Record> {
    let others = sync.map(|sync| Record::read(sync, me)).unwrap_or_default();
    match policy.mode {
        SyncMode::Off => None,
        SyncMode::On if policy.strict && others.quorum == 0 => Some(others),
        // Of a quorum none has everything by itself.
        SyncMode::On => Some(Record::of(NameSet::default())),
        SyncMode::Quorum => Some(others),
    }
}

fn is_written(sync: &SyncState, me: &MemberName, wanted: &Record) -> bool {
    let is_leader = |by: &MemberName| by.as_str().eq_ignore_ascii_case(me.as_str());
    sync.leader.as_ref().is_some_and(is_leader) && Record::read(sync, me) == *wanted
}

/// The wanted standbys, with a count that lets every election find what they confirm.
fn at_start_with(
    me: &MemberName,
    sync: Option<&SyncState>,
    wanted: &Record,
    policy: &Policy,
) -> Names {
    let others = &wanted.standbys;
    if policy.mode != SyncMode::Quorum {
        return Names::all(others, policy.least());
    }
    // If I had no vote so far, there is one more of them than were to confirm.
    let voted = sync.is_some_and(|sync| sync.is_member(me));
    let voters = others.len() as u64 + u64::from(voted);
    let count = voters.saturating_sub(wanted.quorum + 1) + u64::from(!voted && sync.is_some());
    Names::any(count.max(policy.least()), others)
}

#[cfg(test)]
#[path = "opening_tests.rs"]
mod tests;
