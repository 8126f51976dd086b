//! Which scenarios run at the same time.
//!
//! Most of them wait for leases to end and leave the cores to others meanwhile. Those whose bounds
//! are narrow run alone, and only when none of the others waits: no place is empty while one of
//! them waits for all places. For that the test runner needs a thread for each that waits.

use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

const SCENARIOS_MAX: u32 = 3;

#[derive(Default)]
struct Places {
    /// Scenarios that run beside others.
    shared: u32,
    /// And those of them that have no place yet.
    waiting: u32,
    is_alone: bool,
}

static PLACES: Mutex<Places> = Mutex::new(Places { shared: 0, waiting: 0, is_alone: false });
static CHANGED: Condvar = Condvar::new();

/// A place, until it is dropped.
pub struct Turn {
    is_alone: bool,
}

/// Waits for a place beside others.
pub fn turn() -> Turn {
    let mut places = lock();
    places.waiting += 1;
    let is_full = |places: &mut Places| places.is_alone || places.shared == SCENARIOS_MAX;
    let mut places = CHANGED.wait_while(places, is_full).unwrap_or_else(PoisonError::into_inner);
    (places.waiting, places.shared) = (places.waiting - 1, places.shared + 1);
    Turn { is_alone: false }
}

/// Waits until no other scenario runs or waits for a place beside others.
pub fn turn_alone() -> Turn {
    let is_used = |places: &mut Places| places.is_alone || places.shared + places.waiting > 0;
    let places = CHANGED.wait_while(lock(), is_used);
    places.unwrap_or_else(PoisonError::into_inner).is_alone = true;
    Turn { is_alone: true }
}

impl Drop for Turn {
    fn drop(&mut self) {
        let mut places = lock();
        match self.is_alone {
            true => places.is_alone = false,
            false => places.shared -= 1,
        }
        CHANGED.notify_all();
    }
}

fn lock() -> MutexGuard<'static, Places> {
    PLACES.lock().unwrap_or_else(PoisonError::into_inner)
}
