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

use super::LocalTopology;
use crate::agreement::legacy::{beside, noted};
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
    /// Nothing to do. Another region's agent is expected to act, or all is well.
    Settled,
}

/// What the agent does next.
pub fn agent_step(facts: &AgentFacts) -> AgentStep {
    let policy = match settled_policy(facts) {
        Ok(policy) => policy,
        Err(step) => return step,
    };
    if let Some(step) = repair(facts) {
        return step;
    }
    match facts.local.certificate() {
        // The mark opens the region: it does not wait for the acceptor.
        Some(certificate) => match confirm(facts, policy, certificate.epoch) {
            AgentStep::Verify(epoch) => AgentStep::Verify(epoch),
            step => record(facts, policy).unwrap_or(step),
        },
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

/// The acceptor beside the own vote, where the store holds another one. A site without an acceptor
/// is one of an older program: it is not known how far it is.
fn record(facts: &AgentFacts, policy: &Policy) -> Option<AgentStep> {
    let old = facts.local.acceptor.as_ref().map(|acceptor| &acceptor.value);
    let others =
        || sites(facts).filter_map(|(name, site)| Some((name, &site.acceptor.as_ref()?.value)));
    let known = others().filter_map(|(_, acceptor)| acceptor.knows.get(facts.me)).max();
    let acceptor = beside(old, known, facts.local.accepted()?, &policy.formation);
    let seen = others().map(|(name, acceptor)| (name.clone(), acceptor.position()));
    let acceptor = noted(acceptor, &seen.collect());
    (old != Some(&acceptor)).then(|| AgentStep::Record(Box::new(acceptor)))
}

/// After a cold start the other registers must be read once; a mark that this
/// process has just seen alive is carried over without asking.
fn confirm(facts: &AgentFacts, policy: &Policy, epoch: u64) -> AgentStep {
    if facts.local.accepted_epoch() != epoch {
        return AgentStep::Blocked(
            "`topology/register` holds no vote beside `topology/certificate`, and no other \
             region's register was read that holds it; restore the connection to their stores"
                .to_string(),
        );
    }
    let marked = facts.local.verified.as_ref();
    if marked.is_some_and(|m| m.value.epoch == epoch && m.session == Some(facts.session)) {
        return AgentStep::Settled;
    }
    if facts.mark.is_some_and(|mark| mark <= epoch) {
        return AgentStep::Verify(epoch);
    }
    let Some(asked) = facts.asked else {
        return AgentStep::AskOthers;
    };
    let known = policy.regions.iter().filter(|r| read_of(asked, &r.name).is_some()).count();
    let majority = policy.regions.len() / 2 + 1;
    if known + 1 >= majority {
        return AgentStep::Verify(epoch);
    }
    AgentStep::Blocked(format!(
        "epoch {epoch} is not confirmed: {} of {} registers must be read, {} can be; \
         unread: {}",
        majority,
        policy.regions.len(),
        known + 1,
        unread(facts.me, policy, asked).join(", ")
    ))
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
pub(crate) mod tests {
    use super::*;
    use crate::made_up_move;
    use proptest::prelude::*;
    use topology::Versioned;
    use topology::region::{Journal, Phase};

    pub(crate) fn certificate(epoch: u64, owner: &str) -> Certificate {
        let kind = if epoch == 1 { CertificateKind::Initial } else { CertificateKind::Planned };
        let at = String::new();
        Certificate { epoch, ballot: epoch, kind, ..first(&policy(2), &owner.into(), &at) }
    }

    pub(crate) fn journal(epoch: u64, from: &str, to: &str, phase: Phase) -> Versioned<Journal> {
        let (from, to, groups) = (from.into(), to.into(), vec![Group::PLAIN]);
        let value =
            Journal { id: "move".into(), from, to, epoch, groups, ..made_up_move::journal(phase) };
        Versioned { value, version: Version::of_store(5), session: None }
    }

    pub(crate) fn local_with(certificate: Certificate) -> LocalTopology {
        let register = Register { promised: 1, accepted: Some(certificate.clone()) };
        LocalTopology {
            policy: Some(versioned(policy(2))),
            register: Some(versioned(register)),
            acceptor: Some(versioned(acceptor(&certificate))),
            certificate: Some(versioned(certificate)),
            ..LocalTopology::default()
        }
    }

    /// Beside the vote for this certificate, at both sites.
    fn acceptor(certificate: &Certificate) -> Acceptor {
        let mut acceptor = Acceptor::first("f", Some(certificate.clone()));
        let position = acceptor.position();
        acceptor.knows = ["a", "b"].map(|name| (name.into(), position.clone())).into();
        acceptor
    }

    pub(crate) fn policy(regions: usize) -> Policy {
        let names = ["a", "b", "c", "d"];
        let regions = names[..regions]
            .iter()
            .map(|name| format!(r#"{{"name":"{name}","endpoints":["{name}:1"]}}"#));
        let regions = regions.collect::<Vec<_>>().join(",");
        serde_json::from_str(&format!(r#"{{"formation":"f","regions":[{regions}]}}"#))
            .expect("a policy")
    }

    fn versioned<T>(value: T) -> Versioned<T> {
        Versioned { value, version: Version::of_store(2), session: None }
    }

    fn bare() -> LocalTopology {
        LocalTopology { policy: Some(versioned(policy(2))), ..LocalTopology::default() }
    }

    type Sites = BTreeMap<RegionName, Seen<LocalTopology>>;

    fn site(name: &str, seen: Seen<LocalTopology>) -> Sites {
        [(RegionName::new(name), seen)].into()
    }

    struct Case {
        me: &'static str,
        local: LocalTopology,
        others: Sites,
        asked: Option<Sites>,
        mark: Option<u64>,
    }

    fn step(case: &Case) -> AgentStep {
        agent_step(&AgentFacts {
            me: &case.me.into(),
            settings: &policy(2),
            local: &case.local,
            others: &case.others,
            asked: case.asked.as_ref(),
            mark: case.mark,
            session: Session::of_store(7),
            at: "now",
        })
    }

    fn fresh(local: LocalTopology) -> Case {
        let others = site("b", Seen::Known(bare()));
        Case { me: "a", local, others, asked: None, mark: None }
    }

    #[test]
    fn the_first_certificate_needs_every_site_read_and_empty() {
        assert_eq!(step(&fresh(LocalTopology::default())), AgentStep::WritePolicy);
        let mut case = fresh(bare());
        assert_eq!(step(&case), AgentStep::AskOthers, "a watch does not prove absence");
        case.asked = Some(site("b", Seen::Unknown));
        assert!(matches!(step(&case), AgentStep::Blocked(why) if why.contains("unread: b")));
        case.asked = Some(BTreeMap::new());
        assert!(matches!(step(&case), AgentStep::Blocked(_)));
        let mut garbled = bare();
        garbled.take_sample("register", "?", 3, 0);
        case.asked = Some(site("b", Seen::Known(garbled)));
        assert!(matches!(step(&case), AgentStep::Blocked(_)));
        case.asked = Some(site("b", Seen::Known(LocalTopology::default())));
        assert_eq!(step(&case), AgentStep::SharePolicy("b".into()));
        case.asked = Some(site("b", Seen::Known(bare())));
        let AgentStep::CreateFirst(first) = step(&case) else { panic!("{:?}", step(&case)) };
        assert_eq!((first.epoch, first.owner.as_str()), (1, "a"));
    }

    #[test]
    fn the_first_certificate_is_never_written_by_another_region_or_against_a_policy() {
        let mut case = fresh(bare());
        let mut other = bare();
        other.policy.as_mut().unwrap().value.step_seconds = 99;
        case.asked = Some(site("b", Seen::Known(other)));
        assert!(matches!(step(&case), AgentStep::Blocked(why) if why.contains("policy")));
        let mut same = bare();
        same.policy.as_mut().unwrap().value.regions[1].endpoints = vec!["elsewhere:1".into()];
        case.asked = Some(site("b", Seen::Known(same)));
        assert!(matches!(step(&case), AgentStep::CreateFirst(_)), "ways to a store may differ");
        case.me = "b";
        assert_eq!(step(&case), AgentStep::Settled);
        case.me = "z";
        assert!(matches!(step(&case), AgentStep::Blocked(why) if why.contains("region z")));
    }

    #[test]
    fn a_higher_epoch_is_adopted_wherever_it_is_seen() {
        let theirs = certificate(3, "b");
        let mut case = fresh(local_with(certificate(2, "a")));
        case.others = site("b", Seen::Known(local_with(theirs.clone())));
        assert_eq!(step(&case), AgentStep::Adopt(Box::new(theirs.clone())));
        case.others = site("b", Seen::Unknown);
        case.asked = Some(site("b", Seen::Known(local_with(theirs.clone()))));
        assert_eq!(step(&case), AgentStep::Adopt(Box::new(theirs)));
    }

    #[test]
    fn a_damaged_certificate_is_restored_from_the_own_vote() {
        let mut case = fresh(local_with(certificate(2, "a")));
        case.local.certificate = None;
        assert_eq!(step(&case), AgentStep::Adopt(Box::new(certificate(2, "a"))));
        case.local.unreadable.insert("register".into(), "?".into());
        assert!(matches!(step(&case), AgentStep::Blocked(_)));
    }

    #[test]
    fn two_certificates_of_one_epoch_block() {
        let mut case = fresh(local_with(certificate(2, "a")));
        case.others = site("b", Seen::Known(local_with(certificate(2, "b"))));
        assert!(matches!(step(&case), AgentStep::Blocked(why) if why.contains("two different")));
    }

    #[test]
    fn after_a_cold_start_the_other_register_is_read_before_the_mark() {
        let mut case = fresh(local_with(certificate(2, "a")));
        case.others = site("b", Seen::Known(local_with(certificate(2, "a"))));
        assert_eq!(step(&case), AgentStep::AskOthers);
        case.asked = Some(site("b", Seen::Unknown));
        assert!(matches!(step(&case), AgentStep::Blocked(why) if why.contains("unread: b")));
        case.asked = Some(site("b", Seen::Known(local_with(certificate(2, "a")))));
        assert_eq!(step(&case), AgentStep::Verify(2));
        case.local.take_sample("verified", r#"{"epoch":2}"#, 9, 7);
        assert_eq!(step(&case), AgentStep::Settled);
    }

    /// The mark opens the region, so it comes first.
    #[test]
    fn a_vote_of_an_older_program_gets_an_acceptor_beside_it() {
        let mut case = fresh(local_with(certificate(1, "a")));
        case.others = site("b", Seen::Known(local_with(certificate(1, "a"))));
        case.local.acceptor = None;
        case.mark = Some(1);
        assert_eq!(step(&case), AgentStep::Verify(1));
        case.local.take_sample("verified", r#"{"epoch":1}"#, 9, 7);
        let AgentStep::Record(written) = step(&case) else { panic!("{:?}", step(&case)) };
        assert_eq!((written.epoch(), written.in_force), (1, false));
        case.local.acceptor = Some(versioned(*written));
        assert_eq!(step(&case), AgentStep::Settled);
        // One that cannot be read hinders nothing, and is written anew.
        case.local.acceptor = None;
        case.local.take_sample("acceptor", "?", 9, 0);
        assert!(matches!(step(&case), AgentStep::Record(_)));
    }

    /// Each takes note of the other, and that changes nothing that the other notes.
    #[test]
    fn two_agents_do_not_wake_each_other_for_ever() {
        let mut sides = ["a", "b"].map(|me| {
            let mut local = local_with(certificate(1, "a"));
            local.acceptor = None;
            local.take_sample("verified", r#"{"epoch":1}"#, 9, 7);
            Case { me, ..fresh(local) }
        });
        for round in 0..6 {
            let (own, other) = (round % 2, 1 - round % 2);
            let seen = sides[other].local.clone();
            sides[own].others = site(sides[other].me, Seen::Known(seen));
            match step(&sides[own]) {
                AgentStep::Record(written) if round < 4 => {
                    sides[own].local.acceptor = Some(versioned(*written));
                }
                step => assert_eq!((round > 2, step), (true, AgentStep::Settled), "{round}"),
            }
        }
        let knows = |side: &Case| side.local.acceptor.as_ref().expect("written").value.knows.len();
        assert_eq!(sides.each_ref().map(knows), [1, 1]);
    }

    /// The other site has seen this one at an epoch that its store forgot.
    #[test]
    fn a_store_that_was_emptied_and_filled_again_is_blank() {
        let mut case = fresh(local_with(certificate(2, "a")));
        case.local.take_sample("verified", r#"{"epoch":2}"#, 9, 7);
        case.others = site("b", Seen::Known(local_with(certificate(2, "a"))));
        case.local.acceptor = None;
        let AgentStep::Record(written) = step(&case) else { panic!("{:?}", step(&case)) };
        assert_eq!((written.life, written.blank_through), (2, 4));
    }

    #[test]
    fn a_mark_seen_alive_is_carried_over_without_asking() {
        let mut case = fresh(local_with(certificate(2, "a")));
        case.others = site("b", Seen::Unknown);
        case.mark = Some(2);
        assert_eq!(step(&case), AgentStep::Verify(2));
        case.local.take_sample("verified", r#"{"epoch":2}"#, 9, 6);
        assert_eq!(step(&case), AgentStep::Verify(2), "it hangs on another agent's lease");
        case.mark = Some(3);
        assert_eq!(step(&case), AgentStep::AskOthers, "the store went back");
    }

    #[test]
    fn with_three_regions_a_majority_confirms() {
        let mut local = local_with(certificate(2, "a"));
        local.policy.as_mut().unwrap().value = policy(3);
        let mut case = fresh(local.clone());
        let mut asked = site("b", Seen::Known(local));
        asked.insert("c".into(), Seen::Unknown);
        case.asked = Some(asked);
        assert_eq!(step(&case), AgentStep::Verify(2));
        case.asked = Some(site("b", Seen::Unknown));
        assert!(matches!(step(&case), AgentStep::Blocked(_)));
    }

    #[test]
    fn a_process_that_slept_forgets_what_its_copy_still_shows() {
        let mut local = local_with(certificate(2, "a"));
        local.take_sample("verified", r#"{"epoch":2}"#, 9, 7);
        let mut memory = MarkMemory::default();
        memory.look(&local, Version::of_store(10), Millis(1000), 30_000);
        assert_eq!(memory.alive(Millis(2000), 30_000), Some(2));
        memory.look(&local, Version::of_store(10), Millis(60_000), 30_000);
        memory.look(&local, Version::of_store(10), Millis(61_000), 30_000);
        assert_eq!(memory.alive(Millis(61_000), 30_000), None);
        local.take_sample("verified", r#"{"epoch":2}"#, 12, 8);
        memory.look(&local, Version::of_store(12), Millis(62_000), 30_000);
        assert_eq!(memory.alive(Millis(62_000), 30_000), Some(2));
        local.verified = None;
        memory.look(&local, Version::of_store(13), Millis(80_000), 30_000);
        assert_eq!(memory.alive(Millis(80_000), 30_000), Some(2));
        assert_eq!(memory.alive(Millis(92_000), 30_000), None);
    }

    #[test]
    fn a_move_ends_with_a_certificate_that_follows_the_one_in_force() {
        let old = certificate(2, "a");
        let register = Register { promised: 9, accepted: Some(old.clone()) };
        let new = successor(&register, &old, &"b".into(), &BTreeMap::new(), "now");
        assert_eq!((new.epoch, new.ballot, new.owner.as_str()), (3, 10, "b"));
        assert_eq!(new.previous_hash, old.hash());
        assert_eq!(accept(Some(&register), &new).map(|r| r.promised), Some(10));
    }

    proptest! {
        #[test]
        fn votes_only_rise(old in 0u64..5, new in 1u64..5) {
            let register = (old > 0).then(|| Register {
                promised: old,
                accepted: Some(certificate(old, "a")),
            });
            let after = accept(register.as_ref(), &certificate(new, "b"));
            prop_assert_eq!(after.is_some(), new > old);
        }
    }
}
