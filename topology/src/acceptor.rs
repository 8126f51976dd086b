//! The acceptor of one site: what it has promised and accepted in the agreement on the next owner.
//!
//! Each epoch is one instance of agreement. The acceptor of a site votes in the instance after
//! the certificate that it holds as chosen. Which vote it may give is a rule and lives in
//! `standby/src/agreement`.

use crate::RegionName;
use crate::region::Certificate;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// One attempt to have a certificate chosen. Ballots are ordered by round, then by region. Round
/// 0 belongs to the owner and needs no promise.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Ballot {
    pub round: u64,
    pub region: RegionName,
}

/// A certificate that a site has voted for.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Accepted {
    pub ballot: Ballot,
    pub certificate: Certificate,
}

/// One certificate of the past.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Link {
    pub epoch: u64,
    pub hash: String,
}

/// How far an acceptor has come. Every vote raises it: an acceptor that is lower than it was seen
/// has lost votes. The order of the fields is the order of comparison.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Position {
    pub life: u64,
    pub epoch: u64,
    pub promised: Option<Ballot>,
    pub accepted: Option<Ballot>,
}

/// The votes of one site. Changed only by compare-and-set.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Acceptor {
    pub formation: String,
    /// How often this site was given its state anew; from 1.
    pub life: u64,
    /// `None`: no region has owned the formation yet.
    #[serde(default)]
    pub chosen: Option<Certificate>,
    /// The last certificates, newest last; the last one is `chosen`.
    #[serde(default)]
    pub chain: Vec<Link>,
    #[serde(default)]
    pub promised: Option<Ballot>,
    #[serde(default)]
    pub accepted: Option<Accepted>,
    /// What the site accepted in instances up to this one may have been lost.
    #[serde(default)]
    pub blank_through: u64,
    /// How far other sites were seen to be.
    #[serde(default)]
    pub knows: BTreeMap<RegionName, Position>,
    /// These votes decide; until then `Register` does.
    #[serde(default)]
    pub in_force: bool,
    /// Fields of later programs: they are written back.
    #[serde(flatten)]
    pub rest: BTreeMap<String, serde_json::Value>,
}

/// Links that a chain keeps.
pub const CHAIN_MAX: usize = 50;

impl Acceptor {
    /// The state of a site that never had another one.
    pub fn first(formation: &str, chosen: Option<Certificate>) -> Acceptor {
        let chain = chosen.iter().map(Link::to).collect();
        Acceptor {
            formation: formation.to_string(),
            life: 1,
            chosen,
            chain,
            promised: None,
            accepted: None,
            blank_through: 0,
            knows: BTreeMap::new(),
            in_force: false,
            rest: BTreeMap::new(),
        }
    }

    /// The epoch in force at this site; 0: none.
    pub fn epoch(&self) -> u64 {
        self.chosen.as_ref().map_or(0, |certificate| certificate.epoch)
    }

    /// The epoch that this site votes on.
    pub fn instance(&self) -> u64 {
        self.epoch() + 1
    }

    pub fn position(&self) -> Position {
        Position {
            life: self.life,
            epoch: self.epoch(),
            promised: self.promised.clone(),
            accepted: self.accepted.as_ref().map(|accepted| accepted.ballot.clone()),
        }
    }

    /// May this site have accepted something in its instance that it does not know of?
    pub fn is_blank(&self) -> bool {
        self.blank_through >= self.instance()
    }

    /// The hash of `chosen`; empty without one.
    pub fn hash(&self) -> &str {
        self.chain.last().map_or("", |link| &link.hash)
    }

    /// The hash of the certificate of an earlier epoch, where the chain reaches back to it.
    pub fn hash_of(&self, epoch: u64) -> Option<&str> {
        let link = self.chain.iter().rev().find(|link| link.epoch == epoch)?;
        Some(&link.hash)
    }

    /// The state after this certificate was chosen in the instance of this site.
    #[must_use]
    pub fn after(&self, certificate: Certificate) -> Acceptor {
        let link = Link::to(&certificate);
        self.at(certificate, [link])
    }

