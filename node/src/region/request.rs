//! Asking for a planned move: the operator's side.
//!
//! The request is a journal in the phase `Requested` in the owner's store; the
//! owner's agent finds it there.

use super::ownership::read_site;
use super::write::write_journal;
use crate::dcs::keys::Keys;
use crate::dcs::{DcsError, Store};
use standby::switch::Site;
use topology::region::{Journal, Phase, StepRecord};
use topology::{Group, RegionName};

#[derive(Debug, thiserror::Error)]
pub enum RequestError {
    #[error(transparent)]
    Store(#[from] DcsError),
    #[error("region {0} is not in the policy; its regions are {1}")]
    UnknownRegion(RegionName, String),
    #[error("region {0} owns the formation already, since epoch {1}")]
    AlreadyOwner(RegionName, u64),
    #[error("this store is not the owner's: region {0} owns the formation; ask its store")]
    NotOwner(RegionName),
    #[error("no region owns the formation yet: `topology/{0}` is absent or cannot be read")]
    NoOwner(&'static str),
    #[error("a move from {from} to {to} is running, in phase {phase:?}; wait for its end")]
    Running { from: RegionName, to: RegionName, phase: Phase },
    #[error("`topology/switch` cannot be read ({0}); correct or delete it")]
    Unreadable(String),
    #[error("region {0} has no agent: start its daemons, or wait until one of them is elected")]
    NoAgent(RegionName),
    #[error("region {0} has no groups in its store")]
    NoGroups(RegionName),
    #[error("the journal was changed meanwhile; look at the regions and ask again")]
    Conflict,
}

/// Writes the request into the store of `here`, which must be the owner.
pub async fn request_switch(
    store: &dyn Store,
    keys: &Keys,
    here: &RegionName,
    to: &RegionName,
    now_ms: u64,
) -> Result<Journal, RequestError> {
    let read = store.read(&[keys.scope_prefix()]).await?;
    let site = read_site(keys, &read.entries);
    let journal = requested(&site, here, to, now_ms)?;
    let written = store.write(keys, &write_journal(&site.topology, &journal)).await?;
    if written.succeeded { Ok(journal) } else { Err(RequestError::Conflict) }
}

/// Moves of one epoch are counted in the owner's store, where they are asked for.
fn next_attempt(last: Option<&Journal>, epoch: u64) -> u64 {
    last.filter(|last| last.epoch == epoch).map_or(0, |last| last.attempt) + 1
}

/// The journal of a move that may be asked for. Pure.
pub fn requested(
    site: &Site,
    here: &RegionName,
    to: &RegionName,
    now_ms: u64,
) -> Result<Journal, RequestError> {
    let local = &site.topology;
    let policy = &local.policy.as_ref().ok_or(RequestError::NoOwner("policy"))?.value;
    let in_force = local.certificate().ok_or(RequestError::NoOwner("certificate"))?;
    if policy.region(to).is_none() {
        let names: Vec<_> = policy.regions.iter().map(|r| r.name.as_str()).collect();
        return Err(RequestError::UnknownRegion(to.clone(), names.join(", ")));
    }
    if &in_force.owner == to {
        return Err(RequestError::AlreadyOwner(to.clone(), in_force.epoch));
    }
    if &in_force.owner != here {
        return Err(RequestError::NotOwner(in_force.owner.clone()));
    }
    if let Some(why) = local.unreadable.get("switch") {
        return Err(RequestError::Unreadable(why.clone()));
    }
    if let Some(Journal { from, to, phase, .. }) = local.journal().filter(|j| !j.phase.is_over()) {
        return Err(RequestError::Running { from: from.clone(), to: to.clone(), phase: *phase });
    }
    if local.agent.is_none() {
        return Err(RequestError::NoAgent(here.clone()));
    }
    let groups: Vec<Group> = site.groups.keys().copied().collect();
    if groups.is_empty() {
        return Err(RequestError::NoGroups(here.clone()));
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
    })
}
