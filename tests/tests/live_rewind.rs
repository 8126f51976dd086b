//! pg_rewind and what surrounds it, on real PostgreSQL and etcd. The scenarios
//! are in `tests/src/live/rewind.rs`; they share one group.
//!
//! The daemon is not built by this test: `cargo build --workspace --bins` first.

use std::time::{Duration, Instant};
use tests::live::{rewind, run};

const LIMIT: Duration = Duration::from_secs(240);

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
