//! Permanent logical slots: made, copied, moved, read on after switchovers, refused.

use super::slots::{run_sql, shows, slots, stand_up_behind_the_first};
use super::stage::{LONG, Stage, ask_sql, connect};
use super::versions::programs;
use ctl::field::{MemberPlan, Plan};
use reqwest::Method;
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::time::Duration;

/// Some loops, a restart of each standby one after the other, on busy cores.
const LOOPS: Duration = Duration::from_secs(60);
/// PostgreSQL starts its worker once a minute: one that met the old slot ends with an error.
const WORKER: Duration = Duration::from_secs(150);
const READER: &str = "reader";

pub(super) fn decode(plan: &mut Plan) {
    let parameters = &mut plan.dcs["postgresql"]["parameters"];
    parameters["wal_level"] = json!("logical");
    parameters["wal_receiver_status_interval"] = json!("1s");
    plan.dcs["loop_wait"] = json!(2);
}

pub(super) fn definition(plugin: &str) -> Value {
    json!({"type": "logical", "database": "postgres", "plugin": plugin})
}

pub(super) async fn has_slot(stage: &Stage, member: &MemberPlan, name: &str, is_there: bool) {
    // One that is being made is active.
    let sql = format!(
        "SELECT count(*)::text FROM pg_replication_slots WHERE slot_name = '{name}' \
         AND NOT temporary AND NOT active"
    );
    shows(stage, member, &format!("the slot {name}"), &sql, if is_there { "1" } else { "0" }).await;
}

/// The word of each slot, as `/patroni` shows it.
pub(super) async fn word(stage: &Stage, member: &MemberPlan, slot: &str) -> Option<String> {
    let body = stage.get(member, "/patroni").await.body;
    body["logical_slots"][slot].as_str().map(str::to_string)
}

pub(super) async fn is_ready(stage: &Stage, member: &MemberPlan, slot: &str, limit: Duration) {
    let what = format!("a ready copy of {slot} on {}", member.name);
    let question = async || word(stage, member, slot).await.as_deref() == Some("ready");
    let answer = stage.field.until(&what, limit, question).await;
    if let Err(why) = answer {
        let there = ask_sql(
            member,
            "SELECT string_agg(row_to_json(s)::text, ' ') FROM pg_replication_slots s",
        );
        panic!("{why}: {:?}, {:?}", word(stage, member, slot).await, there.await);
    }
}

async fn insert(member: &MemberPlan, from: u32, to: u32) {
    run_sql(member, "CREATE TABLE IF NOT EXISTS events (id int PRIMARY KEY)").await;
    run_sql(member, &format!("INSERT INTO events SELECT generate_series({from}, {to})")).await;
}

/// Reads with test_decoding what is there, and confirms it.
async fn read(member: &MemberPlan, seen: &mut BTreeSet<u32>) {
    let client = connect(member).await.expect("it takes connections");
    let sql = "SELECT data FROM pg_logical_slot_get_changes('reader', NULL, NULL)";
    let rows = client.query(sql, &[]).await.expect("changes");
    for row in rows {
        let line: String = row.get(0);
        let id = line.strip_prefix("table public.events: INSERT: id[integer]:");
        seen.extend(id.and_then(|id| id.parse::<u32>().ok()));
    }
}

pub(super) async fn switch(stage: &Stage, old: &MemberPlan, new: &MemberPlan) {
    let body = json!({"leader": old.name, "candidate": new.name});
    let reply = stage.send(Method::POST, old, "/switchover", body).await;
    assert_eq!(reply.status, 200, "{}", reply.body);
    assert_eq!(stage.healthy(LONG).await.name, new.name);
}

