//! Which certificate a region may propose, and which one is chosen.
//!
//! A region that is not the owner, or whose attempt in round 0 came to nothing, claims a ballot:
//! first in its own store, then it asks the other sites to promise it. `choice` tells from what
//! they showed whether an earlier certificate may have been chosen. Only then the proof of a
//! forced certificate is taken (the owner could have opened between an earlier proof and the
//! promises), and the certificate is accepted in the region's own store before it is carried to
//! others: agents of one region share their ballots, and the own store makes them agree.
//!
//! With two sites and a proof the own store alone decides, in one write: it goes from the promise
//! straight to `chosen`. A certificate that it only accepted would be no quorum, and the owner
//! could reclaim the epoch beside it.

use super::quorum::{Heard, Quorums};
use std::collections::{BTreeMap, BTreeSet};
use topology::acceptor::{Accepted, Acceptor, Ballot};
use topology::region::{Certificate, CertificateKind, Token};
use topology::{Group, RegionName};

/// The next ballot of a region: above every round that was heard of, and no round 0.
pub fn next_ballot(me: &RegionName, heard: &Heard) -> Ballot {
    let highest = heard.values().filter_map(|site| round_of(site)).max();
    Ballot { round: highest.unwrap_or(0) + 1, region: me.clone() }
}

/// The highest round that a site has promised or accepted.
pub(super) fn round_of(site: &Acceptor) -> Option<u64> {
    let accepted = site.accepted.as_ref().map(|accepted| accepted.ballot.round);
    accepted.max(site.promised.as_ref().map(|ballot| ballot.round))
}

/// What may be proposed at a ballot.
#[derive(Clone, Debug, PartialEq)]
pub enum Choice {
    /// No earlier proposal can have been chosen.
    Free,
    /// This certificate may have been chosen: nothing else may be proposed.
    Bound(Certificate),
    /// Promises are missing, or sites that know their past: hear these.
    Hear(BTreeSet<RegionName>),
    /// This site holds a later epoch: learn it first.
    Learn(RegionName),
}

/// What the region of `ballot` may propose. `proof`: with two sites the own promise is enough,
/// because the other region is proved to be fenced.
pub fn choice(quorums: &Quorums, ballot: &Ballot, heard: &Heard, proof: bool) -> Choice {
    choice_by(shows, quorums, ballot, heard, proof)
}

/// Does a site show this certificate? At whatever ballot: a certificate that was accepted at an
/// earlier ballot and is carried on at a later one is still the same one.
fn shows(site: &Acceptor, highest: &Accepted) -> bool {
    site.accepted.as_ref().is_some_and(|accepted| accepted.certificate == highest.certificate)
}

pub(super) fn choice_by(
    shows: fn(&Acceptor, &Accepted) -> bool,
    quorums: &Quorums,
    ballot: &Ballot,
    heard: &Heard,
    proof: bool,
) -> Choice {
    let Some(own) = heard.get(&ballot.region) else {
        return Choice::Hear([ballot.region.clone()].into());
    };
    let later = heard.iter().find(|(_, site)| site.epoch() > own.epoch());
    if let Some((name, _)) = later {
        return Choice::Learn(name.clone());
    }
    let mut promised = heard.clone();
    promised
        .retain(|_, site| site.promised.as_ref() == Some(ballot) && site.epoch() == own.epoch());
    let alone = proof && quorums.sites().len() == 2 && promised.contains_key(&ballot.region);
    if !alone && !quorums.read(promised.keys()) {
        return Choice::Hear(missing(quorums, promised.keys()));
    }
    // A site that lost its votes promises, but says nothing of what it accepted before.
    let is_knowing =
        |(name, site): (&RegionName, &&Acceptor)| (!site.is_blank()).then(|| name.clone());
    let knowing: BTreeSet<_> = promised.iter().filter_map(is_knowing).collect();
    if quorums.may_hide(&knowing) {
        return Choice::Hear(missing(quorums, &knowing));
    }
    let Some(highest) = highest(&promised) else { return Choice::Free };
    let mut may_have_it = missing(quorums, &knowing);
    may_have_it.extend(knowing.into_iter().filter(|name| shows(promised[name], highest)));
    match quorums.choose(&may_have_it) {
        true => Choice::Bound(highest.certificate.clone()),
        false => Choice::Free,
    }
}

/// What was accepted at the highest ballot, also by sites that lost earlier votes.
pub(super) fn highest<'a>(heard: &Heard<'a>) -> Option<&'a Accepted> {
    let accepted = heard.values().filter_map(|site| site.accepted.as_ref());
    accepted.max_by_key(|accepted| &accepted.ballot)
}

fn missing<'a>(
    quorums: &Quorums,
    heard: impl IntoIterator<Item = &'a RegionName>,
) -> BTreeSet<RegionName> {
    let mut missing = quorums.sites().clone();
    heard.into_iter().for_each(|name| _ = missing.remove(name));
    missing
}

/// The certificate that was chosen in an instance, as what was heard shows.
///
/// A quorum must have accepted it at one and the same ballot. Here, unlike in `choice`, other
/// ballots do not count: of three sites, two that accepted a certificate at two ballots chose
/// nothing, and a third ballot may choose another one.
pub fn elected<'a>(quorums: &Quorums, instance: u64, heard: &Heard<'a>) -> Option<&'a Certificate> {
    elected_by(|one, other| one == other, quorums, instance, heard)
}

pub(super) fn elected_by<'a>(
    is_same: fn(&Accepted, &Accepted) -> bool,
    quorums: &Quorums,
    instance: u64,
    heard: &Heard<'a>,
) -> Option<&'a Certificate> {
    let of_instance = heard.iter().filter(|(_, site)| site.instance() == instance);
    let votes: Vec<(&RegionName, &'a Accepted)> =
        of_instance.filter_map(|(name, site)| Some((name, site.accepted.as_ref()?))).collect();
    let chosen = votes.iter().find(|(_, accepted)| {
        let alike = votes.iter().filter(|(_, other)| is_same(accepted, other));
        quorums.choose(alike.map(|(name, _)| *name))
    });
    chosen.map(|(_, accepted)| &accepted.certificate)
}

/// What the certificate after the one in force says beside its owner.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Proposal {
    pub kind: CertificateKind,
    pub goal: BTreeMap<Group, Token>,
    pub proof: String,
    pub at: String,
}

/// The certificate that a region proposes at its ballot, if the formation has an owner. Its own
/// `ballot` stays that of its first proposal, so that it is the same certificate when another
/// ballot carries it on.
pub fn successor(
    site: &Acceptor,
    round: u64,
    owner: &RegionName,
    proposal: Proposal,
) -> Option<Certificate> {
    let in_force = site.chosen.as_ref()?;
    let Proposal { kind, goal, proof, at } = proposal;
    Some(Certificate {
        epoch: in_force.epoch + 1,
        ballot: round,
        owner: owner.clone(),
        kind,
        previous_hash: site.hash().to_string(),
        groups: goal,
        proof,
        policy_hash: in_force.policy_hash.clone(),
        at,
    })
}

/// What a region carries from its own store to the other sites: only what its own store has
/// accepted, at one of its own ballots.
pub fn to_carry<'a>(me: &RegionName, own: &'a Acceptor) -> Option<&'a Accepted> {
    own.accepted.as_ref().filter(|accepted| accepted.ballot.region == *me)
}

#[cfg(test)]
#[path = "proposer_tests.rs"]
mod tests;
