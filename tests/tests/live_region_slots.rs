//! Permanent logical slots through moves between two regions, on real PostgreSQL and etcd. The
//! scenario is in `tests/src/live/region_slots.rs`.
//!
//! The daemon is not built by this test: `cargo build --workspace --bins` first.

use std::time::Duration;
use tests::live::{region_slots, run};

/// Enough for 20 rounds, too.
const LIMIT: Duration = Duration::from_secs(3_000);

#[test]
fn readers_miss_nothing_when_the_formation_moves() {
    run("readers through region moves", LIMIT, region_slots::go_on(15));
}

#[test]
fn readers_miss_nothing_when_the_formation_moves_on_16() {
    run("readers through region moves on 16", LIMIT, region_slots::go_on(16));
}

#[test]
fn readers_miss_nothing_when_the_formation_moves_on_18() {
    run("readers through region moves on 18", LIMIT, region_slots::go_on(18));
}
