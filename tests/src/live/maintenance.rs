//! Everything that a paused group does not do by itself, and what it still does
//! when it is asked.

use super::birth::{entries, meddle};
use super::pause::{pause, resume};
use super::stage::{LONG, REGION, SHORT, Stage, TTL, ask_sql, connect};
use ctl::field::MemberPlan;
use nix::sys::signal::Signal;
use reqwest::Method;
use serde_json::json;
use std::time::{Duration, Instant};

/// Long enough for a beat that would do something.
const IDLE: Duration = Duration::from_secs(6);

pub async fn everything() {
    let mut stage = Stage::raise(2).await;
    let leader = stage.leader().await;
    let replica = stage.others(&leader)[0].clone();
    pause(&stage).await;
    for (key, entry) in entries(&stage).await {
        assert!(!key.starts_with("members/") || entry.value.contains("\"pause\":true"), "{key}");
    }
    let writer = stage.writer("maintained").await;
    let since = Instant::now();
    let postmaster = stage.field.postmaster_pid(&leader);
    the_lock_follows_the_primary(&stage, &leader, &replica).await;
    a_silent_store_is_no_reason(&mut stage, &leader).await;
    assert!(writer.longest_pause(since) < Duration::from_secs(2), "the primary was stopped");
    assert_eq!(stage.field.postmaster_pid(&leader), postmaster, "the primary was restarted");
    assert_eq!(super::stage::timeline_of(&leader).await, 1, "somebody promoted");

    nothing_for_later(&stage, &leader, &replica).await;
    stopped_until_asked(&stage, &replica).await;
    done_when_asked(&stage, &leader, &replica).await;
    replay_stays_paused(&stage, &replica).await;
    assert_eq!(stage.healthy(LONG).await.name, leader.name);
    stage.settle_without_loss(writer).await;
    stage.one_writer();
    stage.end();
}

async fn leads(stage: &Stage, leader: &MemberPlan) {
    stage
        .until("the lock where the primary is", SHORT, async || {
            let held = entries(stage).await.remove("leader");
            held.is_some_and(|entry| entry.value == leader.name && entry.session.is_some())
        })
        .await;
}

/// A lock that is lost demotes no primary; a standby does not keep one.
async fn the_lock_follows_the_primary(stage: &Stage, leader: &MemberPlan, replica: &MemberPlan) {
    meddle(stage, "leader", None).await;
    leads(stage, leader).await;
    meddle(stage, "leader", Some(&replica.name)).await;
    leads(stage, leader).await;
    assert!(stage.watch.writable().iter().eq([&leader.name]), "another one accepts writes");
}

/// Past the end of the lease.
async fn a_silent_store_is_no_reason(stage: &mut Stage, leader: &MemberPlan) {
    assert!(stage.field.signal_store(REGION, Signal::SIGSTOP));
    tokio::time::sleep(TTL + Duration::from_secs(2)).await;
    assert!(stage.watch.writable().contains(&leader.name), "demoted in pause");
    assert!(stage.field.signal_store(REGION, Signal::SIGCONT));
    leads(stage, leader).await;
}

/// No schedules, no choice of a leader, no request without an existing candidate.
async fn nothing_for_later(stage: &Stage, leader: &MemberPlan, replica: &MemberPlan) {
    let at = super::scripts::in_seconds(60);
    for (path, body, status) in [
        ("/switchover", json!({"leader": leader.name}), 400),
        (
            "/switchover",
            json!({"leader": leader.name, "candidate": replica.name, "scheduled_at": at}),
            400,
        ),
        ("/restart", json!({"schedule": at}), 500),
    ] {
        let reply = stage.send(Method::POST, leader, path, body).await;
        assert_eq!(reply.status, status, "{path}: {}", reply.body);
    }
    for request in [json!({"leader": leader.name}), json!({"member": "n9"})] {
        meddle(stage, "failover", Some(&request.to_string())).await;
        stage
            .until("the end of a stale request", SHORT, async || {
                entries(stage).await["failover"].value == "{}"
            })
            .await;
    }
}

/// What an operator stops stays down; what he asks for is started.
async fn stopped_until_asked(stage: &Stage, replica: &MemberPlan) {
    assert!(stage.field.signal_postmaster(replica, Signal::SIGINT));
    stage
        .until("a stopped server", SHORT, async || stage.field.postmaster_pid(replica).is_none())
        .await;
    tokio::time::sleep(IDLE).await;
    assert!(stage.field.postmaster_pid(replica).is_none(), "started in pause");
    let reply = stage.send(Method::POST, replica, "/restart", json!({})).await;
    assert_eq!(reply.status, 200, "{}", reply.body);
    stage.healthy(SHORT).await;
}

/// Restart, reload, new settings, a new copy.
async fn done_when_asked(stage: &Stage, leader: &MemberPlan, replica: &MemberPlan) {
    let before = stage.field.postmaster_pid(leader);
    let reply = stage.send(Method::POST, leader, "/restart", json!({})).await;
    assert_eq!(reply.status, 200, "{}", reply.body);
    assert_ne!(stage.field.postmaster_pid(leader), before);
    leads(stage, leader).await;
    assert_eq!(stage.send(Method::POST, leader, "/reload", json!({})).await.status, 202);
    stage.patch(json!({"postgresql": {"parameters": {"work_mem": "11MB"}}})).await;
    for member in [leader, replica] {
        stage
            .until("the new setting", SHORT, async || {
                ask_sql(member, "SHOW work_mem").await.is_ok_and(|shown| shown == "11MB")
            })
            .await;
    }
    let mark = stage.mark(replica);
    let reply = stage.send(Method::POST, replica, "/reinitialize", json!({})).await;
    assert_eq!(reply.status, 200, "{}", reply.body);
    stage
        .until("a new copy", LONG, async || {
            stage.log_since(replica, mark).contains("done: reinitialize")
        })
        .await;
    stage.healthy(LONG).await;
}

/// Replay that an operator has paused goes on with the group.
async fn replay_stays_paused(stage: &Stage, replica: &MemberPlan) {
    let client = connect(replica).await.expect("the replica answers");
    client.batch_execute("SELECT pg_wal_replay_pause()").await.expect("it is a standby");
    let is_paused = async || {
        let sql = "SELECT pg_is_wal_replay_paused()::text";
        ask_sql(replica, sql).await.is_ok_and(|paused| paused == "true")
    };
    tokio::time::sleep(IDLE).await;
    assert!(is_paused().await, "replay was resumed in pause");
    resume(stage).await;
    stage.until("replay that goes on", SHORT, async || !is_paused().await).await;
}
