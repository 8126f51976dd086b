//! The daemon as a well-behaved process, on real PostgreSQL and etcd. The
//! scenarios are in `tests/src/live/`.
//!
//! The daemon is not built by this test: `cargo build --workspace --bins`
//! first.

use std::time::Duration;
use tests::live::{container, process, run, unwatched};

/// No scenario needs a third of this.
const LIMIT: Duration = Duration::from_secs(180);

#[test]
fn p01_a_daemon_logs_reloads_tells_its_manager_and_ends_as_it_should() {
    run("well behaved", LIMIT, process::well_behaved());
}

#[test]
fn p02_as_process_one_it_passes_signals_on_and_reaps() {
    run("process one", LIMIT, container::process_one());
}

#[test]
fn p03_a_store_that_comes_late_is_waited_for() {
    run("store comes late", LIMIT, container::store_comes_late());
}

#[test]
fn n15_a_daemon_that_cannot_begin_leaves_no_primary_unwatched() {
    run("unwatched primary", LIMIT, unwatched::beside_a_primary());
}
