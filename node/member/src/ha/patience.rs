//! Which members a race waits for, and for how long.
//!
//! Every wait here has a time limit: waiting for a member that does not come back
//! would leave the group without a leader.

use super::facts::Facts;
use standby::promotion::PeerAnswer;
use topology::{GroupView, MemberRecord, MemberRole};

impl Facts<'_> {
    /// `primary_race_backoff`: at first for a whole loop, then for as long as
    /// more of the old leader's log arrives.
    pub fn must_back_off(&self) -> bool {
        let (o, backoff) = (self.o, self.o.dynamic.primary_race_backoff_ms);
        let Some(since) = o.memory.leaderless_since.filter(|_| backoff > 0 && self.may_own())
        else {
            return false;
        };
        let asked_for = self.view().is_some_and(|view| {
            view.is_handed_over() || view.request().is_some_and(|r| r.candidate.is_some())
        });
        let left = backoff.saturating_sub(o.now.since(since));
        let arrives = o.is_streaming() && o.now.since(o.memory.grew_at) < o.dynamic.loop_wait_ms;
        !asked_for && left > 0 && (arrives || left + o.dynamic.loop_wait_ms > backoff)
    }

    /// All daemons begin anew: the last leader may have more and still be starting.
    pub fn may_another_member_have_more(&self) -> bool {
        let (o, memory) = (self.o, &self.o.memory);
        let Some(view) = self.view().filter(|view| view.request().is_none()) else {
            return false;
        };
        let begins = memory.former_leader.is_none()
            && o.now.since(memory.started) < o.dynamic.ttl_ms
            && memory.forgotten_at.is_none();
        let starts = |member: &MemberRecord| {
            let up = member.is_running() || member.state == "creating replica";
            !up && member.role != MemberRole::Uninitialized && !member.tags.nofailover()
        };
        let others = view.members.iter().filter(|(name, _)| **name != o.me.name);
        let behind = o.server().is_some_and(|server| server.lsn < view.optime());
        begins && (behind || others.map(|(_, m)| &m.value).any(starts))
    }

    /// The own timeline has the number of the group's, and another past. Only
    /// before the first claim: claimed numbers are unique, and leave gaps that
    /// `/history` does not tell.
    pub fn is_other_history(&self) -> bool {
        let (Some(view), Some(own)) = (self.view(), self.o.history.as_ref()) else {
            return false;
        };
        let lines = view.history.iter().flat_map(|history| &history.value);
        let same_number = own.current == view.timeline() && view.claim.is_none();
        same_number && lines.into_iter().any(|line| own.left_at(line.timeline) != Some(line.switch))
    }

    /// Members that are not in the store cannot take the lock. What they have
    /// counts for a while; that one of them is a primary counts for ever.
    pub fn racing(&self, view: &GroupView, peers: &[PeerAnswer]) -> Vec<PeerAnswer> {
        let since = self.o.memory.leaderless_since;
        let over = since.is_some_and(|s| self.o.now.since(s) >= self.o.dynamic.ttl_ms);
        let counts = |peer: &&PeerAnswer| {
            let leads = peer.status.as_ref().is_some_and(|status| !status.in_recovery);
            !over || leads || view.members.contains_key(&peer.name)
        };
        peers.iter().filter(counts).cloned().collect()
    }
}
