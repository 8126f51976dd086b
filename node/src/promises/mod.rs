//! What a member promised in failsafe mode, shared by the beat that keeps it and the
//! REST API that gives it.
//!
//! The rules of who may promise what are in `ha/failsafe.rs`. `kept` writes promises and
//! agreements to disk, so that a restart of the daemon does not void them.

mod kept;

pub(crate) use kept::{
    read_promise, read_proof, remove_promise, remove_proof, write_promise, write_proof,
};

use member::ha::failsafe::PromiseStore;
use serde_json::Value;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use topology::Lsn;

pub(crate) type SharedPromises = Arc<Mutex<PromiseStore>>;

pub(crate) fn lock(promises: &SharedPromises) -> MutexGuard<'_, PromiseStore> {
    // Every change leaves it whole.
    promises.lock().unwrap_or_else(PoisonError::into_inner)
}

/// `slots` of a question or of a kept promise.
pub(crate) fn slots_of(value: &Value) -> BTreeMap<String, Lsn> {
    let slots = value.get("slots").and_then(Value::as_object).into_iter().flatten();
    slots.filter_map(|(name, lsn)| Some((name.clone(), Lsn(lsn.as_u64()?)))).collect()
}
