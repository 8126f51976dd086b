//! Does this one change keep what was acknowledged?
//!
//! Commits are of two kinds. Old ones were acknowledged before the names in
//! force were set; every *ready* standby has them all. Each new one is on at least
//! `promised()` of the names in force. The leader has all of both kinds. A member
//! of `/sync` wins an election with the votes of `quorum` others that are not
//! ahead of it: if every such set, the winner included, holds a member with every
//! commit, nothing is lost.
//!
//! Invariant *quorum*: the standbys of `/sync` that may lack a commit are never
//! more than its quorum. Priority mode is the case of quorum 0: none may.

use super::Names;
use super::set::NameSet;
use super::situation::Facts;
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
    pub fn read(sync: &SyncState, me: &MemberName) -> Record {
        let everybody: NameSet = sync.leader.iter().chain(&sync.standbys).cloned().collect();
        Record { standbys: everybody.without(me), quorum: sync.quorum }
    }

    /// Each of them alone may lead.
    pub fn of(standbys: NameSet) -> Record {
        Record { standbys, quorum: 0 }
    }

    /// A member that wins an election under this one also wins one under `other`.
    fn asks_for_more_than(&self, other: &Record) -> bool {
        let added = self.standbys.minus(&other.standbys).len() as u64;
        self.quorum >= other.quorum + added
    }

    /// Every commit that has gone by these names is found by every election.
    fn finds(&self, names: &Names) -> bool {
        let outside = names.set().minus(&self.standbys).len() as u64;
        let inside = names.promised().saturating_sub(outside);
        self.standbys.len() as u64 <= self.quorum + inside
    }

    /// All that was acknowledged before is found, as these have it.
    fn finds_old(&self, ready: &NameSet) -> bool {
        self.standbys.minus(ready).len() as u64 <= self.quorum
    }
}

impl Facts<'_> {
    /// May `/sync` become this?
    pub fn may_write(&self, record: &Record) -> bool {
        let is_alone = record.standbys.is_empty();
        is_alone
            || record.asks_for_more_than(&self.record)
            || (record.finds_old(&self.ready) && record.finds(&self.names))
    }

    /// May commits be acknowledged by these names from now on? While `/sync` is
    /// that of another leader, it does not say which standbys may be left out.
    pub fn may_name(&self, names: &Names) -> bool {
        self.is_mine && self.record.finds(names)
    }
}