/// Good definitions are made, also in another database; of each bad one the log names what
/// is wrong, and nothing else stops.
pub async fn on_a_primary(major: u32) {
    let mut stage = Stage::prepare_plan(1, &programs(major), |plan, _| decode(plan));
    let members = stand_up_behind_the_first(&mut stage).await;
    let leader = &members[0];
    run_sql(leader, "CREATE DATABASE shop").await;
    let mark = stage.mark(leader);
    let reader = definition("test_decoding");
    stage
        .patch(json!({"slots": {
            "reader": reader,
            "orders": {"database": "shop", "plugin": "pgoutput"},
            "nowhere": {"database": "no_such_database", "plugin": "pgoutput"},
            "odd": {"database": "postgres", "plugin": "no_such_plugin"},
            "plain": null,
        }}))
        .await;
    slots(&stage, leader, "orders plain reader").await;
    let sql =
        "SELECT database || ' ' || plugin FROM pg_replication_slots WHERE slot_name = 'orders'";
    shows(&stage, leader, "its database", sql, "shop pgoutput").await;
    let words = ["no_such_database", "`no_such_plugin` is not among output_plugin_libraries"];
    stage
        .until("the bad ones in the log", LOOPS, async || {
            let log = stage.log_since(leader, mark);
            words.iter().all(|word| log.contains(word))
        })
        .await;
    stage
        .until("which are ready, in the metrics", LOOPS, async || {
            let metrics = stage.get(leader, "/metrics").await.body;
            let metrics = metrics.as_str().unwrap_or_default();
            metrics.contains("slot=\"reader\"} 1") && metrics.contains("slot=\"odd\"} 0")
        })
        .await;
    // A person drops one: it is made anew, and its definition makes it go.
    run_sql(leader, "SELECT pg_drop_replication_slot('reader')").await;
    slots(&stage, leader, "orders plain reader").await;
    stage.patch(json!({"slots": {"orders": null, "nowhere": null, "odd": null}})).await;
    slots(&stage, leader, "plain reader").await;
    stage.end();
}

/// A definition costs each standby one restart; its reader goes on where it was after two
/// switchovers, and misses nothing.
pub async fn copies(major: u32) {
    let mut stage = Stage::prepare_plan(3, &programs(major), |plan, _| decode(plan));
    let members = stand_up_behind_the_first(&mut stage).await;
    let started = "SELECT pg_postmaster_start_time()::text";
    let mut before = Vec::new();
    for member in &members {
        before.push(ask_sql(member, started).await.expect("a time"));
    }
    stage.patch(json!({"slots": {"reader": definition("test_decoding")}})).await;
    has_slot(&stage, &members[0], READER, true).await;
    let mut seen = BTreeSet::new();
    insert(&members[0], 1, 100).await;
    read(&members[0], &mut seen).await;
    for member in &members[1..] {
        has_slot(&stage, member, READER, true).await;
        shows(&stage, member, "feedback", "SHOW hot_standby_feedback", "on").await;
        is_ready(&stage, member, READER, LOOPS).await;
    }
    insert(&members[0], 101, 200).await;
    read(&members[0], &mut seen).await;
    let at = "SELECT confirmed_flush_lsn::text FROM pg_replication_slots \
              WHERE slot_name = 'reader'";
    let confirmed = ask_sql(&members[0], at).await.expect("a position");
    for (member, before) in members.iter().zip(&before) {
        shows(&stage, member, "what is confirmed", at, &confirmed).await;
        let since = ask_sql(member, started).await.expect("a time");
        let restarts = usize::from(since != *before);
        assert_eq!(restarts, usize::from(member.name != members[0].name), "{}", member.name);
    }
    for (old, new, from) in [(0, 1, 201), (1, 2, 301)] {
        let (old, new) = (&members[old], &members[new]);
        insert(old, from, from + 49).await;
        is_ready(&stage, new, READER, LOOPS).await;
        switch(&stage, old, new).await;
        insert(new, from + 50, from + 99).await;
        read(new, &mut seen).await;
        let log = stage.log_since(new, 0);
        assert!(!log.contains("logical slots are not ready"), "{log}");
    }
    let missing: Vec<u32> = (1..=400).filter(|id| !seen.contains(id)).collect();
    assert!(missing.is_empty(), "the reader has missed {missing:?}");
    stage.patch(json!({"slots": null})).await;
    for member in &members {
        has_slot(&stage, member, READER, false).await;
        shows(&stage, member, "feedback", "SHOW hot_standby_feedback", "off").await;
    }
    stage.one_writer();
    stage.end();
}

