//! `/sync` as the rules weigh it: the standbys that may lead, and the votes they need.

use super::Names;
use super::set::NameSet;
use topology::{MemberName, SyncState};

/// Who may lead, beside me.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Record {
    /// Without me.
    pub standbys: NameSet,
    pub quorum: u64,
}

impl Record {
    /// The leader that wrote it votes like its standbys.
    pub(super) fn read(sync: &SyncState, me: &MemberName) -> Record {
        let voters: NameSet = sync.leader.iter().chain(&sync.standbys).cloned().collect();
        Record { standbys: voters.without(me), quorum: sync.quorum }
    }

    /// Each of them alone may lead.
    pub(super) fn of(standbys: NameSet) -> Record {
        Record { standbys, quorum: 0 }
    }

    /// A member that wins an election under this one also wins one under `other`.
    pub(super) fn asks_for_more_than(&self, other: &Record) -> bool {
        let added = self.standbys.minus(&other.standbys).len() as u64;
        self.quorum >= other.quorum + added
    }

    /// Every commit that has gone by these names is found by every election.
    pub(super) fn finds(&self, names: &Names) -> bool {
        let outside = names.set().minus(&self.standbys).len() as u64;
        let inside = names.promised().saturating_sub(outside);
        self.standbys.len() as u64 <= self.quorum + inside
    }

    /// All that was acknowledged before is found, as these have it.
    pub(super) fn finds_old(&self, ready: &NameSet) -> bool {
        self.standbys.minus(ready).len() as u64 <= self.quorum
    }
}
