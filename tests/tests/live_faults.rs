//! What breaks beside PostgreSQL and beside the network: disks, the store's
//! majority, time. On real PostgreSQL and etcd; the scenarios are in
//! `tests/src/live/`.
//!
//! A disk that fails is a loop device: that test needs root.

use std::future::Future;
use std::time::Duration;
use tests::live::{checkpoint, disk, majority};

/// Several times what each of them needs.
const LIMIT: Duration = Duration::from_secs(150);

fn run(scenario: impl Future<Output = ()>) {
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    let ended = runtime.block_on(async { tokio::time::timeout(LIMIT, scenario).await });
    assert!(ended.is_ok(), "not over within {LIMIT:?}");
}

#[test]
fn t01_a_leader_whose_disk_fails_gives_its_lock_away_at_once() {
    run(disk::fails());
}

#[test]
fn t02_a_lost_majority_of_the_store_ends_writes_or_is_survived_by_agreement() {
    run(majority::lost());
}

#[test]
fn t03_a_stop_that_takes_longer_than_the_lease_keeps_the_lock() {
    run(checkpoint::slow());
}
