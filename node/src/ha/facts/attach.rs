//! In a synchronous mode: when a standby may attach to a new leader.
//!
//! A walreceiver reports its own replay position as flushed from the first moment. So a
//! standby that has more of the old timeline than the new leader had when it opened would
//! confirm commits that it does not have.
//!
//! Invariant: while commits may wait for standbys, a member streams from a new leader only
//! after its own log was found to be a prefix of the history of that leader, who was open,
//! and no other source could add to that log meanwhile.

use super::Facts;
use crate::ha::observation::{Fit, Following, Process};
use standby::switch::ownership::Ownership;
use topology::{GroupView, History, MemberRole};

/// A server that starts may need the leader's log to become consistent, for instance a copy
/// that this process knows nothing of.
const START_ALONE_MS: u64 = 30_000;

impl Facts<'_> {
    /// Attaching to `wanted` has to wait for a comparison.
    pub fn must_fit_first(&self, wanted: &Following) -> bool {
        let leads = self.view().and_then(GroupView::leader_name) == Some(&wanted.member);
        leads
            && self.commits_may_wait()
            && !self.fits_leader()
            && !self.stays_attached(wanted)
            && !self.starts_for_long()
    }

    /// Its walreceiver belongs to a leader that it must be compared with first.
    pub fn must_detach(&self) -> bool {
        let wanted = self.wanted_upstream();
        self.o.follows().is_some() && wanted.is_some_and(|wanted| self.must_fit_first(&wanted))
    }

    /// Detached, and due to be compared with the leader, which is open.
    pub fn is_fit_due(&self) -> bool {
        self.is_fit_awaited() && self.leader_source().is_some() && self.is_comparison_due()
    }

    pub fn is_fit_awaited(&self) -> bool {
        let wanted = self.wanted_upstream().filter(|_| self.o.is_standby());
        wanted.is_some_and(|wanted| self.must_fit_first(&wanted))
    }

    /// The history that was read is that of the timeline which the leader's record shows
    /// since it opened, or of a later one.
    pub fn is_open_history(&self, with: &Following, history: &History) -> bool {
        let Some(view) = self.view().filter(|view| view.leader_name() == Some(&with.member)) else {
            return false;
        };
        view.leader_record().is_some_and(|record| {
            record.role == MemberRole::Primary
                && record.timeline.is_none_or(|timeline| history.current >= timeline)
        })
    }

    /// The own log grows from no other server meanwhile.
    pub fn has_no_source_but(&self, with: &Following) -> bool {
        let source = match self.o.postgres.process {
            Process::Running(_) => self.o.follows(),
            Process::Starting { .. } => self.o.memory.pointed_to.as_ref(),
            Process::Stopped(_) => None,
        };
        source.is_none_or(|source| (&source.host, source.port) == (&with.host, with.port))
    }

    /// What cannot be read may be a mode that is on. In a group that follows another one
    /// no commit waits.
    fn commits_may_wait(&self) -> bool {
        let follows = matches!(self.o.ownership, Ownership::Standby { .. })
            || self.o.dynamic.standby_cluster.is_some();
        !follows && (self.is_sync_mode_on() || !self.is_sync_record_gone())
    }

    fn fits_leader(&self) -> bool {
        let Some(view) = self.view() else { return false };
        match &self.o.memory.fit {
            Fit::Known { leader, timeline } => {
                view.leader_name() == Some(leader) && view.timeline() <= *timeline
            }
            Fit::Unknown | Fit::Stale => false,
        }
    }

    /// It was attached when this process came, and has had no other leader since.
    fn stays_attached(&self, wanted: &Following) -> bool {
        let same = self.o.follows().is_some_and(|now| !differs(now, wanted));
        same && self.o.memory.fit == Fit::Unknown
    }

    fn starts_for_long(&self) -> bool {
        let Process::Starting { since, .. } = self.o.postgres.process else { return false };
        self.o.now.since(since) >= START_ALONE_MS
    }
}

/// Another server, or another slot there.
pub fn differs(now: &Following, wanted: &Following) -> bool {
    (&now.host, now.port, &now.slot) != (&wanted.host, wanted.port, &wanted.slot)
}
