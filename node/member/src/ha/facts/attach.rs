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
use crate::ha::observation::{End, Fit, Following, Process};
use standby::switch::ownership::Ownership;
use topology::{GroupView, History, MemberName, MemberRole, Timeline};

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

    /// What keeps a comparison from saying that this standby may attach.
    pub fn why_no_fit_yet(&self, with: &Following, is_open: bool) -> Option<String> {
        if !is_open {
            return Some(format!("{} has not opened its timeline yet", with.member));
        }
        let receives = !self.has_no_source_but(with);
        receives.then(|| "the walreceiver of the former leader still runs".to_string())
    }

    fn is_leader_open(&self) -> bool {
        let leader = self.view().and_then(GroupView::leader_record);
        leader.is_some_and(|record| record.role == MemberRole::Primary)
    }

    /// The own log grows from no other server meanwhile: a walreceiver may live on for a
    /// while after the setting has changed.
    pub fn has_no_source_but(&self, with: &Following) -> bool {
        match self.o.follows() {
            Some(source) => (&source.host, source.port) == (&with.host, with.port),
            None => !self.o.receives(),
        }
    }

    /// The end of the own log is read, not guessed: of a server that starts only the least
    /// is known, and of a standby that is down. A running one is asked for all of it when a
    /// comparison decides whether it attaches.
    pub fn is_end_certain(&self) -> bool {
        self.is_fit_awaited() || self.ended(End::Clean) || self.ended(End::Crashed)
    }

    /// It streams the leader's own timeline, as its record shows it since it opened: PostgreSQL
    /// begins that only with a log that has not gone beyond the fork.
    pub fn streams_leader_timeline(&self) -> Option<(MemberName, Timeline)> {
        let view = self.view().filter(|_| self.o.receives())?;
        let (name, leader) = (view.leader_name()?, view.leader_record()?);
        let server = self.o.server()?;
        let timeline = leader.timeline.filter(|_| leader.role == MemberRole::Primary)?;
        (self.o.follows_member(name) && server.timeline == Some(timeline))
            .then(|| (name.clone(), timeline))
    }

    /// What cannot be read may be a mode that is on. In a group that follows another one
    /// no commit waits.
    fn commits_may_wait(&self) -> bool {
        let follows = match self.o.ownership {
            Ownership::Standby { .. } => true,
            // A leader that is open may belong to the owner; another one may not open now.
            Ownership::Doubtful(_) => !self.is_leader_open(),
            _ => self.o.dynamic.standby_cluster.is_some(),
        };
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

    /// It was attached when this process came, and has had no other leader since. A server
    /// that this process has started may have been attached because its start took long.
    fn stays_attached(&self, wanted: &Following) -> bool {
        let same = self.o.follows().is_some_and(|now| !differs(now, wanted));
        same && self.o.memory.fit == Fit::Unknown && !self.o.memory.has_begun
    }

    fn starts_for_long(&self) -> bool {
        let Process::Starting { since, .. } = self.o.postgres.process else { return false };
        self.o.now.since(since) >= START_ALONE_MS
    }
}

/// Another server, or another slot there.
pub(crate) fn differs(now: &Following, wanted: &Following) -> bool {
    (&now.host, now.port, &now.slot) != (&wanted.host, wanted.port, &wanted.slot)
}
