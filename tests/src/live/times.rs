//! The times of the lock change under a running group, and are short from the start.

use super::birth::{by_hand, entries, keys_and_store};
use super::stage::{LONG, SHORT, Stage, timeline_of};
use ctl::field::{MemberPlan, Plan};
use node::dcs::Session;
use serde_json::{Value, json};
use std::time::{Duration, Instant};

/// A pause of writes that no client notices.
const HICCUP: Duration = Duration::from_secs(2);
/// A renewal, which replaces the lease, comes once in a loop.
const REPLACED: Duration = Duration::from_secs(15);

/// An idle group first: its records are not written for their positions' sake.
pub async fn ttl_changed() {
    let stage = Stage::raise(3).await;
    let leader = stage.leader().await;
    let (timeline, postmaster) = (timeline_of(&leader).await, stage.field.postmaster_pid(&leader));
    let began = Instant::now();
    change(&stage, &leader, json!({"ttl": 30})).await;
    change(&stage, &leader, json!({"ttl": 20})).await;
    change(&stage, &leader, json!({"ttl": 40})).await;
    change(&stage, &leader, json!({"pause": true, "ttl": 30})).await;
    change(&stage, &leader, json!({"pause": null, "ttl": 40})).await;
    let writer = stage.writer("times").await;
    let since = Instant::now();
    for ttl in [20, 40, 30] {
        change(&stage, &leader, json!({"ttl": ttl})).await;
    }
    let outage = stage.writes_go_on(&writer, since, SHORT).await;
    println!("  {:.1?} of changes of ttl: no row for {outage:.2?}", began.elapsed());
    assert!(outage < HICCUP, "{outage:?}");
    assert_eq!(stage.healthy(LONG).await.name, leader.name);
    assert_eq!(stage.field.postmaster_pid(&leader), postmaster, "the primary was restarted");
    assert_eq!(timeline_of(&leader).await, timeline, "somebody promoted");
    let log = stage.log_since(&leader, 0);
    assert!(
        !log.contains("the lock could not be renewed before"),
        "the leader counted its lock as lost"
    );
    stage.settle_without_loss(writer).await;
    stage.one_writer();
    stage.end();
}

/// Waits until the leader's keys, and every record, hang on other leases than before.
async fn change(stage: &Stage, leader: &MemberPlan, document: Value) {
    let before = leases(stage).await;
    stage.patch(document.clone()).await;
    stage
        .until(&format!("new leases after {document}"), REPLACED, async || {
            let now = leases(stage).await;
            let lock = &now[0];
            let record = now.iter().find(|(name, _)| *name == format!("members/{}", leader.name));
            let all_new = now.iter().all(|entry| !before.contains(entry));
            now.len() == before.len() && all_new && record.is_some_and(|(_, id)| *id == lock.1)
        })
        .await;
}

/// The lease of the lock, then those of the records.
async fn leases(stage: &Stage) -> Vec<(String, Option<Session>)> {
    let entries = entries(stage).await.into_iter();
    let hang = entries.filter(|(name, _)| name == "leader" || name.starts_with("members/"));
    hang.map(|(name, entry)| (name, entry.session)).collect()
}

/// Leases end in the store: a member's record is back at once, and so is the lock, in
/// the hands of the primary that runs. No renewal is due for a while.
pub async fn lease_gone() {
    let stage = Stage::raise(3).await;
    stage.patch(json!({"loop_wait": 10})).await;
    let writer = stage.writer("gone").await;
    let leader = stage.leader().await;
    let (timeline, postmaster) = (timeline_of(&leader).await, stage.field.postmaster_pid(&leader));
    let replica = stage.others(&leader)[0].clone();
    // Right after a renewal: the next one comes in ten seconds.
    tokio::time::sleep(Duration::from_secs(11)).await;
    for (member, key) in [(&replica, "record"), (&leader, "lock")] {
        let name = format!("members/{}", member.name);
        let (_, store) = keys_and_store(&stage);
        let old = entries(&stage).await.remove(&name).expect("a record").session;
        let since = Instant::now();
        let ended = by_hand(store.as_ref()).end_session(old.expect("a lease")).await;
        ended.expect("the store answers");
        stage
            .until(&format!("{key} of {} again", member.name), BACK, async || {
                let now = entries(&stage).await;
                let record = now.get(&name).is_some_and(|entry| entry.session != old);
                let lock = now.get("leader");
                record && lock.is_some_and(|lock| lock.value == leader.name && lock.session != old)
            })
            .await;
        println!("  {key} again after {:.2?}", since.elapsed());
        let outage = stage.writes_go_on(&writer, since, SHORT).await;
        assert!(outage < HICCUP, "{key}: no row for {outage:?}");
    }
    assert_eq!(stage.field.postmaster_pid(&leader), postmaster, "the primary was restarted");
    assert_eq!(timeline_of(&leader).await, timeline, "somebody promoted");
    stage.settle_without_loss(writer).await;
    stage.one_writer();
    stage.end();
}

/// Far below `loop_wait`.
const BACK: Duration = Duration::from_secs(4);

/// How long clients of a group with a `ttl` of 5 seconds may be without a primary when
/// its node is lost.
const FAST_OUTAGE_MAX: Duration = Duration::from_secs(6);

/// The leader's node is lost, `kills` times.
pub async fn fast_nodes_lost(kills: u32) {
    let mut stage = Stage::prepare_in(3, fast);
    stage.stand_up().await;
    stage.rows_on_a_replica().await;
    let writer = stage.writer("fast").await;
    let mut outages = Vec::new();
    for _ in 0..kills {
        let old = stage.leader().await;
        let since = Instant::now();
        stage.field.kill_node(&old);
        stage.new_leader(&old, SHORT).await;
        outages.push(stage.writes_go_on(&writer, since, SHORT).await);
        stage.start(&old);
        stage.healthy(LONG).await;
    }
    outages.sort();
    let (first, last) = (outages[0], outages[outages.len() - 1]);
    let median = outages[outages.len() / 2];
    println!(
        "  {kills} nodes lost, ttl 5: no row for {first:.2?} to {last:.2?}, median {median:.2?}"
    );
    assert!(last <= FAST_OUTAGE_MAX, "{outages:.2?}");
    stage.settle_without_loss(writer).await;
    stage.one_writer();
    stage.end();
}

/// As in `examples/fast.yml`.
fn fast(plan: &mut Plan) {
    for (key, seconds) in [("ttl", 5), ("loop_wait", 1), ("retry_timeout", 3)] {
        plan.dcs[key] = seconds.into();
    }
    let names: Vec<String> = plan.members().map(|m| m.name.clone()).collect();
    for name in names {
        plan.overlays.insert(name, json!({"minimum_ttl": 5}));
    }
}
