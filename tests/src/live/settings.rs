//! Changes of the configuration: by reload, by restart, from the local file.

use super::stage::{LONG, SHORT, Stage, ask_sql};
use ctl::field::MemberPlan;
use reqwest::Method;
use serde_json::{Value, json};
use std::time::{Duration, Instant};

pub async fn changed() {
    let mut stage = Stage::raise(3).await;
    let writer = stage.writer("settings").await;
    let leader = stage.leader().await;
    let parameters = json!({"work_mem": "9MB", "max_connections": 50});
    let since = Instant::now();
    stage.patch(json!({"postgresql": {"parameters": parameters}})).await;
    for member in stage.members() {
        shows(&stage, &member, "work_mem", "9MB").await;
        is_pending(&stage, &member, true).await;
        let reason = stage.get(&member, "/patroni").await.body["pending_restart_reason"].clone();
        assert!(reason["max_connections"]["new_value"] == "50", "{reason}");
        shows(&stage, &member, "max_connections", "40").await;
    }
    println!("  reloaded and reported everywhere after {:.2?}", since.elapsed());

    // Standbys first: they must not have less than their primary.
    let mut order = stage.others(&leader);
    order.push(leader.clone());
    let since = Instant::now();
    for member in &order {
        let body = json!({"restart_pending": true});
        let reply = stage.send(Method::POST, member, "/restart", body).await;
        assert_eq!((reply.status, reply.body), (200, "restarted successfully".into()));
        shows(&stage, member, "max_connections", "50").await;
        is_pending(&stage, member, false).await;
    }
    let outage = stage.writes_go_on(&writer, since, SHORT).await;
    println!("  all restarted: no writes for {outage:.2?}");
    assert_eq!(stage.healthy(LONG).await.name, leader.name);

    let again =
        stage.send(Method::POST, &leader, "/restart", json!({"restart_pending": true})).await;
    assert_eq!(again.status, 503, "{}", again.body);
    local_file(&mut stage, &leader).await;
    stage.settle_without_loss(writer).await;
    stage.one_writer();
    stage.end();
}

/// The member's own file counts more than `/config`, from the reload on.
async fn local_file(stage: &mut Stage, member: &MemberPlan) {
    let overlay = json!({
        "tags": {"shelf": "upper"},
        "postgresql": {"parameters": {"work_mem": "11MB"}},
    });
    stage.field.reconfigure(member, &overlay).expect("the file is written");
    let reply = stage.send(Method::POST, member, "/reload", json!({})).await;
    assert_eq!((reply.status, reply.body), (202, "reload scheduled".into()));
    shows(stage, member, "work_mem", "11MB").await;
    stage
        .until("the new tag", SHORT, async || {
            stage.get(member, "/patroni").await.body["tags"]["shelf"] == "upper"
        })
        .await;
    let broken = json!({"postgresql": {"listen": 7}});
    stage.field.reconfigure(member, &broken).expect("the file is written");
    stage.send(Method::POST, member, "/reload", json!({})).await;
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(stage.leader().await.name, member.name, "a bad file changed who leads");
    shows(stage, member, "work_mem", "11MB").await;
}

async fn shows(stage: &Stage, member: &MemberPlan, name: &str, wanted: &str) {
    let sql = format!("SHOW {name}");
    let what = format!("{name} = {wanted} on {}", member.name);
    stage
        .until(&what, SHORT, async || ask_sql(member, &sql).await.is_ok_and(|v| v == wanted))
        .await;
}

async fn is_pending(stage: &Stage, member: &MemberPlan, wanted: bool) {
    let what = format!("pending_restart {wanted} of {}", member.name);
    stage
        .until(&what, SHORT, async || {
            let body = stage.get(member, "/patroni").await.body;
            (body["pending_restart"] == Value::Bool(true)) == wanted
        })
        .await;
}
