//! What a site answers to a proposer.
//!
//! `ACCEPTOR` is a table; the first row that matches decides. A client of the store asks it about
//! what it has just read, and writes the answer by compare-and-set: the store itself knows no
//! rule.
//!
//! Invariants:
//! - *votes only rise*: each write raises the position of the site;
//! - *once is enough*: the same question, asked again, changes nothing.
//!
//! The order of the rows matters at two places. Row 3020 stands before 3040: a late accept of an
//! epoch that is over must not raise a promise. Row 3045 stands before 3048 and 3060: two
//! certificates of one ballot are told apart before one of them is taken.

use thiserror::Error;
use topology::acceptor::{Accepted, Acceptor, Ballot, Link, Position};
use topology::region::Certificate;

/// What a proposer wants of a site.
#[derive(Clone, Copy, Debug)]
pub enum Ask<'a> {
    /// Promise to refuse all lower ballots.
    Prepare(&'a Ballot),
    Accept {
        ballot: &'a Ballot,
        certificate: &'a Certificate,
    },
    /// Another site knows what was chosen; its acceptor tells the way there.
    Learn(&'a Acceptor),
}

#[derive(Clone, Copy, Debug)]
pub struct Question<'a> {
    pub formation: &'a str,
    pub site: Option<&'a Acceptor>,
    /// The furthest that this client, or another site, has seen the site.
    pub known: Option<&'a Position>,
    pub ask: Ask<'a>,
}

#[derive(Clone, Debug, PartialEq)]
pub enum Verdict {
    /// The site becomes this.
    Write(Box<Acceptor>),
    /// It has been done already.
    Holds,
    Refuse(Refusal),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum Refusal {
    #[error("the store holds no votes; they must be seeded from the other regions")]
    Empty,
    #[error("the store is older than it was seen; its votes must be seeded from the other regions")]
    Older,
    #[error("the votes belong to another formation")]
    Foreign,
    #[error("the epoch is decided")]
    Decided,
    #[error("the site does not know the epoch before yet")]
    Behind,
    #[error("the site holds another certificate of the same epoch")]
    Split,
    #[error("only the owner proposes without promises")]
    NotOwner,
    #[error("the site has promised a higher ballot")]
    Promised,
    #[error("the site has accepted another certificate at the same ballot")]
    OtherValue,
}

pub struct Row {
    pub id: u16,
    pub when: fn(&Question) -> bool,
    pub then: fn(&Question) -> Verdict,
    pub why: &'static str,
}

pub const ACCEPTOR: &[Row] = &[
    Row {
        id: 3005,
        when: |q| q.site.is_none(),
        then: |_| Verdict::Refuse(Refusal::Empty),
        why: "the store is empty: only seeding, or the first certificate, fills it",
    },
    Row {
        id: 3010,
        when: |q| q.known.is_some_and(|known| q.here().position() < *known),
        then: |_| Verdict::Refuse(Refusal::Older),
        why: "the store is older than it was seen: it gives no vote before it is seeded",
    },
    Row {
        id: 3015,
        when: |q| q.here().formation != q.formation,
        then: |_| Verdict::Refuse(Refusal::Foreign),
        why: "the votes are those of another formation",
    },
    Row {
        id: 3020,
        when: |q| q.epoch().is_some_and(|epoch| epoch <= q.here().epoch()),
        then: decided,
        why: "the epoch is decided here",
    },
    Row {
        id: 3030,
        when: |q| q.certificate().is_some_and(|c| c.epoch > q.here().instance()),
        then: |_| Verdict::Refuse(Refusal::Behind),
        why: "an epoch in between is missing here: the site learns it first",
    },
    Row {
        id: 3035,
        when: splits,
        then: |_| Verdict::Refuse(Refusal::Split),
        why: "the certificate does not follow the one that is in force here",
    },
    Row {
        id: 3040,
        when: |q| q.ballot().is_some_and(|ballot| q.here().promised.as_ref() > Some(ballot)),
        then: |_| Verdict::Refuse(Refusal::Promised),
        why: "the site has promised a higher ballot",
    },
    Row {
        id: 3042,
        when: |q| q.certificate().is_some() && q.ballot().is_some_and(|b| !may_skip(q.here(), b)),
        then: |_| Verdict::Refuse(Refusal::NotOwner),
        why: "round 0 is the owner's: all other proposals need promises",
    },
    Row {
        id: 3045,
        when: |q| same_ballot(q).is_some_and(|old| Some(&old.certificate) != q.certificate()),
        then: |_| Verdict::Refuse(Refusal::OtherValue),
        why: "the site has accepted another certificate at this ballot",
    },
    Row {
        id: 3048,
        when: |q| match q.ask {
            Ask::Prepare(ballot) => q.here().promised.as_ref() == Some(ballot),
            _ => same_ballot(q).is_some_and(|old| Some(&old.certificate) == q.certificate()),
        },
        then: |_| Verdict::Holds,
        why: "the site has given this vote already",
    },
    Row {
        id: 3050,
        when: |q| matches!(q.ask, Ask::Prepare(_)),
        then: |q| q.write(|site| site.promised = q.ballot().cloned()),
        why: "the site promises the ballot",
    },
    Row {
        id: 3060,
        when: |q| matches!(q.ask, Ask::Accept { .. }),
        then: accept,
        why: "the site accepts the certificate",
    },
    Row {
        id: 3070,
        when: |q| matches!(q.ask, Ask::Learn(_)),
        then: learn,
        why: "the site learns what was chosen",
    },
];

/// The row that decides, and what it says.
pub fn answer(question: &Question) -> (u16, Verdict) {
    answer_by(ACCEPTOR.iter(), question)
}

fn answer_by<'a>(mut rows: impl Iterator<Item = &'a Row>, question: &Question) -> (u16, Verdict) {
    let row = rows.find(|row| (row.when)(question));
    let row = row.expect("each kind of question has a row that answers it");
    (row.id, (row.then)(question))
}

