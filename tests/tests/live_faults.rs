//! What breaks beside PostgreSQL and beside the network: disks, the store's
//! majority, time. On real PostgreSQL and etcd; the scenarios are in
//! `tests/src/live/`.
//!
//! A disk that fails is a loop device: that test needs root.

use std::time::Duration;
use tests::live::{checkpoint, disk, majority, run};

/// Several times what each of them needs.
const LIMIT: Duration = Duration::from_secs(150);

#[test]
fn t01_a_leader_whose_disk_fails_gives_its_lock_away_at_once() {
    run("disk fails", LIMIT, disk::fails());
}

#[test]
fn t02_a_lost_majority_of_the_store_ends_writes_or_is_survived_by_agreement() {
    run("majority lost", LIMIT, majority::lost());
}

#[test]
fn t03_a_stop_that_takes_longer_than_the_lease_keeps_the_lock() {
    run("checkpoint slow", LIMIT, checkpoint::slow());
}