    /// The state with a later certificate as `chosen`; `links` lead from the own chain to it.
    #[must_use]
    pub fn at(&self, chosen: Certificate, links: impl IntoIterator<Item = Link>) -> Acceptor {
        let mut chain = self.chain.clone();
        chain.extend(links);
        chain.drain(..chain.len().saturating_sub(CHAIN_MAX));
        let chosen = Some(chosen);
        Acceptor { chosen, chain, promised: None, accepted: None, ..self.clone() }
    }
}

impl Link {
    fn to(certificate: &Certificate) -> Link {
        Link { epoch: certificate.epoch, hash: certificate.hash() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::region::CertificateKind;

    fn certificate(epoch: u64) -> Certificate {
        Certificate {
            epoch,
            ballot: 0,
            owner: "a".into(),
            kind: CertificateKind::Planned,
            previous_hash: String::new(),
            groups: BTreeMap::new(),
            proof: String::new(),
            policy_hash: String::new(),
            at: String::new(),
        }
    }

    fn ballot(round: u64) -> Option<Ballot> {
        Some(Ballot { round, region: "b".into() })
    }

    #[test]
    fn a_later_programs_fields_are_written_back() {
        let text = r#"{"formation":"f","life":2,"lease":{"beat":7},"knows":{"b":{"life":1,
            "epoch":3,"promised":{"round":1,"region":"b"},"accepted":null}}}"#;
        let acceptor: Acceptor = serde_json::from_str(text).unwrap();
        assert_eq!((acceptor.epoch(), acceptor.in_force), (0, false));
        let written = serde_json::to_value(&acceptor).unwrap();
        assert_eq!(written["lease"]["beat"], 7);
        assert_eq!(serde_json::from_value::<Acceptor>(written).unwrap(), acceptor);
    }

    #[test]
    fn an_acceptor_reads_back_as_it_was_written() {
        let mut acceptor = Acceptor::first("f", Some(certificate(1))).after(certificate(2));
        acceptor.promised = ballot(4);
        let certificate = certificate(3);
        acceptor.accepted = Some(Accepted { ballot: ballot(4).unwrap(), certificate });
        acceptor.knows.insert("b".into(), acceptor.position());
        let written = serde_json::to_string(&acceptor).unwrap();
        assert_eq!(serde_json::from_str::<Acceptor>(&written).unwrap(), acceptor);
    }

    #[test]
    fn a_position_counts_lives_before_epochs_before_promises_before_what_was_accepted() {
        let low = Position { life: 1, epoch: 9, promised: ballot(9), accepted: ballot(9) };
        let higher = Position { life: 2, ..Position::default() };
        assert!(low < higher);
        let promised = Position { promised: ballot(1), ..higher.clone() };
        let accepted = Position { accepted: ballot(1), ..promised.clone() };
        assert!(higher < promised && promised < accepted);
        assert!(accepted < Position { promised: ballot(2), ..higher.clone() });
        assert!(Ballot { round: 1, region: "a".into() } < ballot(1).unwrap());
    }

    #[test]
    fn what_was_chosen_ends_the_votes_of_its_instance_and_lengthens_the_chain() {
        let mut acceptor = Acceptor::first("f", Some(certificate(1)));
        acceptor.promised = ballot(1);
        let (first, second) = (acceptor.hash().to_string(), certificate(2));
        let after = acceptor.after(second.clone());
        assert_eq!((after.instance(), after.hash()), (3, &*second.hash()));
        assert_eq!((after.hash_of(1), after.hash_of(9)), (Some(&*first), None));
        assert_eq!((after.promised.clone(), after.accepted.clone()), (None, None));
        assert!(after.position() > acceptor.position());
        let long = (3..100).fold(after, |acceptor, epoch| acceptor.after(certificate(epoch)));
        assert_eq!((long.chain.len(), long.chain[0].epoch), (CHAIN_MAX, 50));
    }

    #[test]
    fn a_site_is_blank_in_the_instances_of_which_it_lost_votes() {
        let mut acceptor = Acceptor::first("f", Some(certificate(1)));
        assert!(!acceptor.is_blank());
        acceptor.blank_through = 3;
        let third = acceptor.after(certificate(2));
        assert!(acceptor.is_blank() && third.is_blank());
        assert!(!third.after(certificate(3)).is_blank());
    }
}
