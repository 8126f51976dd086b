//! Another program deletes everything a group has in its store: while the group runs,
//! while no daemon runs, and while nothing runs.

use super::birth::{by_hand, entries, keys_and_store};
use super::stage::{LONG, SHORT, Stage, timeline_of};
use ctl::field::process::is_alive;
use ctl::field::{MemberPlan, Writer};
use node::dcs::by_hand::Edit;
use reqwest::Method;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::time::{Duration, Instant};

/// What must come back as it was.
const KEPT: [&str; 4] = ["config", "history", "initialize", "leader"];

async fn wipe(stage: &Stage) {
    let (keys, store) = keys_and_store(stage);
    let wipe = vec![Edit::delete_below(keys.scope_prefix())];
    by_hand(store.as_ref()).edit(wipe).await.expect("the store answers");
}

async fn kept(stage: &Stage) -> BTreeMap<String, String> {
    let all = entries(stage).await.into_iter().map(|(key, entry)| (key, entry.value));
    all.filter(|(key, _)| KEPT.contains(&key.as_str())).collect()
}

pub async fn under_a_group() {
    let mut stage = Stage::raise(3).await;
    // A history with a line: a time and a name that no file tells.
    let old = stage.leader().await;
    let body = json!({"leader": old.name});
    assert_eq!(stage.send(Method::POST, &old, "/switchover", body).await.status, 200);
    let leader = stage.healthy(LONG).await;
    let writer = stage.writer("wiped").await;
    stage
        .until("a line of history", SHORT, async || {
            kept(&stage).await.get("history").is_some_and(|h| h.contains(&leader.name))
        })
        .await;
    let (before, timeline) = (kept(&stage).await, timeline_of(&leader).await);
    while_it_runs(&stage, &writer, &before).await;
    without_daemons(&mut stage, &leader, &before).await;
    assert_eq!(timeline_of(&leader).await, timeline, "somebody promoted");
    let since = Instant::now();
    stage.writes_go_on(&writer, since, SHORT).await;
    stage.one_writer();

    while_nothing_runs(&mut stage, &before).await;
    stage.settle_without_loss(writer).await;
    data_gone(&mut stage).await;
    stage.one_writer();
    stage.end();
}

/// The directory is moved away under the leader's server, which would write on: the
/// server is stopped, and another member leads before the lease would end.
async fn data_gone(stage: &mut Stage) {
    let leader = stage.leader().await;
    let postmaster = stage.field.postmaster_pid(&leader).expect("it runs");
    let data_dir = stage.field.data_dir(&leader);
    let since = Instant::now();
    std::fs::rename(&data_dir, data_dir.with_extension("gone")).expect("our own directory");
    let new = stage.new_leader(&leader, SHORT).await;
    println!("  data gone: {} leads after {:.2?}", new.name, since.elapsed());
    assert!(!is_alive(postmaster), "the old server runs on");
    stage.healthy(LONG).await;
}

/// The keys are there again before anybody misses them.
async fn while_it_runs(stage: &Stage, writer: &Writer, before: &BTreeMap<String, String>) {
    let since = Instant::now();
    wipe(stage).await;
    stage.until("the keys", SHORT, async || kept(stage).await == *before).await;
    println!("  keys are back after {:.2?}", since.elapsed());
    stage
        .until("all members", SHORT, async || {
            let all = entries(stage).await;
            all.keys().filter(|key| key.starts_with("members/")).count() == 3
                && all.contains_key("status")
        })
        .await;
    assert_eq!(stage.healthy(LONG).await.name, before["leader"]);
    stage.writes_go_on(writer, since, SHORT).await;
    let pause = writer.longest_pause(since);
    assert!(pause < Duration::from_secs(2), "no row for {pause:?}");
}

/// PostgreSQL runs on everywhere. The primary's daemon enters the cluster again;
/// until then that of a standby leaves everything alone.
async fn without_daemons(
    stage: &mut Stage,
    leader: &MemberPlan,
    before: &BTreeMap<String, String>,
) {
    let others = stage.others(leader);
    let postmasters: Vec<_> =
        stage.members().iter().map(|m| stage.field.postmaster_pid(m)).collect();
    for member in stage.members() {
        stage.field.kill_daemon(&member.name);
    }
    wipe(stage).await;
    left_alone(stage, &others[0]).await;
    stage.start(leader);
    stage.until("a leader", SHORT, async || stage.primary().await.is_some()).await;
    for member in &others {
        stage.start(member);
    }
    assert_eq!(stage.healthy(LONG).await.name, leader.name);
    the_same_cluster(&kept(stage).await, before);
    let now: Vec<_> = stage.members().iter().map(|m| stage.field.postmaster_pid(m)).collect();
    assert_eq!(now, postmasters, "a server was restarted");
}

async fn left_alone(stage: &mut Stage, replica: &MemberPlan) {
    let mark = stage.mark(replica);
    stage.start(replica);
    let code = stage.field.wait_exit(&replica.name, SHORT).expect("the daemon ends");
    let log = stage.log_since(replica, mark);
    assert_eq!(code, Some(1), "{log}");
    assert!(log.contains("is this the right store?"), "{log}");
    assert!(kept(stage).await.is_empty(), "something was entered");
}

/// A whole group that starts on its data is the same group.
async fn while_nothing_runs(stage: &mut Stage, before: &BTreeMap<String, String>) {
    for member in stage.members() {
        stage.field.kill_node(&member);
    }
    wipe(stage).await;
    let since = Instant::now();
    for member in stage.members() {
        stage.start(&member);
    }
    stage.healthy(LONG).await;
    println!("  the group stands again after {:.1} s", since.elapsed().as_secs_f64());
    the_same_cluster(&kept(stage).await, before);
}

fn the_same_cluster(after: &BTreeMap<String, String>, before: &BTreeMap<String, String>) {
    assert_eq!(after["initialize"], before["initialize"], "another cluster");
    let config = |kept: &BTreeMap<String, String>| -> Value {
        serde_json::from_str(&kept["config"]).expect("a document")
    };
    assert_eq!(config(after), config(before));
}