impl<'a> Question<'a> {
    /// Rows below 3005 are asked only where the store holds votes.
    fn here(&self) -> &'a Acceptor {
        self.site.expect("row 3005 answers for an empty store")
    }

    fn ballot(&self) -> Option<&'a Ballot> {
        match self.ask {
            Ask::Prepare(ballot) | Ask::Accept { ballot, .. } => Some(ballot),
            Ask::Learn(_) => None,
        }
    }

    fn certificate(&self) -> Option<&'a Certificate> {
        match self.ask {
            Ask::Accept { certificate, .. } => Some(certificate),
            Ask::Prepare(_) | Ask::Learn(_) => None,
        }
    }

    /// The epoch that is proposed or told.
    fn epoch(&self) -> Option<u64> {
        match self.ask {
            Ask::Prepare(_) => None,
            Ask::Accept { certificate, .. } => Some(certificate.epoch),
            Ask::Learn(teller) => Some(teller.epoch()),
        }
    }

    fn write(&self, change: impl FnOnce(&mut Acceptor)) -> Verdict {
        let mut site = self.here().clone();
        change(&mut site);
        Verdict::Write(Box::new(site))
    }
}

fn decided(question: &Question) -> Verdict {
    let Ask::Learn(teller) = question.ask else {
        return Verdict::Refuse(Refusal::Decided);
    };
    let ours = question.here().hash_of(teller.epoch());
    match ours.is_none_or(|ours| ours == teller.hash()) {
        true => Verdict::Holds,
        false => Verdict::Refuse(Refusal::Split),
    }
}

/// Does what is proposed or told contradict what is in force here? A chain that does not reach
/// back to our epoch contradicts nothing.
fn splits(question: &Question) -> bool {
    let here = question.here();
    match question.ask {
        Ask::Prepare(_) => false,
        Ask::Accept { certificate, .. } => certificate.previous_hash != here.hash(),
        Ask::Learn(teller) => {
            teller.hash_of(here.epoch()).is_some_and(|theirs| theirs != here.hash())
        }
    }
}

/// May this ballot be accepted here as far as its round goes?
fn may_skip(site: &Acceptor, ballot: &Ballot) -> bool {
    let owner = site.chosen.as_ref().map(|certificate| &certificate.owner);
    ballot.round > 0 || owner == Some(&ballot.region)
}

/// What the site has accepted at the very ballot of an accept.
fn same_ballot<'a>(question: &Question<'a>) -> Option<&'a Accepted> {
    let Ask::Accept { ballot, .. } = question.ask else { return None };
    question.here().accepted.as_ref().filter(|accepted| accepted.ballot == *ballot)
}

fn accept(question: &Question) -> Verdict {
    let vote = question.ballot().zip(question.certificate());
    question.write(|site| {
        let vote = vote.map(|(ballot, certificate)| (ballot.clone(), certificate.clone()));
        site.promised = vote.as_ref().map(|(ballot, _)| ballot.clone());
        site.accepted = vote.map(|(ballot, certificate)| Accepted { ballot, certificate });
    })
}

fn learn(question: &Question) -> Verdict {
    let Ask::Learn(teller) = question.ask else { return Verdict::Holds };
    let Some(chosen) = teller.chosen.clone() else { return Verdict::Holds };
    let epoch = question.here().epoch();
    let links = teller.chain.iter().filter(|link| link.epoch > epoch).cloned();
    let links: Vec<Link> = links.collect();
    question.write(|site| *site = site.at(chosen, links))
}

/// As `answer`, with one row taken out.
#[cfg(test)]
pub(super) fn answer_without(row: u16, question: &Question) -> (u16, Verdict) {
    answer_by(ACCEPTOR.iter().filter(|other| other.id != row), question)
}

#[cfg(test)]
#[path = "acceptor_tests.rs"]
mod tests;
