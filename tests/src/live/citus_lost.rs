//! What a leader that is frozen or cut off leaves on the other nodes of a formation: sessions with
//! locks that no end of a connection closes, and copies that are sent to a node that does not
//! take them.

use super::citus_faults::{apart, cut_off};
use super::citus_formation::{COORDINATOR, Formation, connect};
use super::stage::{LONG, SHORT, TTL};
use ctl::field::MemberPlan;
use nix::sys::signal::Signal;
use std::time::{Duration, Instant};
use tokio::task::JoinHandle;
use tokio_postgres::Client;

/// From the new leader's rows on. A session that was idle has ended before, by the servers'
/// keepalives; one that has sent what was not acknowledged any more ends here.
const CLEARED_MAX: Duration = Duration::from_secs(3);
/// `retry_timeout`, after which Citus ends those that hold locks, the margin, and the same for a
/// transaction of the group's own.
const STUCK_MAX: Duration = Duration::from_secs(20);

/// A client of the coordinator has a row of group 1 locked when its server is lost. Another
/// worker's client wants the row.
pub async fn a_lost_coordinator_keeps_no_row_locked() {
    let (net, mut formation) = apart([2, 1, 1]).await;
    let row = table_with_a_row_on(&formation, 1).await;

    let old = formation.leader(COORDINATOR).await;
    let _holder = locked(&old, row).await;
    cut_off(&formation, &net, &old);
    formation.is_away(&old);
    another_client_gets_the_row("cut off", &formation, row).await;
    net.heal();
    formation.all_are_back();
    formation.healthy().await;
    formation.is_wired(LONG).await;

    formation.is_counted_on(COORDINATOR).await;
    let old = formation.leader(COORDINATOR).await;
    let _holder = locked(&old, row).await;
    assert!(formation.field.signal_node(&old, Signal::SIGSTOP));
    formation.is_away(&old);
    another_client_gets_the_row("frozen", &formation, row).await;
    assert!(formation.field.signal_node(&old, Signal::SIGCONT));
    formation.all_are_back();
    formation.healthy().await;
    formation.end();
}

/// Citus's sending of copies waits for a worker whose table is locked, and has the coordinator's
/// table locked meanwhile. Another worker changes its leader.
pub async fn a_copy_that_cannot_be_sent_holds_up_no_other_row() {
    let (_net, formation) = apart([1, 2, 1]).await;
    let stuck = connect(&formation.leader(2).await).await.expect("it takes connections");
    let lock = "BEGIN; LOCK TABLE pg_catalog.pg_dist_node IN SHARE ROW EXCLUSIVE MODE";
    stuck.batch_execute(lock).await.expect("a lock");
    for change in ["first", "second"] {
        formation.healthy().await;
        formation.is_counted_on(1).await;
        formation.switchover(1).await;
        let what = "the coordinator's row of a worker with a new leader";
        let right = async || formation.has_right_rows_on(COORDINATOR).await;
        let took = formation.until(what, STUCK_MAX, right).await;
        println!("  {change} change: the row is right {took:.1?} after the switchover");
    }
    stuck.batch_execute("ROLLBACK").await.expect("its session lives");
    formation.healthy().await;
    formation.is_wired(LONG).await;
    formation.end();
}

/// At the latest soon after the rows are right.
async fn another_client_gets_the_row(what: &str, formation: &Formation, row: i32) {
    let begin = Instant::now();
    let writer = wanted(formation.leader(2).await, row);
    has_another_leader(formation).await;
    let wired = begin.elapsed();
    let waited = ended(formation, writer, begin, SHORT).await;
    println!("  {what}: rows right after {wired:.1?}, the client waited {waited:.1?}");
    assert!(waited < wired + CLEARED_MAX, "{waited:?}, rows after {wired:?}");
}

async fn has_another_leader(formation: &Formation) {
    let lead = async || formation.leader_if_any(COORDINATOR).await.is_some();
    formation.until("a new leader", TTL + SHORT, lead).await;
    formation.is_wired(SHORT).await;
}

/// A key whose row lies on that group.
async fn table_with_a_row_on(formation: &Formation, group: i32) -> i32 {
    let leader = formation.leader(COORDINATOR).await;
    for step in [
        "CREATE TABLE thing (k int PRIMARY KEY, v int NOT NULL)",
        "SET citus.shard_count = 8; SELECT create_distributed_table('thing', 'k')",
        "INSERT INTO thing SELECT g, 0 FROM generate_series(1, 100) g",
    ] {
        formation.sql(&leader, step).await;
    }
    let db = connect(&leader).await.expect("it takes connections");
    let sql = "SELECT min(k)::int4 FROM generate_series(1, 100) k JOIN pg_dist_placement p \
        ON p.shardid = get_shard_id_for_distribution_column('thing', k) WHERE groupid = $1";
    db.query_one(sql, &[&group]).await.expect("placements").get(0)
}

async fn locked(at: &MemberPlan, row: i32) -> Client {
    let client = connect(at).await.expect("it takes connections");
    let sql = format!("BEGIN; UPDATE thing SET v = v + 1 WHERE k = {row}");
    client.batch_execute(&sql).await.expect("a lock");
    client
}

/// Tells when it has the row.
fn wanted(at: MemberPlan, row: i32) -> JoinHandle<Instant> {
    tokio::spawn(async move {
        let client = connect(&at).await.expect("it takes connections");
        let sql = format!("UPDATE thing SET v = v + 1 WHERE k = {row}");
        client.batch_execute(&sql).await.expect("no error");
        Instant::now()
    })
}

async fn ended(
    formation: &Formation,
    writer: JoinHandle<Instant>,
    begin: Instant,
    limit: Duration,
) -> Duration {
    formation.until("the row of another client", limit, async || writer.is_finished()).await;
    writer.await.expect("no panic") - begin
}
