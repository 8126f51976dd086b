//! Which members `/sync` allows to lead, while a synchronous mode is in force.
//!
//! Invariant: a member that is allowed to lead has everything that was acknowledged.
//! In priority mode each member of `/sync` has it. In quorum mode a single one may
//! lack something: it has everything if at least `quorum` others have no more than it.
//!
//! The quorum in `/sync` counts in both modes: a leader that has not yet rewritten
//! it after a change of the mode may have acknowledged by the old one.
//!
//! Absent on purpose: how `/sync` is written.

use super::{PeerAnswer, Racer};
use topology::{GroupView, Lsn, MemberName, SyncMode, SyncState, Timeline};

/// `/sync` of a group in which a synchronous mode is in force.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Electorate<'a> {
    sync: &'a SyncState,
    /// Only members of `/sync` may lead.
    is_closed: bool,
}

/// One who could lead, as far as votes are counted.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Stand<'a> {
    pub name: &'a MemberName,
    pub lsn: Lsn,
    pub timeline: Option<Timeline>,
}

/// Not enough of those who vote are known to have no more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Lacking {
    pub votes: u64,
    pub needed: u64,
}

impl<'a> Electorate<'a> {
    /// `None`: no mode is on, or `/sync` names no leader. Then a failover is an
    /// asynchronous one.
    pub fn of(view: &'a GroupView, mode: SyncMode) -> Option<Electorate<'a>> {
        let sync = &view.sync.as_ref()?.value;
        let is_closed = match mode {
            SyncMode::Off => return None,
            SyncMode::On => true,
            SyncMode::Quorum => false,
        };
        sync.is_active().then_some(Electorate { sync, is_closed })
    }

    /// May this member race at all?
    pub fn admits(&self, name: &MemberName) -> bool {
        !self.is_closed || self.sync.is_member(name)
    }

    /// The leader or one of its standbys.
    pub fn is_member(&self, name: &MemberName) -> bool {
        self.sync.is_member(name)
    }

    pub fn is_standby(&self, name: &MemberName) -> bool {
        self.sync.is_standby(name)
    }

    /// It wrote `/sync` last. What it has beyond the others was acknowledged to no client.
    pub fn led(&self, name: &MemberName) -> bool {
        self.sync.is_leader(name) && !self.sync.is_standby(name)
    }

    /// How many members of `/sync`, beside the one that leads, must be as far.
    pub fn quorum(&self) -> u64 {
        self.sync.quorum
    }

    /// Do enough of those who vote have no more than `one`? A member of `/sync`
    /// votes for itself.
    ///
    /// A vote adds the ability to lead, so it needs everything known: a peer that
    /// is silent, or does not say on which timeline it is, gives none.
    pub(super) fn elects<'s>(
        &self,
        one: Stand,
        others: impl Iterator<Item = Stand<'s>>,
    ) -> Result<(), Lacking> {
        let votes = others.filter(|o| o.name != one.name && self.is_member(o.name));
        let votes = votes.filter(|other| has_no_more(other, &one)).count() as u64;
        let needed = self.sync.quorum + u64::from(!self.is_member(one.name));
        if votes < needed { Err(Lacking { votes, needed }) } else { Ok(()) }
    }

    /// The last leader has everything it acknowledged, also when no peer answers,
    /// unless another member may have led since.
    pub(super) fn led_last(&self, me: &Racer, view: &GroupView) -> bool {
        self.led(me.name) && !may_be_outdated(me.name, me.timeline, view)
    }

    /// May a running primary without a lock go on where it stands? It has what it
    /// acknowledged itself, but in priority mode a new leader writes `/sync` before
    /// it opens: a primary that is not named there has had a successor.
    pub fn keeps(&self, me: &MemberName, mine: Option<Timeline>, view: &GroupView) -> bool {
        self.admits(me) && !may_be_outdated(me, mine, view)
    }
}

