//! How the regions agree on the next owner.
//!
//! Each epoch is one instance of agreement, and its value is the certificate of that epoch. The
//! store of each region is one acceptor (`topology::acceptor`). A planned move, a forced one and
//! the owner's reclaim are proposals in the same instance, so that they exclude each other.
//!
//! | file | question |
//! |---|---|
//! | `quorum.rs` | which sets of sites decide |
//! | `acceptor.rs` | what a site answers; rows 3005 to 3070 |
//! | `proposer.rs` | which certificate a region may propose, and which one is chosen |
//! | `owner.rs` | may a region's groups be open |
//! | `seed.rs` | what a site that lost its votes begins with |
//! | `legacy.rs` | what an acceptor says while the key `register` decides |
//!
//! Invariants, followed through everything that can happen by `model.rs`:
//! - *one owner*: the groups of at most one region are open, unless a proof was false;
//! - *one choice*: of each epoch at most one certificate is chosen, also after a false proof;
//! - *chosen by a quorum*: what a site holds as chosen was chosen.
//!
//! Absent on purpose: reading and writing stores. Agents write acceptors beside the votes of
//! `standby/src/switch/register.rs`, which decide until acceptors are in force; until then no
//! daemon asks `acceptor.rs`, `proposer.rs` and `seed.rs`.

pub mod acceptor;
#[cfg(test)]
mod history_tests;
pub mod legacy;
#[cfg(test)]
mod model;
pub mod owner;
pub mod proposer;
pub mod quorum;
#[cfg(test)]
mod sample;
pub mod seed;
