//! What a site that lost its votes begins with.
//!
//! A store that was wiped, or restored from an earlier copy, has forgotten votes that it gave. It
//! gets what the other sites and the region's own disks know as chosen, and it promises a round
//! above all that were heard of: an accept of an earlier round that is still under way finds it
//! closed. It may vote from then on, but for what it accepted before it counts as silent.

use super::proposer::round_of;
use super::quorum::{Heard, Quorums};
use std::collections::BTreeSet;
use topology::RegionName;
use topology::acceptor::{Acceptor, Ballot};

/// Why a site cannot be seeded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Unseeded {
    /// These sites must be read first.
    Missing(BTreeSet<RegionName>),
    /// Two certificates of the epoch in force are known.
    Split(u64),
    /// No site and no disk holds votes.
    Unknown,
}

/// An accept may have gone into the instance after the one that the others know.
const INSTANCES_LOST: u64 = 2;

/// The state of a site that lost its own. `others`: every other site, read just now;
/// `remembered`: the furthest that a disk of the region has seen of the site.
pub fn seeded(
    me: &RegionName,
    quorums: &Quorums,
    others: &Heard,
    remembered: Option<&Acceptor>,
) -> Result<Acceptor, Unseeded> {
    let is_missing = |name: &&RegionName| *name != me && !others.contains_key(name);
    let missing: BTreeSet<_> = quorums.sites().iter().filter(is_missing).cloned().collect();
    if !missing.is_empty() {
        return Err(Unseeded::Missing(missing));
    }
    let others = others.iter().filter(|(name, _)| *name != me).map(|(_, site)| *site);
    let known: Vec<&Acceptor> = others.chain(remembered).collect();
    let furthest = *known.iter().max_by_key(|site| site.epoch()).ok_or(Unseeded::Unknown)?;
    let mut alike = known.iter().filter(|site| site.epoch() == furthest.epoch());
    if alike.any(|site| site.hash() != furthest.hash()) {
        return Err(Unseeded::Split(furthest.epoch()));
    }
    let lives = known.iter().filter_map(|site| site.knows.get(me)).map(|position| position.life);
    let life = lives.chain(remembered.map(|site| site.life)).max().unwrap_or(0) + 1;
    let round = known.iter().filter_map(|site| round_of(site)).max().unwrap_or(0) + 1;
    Ok(Acceptor {
        life,
        promised: Some(Ballot { round, region: me.clone() }),
        accepted: None,
        blank_through: furthest.epoch() + INSTANCES_LOST,
        knows: remembered.map(|site| site.knows.clone()).unwrap_or_default(),
        rest: remembered.map(|site| site.rest.clone()).unwrap_or_default(),
        ..furthest.clone()
    })
}

#[cfg(test)]
#[path = "seed_tests.rs"]
mod tests;
