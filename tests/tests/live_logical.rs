//! Permanent logical slots on real PostgreSQL and etcd. The scenarios are in
//! `tests/src/live/logical.rs`, `linked_slots.rs`, `readers.rs`, `slot_snapshots.rs` and
//! `slot_wal.rs`.
//!
//! The daemon is not built by this test: `cargo build --workspace --bins` first.

use std::time::Duration;
use tests::live::{linked_slots, logical, readers, run, slot_snapshots, slot_wal};

/// No scenario needs half of this.
const LIMIT: Duration = Duration::from_secs(240);
/// Enough for 20 rounds, too.
const READERS: Duration = Duration::from_secs(3_000);

#[test]
fn permanent_logical_slots_are_made_and_bad_ones_named() {
    run("logical slots on a primary", LIMIT, logical::on_a_primary(15));
}

#[test]
fn copies_of_logical_slots_are_moved_and_read_on_after_switchovers() {
    run("copies of logical slots", LIMIT, logical::copies(15));
}

#[test]
fn a_standby_of_16_makes_a_slot_of_its_own_without_a_restart() {
    run("slots of standbys on 16", LIMIT, logical::own(16));
}

#[test]
fn feedback_follows_a_cascade_and_goes_with_the_definition() {
    run("feedback along a cascade", LIMIT, logical::feedback_of_a_cascade());
}

#[test]
fn a_standby_cluster_of_18_has_a_copy_that_its_reader_goes_on_with() {
    run("a slot in a standby cluster on 18", LIMIT, linked_slots::native(18));
}

#[test]
fn a_standby_cluster_of_15_says_that_it_keeps_no_logical_slots() {
    run("no slot in a standby cluster", LIMIT, linked_slots::refused(15));
}

#[test]
fn readers_miss_nothing_when_other_members_come_to_lead() {
    run("readers of logical slots", READERS, readers::go_on(15));
}

#[test]
fn readers_miss_nothing_when_other_members_come_to_lead_on_18() {
    run("readers of logical slots on 18", READERS, readers::go_on(18));
}

#[test]
fn a_copy_that_was_taken_beside_an_open_transaction_misses_nothing() {
    run("a copy with its snapshot", LIMIT, slot_snapshots::open_transaction(15));
}

#[test]
fn a_restart_for_a_copy_keeps_the_wal_that_it_begins_in() {
    run("the WAL of a copy", LIMIT, slot_wal::survives_the_stop(15));
}

#[test]
fn a_slot_that_would_skip_is_refused() {
    run("a refused slot", LIMIT, logical::refused());
}

#[test]
fn slots_are_left_to_postgres_from_17_on() {
    run("logical slots on 18", LIMIT, logical::native(18));
}
