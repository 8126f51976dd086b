//! The store is away, or has forgotten everything, under a group of real
//! members. The scenarios are in `tests/src/live/`.
//!
//! The daemon is not built by this test: `cargo build --workspace --bins`
//! first.

use std::future::Future;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};
use tests::live::failsafe;

const LIMIT: Duration = Duration::from_secs(180);

/// One at a time: they measure outages.
static TURN: Mutex<()> = Mutex::new(());

fn run(title: &str, scenario: impl Future<Output = ()>) {
    let _turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    let begin = Instant::now();
    println!("{title}");
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    let ended = runtime.block_on(async { tokio::time::timeout(LIMIT, scenario).await });
    assert!(ended.is_ok(), "{title}: not over within {LIMIT:?}");
    println!("  {:.1} s in all", begin.elapsed().as_secs_f64());
}

#[test]
fn t01_a_leader_leads_on_without_a_store_while_all_agree() {
    run("failsafe", failsafe::store_frozen());
}
