//! The times of the lock on real PostgreSQL and etcd. The scenarios are in
//! `tests/src/live/times.rs`.
//!
//! The daemon is not built by this test: `cargo build --workspace --bins` first.

use std::time::Duration;
use tests::live::{run_alone, times};

const LIMIT: Duration = Duration::from_secs(240);

#[test]
fn n4_a_change_of_ttl_is_not_noticed_by_the_primary() {
    run_alone("ttl changed", LIMIT, times::ttl_changed());
}

#[test]
fn n22_a_lease_that_is_gone_is_replaced_once() {
    run_alone("lease gone", LIMIT, times::lease_gone());
}

/// `MATRIARCH_KILLS=20` for the figure in docs/performance.md.
#[test]
fn a_lost_node_of_a_fast_group_is_replaced_within_six_seconds() {
    let kills = std::env::var("MATRIARCH_KILLS").ok().and_then(|text| text.parse().ok());
    let kills = kills.unwrap_or(2);
    let limit = Duration::from_secs(120 + 60 * u64::from(kills));
    run_alone("nodes of a fast group lost", limit, times::fast_nodes_lost(kills));
}
