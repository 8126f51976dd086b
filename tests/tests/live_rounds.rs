//! Rounds of faults under each way to commit, with every acknowledged row counted. The scenarios
//! are in `tests/src/live/rounds.rs`.
//!
//! The daemon is not built by this test: `cargo build --workspace --bins` first. More rounds by
//! `MATRIARCH_ROUNDS`.

use serde_json::json;
use std::time::Duration;
use tests::live::{rounds, run};

const LIMIT: Duration = Duration::from_secs(1_800);

#[test]
fn t01_asynchronous_loses_no_more_than_the_bound() {
    run("rounds, asynchronous", LIMIT, rounds::of_mode(json!(false), 2));
}

#[test]
fn t02_synchronous_loses_nothing() {
    run("rounds, synchronous", LIMIT, rounds::of_mode(json!(true), 0));
}

#[test]
fn t03_a_quorum_loses_nothing() {
    run("rounds, quorum", LIMIT, rounds::of_mode(json!("quorum"), 1));
}
