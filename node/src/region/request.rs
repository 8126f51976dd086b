//! Asking for a planned move, and for giving one up: the operator's side.
//!
//! A request is a journal in the phase `Requested` in the owner's store, or one that
//! carries an `AbortRequest`; the owner's agent finds it there.

use super::ownership::{read, read_site};
use crate::dcs::keys::Keys;
use crate::dcs::{DcsError, Store};
use standby::switch::LocalTopology;
use standby::switch::request::{Refusal, requested};
use standby::switch::write::write_journal;
use topology::RegionName;
use topology::region::{AbortRequest, Journal, Phase};
use topology::schedule::Limits;

/// The mover writes the journal a few times a second at most.
const ABORT_ATTEMPTS_MAX: usize = 20;

#[derive(Debug, thiserror::Error)]
pub enum RequestError {
    #[error(transparent)]
    Store(#[from] DcsError),
    #[error(transparent)]
    Refused(#[from] Refusal),
    #[error("the journal was changed meanwhile; look at the regions and ask again")]
    Conflict,
    #[error("no move is under way in this region's store")]
    NoMove,
    #[error("the move from {from} to {to} is decided (phase {phase}): it cannot be taken back")]
    Decided { from: RegionName, to: RegionName, phase: Phase },
}

/// Writes the request into the store of `here`, which must be the owner.
pub async fn request_switch(
    store: &dyn Store,
    keys: &Keys,
    (here, to): (&RegionName, &RegionName),
    limits: &Limits,
    now_ms: u64,
) -> Result<Journal, RequestError> {
    let read = store.read(&[keys.scope_prefix()]).await?;
    let site = read_site(keys, &read.entries);
    let journal = requested(&site, here, to, limits, now_ms)?;
    let written = store.write(keys, &write_journal(&site.topology, &journal)).await?;
    if written.succeeded { Ok(journal) } else { Err(RequestError::Conflict) }
}

/// Asks the driver of the move `id` to give it up; `store` is the old owner's. The journal
/// that the decision compares carries the request: once it is written, this journal's
/// move is not decided any more.
pub async fn request_abort(
    store: &dyn Store,
    keys: &Keys,
    id: &str,
    request: &AbortRequest,
) -> Result<(), RequestError> {
    for _ in 0..ABORT_ATTEMPTS_MAX {
        let entries = store.read(&[keys.topology_prefix()]).await?.entries;
        let local = read(keys, &entries);
        let Some(journal) = with_abort(&local, id, request)? else { return Ok(()) };
        if store.write(keys, &write_journal(&local, &journal)).await?.succeeded {
            return Ok(());
        }
    }
    Err(RequestError::Conflict)
}

/// The journal that carries the request. `None`: nothing is left to ask for.
pub fn with_abort(
    local: &LocalTopology,
    id: &str,
    request: &AbortRequest,
) -> Result<Option<Journal>, RequestError> {
    let running = local.journal().filter(|j| j.id == id && j.phase != Phase::Done);
    let Journal { from, to, phase, abort, .. } = running.ok_or(RequestError::NoMove)?;
    if phase.is_decided() {
        let (from, to, phase) = (from.clone(), to.clone(), *phase);
        return Err(RequestError::Decided { from, to, phase });
    }
    let is_asked = *phase == Phase::Aborted || abort.is_some();
    let asked = running.filter(|_| !is_asked).cloned();
    Ok(asked.map(|journal| Journal { abort: Some(request.clone()), ..journal }))
}
