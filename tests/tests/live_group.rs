//! One plain group on real PostgreSQL and etcd, under everything that happens
//! to one. The scenarios are in `tests/src/live/`.
//!
//! The daemon is not built by this test: `cargo build --workspace --bins`
//! first. Each scenario has its own store, directory and ports. Those with narrow
//! bounds on outages run alone.

use std::time::Duration;
use tests::live::{birth, crash, pause, planned, refusal, run, run_alone, settings, silence};

/// No scenario needs a third of this.
const LIMIT: Duration = Duration::from_secs(180);

#[test]
fn t01_three_members_race_for_a_new_group() {
    run("birth", LIMIT, birth::race());
}

#[test]
fn t02_a_switchover_loses_nothing_and_needs_no_rewind() {
    run_alone("switchover", LIMIT, planned::switchover());
}

#[test]
fn t03_a_killed_postmaster_recovers_in_place_or_is_followed_at_once() {
    run_alone("postmaster killed", LIMIT, crash::postmaster_killed());
}

#[test]
fn t04_a_lost_node_is_replaced_and_comes_back_by_rewind() {
    run("node lost", LIMIT, crash::node_lost());
}

#[test]
fn t05_a_frozen_store_ends_writes_before_the_lock_does() {
    run("store frozen", LIMIT, silence::store_frozen());
}

#[test]
fn t06_a_daemon_that_ends_hands_over_and_one_that_is_killed_is_not_missed() {
    run_alone("daemon ends", LIMIT, planned::daemon_ends());
}

#[test]
fn t07_a_daemon_that_wakes_up_late_stops_its_primary_at_once() {
    run("daemon frozen", LIMIT, silence::daemon_frozen());
}

#[test]
fn t08_pause_leaves_everything_to_the_operator() {
    run("pause", LIMIT, pause::paused());
}

#[test]
fn t09_data_of_others_is_refused_and_not_touched() {
    run("foreign data", LIMIT, refusal::foreign_data());
}

#[test]
fn t10_all_mistakes_of_a_configuration_are_told_at_once() {
    run("bad configuration", LIMIT, refusal::bad_configuration());
}

#[test]
fn t11_settings_change_by_reload_and_by_restart() {
    run("settings", LIMIT, settings::changed());
}

#[test]
fn t12_a_switchover_to_a_member_that_receives_nothing_is_refused() {
    run("switchover refused", LIMIT, planned::refused_switchover());
}

#[test]
fn t13_a_daemon_started_without_a_store_ends_a_primary_it_cannot_vouch_for() {
    run("store frozen at start", LIMIT, silence::store_frozen_at_start());
}
