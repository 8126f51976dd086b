//! Where servers are reached while their settings change, on real PostgreSQL and
//! etcd. The scenarios are in `tests/src/live/served.rs`.
//!
//! The daemon is not built by this test: `cargo build --workspace --bins` first.

use std::time::Duration;
use tests::live::{run, served};

/// Several times what each of them needs.
const LIMIT: Duration = Duration::from_secs(180);

#[test]
fn p1_another_port_counts_from_the_restart_on() {
    run("another port", LIMIT, served::another_port());
}

#[test]
fn p1_another_socket_directory_counts_from_the_restart_on() {
    run("another socket directory", LIMIT, served::another_socket_directory());
}
