//! What a leader is asked for, what a paused group does, how clusters change
//! places. On real PostgreSQL and etcd; the scenarios are in `tests/src/live/`.

use std::time::Duration;
use tests::live::{maintenance, requests, run, standby_cluster};

/// Several times what each of them needs.
const LIMIT: Duration = Duration::from_secs(240);

#[test]
fn t01_requests_are_met_on_time_or_taken_back() {
    run("requests served", LIMIT, requests::served());
}

#[test]
fn t02_a_lock_that_is_gone_ends_a_start_as_primary() {
    run("requests lock lost while starting", LIMIT, requests::lock_lost_while_starting());
}

#[test]
fn t03_a_paused_group_does_only_what_it_is_asked_for() {
    run("maintenance everything", LIMIT, maintenance::everything());
}

#[test]
fn t04_clusters_change_places_and_one_is_rewound_against_the_other() {
    run("standby cluster change places", LIMIT, standby_cluster::change_places());
}
