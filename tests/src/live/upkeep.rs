//! What a group writes to its store while nothing happens.
//!
//! The members count their writes themselves (`matriarch_store_writes_total`), and
//! the store's revision tells whether they count all of them.

use super::birth::keys_and_store;
use super::stage::{SHORT, Stage};
use ctl::field::MemberPlan;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::time::{Duration, Instant};

/// How long a group is watched in each mode.
const WINDOW: Duration = Duration::from_secs(15);
const LOOP_WAIT: Duration = Duration::from_secs(1);
/// Writes of an idle group of three in one window, all documents of all members.
/// PostgreSQL writes a little WAL by itself every 15 s; each time the leader tells
/// its position once, and so does every member.
const WRITES_MAX: u64 = 8;

/// Tags as people write them, numbers and texts of all kinds among them.
fn tags(number: usize) -> Value {
    match number {
        0 => json!({"nofailover": false, "noloadbalance": false, "clonefrom": false,
            "nosync": false}),
        1 => json!({"nosync": false, "sync_priority": 2, "clonefrom": true}),
        _ => json!({"nofailover": "false", "failover_priority": "2", "shelf": 1.25,
            "list": [1, null, {"a": "b"}], "datacenter": "é\"x"}),
    }
}

/// How often each document was written, by all members, and the store's revision.
async fn counted(stage: &Stage) -> (BTreeMap<String, u64>, i64) {
    let mut writes = BTreeMap::new();
    for member in stage.members() {
        for (document, count) in counts_of(stage, &member).await {
            *writes.entry(format!("{} {document}", member.name)).or_default() += count;
        }
    }
    let (keys, store) = keys_and_store(stage);
    let read = store.read(&[keys.scope_prefix()]).await.expect("the store answers");
    (writes, read.version.number())
}

async fn counts_of(stage: &Stage, member: &MemberPlan) -> Vec<(String, u64)> {
    let body = stage.get(member, "/metrics").await.body;
    let text = body.as_str().expect("metrics are plain text");
    let rows = text.lines().filter(|line| line.starts_with("matriarch_store_writes_total{"));
    let read = |line: &str| {
        let (_, document) = line.split_once("document=\"")?;
        let (document, count) = document.split_once("\"} ")?;
        Some((document.to_string(), count.parse().ok()?))
    };
    let counts: Vec<_> = rows.filter_map(read).collect();
    assert!(counts.len() > 5, "{text}");
    counts
}

/// What was written in one window, by member and document.
async fn window(stage: &Stage) -> BTreeMap<String, u64> {
    let (before, old) = counted(stage).await;
    let since = Instant::now();
    tokio::time::sleep(WINDOW).await;
    let (mut after, new) = counted(stage).await;
    after.iter_mut().for_each(|(row, count)| *count -= before[row]);
    after.retain(|_, count| *count > 0);
    let all: u64 = after.values().sum();
    println!("  {all} writes in {:.1?}: {after:?}", since.elapsed());
    assert!(new - old <= all as i64 + 1, "{} writes, {all} counted: {after:?}", new - old);
    after
}

pub async fn idle() {
    let mut stage = Stage::prepare_in(3, |plan| {
        plan.dcs["loop_wait"] = json!(LOOP_WAIT.as_secs());
        plan.dcs["slots"] = json!({"archive": {"type": "physical"}});
        plan.dcs["failsafe_mode"] = json!(true);
        for (number, member) in plan.regions[0].members.iter_mut().enumerate() {
            member.tags = tags(number);
        }
    });
    stage.stand_up().await;
    for mode in [json!(false), json!(true), json!("quorum")] {
        stage.patch(json!({"synchronous_mode": mode, "synchronous_node_count": 2})).await;
        settled(&stage, &mode).await;
        println!("  synchronous_mode: {mode}");
        let written = window(&stage).await;
        assert!(written.values().sum::<u64>() <= WRITES_MAX, "{mode}: {written:?}");
        let only_progress = |row: &&String| !row.ends_with(" members") && !row.ends_with(" status");
        assert_eq!(written.keys().find(only_progress), None, "{mode}: {written:?}");
    }
    stage.one_writer();
    stage.end();
}

/// The mode is in force, and what it wrote on the way is over.
async fn settled(stage: &Stage, mode: &Value) {
    let wanted = if *mode == json!(false) { 0 } else { 2 };
    let mut last = (BTreeMap::new(), Instant::now());
    stage
        .until("a mode that is in force", SHORT, async || {
            let (writes, _) = counted(stage).await;
            let leader = stage.leader().await;
            let body = stage.get(&leader, "/cluster").await.body;
            let roles = body["members"].as_array().cloned().unwrap_or_default();
            let is_named =
                |m: &&Value| m["role"] == "sync_standby" || m["role"] == "quorum_standby";
            let named = roles.iter().filter(is_named).count();
            if last.0 != writes || named != wanted {
                last = (writes, Instant::now());
            }
            last.1.elapsed() > 2 * LOOP_WAIT
        })
        .await;
}
