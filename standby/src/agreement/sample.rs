//! Sites and certificates that the tests of the agreement make up.

use super::proposer::{Proposal, successor};
use topology::RegionName;
use topology::acceptor::{Accepted, Acceptor, Ballot};
use topology::region::{Certificate, CertificateKind};

const LETTERS: [&str; 5] = ["a", "b", "c", "d", "e"];

pub(super) fn region(at: usize) -> RegionName {
    LETTERS[at].into()
}

pub(super) fn ballot(round: u64, region: &str) -> Ballot {
    Ballot { round, region: region.into() }
}

/// A site in whose formation region a owns epoch 1.
pub(super) fn first() -> Acceptor {
    let certificate = Certificate {
        epoch: 1,
        ballot: 1,
        owner: region(0),
        kind: CertificateKind::Initial,
        previous_hash: String::new(),
        groups: Default::default(),
        proof: String::new(),
        policy_hash: String::new(),
        at: String::new(),
    };
    Acceptor { in_force: true, ..Acceptor::first("", Some(certificate)) }
}

/// What a region proposes after the certificate in force at this site. `at` tells two
/// certificates of one ballot apart.
pub(super) fn proposed(
    site: &Acceptor,
    round: u64,
    owner: &RegionName,
    kind: CertificateKind,
    at: &str,
) -> Certificate {
    let at = at.to_string();
    let proposal = Proposal { kind, goal: Default::default(), proof: String::new(), at };
    successor(site, round, owner, proposal).expect("a site with an owner")
}

/// A certificate of epoch 2 with this owner.
pub(super) fn second(owner: &str) -> Certificate {
    proposed(&first(), 0, &owner.into(), CertificateKind::Planned, "")
}

/// The site once it has promised this ballot.
pub(super) fn promised(site: &Acceptor, ballot: Ballot) -> Acceptor {
    Acceptor { promised: Some(ballot), ..site.clone() }
}

/// The site once it has accepted this certificate.
pub(super) fn accepted(site: &Acceptor, ballot: Ballot, certificate: &Certificate) -> Acceptor {
    let vote = Accepted { ballot: ballot.clone(), certificate: certificate.clone() };
    Acceptor { accepted: Some(vote), ..promised(site, ballot) }
}
