//! May a region's groups be open?
//!
//! Once acceptors are in force, every daemon will ask `may_open` about its own store, with what its
//! disk remembers. `confirmed` is in use: it tells the region's agent, after a cold start, whether the other sites know of no other owner;
//! what it confirms holds for the life of the daemon that saw it.

use super::quorum::{Heard, Quorums};
use std::collections::BTreeSet;
use thiserror::Error;
use topology::RegionName;
use topology::acceptor::{Acceptor, Position};

/// Why a region's groups stay closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum Doubt {
    #[error("the region's store holds no certificate")]
    Empty,
    #[error("the region's store is older than it was seen")]
    Older,
    #[error("another region owns the formation")]
    OtherOwner,
    #[error("the region's store has accepted another owner")]
    Accepted,
    #[error("the region's store lost votes; the agreement on the next epoch must end first")]
    Blank,
    #[error("the epoch is not confirmed")]
    Unconfirmed,
}

/// May the region's groups be open, and in which epoch? `granted`: the epoch that was confirmed
/// in this life of the daemon.
pub fn may_open(
    site: Option<&Acceptor>,
    known: Option<&Position>,
    me: &RegionName,
    granted: Option<u64>,
) -> Result<u64, Doubt> {
    let site = site.ok_or(Doubt::Empty)?;
    let chosen = site.chosen.as_ref().ok_or(Doubt::Empty)?;
    if known.is_some_and(|known| site.position() < *known) {
        return Err(Doubt::Older);
    }
    if chosen.owner != *me {
        return Err(Doubt::OtherOwner);
    }
    if site.accepted.as_ref().is_some_and(|accepted| accepted.certificate.owner != *me) {
        return Err(Doubt::Accepted);
    }
    if site.is_blank() {
        return Err(Doubt::Blank);
    }
    match granted == Some(chosen.epoch) {
        true => Ok(chosen.epoch),
        false => Err(Doubt::Unconfirmed),
    }
}

/// Why an epoch is not confirmed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Unconfirmed {
    /// These sites must be read, or lost their votes.
    Unread(BTreeSet<RegionName>),
    /// This site holds a later epoch, or another certificate of this one.
    Superseded(RegionName),
    /// This site has voted in the agreement on the next owner. Its instance must end first: the
    /// owner completes it, which costs an epoch.
    Taken(RegionName),
}

/// The epoch in force at the own site, if what was heard proves that there is no later one and
/// none is about to be chosen without the own site.
pub fn confirmed(quorums: &Quorums, me: &RegionName, heard: &Heard) -> Result<u64, Unconfirmed> {
    let own = heard.get(me).ok_or_else(|| Unconfirmed::Unread([me.clone()].into()))?;
    let is_later = |site: &Acceptor| {
        site.epoch() > own.epoch() || site.epoch() == own.epoch() && site.hash() != own.hash()
    };
    if let Some((name, _)) = heard.iter().find(|(_, site)| is_later(site)) {
        return Err(Unconfirmed::Superseded(name.clone()));
    }
    let taken = heard.iter().find(|(_, site)| own.in_force && is_taken(site, own));
    if let Some((name, _)) = taken {
        return Err(Unconfirmed::Taken(name.clone()));
    }
    let is_silent = |name: &&RegionName| heard.get(name).is_none_or(|site| site.is_blank());
    let silent: BTreeSet<_> = quorums.sites().iter().filter(is_silent).cloned().collect();
    let knowing = quorums.sites().difference(&silent).cloned().collect();
    // Until acceptors are in force, certificates are written and not voted on: of sites that were
    // all read, none hides what the disks do not know either.
    let all_told = !own.in_force && quorums.sites().iter().all(|name| heard.contains_key(name));
    match quorums.read(heard.keys()) && (all_told || !quorums.may_hide(&knowing)) {
        true => Ok(own.epoch()),
        false => Err(Unconfirmed::Unread(silent)),
    }
}

/// Has a site given a vote with which another owner may be chosen? Promises to the owner itself
/// count as well: its claim may have replaced a promise to another region.
fn is_taken(site: &Acceptor, own: &Acceptor) -> bool {
    let owner = own.chosen.as_ref().map(|chosen| &chosen.owner);
    let promised = site.promised.as_ref().is_some_and(|ballot| ballot.round > 0);
    let accepted = site.accepted.as_ref();
    let other = accepted.is_some_and(|accepted| Some(&accepted.certificate.owner) != owner);
    site.epoch() == own.epoch() && (promised || other)
}

#[cfg(test)]
#[path = "owner_tests.rs"]
mod tests;
