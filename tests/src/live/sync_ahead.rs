//! In a synchronous mode a standby has more of the old timeline than the new leader.
//!
//! PostgreSQL lets it attach for moments and takes its own end for what it has confirmed.
//! No commit may be acknowledged by that.

use super::crashed_standby::{ROWS, TABLE, rows_reach, stop_sending};
use super::stage::{LONG, Stage, ask_sql, connect};
use super::synchronous::settled;
use ctl::field::MemberPlan;
use serde_json::json;
use std::time::Duration;

/// A row that a standby has flushed is visible there a moment later. One that has only
/// claimed to have it is down by then, to be rewound.
const REPLAYED: Duration = Duration::from_millis(500);

pub async fn confirms_nothing_that_it_lacks() {
    let mut stage = Stage::raise(3).await;
    let leader = stage.healthy(LONG).await;
    let [behind, ahead] = <[MemberPlan; 2]>::try_from(stage.others(&leader)).expect("two others");
    let both = json!({
        "synchronous_mode": true, "synchronous_mode_strict": true, "synchronous_node_count": 2
    });
    stage.patch(both).await;
    settled(&stage, &leader, 2).await;
    let waits = rows_that_wait(&stage, &leader, &behind, &ahead).await;

    let mark = stage.mark(&ahead);
    stage.field.kill_daemon(&ahead.name);
    stage.field.kill_node(&leader);
    assert!(waits.await.expect("a task").is_err(), "a commit was acknowledged by one standby");
    assert_eq!(stage.new_leader(&leader, LONG).await.name, behind.name);
    let names = ask_sql(&behind, "SHOW synchronous_standby_names").await.expect("it answers");
    assert!(names.contains(&ahead.name), "commits do not wait for {}: {names}", ahead.name);

    stage.start(&ahead);
    let client = connect(&behind).await.expect("the new leader takes connections");
    let insert = client.simple_query("INSERT INTO ahead VALUES (-1)");
    tokio::time::timeout(LONG, insert).await.expect("confirmed in time").expect("a row");
    let seen = "SELECT count(*)::text FROM ahead WHERE id = -1";
    stage
        .until("the row on the standby that confirmed it", REPLAYED, async || {
            ask_sql(&ahead, seen).await.is_ok_and(|n| n == "1")
        })
        .await;
    let log = stage.log_since(&ahead, mark);
    for rule in ["rule 938", "rule 939", "rule 930"] {
        assert!(log.contains(rule), "{} shows no {rule}:\n{log}", ahead.name);
    }
    stage.one_writer();
    stage.end();
}

/// Rows that one of two synchronous standbys gets: their commit waits for the other one.
async fn rows_that_wait(
    stage: &Stage,
    leader: &MemberPlan,
    behind: &MemberPlan,
    ahead: &MemberPlan,
) -> tokio::task::JoinHandle<Result<(), tokio_postgres::Error>> {
    let client = connect(leader).await.expect("the leader takes connections");
    client.batch_execute(TABLE).await.expect("a table");
    stop_sending(stage, leader, behind).await;
    let waits = tokio::spawn(async move { client.simple_query(ROWS).await.map(|_| ()) });
    rows_reach(stage, ahead).await;
    waits
}
