//! What a group does while nothing happens, on real PostgreSQL and etcd.
//! The scenarios are in `tests/src/live/upkeep.rs`.
//!
//! The daemon is not built by this test: `cargo build --workspace --bins` first.

use std::time::Duration;
use tests::live::{run_alone, upkeep};

/// Several times what each of them needs.
const LIMIT: Duration = Duration::from_secs(240);

#[test]
fn b6_an_idle_group_writes_no_more_than_its_progress() {
    run_alone("idle group", LIMIT, upkeep::idle());
}
