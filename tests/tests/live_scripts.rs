//! Commands of an operator, restarts for later, long stops and starts, on real
//! PostgreSQL and etcd. The scenarios are in `tests/src/live/scripts.rs`.
//!
//! Build the programs first: `cargo build --workspace --bins`.

use std::time::Duration;
use tests::live::{run, scripts};

const LIMIT: Duration = Duration::from_secs(120);

#[test]
fn t01_callbacks_tell_what_happened_and_a_gate_refuses_a_promotion() {
    run("callbacks", LIMIT, scripts::callbacks());
}

#[test]
fn t02_a_restart_waits_for_its_time_and_is_judged_then() {
    run("scheduled restarts", LIMIT, scripts::restarts());
}

#[test]
fn t03_a_leader_that_archives_gives_its_lock_away_and_a_stop_has_a_limit() {
    run("archive backlog", LIMIT, scripts::archive_backlog());
}

#[test]
fn t04_a_recovery_that_hangs_is_given_up_for_a_replica() {
    run("slow start", LIMIT, scripts::slow_start());
}
