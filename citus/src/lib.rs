//! citus
