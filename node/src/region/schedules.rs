//! Schedules of moves, from the operator's side: made in all stores, cancelled in the owner's.
//!
//! Invariant *all or none*: a schedule that could not be written to every store is taken back
//! from those that have it. It is not deleted there, for the owner's agent would take it for
//! one that a store has lost: it is cancelled, and the newer revision wins.

use super::ownership::read;
use crate::clock::unix_ms;
use crate::dcs::keys::Keys;
use crate::dcs::{DcsError, Store};
use standby::switch::LocalTopology;
use standby::switch::write::put_schedule;
use std::collections::BTreeMap;
use std::sync::Arc;
use topology::RegionName;
use topology::schedule::{Outcome, Schedule};

/// Schedules that may be pending at once.
const PENDING_MAX: usize = 20;
/// Only the agents write beside an operator, and seldom.
const ATTEMPTS_MAX: usize = 5;

#[derive(Debug, thiserror::Error)]
pub enum ScheduleError {
    #[error(transparent)]
    Store(#[from] DcsError),
    #[error("{PENDING_MAX} schedules are pending already; cancel one with `region abort`")]
    TooMany,
    #[error("schedule {0} is over: {1}")]
    Over(String, String),
    #[error("its schedules are being changed by another client; try again")]
    Conflict,
}

/// Why a schedule was not made.
#[derive(Debug, thiserror::Error)]
#[error("the schedule could not be written to the store of region {region}: {why}; {left}")]
pub struct NotMade {
    pub region: RegionName,
    pub why: ScheduleError,
    /// What is left of it, in words.
    left: String,
}

/// Writes a new schedule to the stores of all regions.
pub async fn create(
    stores: &BTreeMap<RegionName, Arc<dyn Store>>,
    keys: &Keys,
    schedule: &Schedule,
) -> Result<(), NotMade> {
    for (region, store) in stores {
        if let Err(why) = add(&**store, keys, schedule).await {
            let region = region.clone();
            // What a store did not answer may have happened all the same.
            let may_hold = matches!(why, ScheduleError::Store(_));
            let mut kept = Vec::new();
            let touched = stores.range(..=&region);
            for (name, store) in touched.filter(|(name, _)| may_hold || **name != region) {
                let reason = format!("the store of region {region} could not be written");
                if cancel(&**store, keys, schedule, &reason).await.is_err() {
                    kept.push(name.to_string());
                }
            }
            return Err(NotMade { region, why, left: left(&schedule.id, &kept) });
        }
    }
    Ok(())
}

fn left(id: &str, kept: &[String]) -> String {
    match kept {
        [] => "it was taken back from all stores".to_string(),
        kept => format!(
            "it may be left in the stores of {}: `region abort --schedule {id}` when they can be \
             reached",
            kept.join(", ")
        ),
    }
}

async fn add(store: &dyn Store, keys: &Keys, schedule: &Schedule) -> Result<(), ScheduleError> {
    change(store, keys, |local| {
        match local.schedules.get(&schedule.id) {
            // The owner's agent was faster.
            Some(known) if known == schedule => return Ok(None),
            Some(_) => return Err(ScheduleError::Conflict),
            None => {}
        }
        let pending = local.schedules.values().filter(|schedule| schedule.is_pending()).count();
        let is_full = pending >= PENDING_MAX;
        if is_full { Err(ScheduleError::TooMany) } else { Ok(Some(schedule.clone())) }
    })
    .await
}

/// Cancels a schedule in one store; the owner's agent brings that to the other ones.
pub async fn cancel(
    store: &dyn Store,
    keys: &Keys,
    known: &Schedule,
    why: &str,
) -> Result<(), ScheduleError> {
    change(store, keys, |local| {
        let stored = local.schedules.get(&known.id).unwrap_or(known);
        if !stored.is_pending() {
            let outcome =
                stored.last.as_ref().map_or(String::new(), |last| last.outcome.to_string());
            return Err(ScheduleError::Over(known.id.clone(), outcome));
        }
        let cancelled = Outcome::Cancelled(why.to_string());
        Ok(Some(stored.concluded(cancelled, None, unix_ms())))
    })
    .await
}

/// Reads the store and writes what the change makes of it, until no other client is faster.
async fn change(
    store: &dyn Store,
    keys: &Keys,
    change: impl Fn(&LocalTopology) -> Result<Option<Schedule>, ScheduleError>,
) -> Result<(), ScheduleError> {
    for _ in 0..ATTEMPTS_MAX {
        let entries = store.read(&[keys.topology_prefix()]).await?.entries;
        let local = read(keys, &entries);
        let Some(schedule) = change(&local)? else { return Ok(()) };
        if store.write(keys, &put_schedule(&local, &schedule, None)).await?.succeeded {
            return Ok(());
        }
    }
    Err(ScheduleError::Conflict)
}
