//! What a region's agent does about votes and certificates.
//!
//! The agent speaks for its region: it brings the first certificate into the
//! world, restores what its store lost, confirms an epoch after a cold start
//! and passes certificates on. `agent_step` says what comes next; the agent
//! performs it and asks again.
//!
//! Invariants:
//! - *one first owner*: the first certificate is written only by the region
//!   that the stored policy names, when **all** sites hold that same policy
//!   and were read to hold no vote;
//! - *votes only rise*: a site accepts a certificate of a higher epoch only;
//! - *unknown is not absent*: a site that was not read, or whose vote cannot
//!   be parsed, never counts as one without a vote.
//!
//! Absent on purpose: taking an epoch from an owner that did not sign it off.

mod confirm;

use super::LocalTopology;
use confirm::{confirm, confirmed_or_recorded, went_back};
use std::collections::BTreeMap;
use topology::acceptor::Acceptor;
use topology::region::{Certificate, CertificateKind, Policy, Register, Token};
use topology::{Group, Millis, RegionName, Seen, Session, Version};

/// Everything an agent knows when it decides.
#[derive(Clone, Debug)]
pub struct AgentFacts<'a> {
    pub me: &'a RegionName,
    /// The policy of the daemon's own settings.
    pub settings: &'a Policy,
    /// The own store's keys, at least as fresh as the own election.
    pub local: &'a LocalTopology,
    /// The other regions' keys as watches show them: good enough to learn of a
    /// higher epoch, not to conclude that there is none.
    pub others: &'a BTreeMap<RegionName, Seen<LocalTopology>>,
    /// Answers of the other stores to reads made for this very step.
    pub asked: Option<&'a BTreeMap<RegionName, Seen<LocalTopology>>>,
    /// The epoch whose mark this process has just seen alive.
    pub mark: Option<u64>,
    /// What the host's disk knows of the own store.
    pub memory: Option<&'a Acceptor>,
    /// The lease that the agent's own keys hang on.
    pub session: Session,
    /// The date, for a certificate.
    pub at: &'a str,
}

/// One thing for the agent to do.
#[derive(Clone, Debug, PartialEq)]
pub enum AgentStep {
    /// Write the own policy where the store has none.
    WritePolicy,
    /// Write the stored policy where another region's store has none.
    SharePolicy(RegionName),
    /// Read all other stores, then ask again.
    AskOthers,
    CreateFirst(Box<Certificate>),
    /// Accept this certificate in the own store.
    Adopt(Box<Certificate>),
    /// Write the mark of this epoch on the own lease.
    Verify(u64),
    /// Write the acceptor beside the own vote.
    Record(Box<Acceptor>),
    /// Nothing can be done before something changes; an operator should read it.
    Blocked(String),
    /// The own store shows less than this host has seen of it: nothing is made of it. The copy
    /// may be late; what shows so for longer is for an operator to read.
    Behind(String),
    /// Nothing to do. Another region's agent is expected to act, or all is well.
    Settled,
}

/// What the agent does next.
pub fn agent_step(facts: &AgentFacts) -> AgentStep {
    let policy = match settled_policy(facts) {
        Ok(policy) => policy,
        Err(step) => return step,
    };
    if let Some(step) = repair(facts).or_else(|| went_back(facts)) {
        return step;
    }
    match facts.local.certificate() {
        Some(certificate) => {
            let step = confirm(facts, policy, certificate.epoch);
            confirmed_or_recorded(facts, policy, step)
        }
        None if policy.first_owner() == Some(facts.me) => first_certificate(facts, policy),
        None => AgentStep::Settled,
    }
}

/// What all regions must agree on: a policy without the ways to the stores,
/// which may be written differently in each region.
fn agreement(policy: &Policy) -> String {
    let mut policy = policy.clone();
    policy.regions.iter_mut().for_each(|region| region.endpoints.clear());
    policy.hash()
}

