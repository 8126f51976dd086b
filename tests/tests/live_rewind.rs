//! pg_rewind and what surrounds it, on real PostgreSQL and etcd. The scenarios
//! are in `tests/src/live/rewind.rs`; they share one group. What comes back without
//! it is in `tests/src/live/compare.rs`.
//!
//! The daemon is not built by this test: `cargo build --workspace --bins` first.

use std::time::{Duration, Instant};
use tests::live::{compare, crashed_standby, histories, rewind, run, silent_source};

const LIMIT: Duration = Duration::from_secs(240);

#[test]
fn w1_a_log_that_ends_with_its_segment_is_compared_and_follows() {
    run("log ends with a segment", LIMIT, compare::log_ends_with_a_segment());
}

#[test]
fn n8_a_former_primary_is_compared_as_the_replication_user() {
    run("superuser is refused", LIMIT, compare::superuser_is_refused());
}

#[test]
fn h1_a_copy_of_a_silent_source_begins_anew_from_the_next_leader() {
    run("a source goes silent", LIMIT, silent_source::copied_from());
}

#[test]
fn h5_timelines_that_were_never_begun_stop_no_member_and_no_recovery() {
    run("a gap in timelines", LIMIT, histories::with_a_gap(true));
}

#[test]
fn h5_without_restore_command_an_archive_that_keeps_its_files_has_no_gap() {
    run("a gap without restore_command", LIMIT, histories::with_a_gap(false));
}

#[test]
fn h5_a_timeline_in_the_archive_without_a_leader_stops_no_standby() {
    run("a timeline without a leader", LIMIT, histories::of_no_leader());
}

#[test]
fn a_standby_that_crashed_ahead_of_the_leader_is_stopped_in_order_and_rewound() {
    run("a standby crashed ahead", LIMIT, crashed_standby::is_stopped_in_order());
}

#[test]
fn diverged_members_come_back_or_are_kept() {
    run("diverged members", LIMIT, all());
}

async fn all() {
    let mut ground = rewind::ground().await;
    let begin = Instant::now();
    let step = |what: &str| println!("  {what} after {:.1} s", begin.elapsed().as_secs_f64());
    rewind::crashed_with_an_archive(&ground).await;
    step("crashed with an archive");
    rewind::kept_without_permission(&ground).await;
    step("kept without permission");
    rewind::interrupted(&mut ground).await;
    step("interrupted");
    rewind::outlived_its_daemon(&mut ground).await;
    step("outlived its daemon");
    rewind::rebuilt_after_a_failure(&ground).await;
    step("rebuilt after a failure");
    ground.stage.one_writer();
    ground.stage.end();
}
