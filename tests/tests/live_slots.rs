//! Replication slots on real PostgreSQL and etcd. The scenarios are in
//! `tests/src/live/slots.rs` and `slot_feedback.rs`.
//!
//! The daemon is not built by this test: `cargo build --workspace --bins` first.

use std::time::Duration;
use tests::live::{run, slot_feedback, slots};

/// No scenario needs half of this, but one that writes gigabytes (`MATRIARCH_WAL_MB`).
const LIMIT: Duration = Duration::from_secs(240);
const LONG_LIMIT: Duration = Duration::from_secs(1_800);

#[test]
fn n7_one_creation_that_fails_starves_no_member() {
    run("slots on their own", LIMIT, slots::steps_on_their_own());
}

#[test]
fn n5_wal_of_a_cascade_does_not_pile_up() {
    run("slots of a cascade", LONG_LIMIT, slots::cascade());
}

#[test]
fn n6_vacuum_removes_rows_after_a_switchover_with_feedback() {
    run("feedback", LIMIT, slot_feedback::is_forgotten(15));
}

#[test]
fn n6_vacuum_removes_rows_after_a_switchover_on_18() {
    run("feedback on 18", LIMIT, slot_feedback::is_forgotten(18));
}

#[test]
fn a_lost_slot_is_made_anew() {
    run("a lost slot", LIMIT, slots::lost(15));
}

#[test]
fn a_lost_slot_is_made_anew_on_18() {
    run("a lost slot on 18", LIMIT, slots::lost(18));
}

#[test]
fn permanent_physical_slots_live_through_switchovers() {
    run("permanent slots", LIMIT, slots::permanent());
}

#[test]
fn failsafe_slots_move_on_without_a_store() {
    run("slots in failsafe mode", LIMIT, slots::in_failsafe());
}

#[test]
fn slots_are_shown_and_warned_of() {
    run("slots that are shown", LIMIT, slots::shown());
}
