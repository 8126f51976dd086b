//! Configurations that the daemon writes itself, and those with relative paths, on
//! real PostgreSQL and etcd. The scenarios are in `tests/src/live/generated.rs` and
//! `tests/src/live/paths.rs`.
//!
//! The daemon is not built by this test: `cargo build --workspace --bins` first.

use std::time::Duration;
use tests::live::{generated, paths, run};

const LIMIT: Duration = Duration::from_secs(120);

#[test]
fn t01_a_daemon_starts_with_the_sample_once_it_is_finished() {
    run("sample", LIMIT, generated::sample());
}

#[test]
fn t02_a_running_server_is_taken_over_with_the_generated_configuration() {
    run("generated from a server", LIMIT, generated::from_server());
}

#[test]
fn p2_a_group_lives_on_relative_paths() {
    run("relative paths", LIMIT, paths::relative());
}
