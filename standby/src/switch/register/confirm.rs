//! What an agent makes of a store that may have lost what it held: is its epoch confirmed, and
//! which acceptor stands beside its vote.
//!
//! Invariant: a store that was emptied is no answer. One that was emptied and filled again
//! answers, but an epoch that it accepted before may be hidden.

use super::{AgentFacts, AgentStep, read_of, sites};
use crate::agreement::legacy::{beside, noted};
use crate::agreement::owner::confirmed;
use crate::agreement::quorum::Quorums;
use crate::switch::LocalTopology;
use std::collections::BTreeMap;
use topology::acceptor::{Acceptor, Position};
use topology::region::Policy;
use topology::{RegionName, Seen};

/// After a cold start the other registers must be read once; a mark that this
/// process has just seen alive is carried over without asking.
pub(super) fn confirm(facts: &AgentFacts, policy: &Policy, epoch: u64) -> AgentStep {
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
    let heard = answered(facts, policy, asked);
    let sites = heard.iter().map(|(name, site)| (name.clone(), site)).collect();
    match confirmed(&Quorums::of(policy), facts.me, &sites) {
        Ok(_) => AgentStep::Verify(epoch),
        Err(_) => AgentStep::Blocked(unconfirmed(epoch, policy, &heard)),
    }
}

/// The sites that answered with a vote, as acceptors. A store that was emptied holds none, which is
/// no answer; one that never held any is one.
fn answered(
    facts: &AgentFacts,
    policy: &Policy,
    asked: &BTreeMap<RegionName, Seen<LocalTopology>>,
) -> BTreeMap<RegionName, Acceptor> {
    let mut heard = BTreeMap::new();
    heard.extend(
        acceptor_of(facts, policy, facts.me, facts.local).map(|own| (facts.me.clone(), own)),
    );
    for region in policy.regions.iter().filter(|region| &region.name != facts.me) {
        let Some(site) = read_of(asked, &region.name) else { continue };
        let is_new = known(facts, &region.name).is_none() && facts.local.accepted_epoch() == 1;
        let acceptor = match acceptor_of(facts, policy, &region.name, site) {
            None if is_new => acceptor_of(facts, policy, &region.name, facts.local),
            acceptor => acceptor,
        };
        heard.extend(acceptor.map(|acceptor| (region.name.clone(), acceptor)));
    }
    heard
}

/// The acceptor that stands, or should stand, beside the vote of a site.
fn acceptor_of(
    facts: &AgentFacts,
    policy: &Policy,
    name: &RegionName,
    site: &LocalTopology,
) -> Option<Acceptor> {
    let old = site.acceptor.as_ref().map(|acceptor| &acceptor.value);
    Some(beside(old, known(facts, name).as_ref(), site.accepted()?, &policy.formation))
}

/// The furthest that a site was seen by other sites; the own one, by this host too.
fn known(facts: &AgentFacts, name: &RegionName) -> Option<Position> {
    let own = (facts.me, facts.local);
    let all = sites(facts).chain(Some(own).filter(|_| name != facts.me));
    let seen = all.filter_map(|(_, site)| site.acceptor.as_ref()?.value.knows.get(name).cloned());
    // Of life 0: this host saw the store before it held an acceptor.
    let memory = facts.memory.filter(|memory| name == facts.me && memory.life > 0);
    let memory = memory.filter(|memory| !is_ahead_of_acceptor(facts.local, memory));
    seen.chain(memory.map(Acceptor::position)).max()
}

/// The host has seen that the register accepted a certificate, and the acceptor beside it does not
/// say so yet: it is written after the register. That is no loss.
fn is_ahead_of_acceptor(site: &LocalTopology, memory: &Acceptor) -> bool {
    let old = site.acceptor.as_ref().map(|acceptor| &acceptor.value);
    let next = site.accepted().map(|accepted| beside(old, None, accepted, &memory.formation));
    old.is_some() && next.is_some_and(|next| next.position() == memory.position())
}

