//! In a synchronous mode a standby has more of the old timeline than the new leader.
//!
//! PostgreSQL lets it attach for moments and takes its own end for what it has confirmed.
//! No commit may be acknowledged by that.

use super::crashed_standby::write_rows_that_one_lacks;
use super::stage::{LONG, SHORT, Stage, ask_sql, connect};
use ctl::field::MemberPlan;
use serde_json::json;
use std::time::Duration;

/// A row that a standby has confirmed is visible there a moment later.
const REPLAYED: Duration = Duration::from_secs(3);

pub async fn confirms_nothing_that_it_lacks() {
    let mut stage = Stage::raise(3).await;
    let leader = stage.healthy(LONG).await;
    let [behind, ahead] = <[MemberPlan; 2]>::try_from(stage.others(&leader)).expect("two others");
    write_rows_that_one_lacks(&stage, &leader, &behind, &ahead).await;
    // No mode is on yet, so the one that is behind may lead while the other one is silent.
    let mark = stage.mark(&ahead);
    stage.field.kill_daemon(&ahead.name);
    stage.field.kill_node(&leader);
    let new = stage.new_leader(&leader, LONG).await;
    assert_eq!(new.name, behind.name);
    let strict = json!({"synchronous_mode": true, "synchronous_mode_strict": true});
    stage.patch_by(&new, strict).await;
    stage
        .until("commits that wait", SHORT, async || {
            let names = ask_sql(&new, "SHOW synchronous_standby_names").await;
            names.is_ok_and(|names| !names.is_empty())
        })
        .await;
    stage.start(&ahead);
    let client = connect(&new).await.expect("the new leader takes connections");
    let insert = "INSERT INTO ahead VALUES (-1)";
    tokio::time::timeout(LONG, client.simple_query(insert))
        .await
        .expect("a standby confirms in time")
        .expect("the row is written");
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
