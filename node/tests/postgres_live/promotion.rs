//! When a standby takes notice of a request to leave recovery.

use super::{LIMIT, birth, certificate, clone, node, stop};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use node::postgres::{Session, StopMode};
use serde_json::json;
use std::time::{Duration, Instant};

/// Far less than `wal_retrieve_retry_interval`, and far more than a promotion takes here.
const PATIENCE: Duration = Duration::from_secs(2);

/// If a request comes after the server has asked for a new receiver, and before its postmaster has
/// started one, PostgreSQL takes the request, gives the receiver up, and sleeps until the next try
/// of its source is due. Here the postmaster is stopped for that time.
pub(crate) async fn is_noticed_when_the_server_is_woken() {
    let root = tempfile::tempdir().expect("a temporary directory");
    certificate(root.path());
    let (a, b) = (node(root.path(), "a"), node(root.path(), "b"));
    let dynamic = json!({"postgresql": {"parameters": {"max_connections": 90}}});
    let (leader, session) = birth(&a, &dynamic).await;
    let (standby, on_b) = clone(&a, &b, &session).await;
    let signal = |signal| kill(Pid::from_raw(standby.pid), signal).expect("it lives");
    signal(Signal::SIGSTOP);
    leader.kill_all().expect("a kill");
    until_a_receiver_is_missing(&on_b).await;
    standby.promote().expect("a request");
    signal(Signal::SIGCONT);
    assert!(!has_left_recovery(&on_b).await, "it would not have to be woken");
    standby.reload().expect("a signal");
    assert!(has_left_recovery(&on_b).await, "it was woken");
    drop(on_b);
    stop(&standby, StopMode::Fast).await;
}

/// The last receiver has ended, and the server waits for one that it has asked for: two looks in a
/// row show that.
async fn until_a_receiver_is_missing(on_b: &Session) {
    const SQL: &str = "SELECT NOT EXISTS (SELECT FROM pg_catalog.pg_stat_wal_receiver) \
                       AND wait_event = 'RecoveryWalStream' \
                       FROM pg_catalog.pg_stat_activity WHERE backend_type = 'startup'";
    let (end, mut looks) = (Instant::now() + LIMIT, 0);
    while looks < 2 {
        assert!(Instant::now() < end, "the server never waits for a receiver");
        tokio::time::sleep(Duration::from_millis(20)).await;
        let row = on_b.row("receivers", SQL, &[]).await.expect("a row");
        looks = if row.get::<_, Option<bool>>(0) == Some(true) { looks + 1 } else { 0 };
    }
}

async fn has_left_recovery(session: &Session) -> bool {
    let end = Instant::now() + PATIENCE;
    while Instant::now() < end {
        let row = session.row("recovery", "SELECT pg_catalog.pg_is_in_recovery()", &[]).await;
        if !row.expect("a row").get::<_, bool>(0) {
            return true;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    false
}
