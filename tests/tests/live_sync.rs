//! Synchronous replication: who is named, who may lead, what waits. On real
//! PostgreSQL and etcd; the scenarios are in `tests/src/live/synchronous.rs`.

use std::time::Duration;
use tests::live::{run, sync_ahead, synchronous};

/// Several times what each of them needs.
const LIMIT: Duration = Duration::from_secs(240);

#[test]
fn t01_what_was_acknowledged_survives_in_every_mode() {
    run("synchronous modes", LIMIT, synchronous::modes());
}

#[test]
fn t02_strict_means_that_commits_wait() {
    run("synchronous strict", LIMIT, synchronous::strict());
}

#[test]
fn t03_a_standby_leaves_its_duty_before_it_stops() {
    run("synchronous duty", LIMIT, synchronous::duty());
}

#[test]
fn a_standby_ahead_of_the_new_leader_confirms_nothing_that_it_lacks() {
    run("a standby ahead", LIMIT, sync_ahead::confirms_nothing_that_it_lacks());
}
