//! Clusters that follow another cluster, on real PostgreSQL and etcd. The scenarios are
//! in `tests/src/live/standby_*.rs`.
//!
//! `cargo build --workspace --bins` first, as for `live_group.rs`. More rounds by
//! `MATRIARCH_ROUNDS`.

use std::time::Duration;
use tests::live::{
    run, standby_archive, standby_cascade, standby_cluster, standby_divergence, standby_elections,
    standby_remote,
};

/// Two or three times what each of them needs.
const LIMIT: Duration = Duration::from_secs(240);
/// With as many rounds as an operator asks for.
const ROUNDS_LIMIT: Duration = Duration::from_secs(3_600);

#[test]
fn t01_the_remote_changes_its_leader_without_a_restart_here() {
    run("standby remote", ROUNDS_LIMIT, standby_remote::changes_its_leader());
}

#[test]
fn t02_the_standby_leader_changes_by_election_failover_and_switchover() {
    run("standby elections", LIMIT, standby_elections::inside());
}

#[test]
fn t03_the_standby_leader_applies_late_and_a_promotion_waits_for_nothing() {
    run("standby delayed", LIMIT, standby_elections::delayed());
}

#[test]
fn t04_an_archive_alone_is_enough() {
    run("standby archive", LIMIT, standby_archive::only());
}

#[test]
fn t05_a_cascade_of_three_steps_loses_each_of_its_links() {
    run("standby cascade", LIMIT, standby_cascade::loses_each_link());
}

#[test]
fn t06_a_remote_failover_that_loses_rows_is_followed_by_rewinding() {
    run("standby divergence", LIMIT, standby_divergence::from_the_remote());
}

#[test]
fn t07_clusters_change_places_again_and_again() {
    run("standby places", ROUNDS_LIMIT, standby_cluster::change_places_often());
}
