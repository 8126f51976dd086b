//! Where a server is reached, while its settings already name another place.
//!
//! What others are told, and what the daemon connects to, is what the running
//! server listens on: another `listen` and another socket directory count from its
//! restart on.

use super::birth::entries;
use super::stage::{LONG, SHORT, Stage, ask_sql, connect};
use ctl::field::MemberPlan;
use reqwest::Method;
use serde_json::{Value, json};
use std::time::{Duration, Instant};

/// How long a wrong address would have to show: several beats.
const HOLDS: Duration = Duration::from_secs(7);

pub async fn another_port() {
    let mut stage = Stage::raise(2).await;
    let leader = stage.leader().await;
    let standby = stage.others(&leader)[0].clone();
    let port = ctl::field::free_ports(1).expect("a free port")[0];
    let address = format!("127.0.0.1:{port}");
    let overlay = json!({"postgresql": {"listen": address, "connect_address": address}});
    stage.field.reconfigure(&leader, &overlay).expect("the file is written");
    let mark = stage.mark(&leader);
    let reply = stage.send(Method::POST, &leader, "/reload", json!({})).await;
    assert_eq!(reply.status, 202, "{}", reply.body);
    stage
        .until("the reload", SHORT, async || {
            stage.log_since(&leader, mark).contains("the configuration was read again")
        })
        .await;
    stage
        .until("a pending restart", SHORT, async || {
            let reason =
                stage.get(&leader, "/patroni").await.body["pending_restart_reason"].clone();
            reason["port"]["new_value"] == json!(port.to_string())
        })
        .await;
    // Connections that end are made anew: to the port that is served.
    cut_own_connections(&leader).await;
    stays(&stage, &leader, &standby).await;

    let reply = stage.send(Method::POST, &leader, "/restart", json!({})).await;
    assert_eq!(reply.status, 200, "{}", reply.body);
    let moved = MemberPlan { pg_port: port, ..leader.clone() };
    stage
        .until("the new port in the record", SHORT, async || {
            told(&stage, &leader).await == format!("postgres://{address}/postgres")
        })
        .await;
    assert_eq!(ask_sql(&moved, "SHOW port").await.expect("it serves"), port.to_string());
    // The API's own connection as well: it says what only the server can tell.
    stage
        .until("an answer of the restarted server", SHORT, async || {
            let shown = stage.get(&leader, "/patroni").await.body;
            shown["state"] == "running" && shown["server_version"].is_number()
        })
        .await;
    assert_eq!(stage.healthy(LONG).await.name, leader.name);
    stage.end();
}

pub async fn another_socket_directory() {
    let mut stage = Stage::prepare_with(2, |plan, dir| {
        plan.dcs["postgresql"]["parameters"]["unix_socket_directories"] = json!(dir.join("a"));
        for member in plan.regions[0].members.clone() {
            let overlay = json!({"postgresql": {"use_unix_socket": true,
                "parameters": {"unix_socket_directories": null}}});
            plan.overlays.insert(member.name, overlay);
        }
    });
    for name in ["a", "b"] {
        let dir = stage.field.dir.join(name);
        std::fs::create_dir(&dir).expect("a directory");
        stage.field.give(&dir).expect("a directory of the servers");
    }
    stage.stand_up().await;
    let leader = stage.leader().await;
    let standby = stage.others(&leader)[0].clone();
    let dir = stage.field.dir.join("b");
    let change = json!({"postgresql": {"parameters": {"unix_socket_directories": dir}}});
    stage.patch(change).await;
    stage
        .until("a pending restart", SHORT, async || {
            stage.get(&leader, "/patroni").await.body["pending_restart"] == json!(true)
        })
        .await;
    cut_own_connections(&leader).await;
    stays(&stage, &leader, &standby).await;
    for member in [&standby, &leader] {
        let reply = stage.send(Method::POST, member, "/restart", json!({})).await;
        assert_eq!(reply.status, 200, "{}", reply.body);
    }
    assert_eq!(stage.healthy(LONG).await.name, leader.name);
    let shown = ask_sql(&leader, "SHOW unix_socket_directories").await.expect("it serves");
    assert_eq!(shown, dir.display().to_string());
    stage.end();
}

/// What the member's record tells others.
async fn told(stage: &Stage, member: &MemberPlan) -> String {
    let all = entries(stage).await;
    let record = &all[&format!("members/{}", member.name)].value;
    let record: Value = serde_json::from_str(record).expect("a record is JSON");
    record["conn_url"].as_str().unwrap_or_default().to_string()
}

async fn cut_own_connections(member: &MemberPlan) {
    let client = connect(member).await.expect("it serves");
    let cut = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity \
               WHERE application_name LIKE 'Patroni %'";
    assert!(!client.query(cut, &[]).await.expect("cut").is_empty(), "there are none");
}

/// The leader leads on where it is, and the standby streams from it.
async fn stays(stage: &Stage, leader: &MemberPlan, standby: &MemberPlan) {
    let url = format!("postgres://{}:{}/postgres", leader.host, leader.pg_port);
    let since = Instant::now();
    while since.elapsed() < HOLDS {
        assert_eq!(told(stage, leader).await, url, "after {:?}", since.elapsed());
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    let conninfo = ask_sql(standby, "SHOW primary_conninfo").await.expect("it answers");
    assert!(conninfo.contains(&format!("port={}", leader.pg_port)), "{conninfo}");
    let shown = stage.get(leader, "/patroni").await.body;
    assert!(shown["state"] == "running" && shown["server_version"].is_number(), "{shown}");
    assert_eq!(stage.healthy(SHORT).await.name, leader.name);
    let heartbeat = "SELECT count(*)::text FROM pg_stat_activity \
                     WHERE application_name = 'Patroni heartbeat'";
    assert_eq!(ask_sql(leader, heartbeat).await.expect("it answers"), "1");
}
