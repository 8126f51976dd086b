//! Data directories that are neither whole nor empty, on real PostgreSQL and etcd.
//! The scenarios are in `tests/src/live/data_directories.rs`.
//!
//! The daemon is not built by this test: `cargo build --workspace --bins` first.

use std::time::Duration;
use tests::live::{data_directories, run};

/// No scenario needs a third of this.
const LIMIT: Duration = Duration::from_secs(240);

#[test]
fn n3_a_directory_without_pg_control_is_not_empty() {
    run("no control file", LIMIT, data_directories::without_a_control_file());
}

#[test]
fn n2_a_mark_decides_and_not_a_helper_s_environment() {
    run("marks and helpers", LIMIT, data_directories::copies_and_their_helpers());
}

#[test]
fn h7_a_socket_in_the_source_s_data_is_named_before_a_rewind() {
    run("sockets in the data", LIMIT, data_directories::sockets_in_the_data());
}

#[test]
fn h7_a_lone_member_after_pg_resetwal_leads_again() {
    run("reset log", LIMIT, data_directories::reset_log());
}
