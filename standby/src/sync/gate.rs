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
use super::facts::Facts;
use super::record::Record;

impl Facts<'_> {
    /// May `/sync` become this?
    pub(super) fn may_write(&self, record: &Record) -> bool {
        let is_alone = record.standbys.is_empty();
        is_alone
            || record.asks_for_more_than(&self.record)
            || (record.finds_old(&self.ready) && record.finds(&self.names))
    }

    /// May commits be acknowledged by these names from now on? While `/sync` is
    /// that of another leader, it does not say which standbys may be left out.
    pub(super) fn may_name(&self, names: &Names) -> bool {
        self.is_mine && self.record.finds(names)
    }
}
