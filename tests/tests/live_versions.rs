//! One group's life on each version of PostgreSQL that can be had.
//!
//! 15 is what is installed; 16 and 18 are fetched by
//! `tools/postgres_versions.sh`. A version that is missing is a failure: what
//! was not run was not shown.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};
use tests::live::versions;

/// No version needs half of this.
const LIMIT: Duration = Duration::from_secs(90);

/// One at a time: they share two cores with PostgreSQL.
static TURN: Mutex<()> = Mutex::new(());

fn run(major: u32) {
    let _turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    let begin = Instant::now();
    println!("PostgreSQL {major}");
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    let ended =
        runtime.block_on(async { tokio::time::timeout(LIMIT, versions::life(major)).await });
    assert!(ended.is_ok(), "PostgreSQL {major}: not over within {LIMIT:?}");
    println!("  {:.1} s in all", begin.elapsed().as_secs_f64());
}

#[test]
fn a_group_lives_on_15() {
    run(15);
}

#[test]
fn a_group_lives_on_16() {
    run(16);
}

#[test]
fn a_group_lives_on_18() {
    run(18);
}
