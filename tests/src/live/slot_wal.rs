//! The WAL that a copy of a logical slot begins in, on a standby that restarts for it.

use super::logical::{decode, definition, has_slot, is_ready};
use super::slots::{run_sql, shows, stand_up_behind_the_first};
use super::stage::{LONG, Stage, ask_sql};
use super::versions::programs;
use serde_json::json;
use std::time::Duration;

const LOOPS: Duration = Duration::from_secs(60);

/// The reader stands still some segments before the last checkpoint, up to which a standby
/// removes WAL when it stops. Its copy is of use all the same, and nothing is kept for good.
pub async fn survives_the_stop(major: u32) {
    let mut stage = Stage::prepare_plan(2, &programs(major), |plan, _| {
        decode(plan);
        plan.dcs["postgresql"]["parameters"]["wal_keep_size"] = json!("16MB");
    });
    let members = stand_up_behind_the_first(&mut stage).await;
    let (leader, standby) = (&members[0], &members[1]);
    // In pause no standby restarts for a copy.
    let reader = definition("test_decoding");
    stage.patch(json!({"pause": true, "slots": {"reader": reader}})).await;
    has_slot(&stage, leader, "reader", true).await;
    let begins = "SELECT pg_walfile_name(restart_lsn) FROM pg_replication_slots \
                  WHERE slot_name = 'reader'";
    let segment = ask_sql(leader, begins).await.expect("a segment");
    run_sql(leader, "CREATE TABLE filling (id int)").await;
    for _ in 0..4 {
        run_sql(leader, "INSERT INTO filling VALUES (1)").await;
        run_sql(leader, "SELECT pg_switch_wal()").await;
    }
    run_sql(leader, "CHECKPOINT").await;
    let end = ask_sql(leader, "SELECT pg_current_wal_lsn()::text").await.expect("an end");
    let has_all = format!("SELECT (pg_last_wal_replay_lsn() >= '{end}')::text");
    shows(&stage, standby, "what was written", &has_all, "true").await;
    let is_there = format!("SELECT count(*)::text FROM pg_ls_waldir() WHERE name = '{segment}'");
    shows(&stage, standby, "the segment before the stop", &is_there, "1").await;
    stage.patch(json!({"pause": null})).await;
    assert_eq!(stage.healthy(LONG).await.name, leader.name);
    has_slot(&stage, standby, "reader", true).await;
    is_ready(&stage, standby, "reader", LOOPS).await;
    shows(&stage, standby, "the segment after the start", &is_there, "1").await;
    shows(&stage, standby, "its own setting", "SHOW wal_keep_size", "16MB").await;
    stage.one_writer();
    stage.end();
}
