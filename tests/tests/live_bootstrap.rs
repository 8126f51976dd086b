//! How members come to their data, on real PostgreSQL and etcd: custom
//! bootstrap with recovery to a point in time, custom copies, reinitialize,
//! standby clusters, data that was there before. The scenarios are in
//! `tests/src/live/`.
//!
//! `cargo build --workspace --bins` first, as for `live_group.rs`.

use std::future::Future;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};
use tests::live::{attach, copies, custom, standby_cluster};

/// No scenario needs a third of this.
const LIMIT: Duration = Duration::from_secs(180);

static TURN: Mutex<()> = Mutex::new(());

fn run(title: &str, scenario: impl Future<Output = ()>) {
    let _turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    let begin = Instant::now();
    println!("{title}");
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    let ended = runtime.block_on(async { tokio::time::timeout(LIMIT, scenario).await });
    assert!(ended.is_ok(), "{title}: not over within {LIMIT:?}");
    println!("  {:.1} s in all", begin.elapsed().as_secs_f64());
}

#[test]
fn t01_a_command_makes_a_cluster_that_recovers_to_a_point_in_time() {
    run("custom bootstrap", custom::point_in_time());
}

#[test]
fn t02_a_failed_bootstrap_is_moved_aside_and_gives_the_right_back() {
    run("failed bootstrap", custom::failed());
}

#[test]
fn t03_copies_by_commands_from_members_that_serve_and_from_a_backup() {
    run("copies", copies::by_commands());
}

#[test]
fn t04_reinitialize_refuses_shows_cancels_and_begins_again() {
    run("reinitialize", copies::reinitialize());
}

#[test]
fn t05_a_standby_cluster_is_born_elects_and_is_promoted() {
    run("standby cluster", standby_cluster::life());
}

#[test]
fn t06_data_that_was_there_before_is_taken_over_or_refused() {
    run("data from before", attach::found_data());
}
