//! How members come to their data, on real PostgreSQL and etcd: custom
//! bootstrap with recovery to a point in time, custom copies, reinitialize,
//! standby clusters, data that was there before. The scenarios are in
//! `tests/src/live/`.
//!
//! `cargo build --workspace --bins` first, as for `live_group.rs`.

use std::time::Duration;
use tests::live::{attach, copies, custom, run, standby_cluster};

/// No scenario needs a third of this.
const LIMIT: Duration = Duration::from_secs(180);

#[test]
fn t01_a_command_makes_a_cluster_that_recovers_to_a_point_in_time() {
    run("custom bootstrap", LIMIT, custom::point_in_time());
}

#[test]
fn t02_a_failed_bootstrap_is_moved_aside_and_gives_the_right_back() {
    run("failed bootstrap", LIMIT, custom::failed());
}

#[test]
fn t03_copies_by_commands_from_members_that_serve_and_from_a_backup() {
    run("copies", LIMIT, copies::by_commands());
}

#[test]
fn t04_reinitialize_refuses_shows_cancels_and_begins_again() {
    run("reinitialize", LIMIT, copies::reinitialize());
}

#[test]
fn t05_a_standby_cluster_is_born_elects_and_is_promoted() {
    run("standby cluster", LIMIT, standby_cluster::life());
}

#[test]
fn t06_data_that_was_there_before_is_taken_over_or_refused() {
    run("data from before", LIMIT, attach::found_data());
}

#[test]
fn t07_what_a_tool_wrote_about_recovery_counts_once() {
    run("kept recovery", LIMIT, custom::kept());
}

#[test]
fn b2_a_standby_that_was_brought_along_leads_a_standby_cluster_at_once() {
    run("brought along", LIMIT, standby_cluster::brought_along());
}