fn unconfirmed(epoch: u64, policy: &Policy, heard: &BTreeMap<RegionName, Acceptor>) -> String {
    let (majority, all) = (policy.regions.len() / 2 + 1, policy.regions.len());
    let names = |test: &dyn Fn(Option<&Acceptor>) -> bool| {
        let regions = policy.regions.iter().filter(|region| test(heard.get(&region.name)));
        regions.map(|region| region.name.as_str()).collect::<Vec<_>>().join(", ")
    };
    let unread = names(&|site| site.is_none());
    let emptied = names(&|site| site.is_some_and(Acceptor::is_blank));
    let hides = match emptied.is_empty() {
        true => String::new(),
        false => {
            format!("; lost its data and was filled again, so it may hide an epoch: {emptied}")
        }
    };
    format!(
        "epoch {epoch} is not confirmed: {majority} of {all} registers must be read, {} can be; \
         unread: {unread}{hides}",
        heard.len()
    )
}

/// The own store is older than this host has seen it. No first certificate is made of it, nothing
/// is confirmed.
pub(super) fn went_back(facts: &AgentFacts) -> Option<AgentStep> {
    let (memory, epoch) = (facts.memory?, facts.local.accepted_epoch());
    let chosen = memory.chosen.as_ref().filter(|chosen| chosen.epoch > epoch)?;
    let held = match epoch {
        0 => "holds no vote".to_string(),
        epoch => format!("holds epoch {epoch}"),
    };
    Some(AgentStep::Behind(format!(
        "this host remembers epoch {}, in which region {} owns the formation, and the store of \
         region {} {held}; the connection to the stores of the other regions brings the later \
         certificate back, or restore a later backup; to give this formation up and begin a new \
         one, remove the file `DATA_DIR.region` on every host first (docs/regions.md)",
        chosen.epoch, chosen.owner, facts.me
    )))
}

/// The mark opens the region: it does not wait for the acceptor. A store that was emptied and filled
/// again hides nothing any more once the agent has read all other ones: until then it reads them.
pub(super) fn confirmed_or_recorded(
    facts: &AgentFacts,
    policy: &Policy,
    step: AgentStep,
) -> AgentStep {
    let written = facts.local.acceptor.as_ref().map(|acceptor| &acceptor.value);
    let is_blank = written.is_some_and(Acceptor::is_blank);
    match step {
        AgentStep::Verify(epoch) if !is_blank => AgentStep::Verify(epoch),
        AgentStep::Verify(epoch) if !has_read_all(facts, policy) => AgentStep::Verify(epoch),
        step => match record(facts, policy) {
            Some(record) => record,
            None if is_blank && step == AgentStep::Settled && facts.asked.is_none() => {
                AgentStep::AskOthers
            }
            None => step,
        },
    }
}

/// All other stores were read for this step, and each of them holds a vote.
fn has_read_all(facts: &AgentFacts, policy: &Policy) -> bool {
    let others = policy.regions.iter().filter(|region| &region.name != facts.me);
    let holds_vote = |site: &LocalTopology| site.accepted().is_some();
    facts.asked.is_some_and(|asked| {
        others.map(|region| read_of(asked, &region.name)).all(|site| site.is_some_and(holds_vote))
    })
}

/// The acceptor beside the own vote, where the store holds another one. A site without an acceptor
/// is one of an older program: it is not known how far it is.
fn record(facts: &AgentFacts, policy: &Policy) -> Option<AgentStep> {
    let old = facts.local.acceptor.as_ref().map(|acceptor| &acceptor.value);
    let others =
        sites(facts).filter_map(|(name, site)| Some((name, &site.acceptor.as_ref()?.value)));
    let mut acceptor = acceptor_of(facts, policy, facts.me, facts.local)?;
    if has_read_all(facts, policy) {
        acceptor.blank_through = 0;
    }
    let seen = others.map(|(name, acceptor)| (name.clone(), acceptor.position()));
    let acceptor = noted(acceptor, &seen.collect());
    (old != Some(&acceptor)).then(|| AgentStep::Record(Box::new(acceptor)))
}
