//! A group whose members need a watchdog, on real PostgreSQL and etcd.
//! The scenario is in `tests/src/live/watchdog.rs`.

use std::time::Duration;

/// Twice what it needs.
const LIMIT: Duration = Duration::from_secs(180);

#[test]
fn a_hanging_leader_is_reset_in_time_and_nobody_leads_without_a_watchdog() {
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    let scenario = tests::live::watchdog::required();
    let ended = runtime.block_on(async { tokio::time::timeout(LIMIT, scenario).await });
    assert!(ended.is_ok(), "not over within {LIMIT:?}");
}
