//! Commands of an operator, restarts for later, long stops and starts, on real
//! PostgreSQL and etcd. The scenarios are in `tests/src/live/scripts.rs`.
//!
//! Build the programs first: `cargo build --workspace --bins`.

use std::future::Future;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;
use tests::live::scripts;

const LIMIT: Duration = Duration::from_secs(120);

/// One at a time: they measure outages.
static TURN: Mutex<()> = Mutex::new(());

fn run(title: &str, scenario: impl Future<Output = ()>) {
    let _turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    println!("{title}");
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    let ended = runtime.block_on(async { tokio::time::timeout(LIMIT, scenario).await });
    assert!(ended.is_ok(), "{title}: not over within {LIMIT:?}");
}

#[test]
fn t01_callbacks_tell_what_happened_and_a_gate_refuses_a_promotion() {
    run("callbacks", scripts::callbacks());
}

#[test]
fn t02_a_restart_waits_for_its_time_and_is_judged_then() {
    run("scheduled restarts", scripts::restarts());
}

#[test]
fn t03_a_leader_that_archives_gives_its_lock_away_and_a_stop_has_a_limit() {
    run("archive backlog", scripts::archive_backlog());
}

#[test]
fn t04_a_recovery_that_hangs_is_given_up_for_a_replica() {
    run("slow start", scripts::slow_start());
}
