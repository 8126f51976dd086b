//! The daemon as a well-behaved process, on real PostgreSQL and etcd. The
//! scenarios are in `tests/src/live/`.
//!
//! The daemon is not built by this test: `cargo build --workspace --bins`
//! first.

use std::future::Future;
use std::time::Duration;
use tests::live::{container, process};

/// No scenario needs a third of this.
const LIMIT: Duration = Duration::from_secs(180);

fn run(title: &str, scenario: impl Future<Output = ()>) {
    println!("{title}");
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    let ended = runtime.block_on(async { tokio::time::timeout(LIMIT, scenario).await });
    assert!(ended.is_ok(), "{title}: not over within {LIMIT:?}");
}

#[test]
fn p01_a_daemon_logs_reloads_tells_its_manager_and_ends_as_it_should() {
    run("well behaved", process::well_behaved());
}

#[test]
fn p02_as_process_one_it_passes_signals_on_and_reaps() {
    run("process one", container::process_one());
}

#[test]
fn p03_a_store_that_comes_late_is_waited_for() {
    run("store comes late", container::store_comes_late());
}
