//! How a formation moves between regions.
//!
//! Everything that is decided about regions is decided here: who may be open
//! (`ownership`), what an agent does next (`register`), how a planned move goes
//! on (`table`), what must hold before it begins (`preflight`). Facts come in
//! as values and one step goes out. `agent` is the machine that brings the facts
//! together: it is woken with what can be seen and gives effects as data (`effect`).
//! The daemon performs them (`node/src/region`), and so does the simulator.
//!
//! Invariant *one owner*: a region opens only on a certificate that its own
//! store accepted, and a planned move is decided by one compare-and-set in the
//! old owner's store. Absent on purpose: forced failover.

pub mod agent;
mod calls;
pub mod campaign;
pub mod effect;
mod examining;
pub mod local;
mod mover;
pub mod occurrence;
pub mod ownership;
pub mod preflight;
pub mod publisher;
mod purpose;
pub(crate) mod question;
pub mod register;
pub mod request;
pub mod schedule;
mod scheduler;
pub(crate) mod site;
mod slots;
pub mod table;
mod votes;
pub mod write;

#[cfg(test)]
mod read_back_tests;

/// How long a hold waits for distributed commits that are under way.
pub const HOLD_LOCK_MS: u32 = 2_000;

pub use local::LocalTopology;
pub use site::{Replayed, Site, Target};
