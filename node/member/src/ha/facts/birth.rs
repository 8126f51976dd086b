//! What there is of the cluster: `/initialize`, a bootstrap under way, and data that
//! an operator wants replaced.
//!
//! Invariant: while the store is silent nothing counts as absent.

use super::Facts;
use crate::ha::observation::{Asked, Bootstrapping, Following, Job, Rebuild};
use standby::switch::ownership::Ownership;

/// Between two tries to enter a new cluster into the store.
pub const ENTRY_AGAIN_MS: u64 = 1_000;
/// From the end of another member's claim to one of our own: that one sees what
/// became of its claim, and tells what it is about.
const CLAIM_REST_MS: u64 = 3_000;
/// States of a member that makes a new cluster.
const MAKES_ONE: [&str; 3] = [
    "initializing new cluster",
    "running custom bootstrap script",
    "starting after custom bootstrap",
];

impl Facts<'_> {
    /// `/initialize` names another system than the local data.
    pub fn is_other_system(&self) -> bool {
        let wanted = self.view().and_then(|v| v.initialize.as_ref()?.value.as_ref());
        matches!((wanted, self.o.system()), (Some(w), Some(mine)) if w != mine)
    }

    pub fn is_initialised(&self) -> bool {
        self.view().is_some_and(|v| v.initialize.as_ref().is_some_and(|i| i.value.is_some()))
    }

    pub fn is_initialize_absent(&self) -> bool {
        self.view().is_some_and(|v| v.initialize.is_none())
    }

    /// An operator wants the data here replaced, and how.
    pub fn reinitialize(&self) -> Option<Rebuild> {
        match self.o.memory.asked? {
            Asked::Reinitialize => Some(Rebuild::Asked),
            Asked::ReinitializeFromLeader => Some(Rebuild::AskedFromLeader),
            Asked::Restart => None,
        }
    }

    /// The server to copy for it. Without a running leader no member is good enough.
    pub fn reinitialize_from(&self) -> Option<Following> {
        match self.reinitialize()? {
            Rebuild::AskedFromLeader => self.leader_source(),
            _ => self.clone_source(),
        }
    }

    pub fn reinitialization(&self) -> Option<Job> {
        Some(Job::Rebuild { from: self.reinitialize_from()?, why: self.reinitialize()? })
    }

    /// The new cluster will not be: `/initialize` is to be given back.
    pub fn is_bootstrap_lost(&self) -> bool {
        let copy = |job: &Job| matches!(job, Job::Clone { .. } | Job::Restore);
        let failed = self.o.memory.failed.as_ref().is_some_and(|f| copy(&f.job));
        let plain = self.o.ownership == Ownership::NoRegions;
        match self.bootstrap() {
            Bootstrapping::Failed => true,
            Bootstrapping::Claimed => plain && failed && self.has_no_data(),
            _ => false,
        }
    }

    /// A new cluster that the store does not know yet.
    pub fn is_half_made(&self) -> bool {
        !matches!(self.bootstrap(), Bootstrapping::No | Bootstrapping::GivenUp)
    }

    /// The store has just refused to take the new cluster; what it holds may be
    /// another moment from what was seen.
    pub fn is_entry_refused(&self) -> bool {
        let at = self.o.memory.entry_refused;
        at.is_some_and(|at| self.o.now.since(at) < ENTRY_AGAIN_MS)
    }

    /// Another member makes a cluster, or did until a moment ago: its claim may
    /// have been wiped, and then its record comes back before the cluster does.
    pub fn is_made_elsewhere(&self) -> bool {
        let since = self.o.memory.claimed_elsewhere;
        let members = self.view().into_iter().flat_map(|v| &v.members);
        let mut others = members.filter(|(name, _)| **name != self.o.me.name);
        since.is_some_and(|since| self.o.now.since(since) < CLAIM_REST_MS)
            || others.any(|(_, member)| MAKES_ONE.contains(&&*member.value.state))
    }

    /// How far this member's new cluster is. Once `/initialize` names it, it is
    /// a cluster like any other: the write that said so may have lost its reply.
    pub fn bootstrap(&self) -> Bootstrapping {
        let wanted = self.view().and_then(|v| v.initialize.as_ref()?.value.as_ref());
        if wanted.is_some() && wanted == self.o.system() {
            return Bootstrapping::No;
        }
        match self.o.memory.bootstrap {
            Bootstrapping::GivenUp if self.is_leader_elsewhere() => Bootstrapping::No,
            other => other,
        }
    }
}