/// A standby of PostgreSQL 16 makes a slot of its own: nothing restarts. It is ready once the
/// reader has passed its beginning; one that no reader has passed is not resumed.
pub async fn own(major: u32) {
    let mut stage = Stage::prepare_plan(3, &programs(major), |plan, _| decode(plan));
    let members = stand_up_behind_the_first(&mut stage).await;
    let started = "SELECT pg_postmaster_start_time()::text";
    let mut before = Vec::new();
    for member in &members {
        before.push(ask_sql(member, started).await.expect("a time"));
    }
    insert(&members[0], 1, 100).await;
    run_sql(&members[0], "CREATE PUBLICATION everything FOR ALL TABLES").await;
    let slots = json!({"reader": definition("pgoutput"), "idle": definition("pgoutput")});
    stage.patch(json!({"slots": slots})).await;
    for member in &members {
        has_slot(&stage, member, READER, true).await;
        has_slot(&stage, member, "idle", true).await;
    }
    for member in &members[1..] {
        let passed = async || {
            let read = "SELECT pg_replication_slot_advance('reader', pg_current_wal_flush_lsn())";
            run_sql(&members[0], read).await;
            word(&stage, member, READER).await.as_deref() == Some("ready")
        };
        stage.until("a slot that its reader has passed", LOOPS, passed).await;
        assert_eq!(word(&stage, member, "idle").await.as_deref(), Some("pending"));
    }
    for (member, before) in members.iter().zip(&before) {
        assert_eq!(ask_sql(member, started).await.expect("a time"), *before, "{}", member.name);
    }
    insert(&members[0], 101, 150).await;
    let mark = stage.mark(&members[1]);
    switch(&stage, &members[0], &members[1]).await;
    insert(&members[1], 151, 200).await;
    let rows = "SELECT count(*)::text FROM pg_logical_slot_get_binary_changes('reader', NULL, NULL, \
                'proto_version', '1', 'publication_names', 'everything') \
                WHERE get_byte(data, 0) = ascii('I')";
    assert_eq!(ask_sql(&members[1], rows).await.expect("changes"), "100");
    let words = ["`idle` is not resumed: it was made here behind", "`idle` is not made on this"];
    stage
        .until("what is refused in the log", LOOPS, async || {
            let log = stage.log_since(&members[1], mark);
            words.iter().all(|word| log.contains(word))
        })
        .await;
    has_slot(&stage, &members[1], "idle", false).await;
    stage.one_writer();
    stage.end();
}

/// n1 <- n2 <- n3 <- n4, of which n2 and n3 never lead and keep no copies: their servers pass on
/// what n4's copy needs, until its definition goes.
pub async fn feedback_of_a_cascade() {
    let mut stage = Stage::prepare_in(4, |plan| {
        decode(plan);
        for (name, above, never_leads) in
            [("n2", "n1", true), ("n3", "n2", true), ("n4", "n3", false)]
        {
            let tags = json!({"replicatefrom": above, "nofailover": never_leads});
            plan.overlays.insert(name.into(), json!({"tags": tags}));
        }
    });
    let members = stand_up_behind_the_first(&mut stage).await;
    let feedback = "SHOW hot_standby_feedback";
    for member in &members[1..] {
        shows(&stage, member, "no feedback", feedback, "off").await;
    }
    stage.patch(json!({"slots": {"reader": definition("test_decoding")}})).await;
    has_slot(&stage, &members[3], READER, true).await;
    for member in &members[1..] {
        shows(&stage, member, "feedback", feedback, "on").await;
    }
    for member in &members[1..3] {
        has_slot(&stage, member, READER, false).await;
    }
    // Down the chain each server keeps the rows of the one below.
    for (above, below) in members.iter().zip(["n2", "n3", "n4"]) {
        let kept = format!(
            "SELECT (catalog_xmin IS NOT NULL)::text FROM pg_replication_slots \
             WHERE slot_name = '{below}'"
        );
        shows(&stage, above, "what its standby needs", &kept, "true").await;
    }
    is_ready(&stage, &members[3], READER, LOOPS).await;
    stage.patch(json!({"slots": null})).await;
    for member in &members[1..] {
        shows(&stage, member, "no feedback", feedback, "off").await;
    }
    for (above, below) in members.iter().zip(["n2", "n3", "n4"]) {
        let kept = format!(
            "SELECT (catalog_xmin IS NULL)::text FROM pg_replication_slots WHERE slot_name = '{below}'"
        );
        shows(&stage, above, "nothing kept", &kept, "true").await;
    }
    stage.end();
}

