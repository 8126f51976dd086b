//! Priority and quorum mode, strict or not, with every acknowledged row counted.

use super::birth::entries;
use super::stage::{LONG, SHORT, Stage, ask_sql, connect};
use ctl::field::MemberPlan;
use nix::sys::signal::Signal;
use reqwest::Method;
use serde_json::json;
use std::time::{Duration, Instant};
use topology::{MemberName, SyncState};

/// A standby that is gone is noticed, and others are named, within this.
const NOTICED: Duration = Duration::from_secs(5);

async fn sync_of(stage: &Stage) -> Option<SyncState> {
    let all = entries(stage).await;
    all.get("sync").map(|entry| SyncState::read(&entry.value))
}

/// Waits until `/sync` names `names` standbys of this leader; the server waits for them.
pub async fn settled(stage: &Stage, leader: &MemberPlan, names: usize) -> SyncState {
    let mut found = None;
    stage
        .until(&format!("{names} synchronous standbys"), SHORT, async || {
            found = sync_of(stage).await;
            found.as_ref().is_some_and(|sync| {
                sync.leader == Some(MemberName::new(&leader.name)) && sync.standbys.len() == names
            })
        })
        .await;
    found.expect("it was there a moment ago")
}

async fn names_in_force(leader: &MemberPlan) -> String {
    ask_sql(leader, "SHOW synchronous_standby_names").await.expect("the leader answers")
}

fn plan(stage: &Stage, name: &MemberName) -> MemberPlan {
    stage.field.plan.member(name.as_str()).expect("a member").clone()
}

pub async fn modes() {
    let mut stage = Stage::raise(3).await;
    let leader = stage.leader().await;
    stage.patch(json!({"synchronous_mode": true, "primary_start_timeout": 0})).await;
    let sync = settled(&stage, &leader, 1).await;
    assert_eq!((names_in_force(&leader).await, sync.quorum), (sync.standbys[0].0.clone(), 0));
    shown(&stage, &leader, &sync).await;
    let writer = stage.writer("synchronous").await;

    // The standby is gone: the other one takes its place.
    let gone = plan(&stage, &sync.standbys[0]);
    let since = Instant::now();
    stage.field.kill_node(&gone);
    stage
        .until("another synchronous standby", NOTICED, async || {
            let now = sync_of(&stage).await.unwrap_or_default();
            now.standbys.len() == 1 && now.standbys != sync.standbys
        })
        .await;
    let outage = stage.writes_go_on(&writer, since, SHORT).await;
    println!("  a synchronous standby lost: no writes for {outage:.2?}");
    assert!(outage < NOTICED, "no writes for {outage:?}");
    stage.start(&gone);
    assert_eq!(stage.healthy(LONG).await.name, leader.name);

    // The leader is gone: the synchronous standby leads.
    let sync = settled(&stage, &leader, 1).await;
    let since = Instant::now();
    assert!(stage.field.signal_postmaster(&leader, Signal::SIGKILL));
    let new = stage.new_leader(&leader, SHORT).await;
    let outage = stage.writes_go_on(&writer, since, SHORT).await;
    println!("  failover to {}: no writes for {outage:.2?}", new.name);
    assert!(sync.is_standby(&MemberName::new(&new.name)), "{} leads, not {sync:?}", new.name);
    assert_eq!(stage.healthy(LONG).await.name, new.name);
    settled(&stage, &new, 1).await;
    stage.patch(json!({"synchronous_node_count": 2})).await;
    let both = settled(&stage, &new, 2).await;
    assert_eq!(
        names_in_force(&new).await,
        format!("2 ({},{})", both.standbys[0], both.standbys[1])
    );

    let writer = quorum(&stage, writer, &new).await;
    stage.settle_without_loss(writer).await;
    stage.one_writer();
    stage.end();
}

