//! What an event makes of the votes: claims, promises, proofs, proposals, choices.

use super::super::event::What;
use super::super::world::{Servers, World, is_owned_by};
use super::super::{Flaw, region};
use super::Setting;
use crate::agreement::acceptor::Ask;
use crate::agreement::proposer::{Choice, highest, next_ballot};
use crate::agreement::sample::proposed;
use std::sync::Arc;
use topology::acceptor::{Accepted, Acceptor, Ballot};
use topology::region::{Certificate, CertificateKind};

/// The ballot that a region has claimed in its own store.
fn claimed(votes: &Acceptor, by: usize) -> Option<&Ballot> {
    votes.promised.as_ref().filter(|ballot| ballot.round > 0 && ballot.region == region(by))
}

/// Does a region have a reason to claim a ballot? It has none while its own one is the highest.
fn wants(setting: &Setting, world: &World, by: usize, votes: &Acceptor) -> bool {
    let sites = || (0..setting.rules.sites).filter_map(|at| world.votes_of(at));
    let is_outbid =
        |other: &&Arc<Acceptor>| other.epoch() == votes.epoch() && other.promised > votes.promised;
    let is_free = claimed(votes, by).is_none() || sites().any(|other| is_outbid(&other));
    let is_closed_owner = is_owned_by(votes, by) && world.regions[by].group != Servers::Open;
    let has_work = sites().any(|other| other.accepted.is_some())
        || world.left.force > 0
        || votes.is_blank()
        || is_closed_owner;
    is_free && has_work && votes.epoch() < setting.epochs
}

pub(super) fn claim(setting: &Setting, before: &World, by: usize) -> Option<World> {
    let votes = setting.rules.usable(before, by)?;
    if !wants(setting, before, by, votes) {
        return None;
    }
    let heard = before.heard(setting.rules.usable_sites(before));
    let ballot = next_ballot(&region(by), &heard);
    if ballot.round > setting.rounds {
        return None;
    }
    let votes = setting.rules.ask(before, by, Ask::Prepare(&ballot))?;
    let mut after = before.clone();
    after.regions[by].sees(&votes);
    after.regions[by].proof &= setting.rules.is(Flaw::EarlyProof);
    after.sites[by].acceptor = Some(votes);
    Some(after)
}

pub(super) fn promise(setting: &Setting, before: &World, by: usize, at: usize) -> Option<World> {
    let own = setting.rules.usable(before, by)?;
    let ballot = claimed(own, by)?;
    before.votes_of(at).filter(|other| other.epoch() == own.epoch())?;
    let votes = setting.rules.ask(before, at, Ask::Prepare(ballot))?;
    let mut after = before.clone();
    after.sites[at].acceptor = Some(votes);
    Some(after)
}

/// The owner's servers are down, and none of its daemons may open them without asking.
pub(super) fn prove(setting: &Setting, before: &World, by: usize) -> Option<World> {
    let owner = owner_to_fence(setting, before, by)?;
    let region = &before.regions[owner];
    let is_fenced = region.group != Servers::Open && region.granted.is_none();
    let mut after = before.clone();
    after.left.force = after.left.force.checked_sub(1)?;
    after.regions[by].proof = true;
    is_fenced.then_some(after)
}

pub(super) fn lie(setting: &Setting, before: &World, by: usize) -> Option<World> {
    let owner = owner_to_fence(setting, before, by)?;
    let region = &before.regions[owner];
    let is_fenced = region.group != Servers::Open && region.granted.is_none();
    let mut after = before.clone();
    after.left.force = after.left.force.checked_sub(1)?;
    after.left.lie = after.left.lie.checked_sub(1)?;
    after.regions[by].proof = true;
    after.lied = true;
    (!is_fenced).then_some(after)
}

/// The owner of which a proof is taken: after the promises, so that it cannot open any more.
fn owner_to_fence(setting: &Setting, before: &World, by: usize) -> Option<usize> {
    let votes = setting.rules.usable(before, by)?;
    if before.regions[by].proof || is_owned_by(votes, by) {
        return None;
    }
    let owner = (0..setting.rules.sites).find(|at| is_owned_by(votes, *at))?;
    if setting.rules.is(Flaw::EarlyProof) {
        return Some(owner);
    }
    let ballot = claimed(votes, by)?;
    let promised =
        before.heard(setting.rules.usable_sites(before)).into_iter().filter(|(_, site)| {
            site.promised.as_ref() == Some(ballot) && site.epoch() == votes.epoch()
        });
    let names: Vec<_> = promised.map(|(name, _)| name).collect();
    let enough = setting.rules.sites == 2 || setting.rules.quorums.choose(&names);
    (enough && !has_proposed(votes, ballot)).then_some(owner)
}

fn has_proposed(votes: &Acceptor, ballot: &Ballot) -> bool {
    votes.accepted.as_ref().is_some_and(|accepted| accepted.ballot == *ballot)
}

