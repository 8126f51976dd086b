//! The store is away under a group of real members. The scenarios are in
//! `tests/src/live/`.
//!
//! The daemon is not built by this test: `cargo build --workspace --bins`
//! first.

use std::time::Duration;
use tests::live::{failsafe, run, run_alone};

const LIMIT: Duration = Duration::from_secs(180);

#[test]
fn t01_a_leader_leads_on_without_a_store_while_all_agree() {
    run("failsafe", LIMIT, failsafe::store_frozen());
}

#[test]
fn b7_a_switchover_after_failsafe_mode_takes_as_long_as_any() {
    run_alone("switchover after failsafe", LIMIT, failsafe::switchover_after());
}

#[test]
fn n10_a_hiccup_in_failsafe_mode_does_not_end_it() {
    run("hiccups in failsafe mode", LIMIT, failsafe::hiccups());
}

#[test]
fn t02_a_majority_is_enough_where_it_is_asked_for() {
    run("failsafe by majority", LIMIT, failsafe::by_majority());
}
