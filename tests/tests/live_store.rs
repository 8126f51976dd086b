//! A store that forgot everything, and data that the store does not know. The
//! scenarios are in `tests/src/live/`.
//!
//! The daemon is not built by this test: `cargo build --workspace --bins`
//! first.

use std::time::Duration;
use tests::live::{other_history, run, wiped};

const LIMIT: Duration = Duration::from_secs(180);

#[test]
fn t01_a_group_enters_itself_again_into_a_wiped_store() {
    run("store wiped under a group", LIMIT, wiped::under_a_group());
}

#[test]
fn t02_one_number_of_two_histories_is_told_apart() {
    run("two timelines of one number", LIMIT, other_history::one_number());
}