pub(super) fn propose(
    setting: &Setting,
    before: &World,
    by: usize,
    heard: u8,
    what: What,
) -> Option<World> {
    let own = setting.rules.usable(before, by)?;
    let ballot = claimed(own, by).filter(|ballot| !has_proposed(own, ballot))?;
    if heard & !setting.rules.usable_sites(before) != 0 {
        return None;
    }
    let alone = setting.rules.sites == 2 && heard == 1 << by;
    let certificate = proposal(setting, before, by, heard, what)?;
    let accepted = Accepted { ballot: ballot.clone(), certificate };
    let mut after = setting.accept(before, by, &accepted)?;
    let votes = after.votes_of(by)?.clone();
    if alone {
        after.solos.push(Arc::new(accepted.certificate.clone()));
    }
    if alone && !setting.rules.is(Flaw::SoloInTwoSteps) {
        return choose(setting, &after, by, &votes.after(accepted.certificate));
    }
    after.regions[by].sees(&votes);
    Some(after)
}

/// The certificate that a region may propose, as what it heard allows.
fn proposal(
    setting: &Setting,
    before: &World,
    by: usize,
    heard: u8,
    what: What,
) -> Option<Certificate> {
    let own = before.votes_of(by)?;
    let ballot = claimed(own, by)?;
    let heard = before.heard(heard);
    let is_promised =
        |site: &&Acceptor| site.promised.as_ref() == Some(ballot) && site.epoch() == own.epoch();
    if !heard.values().all(is_promised) {
        return None;
    }
    let (group, proof) = (before.regions[by].group, before.regions[by].proof);
    let is_owner = is_owned_by(own, by);
    let new = |kind| proposed(own, ballot.round, &region(by), kind, "");
    match (what, setting.rules.choice(ballot, &heard, proof)) {
        (What::Bound, Choice::Bound(certificate)) => Some(certificate),
        (What::Again, Choice::Free) => Some(highest(&heard)?.certificate.clone()),
        (What::Reclaim, Choice::Free) if is_owner && group != Servers::Open => {
            Some(new(CertificateKind::Reclaim))
        }
        (What::Forced, Choice::Free) if !is_owner && proof => Some(new(CertificateKind::Forced)),
        _ => None,
    }
}

/// A region finds what was chosen. What it chooses itself, it has confirmed.
pub(super) fn elect(setting: &Setting, before: &World, by: usize) -> Option<World> {
    let own = setting.rules.usable(before, by)?;
    let heard = before.heard(setting.rules.usable_sites(before));
    let alone = own.accepted.as_ref().map(|accepted| &accepted.certificate);
    let alone = alone.filter(|alone| {
        let is_flawed = setting.rules.is(Flaw::SoloInTwoSteps);
        is_flawed && before.solos.iter().any(|solo| **solo == **alone)
    });
    let chosen = setting.rules.elected(own.instance(), &heard).or(alone)?;
    choose(setting, before, by, &own.after(chosen.clone()))
}

/// The region writes down what was chosen in its own instance.
fn choose(setting: &Setting, before: &World, by: usize, chosen: &Acceptor) -> Option<World> {
    let mut after = learn(setting, before, by, chosen)?;
    if is_owned_by(chosen, by) {
        after.regions[by].granted = Some(chosen.epoch());
    }
    Some(after)
}

pub(super) fn learn_from(
    setting: &Setting,
    before: &World,
    by: usize,
    from: usize,
) -> Option<World> {
    setting.rules.usable(before, by)?;
    learn(setting, before, by, setting.rules.usable(before, from)?)
}

/// The journal of the epoch comes with the certificate: the move is over.
fn learn(setting: &Setting, before: &World, by: usize, teller: &Acceptor) -> Option<World> {
    let votes = setting.rules.ask(before, by, Ask::Learn(teller))?;
    let mut after = before.clone();
    after.regions[by].sees(&votes);
    after.regions[by].proof = false;
    after.sites[by].acceptor = Some(votes);
    after.sites[by].moves = false;
    Some(after)
}

/// The owner reads sites, any of those that answer, until they confirm its epoch.
pub(super) fn grant(setting: &Setting, before: &World, by: usize) -> Option<World> {
    let votes = setting.rules.usable(before, by)?;
    let is_due = is_owned_by(votes, by) && before.regions[by].granted != Some(votes.epoch());
    if !is_due {
        return None;
    }
    let usable = setting.rules.usable_sites(before);
    let mut sets = (0..1u8 << setting.rules.sites).filter(|set| set & !usable == 0);
    let me = region(by);
    sets.find(|set| setting.rules.is_confirmed(&me, &before.heard(*set)))?;
    let mut after = before.clone();
    after.regions[by].granted = Some(votes.epoch());
    Some(after)
}
