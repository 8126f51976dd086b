//! The SQL that keeps `pg_dist_node`. What it is, is decided elsewhere.
//!
//! Actions are idempotent and do not retry inside.

pub(crate) mod citus;
