//! The hands: one action each, decided elsewhere.
//!
//! Every write to the store carries what the decision was based on. Actions are
//! idempotent and do not retry inside.

pub mod citus;
pub mod write;