/// Does the daemon's own policy differ from the one in force?
pub fn policy_conflict(settings: &Policy, stored: &Policy) -> Option<String> {
    let (mine, theirs) = (agreement(settings), agreement(stored));
    (mine != theirs).then(|| {
        format!(
            "the `topology` section of this daemon gives policy {mine}, `topology/policy` holds \
             {theirs}, which stays in force; make the sections of all daemons equal"
        )
    })
}

/// Regions whose store should be given the certificate in force here.
pub fn behind<'a>(facts: &'a AgentFacts) -> Vec<&'a RegionName> {
    let mine = facts.local.accepted_epoch();
    let lower = |site: &LocalTopology| site.vote_is_readable() && site.accepted_epoch() < mine;
    facts.others.iter().filter(|(_, s)| s.is_known_and(lower)).map(|(name, _)| name).collect()
}

/// The vote after accepting a certificate; `None` if the site may not accept it.
pub fn accept(register: Option<&Register>, certificate: &Certificate) -> Option<Register> {
    let old = register.cloned().unwrap_or_default();
    let epoch = old.accepted.as_ref().map_or(0, |c| c.epoch);
    (certificate.epoch > epoch).then(|| Register {
        promised: old.promised.max(certificate.ballot),
        accepted: Some(certificate.clone()),
    })
}

/// The certificate of a formation that no region has owned yet.
pub fn first(policy: &Policy, owner: &RegionName, at: &str) -> Certificate {
    Certificate {
        epoch: 1,
        ballot: 1,
        owner: owner.clone(),
        kind: CertificateKind::Initial,
        previous_hash: String::new(),
        groups: BTreeMap::new(),
        proof: "all sites were read and none held a certificate".to_string(),
        policy_hash: agreement(policy),
        at: at.to_string(),
    }
}

/// The certificate that a planned move ends with.
pub fn successor(
    register: &Register,
    in_force: &Certificate,
    to: &RegionName,
    tokens: &BTreeMap<Group, Token>,
    at: &str,
) -> Certificate {
    Certificate {
        epoch: in_force.epoch + 1,
        ballot: register.promised.max(in_force.ballot) + 1,
        owner: to.clone(),
        kind: CertificateKind::Planned,
        previous_hash: in_force.hash(),
        groups: tokens.clone(),
        proof: format!("{} signed all {} groups off", in_force.owner, tokens.len()),
        policy_hash: in_force.policy_hash.clone(),
        at: at.to_string(),
    }
}

/// The policy in force; until there is one, the step that brings it.
fn settled_policy<'a>(facts: &'a AgentFacts) -> Result<&'a Policy, AgentStep> {
    for key in ["policy", "register"] {
        if let Some(why) = facts.local.unreadable.get(key) {
            let text = format!("`topology/{key}` cannot be read ({why}); correct or delete it");
            return Err(AgentStep::Blocked(text));
        }
    }
    let Some(policy) = facts.local.policy.as_ref().map(|p| &p.value) else {
        return Err(AgentStep::WritePolicy);
    };
    if policy.region(facts.me).is_none() {
        return Err(AgentStep::Blocked(format!(
            "`topology/policy` does not list region {}; correct `topology.region` in the settings",
            facts.me
        )));
    }
    Ok(policy)
}

/// Brings the own keys up to the highest epoch that anybody is known to hold.
fn repair(facts: &AgentFacts) -> Option<AgentStep> {
    let mine = facts.local.accepted();
    let best = sites(facts).filter_map(|(name, site)| Some((name, site.accepted()?)));
    let best = best.max_by_key(|(_, certificate)| certificate.epoch);
    if let (Some((name, theirs)), Some(mine)) = (best, mine)
        && theirs.epoch == mine.epoch
        && theirs != mine
    {
        return Some(AgentStep::Blocked(format!(
            "two different certificates of epoch {}: here {} owns the formation, region {name} \
             says {}; find out which one is right and delete the other register",
            mine.epoch, mine.owner, theirs.owner
        )));
    }
    let own_epoch = facts.local.accepted_epoch();
    if let Some((_, theirs)) = best.filter(|(_, c)| c.epoch > own_epoch) {
        return Some(AgentStep::Adopt(Box::new(theirs.clone())));
    }
    // The vote is written together with the certificate; if they differ, the
    // certificate's key was damaged.
    let accepted = mine.filter(|mine| facts.local.certificate() != Some(mine))?;
    Some(AgentStep::Adopt(Box::new(accepted.clone())))
}