/// A standby without a copy is promoted: the slot that its reader has used is not made anew
/// there, until its definition is put back.
pub async fn refused() {
    let mut stage = Stage::prepare_in(2, decode);
    let members = stand_up_behind_the_first(&mut stage).await;
    let (old, new) = (&members[0], &members[1]);
    // In pause no standby is restarted for a copy.
    stage.patch(json!({"pause": true, "slots": {"reader": definition("pgoutput")}})).await;
    has_slot(&stage, old, READER, true).await;
    let confirm = "SELECT pg_replication_slot_advance('reader', pg_current_wal_flush_lsn())";
    run_sql(old, confirm).await;
    let status = async || stage.get(new, "/cluster").await.status == 200;
    stage.until("a look at the group", LONG, status).await;
    tokio::time::sleep(Duration::from_secs(5)).await;
    assert_eq!(word(&stage, new, READER).await.as_deref(), Some("missing"));
    let mark = stage.mark(new);
    switch_in_pause(&stage, old, new).await;
    let words =
        ["logical slots are not ready here: reader (missing)", "`reader` is not made on this"];
    stage
        .until("what is refused in the log", LOOPS, async || {
            let log = stage.log_since(new, mark);
            words.iter().all(|word| log.contains(word))
        })
        .await;
    stage.patch_by(new, json!({"pause": null})).await;
    assert_eq!(stage.healthy(LONG).await.name, new.name);
    tokio::time::sleep(Duration::from_secs(5)).await;
    has_slot(&stage, new, READER, false).await;
    let history = stage.get(new, "/history").await.body.to_string();
    assert!(history.contains("logical slots not ready: reader (missing)"), "{history}");
    stage.patch_by(new, json!({"slots": null})).await;
    tokio::time::sleep(Duration::from_secs(5)).await;
    stage.patch_by(new, json!({"slots": {"reader": definition("pgoutput")}})).await;
    has_slot(&stage, new, READER, true).await;
    stage.one_writer();
    stage.end();
}

async fn switch_in_pause(stage: &Stage, old: &MemberPlan, new: &MemberPlan) {
    let body = json!({"leader": old.name, "candidate": new.name});
    let reply = stage.send(Method::POST, old, "/switchover", body).await;
    assert_eq!(reply.status, 200, "{}", reply.body);
    let leads = async || stage.primary().await.is_some_and(|leader| leader.name == new.name);
    stage.until("another leader", LONG, leads).await;
}

/// PostgreSQL 17 and newer copy slots themselves: nothing restarts, and the settings of that
/// follow the roles.
pub async fn native(major: u32) {
    let mut stage = Stage::prepare_plan(3, &programs(major), |plan, _| decode(plan));
    let members = stand_up_behind_the_first(&mut stage).await;
    let started = "SELECT pg_postmaster_start_time()::text";
    let before = ask_sql(&members[1], started).await.expect("a time");
    // As a person, or another program, has made it.
    let by_hand = "SELECT pg_create_logical_replication_slot('reader', 'pgoutput')";
    run_sql(&members[0], by_hand).await;
    stage.patch(json!({"slots": {"reader": definition("pgoutput")}})).await;
    let failover = "SELECT failover::text FROM pg_replication_slots WHERE slot_name = 'reader'";
    shows(&stage, &members[0], "a failover slot", failover, "true").await;
    let (synced, awaited) = ("SHOW sync_replication_slots", "SHOW synchronized_standby_slots");
    for member in &members[1..] {
        shows(&stage, member, "its worker", synced, "on").await;
        is_ready(&stage, member, READER, LOOPS).await;
        shows(&stage, member, "no awaited slots", awaited, "").await;
    }
    shows(&stage, &members[0], "awaited slots", awaited, "n2,n3").await;
    assert_eq!(ask_sql(&members[1], started).await.expect("a time"), before, "no restart");
    switch(&stage, &members[0], &members[1]).await;
    shows(&stage, &members[1], "awaited slots", awaited, "n1,n3").await;
    shows(&stage, &members[0], "no awaited slots", awaited, "").await;
    // What the former primary had is no copy: it goes, and a copy comes.
    for member in [&members[0], &members[2]] {
        let what = format!("a copy of the server on {}", member.name);
        let copied = async || {
            // A reader moves on: a copy that begins later than its reader would be of no use.
            let read = "SELECT pg_replication_slot_advance('reader', pg_current_wal_flush_lsn())";
            let _ = ask_sql(&members[1], read).await;
            word(&stage, member, READER).await.as_deref() == Some("ready")
        };
        stage.until(&what, WORKER, copied).await;
    }
    stage.patch(json!({"slots": null})).await;
    has_slot(&stage, &members[1], READER, false).await;
    has_slot(&stage, &members[0], READER, false).await;
    stage.one_writer();
    stage.end();
}
