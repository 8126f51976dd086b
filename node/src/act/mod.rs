//! The writes of one group, and the SQL that keeps `pg_dist_node`. Both are decided
//! elsewhere.
//!
//! Every write to the store carries what the decision was based on. Actions are
//! idempotent and do not retry inside.

pub mod citus;
pub mod write;
