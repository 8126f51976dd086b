//! How a formation moves between regions.
//!
//! Everything that is decided about regions is decided here: who may be open
//! (`ownership`), what an agent does next (`register`), how a planned move goes
//! on (`table`), what must hold before it begins (`preflight`). Facts come in
//! as values and one step goes out; who performs it lives in `node/src/region`.
//!
//! Invariant *one owner*: a region opens only on a certificate that its own
//! store accepted, and a planned move is decided by one compare-and-set in the
//! old owner's store. Absent on purpose: forced failover.

pub mod local;
pub mod ownership;
pub mod preflight;
pub mod register;
pub mod table;

#[cfg(test)]
mod read_back_tests;

pub use local::LocalTopology;
