//! What an event makes of the regions: moves, openings, and what happens to stores and daemons.

mod ballots;

use super::event::Event;
use super::rules::Rules;
use super::world::{Servers, Vote, World, is_owned_by};
use super::{Bounds, Flaw, region};
use crate::agreement::acceptor::Ask;
use crate::agreement::proposer::to_carry;
use crate::agreement::sample::{ballot, proposed};
use crate::agreement::seed::seeded;
use std::sync::Arc;
use topology::acceptor::{Accepted, Acceptor};
use topology::region::CertificateKind;

/// What stays the same in a run.
pub(super) struct Setting {
    pub rules: Rules,
    pub bounds: Bounds,
    /// Movers of the owner that act at the same time.
    pub movers: u8,
    pub rounds: u64,
    pub epochs: u64,
    /// A store may forget votes that no disk has seen.
    pub unnoticed: bool,
}

impl Setting {
    pub(super) fn new(sites: usize, bounds: Bounds, flaw: Option<Flaw>) -> Setting {
        let rules = Rules::new(sites, flaw);
        Setting { rules, bounds, movers: 1, rounds: 2, epochs: 3, unnoticed: false }
    }

    pub(super) fn first(&self) -> World {
        World::new(self.rules.sites, self.bounds)
    }

    /// The regions after an event; `None`: it cannot happen, or changes nothing.
    pub(super) fn next(&self, before: &World, event: Event) -> Option<World> {
        let after = match event {
            Event::Watch(at) => self.watch(before, at),
            Event::Move(at) => self.begin(before, at),
            Event::Stop(at) => stop(before, at),
            Event::Abort(at) => abort(before, at),
            Event::Open(at) => self.open(before, at),
            Event::Close(at) => self.close(before, at),
            Event::Crash(at) => crash(before, at),
            Event::AcceptOwn { by, to, variant } => self.accept_own(before, by, to, variant),
            Event::Carry { by, to } => {
                let accepted = to_carry(&region(by), self.rules.usable(before, by)?)?;
                self.accept(before, to, accepted)
            }
            Event::Post { by, to } => self.post(before, by, to),
            Event::Land(at) => {
                let Vote { site, ballot, certificate } = before.late.get(at)?;
                let (ballot, certificate) = (ballot.clone(), (**certificate).clone());
                self.accept(before, *site, &Accepted { ballot, certificate })
            }
            Event::Claim(by) => ballots::claim(self, before, by),
            Event::Promise { by, at } => ballots::promise(self, before, by, at),
            Event::Prove(by) => ballots::prove(self, before, by),
            Event::Lie(by) => ballots::lie(self, before, by),
            Event::Propose { by, heard, what } => ballots::propose(self, before, by, heard, what),
            Event::Elect(by) => ballots::elect(self, before, by),
            Event::Learn { by, from } => ballots::learn_from(self, before, by, from),
            Event::Grant(by) => ballots::grant(self, before, by),
            Event::Save(at) => save(before, at),
            Event::Restore(at) => self.restore(before, at),
            Event::Wipe(at) => wipe(before, at),
            Event::Seed(at) => self.seed(before, at),
        };
        after.filter(|after| after != before)
    }

    fn watch(&self, before: &World, at: usize) -> Option<World> {
        let votes = self.rules.usable(before, at)?;
        let mut after = before.clone();
        after.regions[at].sees(votes);
        Some(after)
    }

    fn begin(&self, before: &World, at: usize) -> Option<World> {
        let votes = self.rules.usable(before, at)?;
        let is_granted = before.regions[at].granted == Some(votes.epoch());
        let may = is_owned_by(votes, at) && is_granted && votes.epoch() < self.epochs;
        if !may || before.sites[at].moves {
            return None;
        }
        let mut after = before.clone();
        after.left.moves = after.left.moves.checked_sub(1)?;
        after.sites[at].moves = true;
        Some(after)
    }

    fn open(&self, before: &World, at: usize) -> Option<World> {
        let is_shut = before.regions[at].group != Servers::Open && !before.sites[at].moves;
        if !is_shut || !self.rules.may_open(before, at) {
            return None;
        }
        let mut after = before.clone();
        before.votes_of(at).into_iter().for_each(|votes| after.regions[at].sees(votes));
        after.regions[at].group = Servers::Open;
        Some(after)
    }

    fn close(&self, before: &World, at: usize) -> Option<World> {
        let gave_it_away = |votes: &Acceptor| {
            let accepted = votes.accepted.as_ref();
            accepted.is_some_and(|accepted| accepted.certificate.owner != region(at))
        };
        let votes = self.rules.usable(before, at);
        let keeps = votes.is_some_and(|votes| is_owned_by(votes, at) && !gave_it_away(votes));
        if before.regions[at].group != Servers::Open || keeps {
            return None;
        }
        let mut after = before.clone();
        after.regions[at].group = Servers::Closed;
        Some(after)
    }

