//! Random histories of one instance: what a quorum accepted at one ballot stays the only choice.
//!
//! Proposers act in any order, hear any sites and repeat themselves; they keep only to `choice`
//! and to their own store. A list of all accepts that ever were is the twin that remembers
//! everything.

use super::acceptor::{Ask, Question, Verdict, answer};
use super::proposer::{Choice, choice, elected, next_ballot, to_carry};
use super::quorum::{Heard, Quorums};
use super::sample::{ballot, first, proposed, region};
use proptest::prelude::*;
use topology::acceptor::{Acceptor, Ballot};
use topology::region::{Certificate, CertificateKind};

#[derive(Clone, Debug)]
enum Act {
    /// The owner of epoch 1 accepts a planned certificate for this region in round 0.
    Plan(usize),
    Claim(usize),
    Promise {
        by: usize,
        at: usize,
    },
    Propose {
        by: usize,
        heard: u8,
    },
    Carry {
        by: usize,
        to: usize,
    },
}

struct History {
    quorums: Quorums,
    sites: Vec<Acceptor>,
    accepts: Vec<(usize, Ballot, Certificate)>,
}

impl History {
    fn new(sites: usize) -> History {
        let quorums = Quorums::of_letters(sites);
        History { quorums, sites: vec![first(); sites], accepts: vec![] }
    }

    fn heard(&self, bits: u8) -> Heard<'_> {
        let sites = self.sites.iter().enumerate().filter(|(at, _)| bits & (1 << at) != 0);
        sites.map(|(at, site)| (region(at), site)).collect()
    }

    fn ask(&mut self, at: usize, ask: Ask) {
        let question = Question { formation: "", site: Some(&self.sites[at]), known: None, ask };
        if let Verdict::Write(site) = answer(&question).1 {
            if let Ask::Accept { ballot, certificate } = ask {
                self.accepts.push((at, ballot.clone(), certificate.clone()));
            }
            self.sites[at] = *site;
        }
    }

    fn accept(&mut self, at: usize, ballot: &Ballot, certificate: &Certificate) {
        self.ask(at, Ask::Accept { ballot, certificate });
    }

    fn own_ballot(&self, by: usize) -> Option<Ballot> {
        self.sites[by].promised.clone().filter(|b| b.round > 0 && b.region == region(by))
    }

    fn act(&mut self, act: &Act) {
        match *act {
            Act::Plan(to) => {
                let certificate = second_for(to, 0);
                self.accept(0, &ballot(0, "a"), &certificate);
            }
            Act::Claim(by) => {
                let ballot = next_ballot(&region(by), &self.heard(!0));
                self.ask(by, Ask::Prepare(&ballot));
            }
            Act::Promise { by, at } => {
                let ballot = self.own_ballot(by);
                ballot.iter().for_each(|ballot| self.ask(at, Ask::Prepare(ballot)));
            }
            Act::Propose { by, heard } => self.propose(by, heard),
            Act::Carry { by, to } => {
                let vote = to_carry(&region(by), &self.sites[by]).cloned();
                vote.iter().for_each(|vote| self.accept(to, &vote.ballot, &vote.certificate));
            }
        }
    }

    fn propose(&mut self, by: usize, heard: u8) {
        let Some(ballot) = self.own_ballot(by) else { return };
        let choice = choice(&self.quorums, &ballot, &self.heard(heard | 1 << by), false);
        match choice {
            Choice::Free => self.accept(by, &ballot, &second_for(by, ballot.round)),
            Choice::Bound(certificate) => self.accept(by, &ballot, &certificate),
            Choice::Hear(_) | Choice::Learn(_) => {}
        }
    }

    /// Every certificate that a quorum accepted at one ballot, whatever the sites hold now.
    fn chosen(&self) -> Vec<&Certificate> {
        let is_chosen = |(_, ballot, certificate): &&(usize, Ballot, Certificate)| {
            let alike = self.accepts.iter().filter(|(_, b, c)| (b, c) == (ballot, certificate));
            let sites: Vec<_> = alike.map(|(at, ..)| region(*at)).collect();
            self.quorums.choose(&sites)
        };
        self.accepts.iter().filter(is_chosen).map(|(.., certificate)| certificate).collect()
    }
}

fn second_for(owner: usize, round: u64) -> Certificate {
    proposed(&first(), round, &region(owner), CertificateKind::Planned, "")
}

fn an_act(sites: usize) -> impl Strategy<Value = Act> {
    let at = 0..sites;
    prop_oneof![
        1 => at.clone().prop_map(Act::Plan),
        1 => at.clone().prop_map(Act::Claim),
        4 => (at.clone(), at.clone()).prop_map(|(by, at)| Act::Promise { by, at }),
        3 => (at.clone(), any::<u8>()).prop_map(|(by, heard)| Act::Propose { by, heard }),
        4 => (at.clone(), at).prop_map(|(by, to)| Act::Carry { by, to }),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1000, ..ProptestConfig::default() })]

    #[test]
    fn a_certificate_that_a_quorum_accepted_at_one_ballot_always_binds(
        (sites, acts) in (2usize..=5).prop_flat_map(|sites| {
            (Just(sites), prop::collection::vec(an_act(sites), 1..60))
        }),
    ) {
        let mut history = History::new(sites);
        for act in &acts {
            history.act(act);
            let chosen = history.chosen();
            prop_assert!(chosen.windows(2).all(|pair| pair[0] == pair[1]), "{act:?}: {chosen:#?}");
            // What the sites show now was chosen, if it shows a choice at all.
            let shown = elected(&history.quorums, 2, &history.heard(!0));
            prop_assert!(shown.is_none_or(|shown| chosen.contains(&shown)));
        }
    }
}