/// Another member may have led on a newer timeline. In quorum mode a new leader
/// writes `/sync` only after it has opened; but it claims its timeline before.
fn may_be_outdated(me: &MemberName, mine: Option<Timeline>, view: &GroupView) -> bool {
    let Some(mine) = mine else { return true };
    let claim = view.claim.as_ref().map(|claim| &claim.value);
    let claimed = claim.is_some_and(|claim| claim.timeline > mine && claim.by != *me);
    claimed || view.timeline() > mine
}

/// Positions compare within one history; one who was left on an older timeline
/// has nothing that the newer one was begun without.
fn has_no_more(other: &Stand, one: &Stand) -> bool {
    match (other.timeline, one.timeline) {
        (Some(theirs), Some(mine)) if theirs == mine => other.lsn <= one.lsn && other.lsn.0 > 0,
        (Some(theirs), Some(mine)) => theirs < mine && other.lsn.0 > 0,
        _ => false,
    }
}

/// A standby that answered and could lead: others give no vote.
pub(super) fn stand(peer: &PeerAnswer) -> Option<Stand<'_>> {
    let status = peer.status.as_ref().filter(|s| s.is_eligible() && s.in_recovery)?;
    Some(Stand { name: &peer.name, lsn: status.lsn, timeline: status.timeline })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::made_up::TakeSample;

    const SYNC: &str = r#"{"leader":"L","sync_standby":"a,b,c","quorum":1}"#;

    fn view(sync: &str) -> GroupView {
        let mut view = GroupView::default();
        view.take_sample("sync", sync, 1, 0);
        view
    }

    #[test]
    fn a_mode_is_in_force_when_it_is_on_and_sync_has_a_leader() {
        for sync in ["", "nonsense", "{}", r#"{"leader":null,"sync_standby":"a"}"#] {
            assert_eq!(Electorate::of(&view(sync), SyncMode::On), None, "{sync}");
        }
        assert_eq!(Electorate::of(&GroupView::default(), SyncMode::Quorum), None);
        let view = view(SYNC);
        assert_eq!(Electorate::of(&view, SyncMode::Off), None);
        let (closed, open) = (SyncMode::On, SyncMode::Quorum);
        let admits = |mode, name: &str| Electorate::of(&view, mode).unwrap().admits(&name.into());
        assert!(admits(closed, "A") && admits(closed, "l") && !admits(closed, "z"));
        assert!(admits(open, "z"));
    }

    #[test]
    fn votes_come_from_members_that_are_known_to_have_no_more() {
        let view = view(SYNC);
        let electorate = Electorate::of(&view, SyncMode::Quorum).unwrap();
        let names = ["a", "b", "z", "L"].map(MemberName::new);
        let [a, b, z, leader] = &names;
        let at = |name, lsn, timeline: u32| Stand {
            name,
            lsn: Lsn(lsn),
            timeline: Some(Timeline(timeline)).filter(|t| t.0 > 0),
        };
        let elects = |one: Stand, others: &[Stand]| electorate.elects(one, others.iter().copied());
        let short = |votes, needed| Err(Lacking { votes, needed });
        let me = at(a, 100, 2);
        assert_eq!(elects(me, &[]), short(0, 1));
        assert_eq!(elects(me, &[at(b, 100, 2)]), Ok(()));
        assert_eq!(elects(me, &[at(leader, 90, 2)]), Ok(()));
        // One that was left on an older timeline is no further, whatever it has.
        assert_eq!(elects(me, &[at(b, 500, 1)]), Ok(()));
        for no_vote in [at(b, 101, 2), at(b, 0, 2), at(b, 50, 3), at(b, 50, 0), at(z, 50, 2), me] {
            assert_eq!(elects(me, &[no_vote]), short(0, 1), "{no_vote:?}");
        }
        assert_eq!(elects(at(a, 100, 0), &[at(b, 50, 2)]), short(0, 1));
        // Who does not vote needs one more.
        assert_eq!(elects(at(z, 100, 2), &[at(b, 50, 2)]), short(1, 2));
        assert_eq!(elects(at(z, 100, 2), &[at(b, 50, 2), at(a, 100, 2)]), Ok(()));
    }
}
