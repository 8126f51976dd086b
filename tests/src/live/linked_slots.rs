//! Permanent logical slots of a cluster that another one follows.

use super::logical::{decode, definition, has_slot, is_ready, word};
use super::slots::{run_sql, shows};
use super::stage::{LONG, SHORT, Stage, ask_sql};
use super::standby_cluster::{follows, stand_by, upstream};
use super::versions::programs;
use ctl::field::MemberPlan;
use serde_json::json;
use std::time::Duration;

/// PostgreSQL's worker rests for a minute after an error.
const WORKER: Duration = Duration::from_secs(150);
const LOOPS: Duration = Duration::from_secs(60);

/// A cluster, and one that follows it through a slot; both define `reader`.
async fn pair(major: u32) -> (Stage, Stage, MemberPlan, MemberPlan) {
    let mut main = Stage::prepare_plan(1, &programs(major), |plan, _| {
        decode(plan);
        plan.dcs["slots"] = json!({"reader": definition("pgoutput")});
        plan.dcs["standby_clusters"] = json!([{"name": "copy", "slot": "dr"}]);
    });
    main.stand_up().await;
    let remote = main.leader().await;
    has_slot(&main, &remote, "reader", true).await;
    has_slot(&main, &remote, "dr", true).await;
    run_sql(&remote, "CREATE TABLE events (id int)").await;
    run_sql(&remote, "CREATE PUBLICATION everything FOR ALL TABLES").await;
    let mut section = upstream(std::slice::from_ref(&remote));
    section["primary_slot_name"] = json!("dr");
    let mut copy = Stage::prepare_plan(1, &programs(major), |plan, _| {
        decode(plan);
        plan.scope = "copy".into();
        for member in &mut plan.regions[0].members {
            member.name = member.name.replace('n', "dr");
        }
        plan.dcs["slots"] = json!({"reader": definition("pgoutput")});
        plan.dcs["standby_cluster"] = section;
    });
    let leader = stand_by(&mut copy).await;
    (main, copy, remote, leader)
}

async fn change_places(main: &Stage, copy: &Stage, remote: &MemberPlan, leader: &MemberPlan) {
    main.patch(json!({"standby_cluster": upstream(std::slice::from_ref(leader))})).await;
    follows(main, remote, leader.pg_port).await;
    copy.patch(json!({"standby_cluster": null})).await;
    copy.until("a promoted cluster", SHORT, async || copy.primary().await.is_some()).await;
    copy.healthy(LONG).await;
}

/// From PostgreSQL 17 on the standby leader's server copies the slot: its reader goes on there
/// when the clusters change places, and misses nothing.
pub async fn native(major: u32) {
    let (main, copy, remote, leader) = pair(major).await;
    shows(&copy, &leader, "its worker", "SHOW sync_replication_slots", "on").await;
    shows(&copy, &leader, "feedback", "SHOW hot_standby_feedback", "on").await;
    let copied = async || {
        let read = "SELECT pg_replication_slot_advance('reader', pg_current_wal_flush_lsn())";
        run_sql(&remote, read).await;
        word(&copy, &leader, "reader").await.as_deref() == Some("ready")
    };
    copy.until("a copy in the standby cluster", WORKER, copied).await;
    run_sql(&remote, "INSERT INTO events SELECT generate_series(1, 50)").await;
    change_places(&main, &copy, &remote, &leader).await;
    run_sql(&leader, "INSERT INTO events SELECT generate_series(51, 100)").await;
    let rows = "SELECT count(*)::text FROM pg_logical_slot_get_binary_changes('reader', NULL, NULL, \
                'proto_version', '1', 'publication_names', 'everything') \
                WHERE get_byte(data, 0) = ascii('I')";
    assert_eq!(ask_sql(&leader, rows).await.expect("changes"), "100");
    is_ready(&copy, &leader, "reader", LOOPS).await;
    copy.end();
    main.end();
}

/// Before, the standby cluster says that it keeps no copy, and makes no slot that would skip
/// data when it is promoted.
pub async fn refused(major: u32) {
    let (main, copy, remote, leader) = pair(major).await;
    let told = async |words: &str| {
        let what = format!("`{words}` in the log");
        let log = async || copy.field.log(&leader.name).contains(words);
        copy.until(&what, LOOPS, log).await;
    };
    told("before PostgreSQL 17 the logical slots `reader` are not kept here").await;
    let is_missing = async || word(&copy, &leader, "reader").await.as_deref() == Some("missing");
    copy.until("the word that it is missing", SHORT, is_missing).await;
    change_places(&main, &copy, &remote, &leader).await;
    told("the logical slot `reader` is not made on this server").await;
    has_slot(&copy, &leader, "reader", false).await;
    copy.patch(json!({"slots": null})).await;
    tokio::time::sleep(Duration::from_secs(5)).await;
    copy.patch(json!({"slots": {"reader": definition("pgoutput")}})).await;
    has_slot(&copy, &leader, "reader", true).await;
    copy.end();
    main.end();
}
