//! What the mover's question is made of: the journal, both sites, its own work.
//!
//! Pure: the mover hands over its copies of both stores.

use super::preflight::Finding;
use super::table::SwitchFacts;
use super::{Replayed, Site, slots};
use crate::promotion::may_open;
use std::collections::{BTreeMap, BTreeSet};
use topology::region::{Journal, Phase, Token};
use topology::{Group, GroupView, MemberRole, RegionName};

/// What a mover has done for one move. Lost with it; the next one redoes it.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Progress {
    pub findings: Option<Vec<Finding>>,
    pub is_warm: bool,
    pub is_held: bool,
    pub failure: Option<String>,
    /// Tokens that the new side has proved to have replayed, by group.
    pub caught: BTreeMap<Group, Token>,
}

/// The question to `super::table`.
pub(crate) struct Question<'a> {
    pub me: &'a RegionName,
    pub journal: &'a Journal,
    /// The asking region's store.
    pub own: &'a Site,
    /// The old and the new owner, as far as they are seen.
    pub from: Option<&'a Site>,
    pub to: Option<&'a Site>,
    pub progress: &'a Progress,
    /// The new owner's store has not answered for a while.
    pub is_silent: bool,
    /// The phase has lasted longer than the policy allows.
    pub is_late: bool,
    /// Writes have been held for longer than the move's operator allows.
    pub is_past_pause: bool,
}

impl Question<'_> {
    pub(crate) fn facts(&self) -> SwitchFacts {
        let journal = self.journal;
        let tokens = tokens(journal, self.from);
        SwitchFacts {
            me: self.me.clone(),
            in_force: self.own.topology.certificate().cloned(),
            is_late: self.is_late,
            is_past_pause: self.is_past_pause,
            findings: self.progress.findings.clone(),
            is_warm: self.progress.is_warm,
            is_held: self.progress.is_held,
            failure: self.progress.failure.clone(),
            strangers: self.strangers(),
            unready_slots: self.unready_slots(&tokens),
            unsigned: self.groups_but(|group| tokens.contains_key(&group)),
            behind: self.groups_but(|group| {
                let token = tokens.get(&group);
                token.is_some() && self.progress.caught.get(&group) == token
            }),
            is_silent: self.is_silent,
            is_delivered: self
                .to
                .is_some_and(|site| site.topology.accepted_epoch() > journal.epoch),
            closed: self.groups_but(|group| leads(self.to, group, is_open)),
            is_rewired: self.is_rewired(),
            unfollowing: self.groups_but(|group| leads(self.from, group, is_following)),
        }
    }

    fn groups_but(&self, test: impl Fn(Group) -> bool) -> BTreeSet<Group> {
        self.journal.groups.iter().copied().filter(|group| !test(*group)).collect()
    }

    fn strangers(&self) -> BTreeSet<Group> {
        let groups = self.from.into_iter().flat_map(|site| site.groups.keys());
        groups.copied().filter(|group| !self.journal.groups.contains(group)).collect()
    }

    fn unready_slots(&self, tokens: &BTreeMap<Group, Token>) -> BTreeSet<String> {
        let unready = |group: &Group| {
            let of = |site: &Site| site.groups.get(group).cloned();
            let (from, to) = (self.from.and_then(of), self.to.and_then(of));
            let ends_on = tokens.get(group).map(|token| token.timeline);
            slots::unready(from.as_ref(), to.as_ref(), ends_on)
        };
        self.journal.groups.iter().flat_map(unready).collect()
    }

    fn is_rewired(&self) -> bool {
        let done = self.to.and_then(|site| site.topology.rewired.as_ref());
        done.is_some_and(|rewired| rewired.id == self.journal.id)
    }
}

fn leads(site: Option<&Site>, group: Group, test: fn(&GroupView) -> bool) -> bool {
    site.and_then(|site| site.groups.get(&group)).is_some_and(test)
}

fn is_open(view: &GroupView) -> bool {
    view.leader_record().is_some_and(|r| r.role == MemberRole::Primary && r.is_running())
}

fn is_following(view: &GroupView) -> bool {
    view.leader_record().is_some_and(|r| {
        let streams = r.replication_state.as_deref() == Some("streaming");
        r.role == MemberRole::StandbyLeader && r.is_running() && streams
    })
}

/// A receipt proves the same thing that a promotion asks for.
pub(crate) fn is_receipt(token: &Token, seen: &Replayed) -> bool {
    may_open(Some(token), &seen.system_id, seen.timeline, seen.lsn).is_ok()
}

/// The tokens that count: the store's while the old side stops, then the
/// journal's.
pub(crate) fn tokens(journal: &Journal, from: Option<&Site>) -> BTreeMap<Group, Token> {
    match (journal.phase, from) {
        (Phase::Stop, Some(site)) => site.topology.tokens_of(&journal.id),
        _ => journal.tokens.clone(),
    }
}