fn first_certificate(facts: &AgentFacts, policy: &Policy) -> AgentStep {
    let Some(asked) = facts.asked else {
        return AgentStep::AskOthers;
    };
    let unread = unread(facts.me, policy, asked);
    if !unread.is_empty() {
        return AgentStep::Blocked(format!(
            "the formation has no owner yet, and the first one is named only when the stores of \
             all regions were read; unread: {}",
            unread.join(", ")
        ));
    }
    for region in policy.regions.iter().filter(|r| &r.name != facts.me) {
        let site = read_of(asked, &region.name).expect("all were read");
        match &site.policy {
            None => return AgentStep::SharePolicy(region.name.clone()),
            Some(theirs) if agreement(&theirs.value) != agreement(policy) => {
                return AgentStep::Blocked(format!(
                    "region {} holds policy {}, this region {}; they must be equal before the \
                     formation is opened: delete the wrong `topology/policy`",
                    region.name,
                    agreement(&theirs.value),
                    agreement(policy)
                ));
            }
            Some(_) => {}
        }
    }
    AgentStep::CreateFirst(Box::new(first(policy, facts.me, facts.at)))
}

/// Every other site that is known, asked or watched.
fn sites<'a>(facts: &'a AgentFacts) -> impl Iterator<Item = (&'a RegionName, &'a LocalTopology)> {
    let asked = facts.asked.into_iter().flatten();
    let all = facts.others.iter().chain(asked);
    all.filter_map(|(name, site)| Some((name, site.known()?)))
        .filter(|(name, site)| *name != facts.me && site.vote_is_readable())
}

/// A site that was read just now, with a vote that makes sense.
fn read_of<'a>(
    asked: &'a BTreeMap<RegionName, Seen<LocalTopology>>,
    name: &RegionName,
) -> Option<&'a LocalTopology> {
    let site = asked.get(name)?.known()?;
    (site.vote_is_readable() && !site.is_unreadable("policy")).then_some(site)
}

fn unread<'a>(
    me: &RegionName,
    policy: &'a Policy,
    asked: &BTreeMap<RegionName, Seen<LocalTopology>>,
) -> Vec<&'a str> {
    let others = policy.regions.iter().filter(|r| &r.name != me);
    let missing = others.filter(|r| read_of(asked, &r.name).is_none());
    missing.map(|r| r.name.as_str()).collect()
}

/// When this process last saw a mark alive.
///
/// A process that slept longer than a lease lives knows nothing about marks any
/// more, whatever its copy of the store still shows: `distrust` is the
/// version up to which marks are ignored after such a gap.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct MarkMemory {
    seen: Option<(u64, Millis)>,
    looked: Option<Millis>,
    distrust: Version,
}

impl MarkMemory {
    /// Takes one look at the own copy of the store; `version` is the copy's.
    pub fn look(&mut self, local: &LocalTopology, version: Version, now: Millis, ttl_ms: u64) {
        if self.looked.is_some_and(|then| now.since(then) >= ttl_ms) {
            self.seen = None;
            self.distrust = version;
        }
        self.looked = Some(now);
        if let Some(mark) = local.verified.as_ref().filter(|m| m.version > self.distrust) {
            self.seen = Some((mark.value.epoch, now));
        }
    }

    /// The epoch of a mark that was alive less than `ttl_ms` ago.
    pub fn alive(&self, now: Millis, ttl_ms: u64) -> Option<u64> {
        let (epoch, at) = self.seen?;
        (now.since(at) < ttl_ms).then_some(epoch)
    }
}

#[cfg(test)]
#[path = "register_tests.rs"]
pub(crate) mod tests;