/// The health checks of a load balancer that reads from synchronous standbys.
async fn shown(stage: &Stage, leader: &MemberPlan, sync: &SyncState) {
    for member in stage.members() {
        let is_named = sync.is_standby(&MemberName::new(&member.name));
        let expected = if is_named { 200 } else { 503 };
        stage
            .until("its duty in the health checks", SHORT, async || {
                stage.get(&member, "/sync").await.status == expected
                    && stage.get(&member, "/quorum").await.status == 503
            })
            .await;
        let asynchronous = stage.get(&member, "/async").await.status;
        let replica = member.name != leader.name;
        assert_eq!(asynchronous == 200, replica && !is_named, "{}: /async", member.name);
    }
}

/// The mode changes under load, the leader dies, the mode ends.
async fn quorum(
    stage: &Stage,
    writer: ctl::field::Writer,
    leader: &MemberPlan,
) -> ctl::field::Writer {
    let since = Instant::now();
    stage
        .patch_by(leader, json!({"synchronous_mode": "quorum", "synchronous_node_count": 1}))
        .await;
    stage
        .until("a quorum", SHORT, async || names_in_force(leader).await.starts_with("ANY 1 ("))
        .await;
    let voters = settled(stage, leader, 2).await;
    stage
        .until("the votes", SHORT, async || {
            sync_of(stage).await.is_some_and(|sync| sync.quorum == 1)
        })
        .await;
    let pause = stage.writes_go_on(&writer, since, SHORT).await;
    println!("  priority to quorum: longest pause {pause:.2?}");
    for name in &voters.standbys {
        let (member, yes) = (plan(stage, name), 200);
        stage
            .until("its vote in the health checks", SHORT, async || {
                stage.get(&member, "/quorum").await.status == yes
            })
            .await;
    }
    let since = Instant::now();
    assert!(stage.field.signal_postmaster(leader, Signal::SIGKILL));
    let new = stage.new_leader(leader, SHORT).await;
    let outage = stage.writes_go_on(&writer, since, SHORT).await;
    println!("  failover by quorum to {}: no writes for {outage:.2?}", new.name);
    assert_eq!(stage.healthy(LONG).await.name, new.name);
    settled(stage, &new, 2).await;

    stage.patch_by(&new, json!({"synchronous_mode": false})).await;
    stage.until("no /sync", SHORT, async || sync_of(stage).await.is_none()).await;
    stage.until("no names", SHORT, async || names_in_force(&new).await.is_empty()).await;
    writer
}

/// No standby has what is written: it is not acknowledged, also after a crash.
pub async fn strict() {
    let mut stage = Stage::raise(2).await;
    let leader = stage.leader().await;
    let replica = stage.others(&leader)[0].clone();
    let client = connect(&leader).await.expect("the leader takes connections");
    client.batch_execute("CREATE TABLE strict (id bigint)").await.expect("a table");
    stage.patch(json!({"synchronous_mode": "on", "synchronous_mode_strict": true})).await;
    settled(&stage, &leader, 1).await;
    client.batch_execute("INSERT INTO strict VALUES (1)").await.expect("a row");

    stage.field.kill_node(&replica);
    let insert = tokio::spawn(async move {
        let done = client.batch_execute("INSERT INTO strict VALUES (2)").await;
        (client, done)
    });
    tokio::time::sleep(Duration::from_secs(3)).await;
    assert!(!insert.is_finished(), "a row that nobody else has was acknowledged");
    let sync = sync_of(&stage).await.expect("it is there");
    assert_eq!(sync.standbys.len(), 1, "the standby stays named: {sync:?}");
    // The server begins anew, and waits as before.
    let killed = stage.field.postmaster_pid(&leader).expect("the leader runs");
    assert!(stage.field.signal_postmaster(&leader, Signal::SIGKILL));
    stage.restarted(&leader, killed).await;
    let ended = insert.await.expect("a task").1;
    assert!(ended.is_err(), "a commit was acknowledged by a crash");
    let mut client = None;
    stage
        .until("the leader", SHORT, async || {
            client = connect(&leader).await.ok();
            client.is_some()
        })
        .await;
    let client = client.expect("it was there a moment ago");
    let insert =
        tokio::spawn(async move { client.batch_execute("INSERT INTO strict VALUES (3)").await });
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert!(!insert.is_finished(), "a row that nobody else has was acknowledged");
    stage.start(&replica);
    let waited = tokio::time::timeout(LONG, insert).await.expect("in time").expect("a task");
    waited.expect("the row is acknowledged when the standby is back");
    settled(&stage, &leader, 1).await;
    stage.one_writer();
    stage.end();
}

