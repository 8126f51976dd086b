//! Which standbys can be waited for, best first.
//!
//! A standby counts if it is a running member that its tags do not exclude,
//! streams from this primary and will go on doing so.
//!
//! Invariant: a name stands for one member. Where two members have the same name
//! but for upper and lower case, neither is taken: PostgreSQL cannot tell them
//! apart, and a confirmation of the one would count for the other.

use super::names::can_be_named;
use super::situation::Situation;
use super::{Sender, SyncRank};
use std::cmp::Reverse;
use topology::{Lsn, MemberName, MemberRecord};

#[derive(Clone, Debug, PartialEq)]
pub(super) struct Candidate<'a> {
    pub name: &'a MemberName,
    pub position: Lsn,
    pub rank: SyncRank,
    pub priority: i64,
    pub nofailover: bool,
}

/// All that are near enough.
pub(super) fn candidates<'a>(s: &'a Situation<'a>) -> Vec<Candidate<'a>> {
    let mut found: Vec<Candidate> =
        s.view.members.iter().filter_map(|(name, row)| candidate(s, name, &row.value)).collect();
    let order = |c: &Candidate<'a>| Reverse((c.priority, c.rank, c.position));
    found.sort_by_key(|c| (c.nofailover, order(c), c.name));
    let best = match found.as_slice() {
        [] | [_] => s.seen.lsn,
        many => many.iter().map(|c| c.position).max().unwrap_or(s.seen.lsn),
    };
    let near =
        |c: &Candidate| s.policy.maximum_lag.is_none_or(|max| c.position.behind(best) <= max);
    found.retain(near);
    found
}

fn candidate<'a>(
    s: &'a Situation<'a>,
    name: &'a MemberName,
    record: &MemberRecord,
) -> Option<Candidate<'a>> {
    if !counts(s, name, record) || cascades(s, name) {
        return None;
    }
    let senders =
        s.seen.senders.iter().filter(|sender| sender.streaming && same(&sender.name, name));
    let known = senders.filter_map(|sender| Some((sender.sync, position(sender, s)?)));
    let (rank, position) = known.max()?;
    let (priority, nofailover) = (record.tags.sync_priority(), record.tags.nofailover());
    Some(Candidate { name, position, rank, priority, nofailover })
}

/// A member that may be named at all.
fn counts(s: &Situation, name: &MemberName, record: &MemberRecord) -> bool {
    let namesakes = s.view.members.keys().filter(|other| same(other, name)).count();
    !same(name, s.me) && namesakes == 1 && can_be_named(name) && may_confirm(record)
}

fn may_confirm(record: &MemberRecord) -> bool {
    record.is_running() && !record.tags.nosync() && record.tags.sync_priority() > 0
}

/// It streams from here for the moment, but is to follow another standby that
/// does: soon it will confirm nothing here.
fn cascades(s: &Situation, start: &MemberName) -> bool {
    let mut at = start;
    for _ in 0..s.view.members.len() {
        match upstream(s, at) {
            Some(next) => at = next,
            None => return at != start && streams(s, at),
        }
    }
    // A circle of `replicatefrom`: the chain has no end.
    false
}

/// The running standby that this member wants to follow.
fn upstream<'a>(s: &'a Situation, at: &MemberName) -> Option<&'a MemberName> {
    let wanted = MemberName::new(s.view.member(at)?.tags.replicatefrom()?);
    let (name, row) = s.view.members.get_key_value(&wanted)?;
    (name != s.me && may_confirm(&row.value)).then_some(name)
}

fn streams(s: &Situation, name: &MemberName) -> bool {
    s.seen.senders.iter().any(|sender| sender.streaming && same(&sender.name, name))
}

/// The position that an acknowledged commit has reached on the standby.
fn position(sender: &Sender, s: &Situation) -> Option<Lsn> {
    confirmed_position(sender, &s.seen.commit)
}

/// Which of its positions a standby confirms commits with.
pub(super) fn confirmed_position(sender: &Sender, commit: &str) -> Option<Lsn> {
    match commit {
        "remote_apply" => sender.replay,
        "remote_write" => sender.write,
        _ => sender.flush,
    }
}

fn same(one: &MemberName, other: &MemberName) -> bool {
    one.as_str().eq_ignore_ascii_case(other.as_str())
}

#[cfg(test)]
#[path = "candidates_tests.rs"]
mod tests;