    /// The own store's accept compares the journal: no move, no accept.
    fn accept_own(&self, before: &World, by: usize, to: usize, variant: u8) -> Option<World> {
        let votes = self.rules.usable(before, by)?;
        let is_stopped = before.regions[by].group == Servers::Stopped && before.sites[by].moves;
        if !is_stopped || votes.epoch() >= self.epochs {
            return None;
        }
        let kind = CertificateKind::Planned;
        let certificate = proposed(votes, 0, &region(to), kind, &variant.to_string());
        let accepted = Accepted { ballot: ballot(0, region(by).as_str()), certificate };
        let mut after = self.accept(before, by, &accepted)?;
        let votes = after.votes_of(by)?.clone();
        after.regions[by].sees(&votes);
        Some(after)
    }

    /// The regions after a site was asked to accept.
    pub(super) fn accept(&self, before: &World, at: usize, accepted: &Accepted) -> Option<World> {
        let Accepted { ballot, certificate } = accepted;
        let votes = self.rules.ask(before, at, Ask::Accept { ballot, certificate })?;
        let mut after = before.clone();
        after.sites[at].acceptor = Some(votes);
        vote(at, accepted).add_to(&mut after.votes);
        Some(after)
    }

    fn post(&self, before: &World, by: usize, to: usize) -> Option<World> {
        let accepted = to_carry(&region(by), self.rules.usable(before, by)?)?;
        let mut after = before.clone();
        vote(to, accepted).add_to(&mut after.late);
        if after.late != before.late {
            after.left.late = after.left.late.checked_sub(1)?;
        }
        Some(after)
    }

    fn restore(&self, before: &World, at: usize) -> Option<World> {
        let votes = before.votes_of(at)?;
        let (saved, moves) = before.sites[at].saved.as_ref()?;
        let mut watched = before.regions[at].clone();
        watched.sees(votes);
        if saved == votes || !self.unnoticed && watched != before.regions[at] {
            return None;
        }
        let mut after = before.clone();
        after.left.restore = after.left.restore.checked_sub(1)?;
        after.sites[at].acceptor = Some(saved.clone());
        after.sites[at].moves = *moves;
        Some(after)
    }

    fn seed(&self, before: &World, at: usize) -> Option<World> {
        let others = self.rules.usable_sites(before) & !(1 << at);
        let is_lost = before.votes_of(at).is_none_or(|v| before.regions[at].has_seen_more_than(v));
        if !is_lost {
            return None;
        }
        let (heard, disk) = (before.heard(others), &before.regions[at].disk);
        let votes = seeded(&region(at), &self.rules.quorums, &heard, Some(disk)).ok()?;
        let mut after = before.clone();
        let votes = Arc::new(votes);
        after.regions[at].sees(&votes);
        after.regions[at].proof = false;
        after.sites[at].acceptor = Some(votes);
        Some(after)
    }
}

fn vote(site: usize, accepted: &Accepted) -> Vote {
    let Accepted { ballot, certificate } = accepted.clone();
    Vote { site, ballot, certificate: Arc::new(certificate) }
}

fn stop(before: &World, at: usize) -> Option<World> {
    let is_open = before.regions[at].group == Servers::Open && before.sites[at].moves;
    let mut after = before.clone();
    after.regions[at].group = Servers::Stopped;
    is_open.then_some(after)
}

/// The abort compares the votes: none after the accept.
fn abort(before: &World, at: usize) -> Option<World> {
    let may = before.votes_of(at)?.accepted.is_none();
    let mut after = before.clone();
    after.sites[at].moves = false;
    may.then_some(after)
}

fn crash(before: &World, at: usize) -> Option<World> {
    let mut after = before.clone();
    after.left.crash = after.left.crash.checked_sub(1)?;
    let region = &mut after.regions[at];
    (region.group, region.granted, region.proof) = (Servers::Closed, None, false);
    Some(after)
}

fn save(before: &World, at: usize) -> Option<World> {
    let votes = before.votes_of(at)?.clone();
    let mut after = before.clone();
    after.left.save = after.left.save.checked_sub(1)?;
    after.sites[at].saved = Some((votes, before.sites[at].moves));
    Some(after)
}

fn wipe(before: &World, at: usize) -> Option<World> {
    before.votes_of(at)?;
    let mut after = before.clone();
    after.left.wipe = after.left.wipe.checked_sub(1)?;
    after.sites[at].acceptor = None;
    after.sites[at].moves = false;
    Some(after)
}
