//! Orderly stops and promotions on real PostgreSQL and etcd. The scenarios are in
//! `tests/src/live/`.
//!
//! The daemon is not built by this test: `cargo build --workspace --bins` first.

use std::time::Duration;
use tests::live::{promotions, run, run_alone, stops};

/// No scenario needs half of this.
const LIMIT: Duration = Duration::from_secs(240);

#[test]
fn n1_an_orderly_end_waits_for_a_replica_that_is_behind() {
    run("replica behind", LIMIT, stops::waits_for_a_replica());
}

#[test]
fn n1_a_replica_that_stands_still_is_not_handed_the_lock() {
    run("replica stands still", LIMIT, stops::hands_nothing_to_a_replica_that_lacks_the_end());
}

#[test]
fn h2_a_switchover_does_not_wait_for_others_than_the_candidate() {
    run_alone("others hang", LIMIT, stops::does_not_wait_for_others());
}

#[test]
fn n13_a_switchover_that_is_killed_before_its_checkpoint_is_not_repeated() {
    run("stop killed", LIMIT, stops::killed_before_its_checkpoint());
}

#[test]
fn h3_a_promotion_that_hangs_ends_by_order_or_by_time() {
    run("promotion hangs", LIMIT, promotions::restore_command_hangs());
}