/// Who may be synchronous, and who is rather than another.
async fn by_tags(stage: &mut Stage, leader: &MemberPlan) {
    let named = plan(stage, &settled(stage, leader, 1).await.standbys[0]);
    let others = stage.others(leader);
    let other = others.iter().find(|m| m.name != named.name).expect("three members");
    tag(stage, &named, json!({"nosync": true})).await;
    becomes(stage, &other.name).await;
    tag(stage, &named, json!({"nosync": null, "sync_priority": 2})).await;
    becomes(stage, &named.name).await;
}

async fn becomes(stage: &Stage, name: &str) {
    let only = [MemberName::new(name)];
    stage
        .until(&format!("{name} as the synchronous standby"), SHORT, async || {
            sync_of(stage).await.is_some_and(|sync| sync.standbys == only)
        })
        .await;
}

async fn tag(stage: &mut Stage, member: &MemberPlan, tags: serde_json::Value) {
    stage.field.reconfigure(member, &json!({"tags": tags})).expect("a file");
    assert!(stage.send(Method::POST, member, "/reload", json!({})).await.status < 300);
}

/// A restart and an end that were asked for hold up no commit.
pub async fn duty() {
    let mut stage = Stage::raise(3).await;
    let leader = stage.leader().await;
    stage.patch(json!({"synchronous_mode": true})).await;
    let sync = settled(&stage, &leader, 1).await;
    let writer = stage.writer("duty").await;

    let named = plan(&stage, &sync.standbys[0]);
    let since = Instant::now();
    assert_eq!(stage.send(Method::POST, &named, "/restart", json!({})).await.status, 200);
    let pause = stage.writes_go_on(&writer, since, SHORT).await;
    println!("  restart of the synchronous standby: longest pause {pause:.2?}");
    let other = settled(&stage, &leader, 1).await;
    assert_ne!(other.standbys, sync.standbys, "it left its duty before the restart");
    assert!(pause < Duration::from_secs(1), "commits waited for {pause:?}");
    stage.healthy(LONG).await;

    let named = plan(&stage, &settled(&stage, &leader, 1).await.standbys[0]);
    let since = Instant::now();
    stage.field.signal_daemon(&named.name, Signal::SIGTERM);
    assert_eq!(stage.field.wait_exit(&named.name, SHORT).expect("it ends"), Some(0));
    let pause = stage.writes_go_on(&writer, since, SHORT).await;
    println!("  end of the synchronous standby: longest pause {pause:.2?}");
    assert!(pause < Duration::from_secs(1), "commits waited for {pause:?}");
    stage.start(&named);
    stage.healthy(LONG).await;

    by_tags(&mut stage, &leader).await;

    // By name also to one that is not synchronous; it had everything here.
    let now = settled(&stage, &leader, 1).await;
    let free = stage
        .others(&leader)
        .into_iter()
        .find(|member| !now.is_standby(&MemberName::new(&member.name)));
    let free = free.expect("three members, one is synchronous");
    let refused = json!({"leader": leader.name, "candidate": free.name});
    assert_eq!(stage.send(Method::POST, &leader, "/switchover", refused).await.status, 412);
    let asked = json!({"leader": leader.name});
    assert_eq!(stage.send(Method::POST, &leader, "/switchover", asked).await.status, 200);
    let new = stage.healthy(LONG).await;
    assert!(now.is_standby(&MemberName::new(&new.name)), "{} leads, not {now:?}", new.name);
    settled(&stage, &new, 1).await;
    stage.settle_without_loss(writer).await;
    stage.one_writer();
    stage.end();
}
