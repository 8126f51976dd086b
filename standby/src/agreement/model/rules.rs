//! The rules of the agreement, as a run asks them: whole, or with one guard taken out.

use super::Flaw;
use super::world::World;
use crate::agreement::acceptor::{Ask, Question, Verdict, answer, answer_without};
use crate::agreement::owner::{confirmed, may_open};
use crate::agreement::proposer::{Choice, choice, choice_by, elected, elected_by};
use crate::agreement::quorum::{Heard, Quorums};
use crate::agreement::sample::region;
use std::sync::Arc;
use topology::RegionName;
use topology::acceptor::{Accepted, Acceptor, Ballot, Position};
use topology::region::Certificate;

pub(super) struct Rules {
    pub sites: usize,
    pub quorums: Quorums,
    pub flaw: Option<Flaw>,
}

impl Rules {
    pub(super) fn new(sites: usize, flaw: Option<Flaw>) -> Rules {
        Rules { sites, quorums: Quorums::of_letters(sites), flaw }
    }

    pub(super) fn is(&self, flaw: Flaw) -> bool {
        self.flaw == Some(flaw)
    }

    /// The votes of a site that answers: it holds some, and none of them were lost.
    pub(super) fn usable<'a>(&self, world: &'a World, at: usize) -> Option<&'a Arc<Acceptor>> {
        let votes = world.votes_of(at)?;
        let is_older = world.regions[at].has_seen_more_than(votes);
        (!is_older || self.is(Flaw::NoMemory)).then_some(votes)
    }

    /// The sites that answer, as bits.
    pub(super) fn usable_sites(&self, world: &World) -> u8 {
        let sites = (0..self.sites).filter(|at| self.usable(world, *at).is_some());
        sites.fold(0, |bits, at| bits | 1 << at)
    }

    fn known(&self, world: &World, at: usize) -> Option<Position> {
        (!self.is(Flaw::NoMemory)).then(|| world.regions[at].disk.position())
    }

    /// The site after it was asked, if that changes it.
    pub(super) fn ask(&self, world: &World, at: usize, ask: Ask) -> Option<Arc<Acceptor>> {
        let known = self.known(world, at);
        let site = world.votes_of(at).map(|votes| &**votes);
        let question = Question { formation: "", site, known: known.as_ref(), ask };
        let (_, verdict) = match (self.flaw, ask) {
            (Some(Flaw::SameBallot), _) => answer_without(3045, &question),
            (Some(Flaw::PromisesIgnored), Ask::Accept { .. }) => answer_without(3040, &question),
            _ => answer(&question),
        };
        match verdict {
            Verdict::Write(votes) => Some(Arc::new(*votes)),
            Verdict::Holds | Verdict::Refuse(_) => None,
        }
    }

    pub(super) fn choice(&self, ballot: &Ballot, heard: &Heard, proof: bool) -> Choice {
        let forgiven = self.is(Flaw::BlankCounts).then(|| changed(heard, forgive));
        let heard = &forgiven.as_deref().map_or_else(|| heard.clone(), borrowed);
        match self.is(Flaw::OneBallot) {
            true => choice_by(shows_at_its_ballot, &self.quorums, ballot, heard, proof),
            false => choice(&self.quorums, ballot, heard, proof),
        }
    }

    pub(super) fn elected<'a>(&self, instance: u64, heard: &Heard<'a>) -> Option<&'a Certificate> {
        match self.flaw {
            Some(Flaw::SingleWrite) => {
                elected(&self.quorums.clone().with_enough(1), instance, heard)
            }
            Some(Flaw::MixedBallots) => elected_by(
                |one, other| one.certificate == other.certificate,
                &self.quorums,
                instance,
                heard,
            ),
            _ => elected(&self.quorums, instance, heard),
        }
    }

    pub(super) fn may_open(&self, world: &World, at: usize) -> bool {
        let known = self.known(world, at);
        let mut votes = world.votes_of(at).cloned();
        if self.is(Flaw::OpensBlank) {
            votes.iter_mut().for_each(|votes| forgive(Arc::make_mut(votes)));
        }
        may_open(votes.as_deref(), known.as_ref(), &region(at), world.regions[at].granted).is_ok()
    }

    pub(super) fn is_confirmed(&self, me: &RegionName, heard: &Heard) -> bool {
        let own = heard.get(me).copied();
        let change = |site: &mut Acceptor| match self.flaw {
            Some(Flaw::BlankCounts) => forgive(site),
            Some(Flaw::GrantIgnoresPromises) => site.in_force = false,
            Some(Flaw::OwnPromiseForgets) => {
                site.promised.take_if(|ballot| ballot.region == *me);
            }
            _ => {}
        };
        let sites = changed(heard, change);
        let mut sites = borrowed(&sites);
        let silent = own.map(|own| Acceptor { promised: None, accepted: None, ..own.clone() });
        if let (Some(silent), true) = (&silent, self.is(Flaw::UnreadCounts)) {
            let all = self.quorums.sites().iter();
            all.for_each(|name| _ = sites.entry(name.clone()).or_insert(silent));
        }
        confirmed(&self.quorums, me, &sites).is_ok()
    }
}

/// What was heard, with a change that takes a guard out.
fn changed(heard: &Heard, change: impl Fn(&mut Acceptor)) -> Vec<(RegionName, Acceptor)> {
    let mut sites: Vec<_> =
        heard.iter().map(|(name, site)| (name.clone(), (*site).clone())).collect();
    sites.iter_mut().for_each(|(_, site)| change(site));
    sites
}

fn borrowed(sites: &[(RegionName, Acceptor)]) -> Heard<'_> {
    sites.iter().map(|(name, site)| (name.clone(), site)).collect()
}

fn shows_at_its_ballot(site: &Acceptor, highest: &Accepted) -> bool {
    site.accepted.as_ref() == Some(highest)
}

/// The votes that the site lost do not count.
fn forgive(site: &mut Acceptor) {
    site.blank_through = 0;
}
