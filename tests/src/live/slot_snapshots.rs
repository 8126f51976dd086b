//! A copy of a logical slot that is of use only with the decoding snapshot beside it.
//!
//! PostgreSQL begins to decode at the slot's `restart_lsn`. If transactions ran there, it sees
//! whole transactions only with the file in `pg_logical/snapshots`; without it all commits are
//! skipped, without an error, until each of those has ended.

use super::logical::{decode, definition, has_slot, is_ready};
use super::slots::{run_sql, shows, stand_up_behind_the_first};
use super::stage::{LONG, SHORT, Stage, ask_sql, connect};
use super::versions::programs;
use ctl::field::MemberPlan;
use serde_json::json;
use std::collections::BTreeMap;
use std::time::Duration;
use tokio_postgres::Client;

/// Some loops, and a restart of the standby.
const LOOPS: Duration = Duration::from_secs(60);

/// The standby takes its copy while a transaction is open; the leader is lost with that.
pub async fn open_transaction(major: u32) {
    let mut stage = Stage::prepare_plan(2, &programs(major), |plan, _| decode(plan));
    let members = stand_up_behind_the_first(&mut stage).await;
    let (old, new) = (&members[0], &members[1]);
    run_sql(old, "CREATE TABLE events (id int PRIMARY KEY)").await;
    // In pause no standby is restarted for a copy.
    stage.patch(json!({"pause": true, "slots": {"reader": definition("test_decoding")}})).await;
    has_slot(&stage, old, "reader", true).await;
    let open = begin_at_a_busy_snapshot(&stage, old).await;
    stage.patch(json!({"pause": null})).await;
    has_slot(&stage, new, "reader", true).await;
    is_ready(&stage, new, "reader", LOOPS).await;

    let restart = "SELECT restart_lsn::text FROM pg_replication_slots WHERE slot_name = 'reader'";
    let there = ask_sql(old, restart).await.expect("a position");
    assert_eq!(ask_sql(new, restart).await.expect("a position"), there, "the copy of the slot");
    insert(old, 101, 150).await;
    stage.replayed_by(1, old).await;
    stage.field.kill_node(old);
    assert_eq!(stage.new_leader(old, LONG).await.name, new.name);
    drop(open);
    insert(new, 151, 200).await;
    shows(&stage, new, "all rows", "SELECT count(*)::text FROM events", "102").await;

    let seen = read(new).await;
    let missing: Vec<u32> = (101..=200).filter(|id| !seen.contains_key(id)).collect();
    assert!(missing.is_empty(), "the reader has missed {missing:?}");
    assert!(!seen.contains_key(&OPEN), "a transaction that never ended was decoded");
    let twice = seen.values().filter(|times| **times > 1).count();
    println!("  PostgreSQL {major}: 0 rows missing, {twice} twice");
    stage.one_writer();
    stage.end();
}

/// Rows of the transactions that are open while a snapshot is written.
const FIRST: u32 = 1;
const OPEN: u32 = 3;

/// Has the slot begin where `FIRST` ran, and gives the session in which `OPEN` goes on running.
async fn begin_at_a_busy_snapshot(stage: &Stage, leader: &MemberPlan) -> (Client, Client) {
    let first = begin(leader, FIRST).await;
    let since = ask_sql(leader, "SELECT pg_current_wal_insert_lsn()::text").await.expect("a place");
    // A checkpoint logs which transactions run; there a decoder writes its snapshot.
    run_sql(leader, "CHECKPOINT").await;
    let open = begin(leader, OPEN).await;
    let until = ask_sql(leader, "SELECT pg_current_wal_insert_lsn()::text").await.expect("a place");
    first.batch_execute("COMMIT").await.expect("a commit");
    let busy = format!(
        "SELECT count(*)::text FROM pg_replication_slots \
         WHERE slot_name = 'reader' AND restart_lsn BETWEEN '{since}' AND '{until}'"
    );
    let has_moved = async || {
        run_sql(leader, "CHECKPOINT").await;
        read(leader).await;
        ask_sql(leader, &busy).await.expect("an answer") == "1"
    };
    stage.until("a slot that begins where transactions ran", SHORT, has_moved).await;
    run_sql(leader, "INSERT INTO events VALUES (2)").await;
    assert_eq!(read(leader).await.into_keys().collect::<Vec<_>>(), [2], "what is new");
    (first, open)
}

/// A transaction with this row, which stays open.
async fn begin(leader: &MemberPlan, id: u32) -> Client {
    let client = connect(leader).await.expect("it takes connections");
    let sql = format!("BEGIN; INSERT INTO events VALUES ({id})");
    client.batch_execute(&sql).await.expect("a row");
    client
}

async fn insert(member: &MemberPlan, from: u32, to: u32) {
    // Each row a transaction of its own.
    let rows: Vec<String> =
        (from..=to).map(|id| format!("INSERT INTO events VALUES ({id});")).collect();
    let client = connect(member).await.expect("it takes connections");
    for row in rows {
        client.batch_execute(&row).await.expect("a row");
    }
}

/// Reads and confirms what is there: how often each row came.
async fn read(member: &MemberPlan) -> BTreeMap<u32, usize> {
    let client = connect(member).await.expect("it takes connections");
    let sql = "SELECT data FROM pg_logical_slot_get_changes('reader', NULL, NULL)";
    let mut seen = BTreeMap::new();
    for row in client.query(sql, &[]).await.expect("changes") {
        let line: String = row.get(0);
        let id = line.strip_prefix("table public.events: INSERT: id[integer]:");
        if let Some(id) = id.and_then(|id| id.parse().ok()) {
            *seen.entry(id).or_default() += 1;
        }
    }
    seen
}
