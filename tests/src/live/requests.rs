//! What stands in `/failover`, whichever program wrote it, and when it is due; and a
//! lock that is gone while a primary starts.

use super::birth::{entries, meddle};
use super::scripts::{freeze_startup, in_seconds};
use super::stage::{LONG, SHORT, Stage};
use ctl::field::MemberPlan;
use nix::sys::signal::Signal;
use reqwest::Method;
use serde_json::{Value, json};
use std::time::{Duration, Instant};

/// Several times what a beat and a transaction take.
const QUIET: Duration = Duration::from_secs(3);

pub async fn served() {
    let stage = Stage::raise(2).await;
    let leader = stage.leader().await;
    let replica = stage.others(&leader)[0].clone();
    let postmaster = stage.field.postmaster_pid(&leader);
    let (me, other) = (&leader.name, &replica.name);
    for senseless in [
        json!({"leader": "nobody", "member": other}),
        json!({"leader": other, "member": me}),
        json!({"member": me}),
        json!({"member": "nobody"}),
        json!({"leader": me, "member": "nobody"}),
        // Long ago, without a zone, no moment at all.
        json!({"leader": me, "member": other, "scheduled_at": "2020-01-01T10:00:00+00:00"}),
        json!({"leader": me, "member": other, "scheduled_at": "2040-01-01T10:00:00"}),
        json!({"leader": me, "member": other, "scheduled_at": "tomorrow"}),
    ] {
        meddle(&stage, "failover", Some(&senseless.to_string())).await;
        cleared(&stage, &senseless.to_string()).await;
    }
    kept_in_pause(&stage, &leader, &replica).await;
    assert_eq!(stage.field.postmaster_pid(&leader), postmaster, "the leader was stopped");
    let far = json!({"leader": me, "candidate": other, "scheduled_at": in_seconds(3_600)});
    assert_eq!(stage.send(Method::POST, &leader, "/switchover", far).await.status, 202);
    let shown = stage.get(&replica, "/cluster").await.body["scheduled_switchover"].clone();
    assert_eq!((&shown["from"], &shown["to"]), (&json!(me), &json!(other)), "{shown}");
    assert_eq!(stage.send(Method::DELETE, &leader, "/switchover", json!({})).await.status, 200);
    cleared(&stage, "a switchover that was taken back").await;
    on_time(&stage, &leader, &replica).await;
    stage.one_writer();
    stage.end();
}

async fn cleared(stage: &Stage, what: &str) {
    stage
        .until(&format!("the end of {what}"), SHORT, async || {
            entries(stage).await["failover"].value == "{}"
        })
        .await;
}

/// A paused group keeps an old request. It is cleared only when the group would carry
/// it out, which could surprise the operator.
async fn kept_in_pause(stage: &Stage, leader: &MemberPlan, replica: &MemberPlan) {
    super::pause::pause(stage).await;
    let old = json!({"leader": leader.name, "member": replica.name,
        "scheduled_at": "2020-01-01T10:00:00+00:00"});
    meddle(stage, "failover", Some(&old.to_string())).await;
    tokio::time::sleep(QUIET).await;
    assert_eq!(entries(stage).await["failover"].value, old.to_string());
    super::pause::resume(stage).await;
    cleared(stage, "an old request after the pause").await;
}

/// Neither before its time nor a beat later.
async fn on_time(stage: &Stage, old: &MemberPlan, candidate: &MemberPlan) {
    let writer = stage.writer("scheduled").await;
    let (since, wait) = (Instant::now(), 8);
    let body = json!({"leader": old.name, "candidate": candidate.name,
        "scheduled_at": in_seconds(wait)});
    assert_eq!(stage.send(Method::POST, old, "/switchover", body).await.status, 202);
    let due = since + Duration::from_secs(wait as u64);
    stage.new_leader(old, SHORT).await;
    let late = Instant::now().saturating_duration_since(due);
    println!("  scheduled switchover: {} leads {late:.2?} after its time", candidate.name);
    assert!(Instant::now() >= due, "before its time");
    assert!(late < Duration::from_secs(4), "{late:?} late");
    assert_eq!(stage.healthy(LONG).await.name, candidate.name);
    cleared(stage, "a request that was met").await;
    stage.settle_without_loss(writer).await;
}

/// Another member takes the lock while a primary starts in place: the latter must not open.
pub async fn lock_lost_while_starting() {
    let stage = Stage::raise(2).await;
    stage.rows_on_a_replica().await;
    let writer = stage.writer("starting").await;
    let old = stage.leader().await;
    let mark = stage.mark(&old);
    let killed = stage.field.postmaster_pid(&old).expect("the leader runs");
    assert!(stage.field.signal_postmaster(&old, Signal::SIGKILL));
    assert!(freeze_startup(&stage, &old, killed).await, "the startup process was too quick");
    let starting = stage.field.postmaster_pid(&old).expect("it starts");
    meddle(&stage, "leader", None).await;
    let since = Instant::now();
    let new = stage.new_leader(&old, SHORT).await;
    println!("  lock gone while starting: {} leads after {:.2?}", new.name, since.elapsed());
    stage
        .until("the end of the server that started", SHORT, async || {
            stage.field.postmaster_pid(&old) != Some(starting)
        })
        .await;
    let log = stage.log_since(&old, mark);
    assert!(log.contains("this server must not start as a primary"), "it was let go on");
    assert_eq!(stage.healthy(LONG).await.name, new.name);
    let role: Value = stage.get(&old, "/patroni").await.body["role"].clone();
    assert_eq!(role, "replica");
    stage.settle_without_loss(writer).await;
    stage.one_writer();
    stage.end();
}
