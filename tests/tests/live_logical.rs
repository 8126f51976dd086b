//! Permanent logical slots on real PostgreSQL and etcd. The scenarios are in
//! `tests/src/live/logical.rs`.
//!
//! The daemon is not built by this test: `cargo build --workspace --bins` first.

use std::time::Duration;
use tests::live::{logical, run};

/// No scenario needs half of this.
const LIMIT: Duration = Duration::from_secs(240);

#[test]
fn permanent_logical_slots_are_made_and_bad_ones_named() {
    run("logical slots on a primary", LIMIT, logical::on_a_primary(15));
}

#[test]
fn copies_of_logical_slots_are_moved_and_read_on_after_switchovers() {
    run("copies of logical slots", LIMIT, logical::copies(15));
}

#[test]
fn a_reader_misses_nothing_when_other_members_come_to_lead() {
    run("a reader of a logical slot", LIMIT, logical::consumer());
}

#[test]
fn a_slot_that_would_skip_is_refused() {
    run("a refused slot", LIMIT, logical::refused());
}

#[test]
fn slots_are_left_to_postgres_from_17_on() {
    run("logical slots on 18", LIMIT, logical::native(18));
}
