//! The request of a move: when an operator, or a schedule, may ask for one.
//!
//! The request is a journal in the phase `Requested` in the owner's store, where the
//! owner's agent finds it.

use super::Site;
use topology::region::{Journal, Phase, StepRecord};
use topology::schedule::Limits;
use topology::{Group, RegionName};

/// Why a move may not be asked for now.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    #[error("region {0} is not in the policy; its regions are {1}")]
    UnknownRegion(RegionName, String),
    #[error("region {0} owns the formation already, since epoch {1}")]
    AlreadyOwner(RegionName, u64),
    #[error("this store is not the owner's: region {0} owns the formation; ask its store")]
    NotOwner(RegionName),
    #[error("no region owns the formation yet: `topology/{0}` is absent or cannot be read")]
    NoOwner(&'static str),
    #[error("a move from {from} to {to} is running, in phase {phase}; wait for its end")]
    Running { from: RegionName, to: RegionName, phase: Phase },
    #[error("`topology/switch` cannot be read ({0}); correct or delete it")]
    Unreadable(String),
    #[error("region {0} has no agent: start its daemons, or wait until one of them is elected")]
    NoAgent(RegionName),
    #[error("region {0} has no groups in its store")]
    NoGroups(RegionName),
}

/// The journal of a move from `here` that may be asked for.
pub fn requested(
    site: &Site,
    here: &RegionName,
    to: &RegionName,
    limits: &Limits,
    now_ms: u64,
) -> Result<Journal, Refusal> {
    let local = &site.topology;
    let policy = &local.policy.as_ref().ok_or(Refusal::NoOwner("policy"))?.value;
    let in_force = local.certificate().ok_or(Refusal::NoOwner("certificate"))?;
    if policy.region(to).is_none() {
        let names: Vec<_> = policy.regions.iter().map(|r| r.name.as_str()).collect();
        return Err(Refusal::UnknownRegion(to.clone(), names.join(", ")));
    }
    if &in_force.owner == to {
        return Err(Refusal::AlreadyOwner(to.clone(), in_force.epoch));
    }
    if &in_force.owner != here {
        return Err(Refusal::NotOwner(in_force.owner.clone()));
    }
    if let Some(why) = local.unreadable.get("switch") {
        return Err(Refusal::Unreadable(why.clone()));
    }
    if let Some(Journal { from, to, phase, .. }) = local.journal().filter(|j| !j.phase.is_over()) {
        return Err(Refusal::Running { from: from.clone(), to: to.clone(), phase: *phase });
    }
    if local.agent.is_none() {
        return Err(Refusal::NoAgent(here.clone()));
    }
    let groups: Vec<Group> = site.groups.keys().copied().collect();
    if groups.is_empty() {
        return Err(Refusal::NoGroups(here.clone()));
    }
    Ok(Journal {
        id: format!("{here}-{to}-{}-{now_ms}", in_force.epoch + 1),
        from: here.clone(),
        to: to.clone(),
        epoch: in_force.epoch,
        attempt: next_attempt(local.journal(), in_force.epoch),
        phase: Phase::Requested,
        groups,
        driver: String::new(),
        steps: vec![StepRecord { phase: Phase::Requested, at_ms: now_ms }],
        tokens: Default::default(),
        error: None,
        limits: limits.clone(),
        abort: None,
    })
}

/// Moves of one epoch are counted in the owner's store, where they are asked for.
fn next_attempt(last: Option<&Journal>, epoch: u64) -> u64 {
    last.filter(|last| last.epoch == epoch).map_or(0, |last| last.attempt) + 1
}
