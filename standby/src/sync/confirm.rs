//! Which standbys have proved that they have what was acknowledged before they
//! were waited for.
//!
//! When the names change, everything acknowledged so far lies before the *change
//! point*, the end of the WAL then. A standby that confirms a position past it
//! has all of that; it is *ready*. Commits acknowledged from then on are covered
//! by the names themselves.
//!
//! Invariant: a ready standby has every commit up to the last change of the names
//! that promised more than the names before, and each later commit is on at least
//! `promised()` of the names. So after a change that promises more, every standby
//! must prove it again, except those without which nothing was acknowledged anyway.
//! (The contract keeps marks until a name leaves. With `ANY 1 (a,b)` becoming
//! `ANY 2 (a,b)`, a standby could lead that lacks what only the other one had.)
//!
//! A daemon that starts anew remembers nothing and takes the present as the
//! change point. It trusts only the standbys that its own `/sync` lists in
//! priority mode, if nothing is acknowledged without them.
//!
//! Absent on purpose: making the WAL record that standbys confirm.

use super::candidates::confirmed_position;
use super::set::NameSet;
use super::{Names, Policy, Replication, SyncRank};
use topology::{Lsn, MemberName, Millis, SyncMode, SyncState};

#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Confirmations {
    /// What was last seen in force; `None` at the beginning.
    last: Option<Seen>,
    ready: NameSet,
    /// Standbys listed in a `/sync` of priority mode, and the leader that wrote it.
    listed: NameSet,
    listed_by: Option<MemberName>,
    is_record_wanted: bool,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Seen {
    text: String,
    names: Names,
    /// The change point: the end of the WAL when these names were first seen.
    point: Lsn,
    since: Millis,
}

impl Confirmations {
    /// Takes what is seen now. Begin with the default whenever the server opens
    /// or starts.
    pub fn look(&mut self, seen: &Replication, sync: &SyncState, policy: &Policy, now: Millis) {
        let first = self.last.is_none();
        if self.last.as_ref().is_none_or(|last| last.text != seen.names) {
            self.take_change(seen, now);
        }
        let Some(last) = &self.last else { return };
        let required = last.names.required();
        if first {
            let listed: NameSet = sync.standbys.iter().cloned().collect();
            let believed =
                if sync.quorum == 0 { listed.common(&required) } else { NameSet::default() };
            (self.listed, self.listed_by) = (believed, sync.leader.clone());
        }
        let confirms = |name: &MemberName| {
            seen.senders.iter().any(|sender| {
                sender.streaming
                    && sender.name.as_str().eq_ignore_ascii_case(name.as_str())
                    && is_waited_for(sender.sync, policy)
                    && confirmed_position(sender, &seen.commit).is_some_and(|at| at >= last.point)
            })
        };
        let proved: NameSet = last.names.names.iter().filter(|n| confirms(n)).cloned().collect();
        self.ready = self.ready.union(&proved);
    }

    fn take_change(&mut self, seen: &Replication, now: Millis) {
        let names = Names::parse(&seen.names);
        let still = match &self.last {
            Some(last) if promises_no_more(&names, &last.names) => last.names.set(),
            Some(last) => last.names.required(),
            None => NameSet::default(),
        };
        let still = still.common(&names.set());
        self.ready = self.ready.common(&still);
        self.listed = self.listed.common(&still);
        self.is_record_wanted = !names.names.is_empty();
        let text = seen.names.clone();
        self.last = Some(Seen { text, names, point: seen.lsn, since: now });
    }

    /// A small WAL record is still to be made, so that standbys have something
    /// past the change point to confirm.
    pub fn wants_record(&self) -> bool {
        self.is_record_wanted
    }

    pub fn nudged(&mut self) {
        self.is_record_wanted = false;
    }

    /// Who is ready under the names that are in force, and since when they are.
    pub(super) fn about(&self, seen: &Replication, me: &MemberName) -> (NameSet, Option<Millis>) {
        let Some(last) = self.last.as_ref().filter(|last| last.text == seen.names) else {
            return (NameSet::default(), None);
        };
        let is_mine = self.listed_by.as_ref().is_some_and(|by| same(by, me));
        let ready = if is_mine { self.ready.union(&self.listed) } else { self.ready.clone() };
        (ready, Some(last.since))
    }
}

#[cfg(test)]
impl Confirmations {
    /// For a model that keeps positions small.
    pub(super) fn point_mut(&mut self) -> Option<&mut Lsn> {
        self.last.as_mut().map(|last| &mut last.point)
    }
}

/// The server itself counts on it, in the way of this mode.
fn is_waited_for(rank: SyncRank, policy: &Policy) -> bool {
    rank == if policy.mode == SyncMode::Quorum { SyncRank::Quorum } else { SyncRank::Sync }
}

/// Every commit acknowledged under `old` is on at least `new.promised()` of the new names.
fn promises_no_more(new: &Names, old: &Names) -> bool {
    let gone = old.set().minus(&new.set()).len() as u64;
    old.promised().saturating_sub(gone) >= new.promised()
}

fn same(one: &MemberName, other: &MemberName) -> bool {
    one.as_str().eq_ignore_ascii_case(other.as_str())
}

#[cfg(test)]
#[path = "confirm_tests.rs"]
mod tests;
