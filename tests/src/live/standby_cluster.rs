//! A cluster that follows another one: born from it, with a leader of its own,
//! promoted in the end.

use super::stage::{LONG, SHORT, Stage, ask_sql, connect};
use ctl::field::MemberPlan;
use nix::sys::signal::Signal;
use serde_json::json;

pub async fn life() {
    let main = Stage::raise(1).await;
    let remote = main.leader().await;
    let client = connect(&remote).await.expect("it answers");
    client.batch_execute("CREATE TABLE kept (id int)").await.expect("a table");

    let mut stage = Stage::prepare(2);
    let cluster = json!({"host": "127.0.0.1", "port": remote.pg_port,
        "create_replica_methods": ["basebackup"]});
    for member in stage.members() {
        let overlay = json!({"scope": "copy", "bootstrap": {"dcs": {"standby_cluster": cluster}}});
        stage.field.reconfigure(&member, &overlay).expect("a file");
    }
    stage.start_store();
    for member in stage.members() {
        stage.start(&member);
    }
    let leader = standby_leader(&stage).await;
    let replica = stage.others(&leader)[0].clone();
    follows(&stage, &leader, remote.pg_port).await;
    follows(&stage, &replica, leader.pg_port).await;
    arrives(&stage, &client, 1).await;

    // Its leader goes; the other one follows the remote side.
    stage.field.signal_daemon(&leader.name, Signal::SIGTERM);
    stage.field.wait_exit(&leader.name, SHORT).expect("it ends");
    stage
        .until("another standby leader", SHORT, async || {
            stage.ask.who(&[&replica], "/standby-leader").await.len() == 1
        })
        .await;
    follows(&stage, &replica, remote.pg_port).await;
    stage.start(&leader);
    follows(&stage, &leader, replica.pg_port).await;
    arrives(&stage, &client, 2).await;

    stage.patch_by(&replica, json!({"standby_cluster": null})).await;
    stage.until("a primary", SHORT, async || stage.primary().await.is_some()).await;
    assert_eq!(stage.healthy(LONG).await.name, replica.name);
    stage.end();
    main.end();
}

async fn standby_leader(stage: &Stage) -> MemberPlan {
    let members = stage.members();
    let all: Vec<&MemberPlan> = members.iter().collect();
    stage.until("a standby cluster", LONG, async || stage.ask.is_healthy(&all).await).await;
    let leads = stage.ask.who(&all, "/standby-leader").await;
    assert_eq!(leads.len(), 1);
    assert!(stage.primary().await.is_none(), "it is no standby cluster");
    leads[0].clone()
}

async fn follows(stage: &Stage, member: &MemberPlan, port: u16) {
    let sql = "SELECT sender_port::text FROM pg_stat_wal_receiver WHERE status = 'streaming'";
    stage
        .until("the right upstream", SHORT, async || {
            ask_sql(member, sql).await.is_ok_and(|sender| sender == port.to_string())
        })
        .await;
}

/// A row of the remote side is on all members.
async fn arrives(stage: &Stage, remote: &tokio_postgres::Client, row: i32) {
    remote.execute("INSERT INTO kept VALUES ($1)", &[&row]).await.expect("a row");
    let sql = format!("SELECT count(*)::text FROM kept WHERE id = {row}");
    for member in stage.members() {
        stage
            .until("the row", SHORT, async || {
                ask_sql(&member, &sql).await.is_ok_and(|count| count == "1")
            })
            .await;
    }
}
