//! A group whose members need a watchdog, on real PostgreSQL and etcd.
//! The scenario is in `tests/src/live/watchdog.rs`.

use std::time::Duration;
use tests::live::{run, watchdog};

/// Twice what it needs.
const LIMIT: Duration = Duration::from_secs(180);

#[test]
fn a_hanging_leader_is_reset_in_time_and_no_member_leads_without_a_watchdog() {
    run("watchdog", LIMIT, watchdog::required());
}
