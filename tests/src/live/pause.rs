//! Paused: an operator is in charge, and daemons only watch.

use super::stage::{LONG, SHORT, Stage};
use nix::sys::signal::Signal;
use reqwest::Method;
use serde_json::{Value, json};
use std::time::{Duration, Instant};

/// Long enough for several beats that would do something.
const IDLE: Duration = Duration::from_secs(6);

pub async fn paused() {
    let mut stage = Stage::raise(3).await;
    let writer = stage.writer("paused").await;
    let leader = stage.leader().await;
    // On resume a standby may win before the killed primary is up again.
    stage.rows_on_a_replica().await;
    pause(&stage).await;

    assert!(stage.field.signal_postmaster(&leader, Signal::SIGKILL));
    tokio::time::sleep(IDLE).await;
    assert!(stage.field.postmaster_pid(&leader).is_none(), "started in pause");
    assert!(stage.watch.writable().is_empty(), "promoted in pause");
    resume(&stage).await;
    let resumed = Instant::now();
    stage.writes_go_on(&writer, resumed, LONG).await;
    println!("  resumed: rows again after {:.2?}", resumed.elapsed());
    stage.healthy(LONG).await;

    pause(&stage).await;
    let old = stage.leader().await;
    let candidate = stage.others(&old)[1].clone();
    let since = Instant::now();
    let body = json!({"candidate": candidate.name});
    let reply = stage.send(Method::POST, &old, "/failover", body).await;
    assert_eq!(reply.status, 200, "{}", reply.body);
    let outage = stage.writes_go_on(&writer, since, SHORT).await;
    println!("  failover by hand in pause: no writes for {outage:.2?}");
    assert_eq!(stage.healthy(LONG).await.name, candidate.name);

    ends_without_stopping(&mut stage).await;
    resume(&stage).await;
    assert_eq!(stage.healthy(LONG).await.name, candidate.name);
    stage.settle_without_loss(writer).await;
    stage.one_writer();
    stage.end();
}

pub(super) async fn pause(stage: &Stage) {
    stage.patch(json!({"pause": true})).await;
    is_paused(stage, true).await;
}

pub(super) async fn resume(stage: &Stage) {
    stage.patch(json!({"pause": null})).await;
    is_paused(stage, false).await;
}

/// Every member has heard of it.
async fn is_paused(stage: &Stage, wanted: bool) {
    for member in stage.members() {
        stage
            .until("the change of pause", SHORT, async || {
                let body = stage.get(&member, "/patroni").await.body;
                (body["pause"] == Value::Bool(true)) == wanted
            })
            .await;
    }
}

/// In pause a daemon that ends leaves PostgreSQL running.
async fn ends_without_stopping(stage: &mut Stage) {
    let leader = stage.leader().await;
    let postmaster = stage.field.postmaster_pid(&leader);
    assert!(stage.field.signal_daemon(&leader.name, Signal::SIGTERM));
    let code = stage.field.wait_exit(&leader.name, SHORT).expect("the daemon ends");
    assert_eq!(code, Some(0));
    assert_eq!(stage.field.postmaster_pid(&leader), postmaster, "PostgreSQL was stopped");
    stage.start(&leader);
    stage.until("a leader again", LONG, async || stage.primary().await.is_some()).await;
    assert_eq!(stage.field.postmaster_pid(&leader), postmaster, "PostgreSQL was restarted");
}
