//! Decisions: one observation in, one decision out.
//!
//! Invariant *pure*: no clock, no I/O, no async, no randomness; given the same
//! observation it gives the same action, on a laptop, in the simulator and in
//! a post-mortem. `tests/tests/tidy.rs` enforces it.
//!
//! Which table applies is decided here; what to do, by the rows of the table.

pub(crate) mod action;
mod afar;
pub(crate) mod birth;
mod cascading;
#[cfg(test)]
mod check;
pub mod disk;
pub(crate) mod down;
mod duty;
pub mod facts;
pub mod failsafe;
pub(crate) mod follow;
mod forgotten;
pub mod gate;
pub(crate) mod guarding;
pub(crate) mod job;
pub(crate) mod leader;
pub(crate) mod lost;
mod memory;
pub mod observation;
mod patience;
pub(crate) mod pause;
mod peer_set;
pub mod race;
mod receipt;
mod receivers;
pub mod restarts;
mod rewinding;
#[cfg(test)]
pub(crate) mod sample;
mod sources;
pub(crate) mod standby_request;
pub(crate) mod stopping;
mod synchrony;
pub mod table;

pub use action::{Action, Decision, Outcome, Publish, Receivers, Step};
use facts::Facts;
pub use observation::Observation;
use table::{Rule, first_match};

/// Every table, for those who print or check them.
pub const TABLES: &[(&str, &[Rule])] = &[
    ("gate", gate::GATE),
    ("job", job::JOB),
    ("stopping", stopping::STOPPING),
    ("lost", lost::LOST),
    ("pause", pause::PAUSE),
    ("birth", birth::BIRTH),
    ("down", down::DOWN),
    ("leader", leader::LEADER),
    ("standby request", standby_request::STANDBY_REQUEST),
    ("race", race::RACE),
    ("follow", follow::FOLLOW),
];

/// What should this member do now?
pub fn decide(o: &Observation) -> Decision {
    let facts = Facts::of(o);
    let gate = first_match(gate::GATE, &facts);
    if gate.rule != gate::PASS {
        return gate;
    }
    first_match(situation(&facts), &facts)
}

/// Which table applies, in order of what must not wait.
fn situation(f: &Facts) -> &'static [Rule] {
    if f.o.job.is_some() {
        return job::JOB;
    }
    if f.o.memory.stopping {
        return stopping::STOPPING;
    }
    if f.view().is_none() && (!f.o.holds_lock() || f.is_fence_due()) {
        return lost::LOST;
    }
    if f.is_paused() && !f.is_giving_lock_away() {
        return pause::PAUSE;
    }
    if f.has_no_data() || f.bootstrap() != observation::Bootstrapping::No {
        return birth::BIRTH;
    }
    if f.o.is_stopped() {
        return down::DOWN;
    }
    if f.leads_standby_group() && f.request().is_some() {
        return standby_request::STANDBY_REQUEST;
    }
    if f.o.holds_lock() {
        return leader::LEADER;
    }
    if f.is_lock_free() {
        return race::RACE;
    }
    follow::FOLLOW
}
