//! Data that was there before the daemon: taken over, or refused.

use super::source::Source;
use super::stage::{LONG, SHORT, Stage, ask_sql};
use ctl::field::MemberPlan;
use serde_json::json;
use std::fs;
use std::time::Duration;

pub async fn found_data() {
    let mut stage = Stage::prepare(1);
    let member = stage.members()[0].clone();
    let mut source = Source::begin(&stage);
    // On the port and in the place that the daemon is configured for.
    let data = stage.field.data_dir(&member);
    let mut mkdir = stage.field.command(std::path::Path::new("mkdir"));
    assert!(mkdir.arg(data.parent().expect("data/")).status().expect("mkdir").success());
    source.move_to(&data, member.pg_port);
    stage.start_store();

    running(&mut stage, &member, &source).await;
    stopped(&mut stage, &member).await;
    of_another_version(&mut stage, &member).await;
    stage.end();
}

/// A primary that runs is led as it is, without an interruption.
async fn running(stage: &mut Stage, member: &MemberPlan, source: &Source) {
    source.start(&stage.field);
    source.ask(&stage.field, "CREATE TABLE kept (id int); INSERT INTO kept VALUES (7)");
    let pid = stage.field.postmaster_pid(member);
    stage.start(member);
    stage.until("a leader", LONG, async || stage.primary().await.is_some()).await;
    assert_eq!(stage.field.postmaster_pid(member), pid, "it was restarted");
    assert_eq!(ask_sql(member, "SELECT id::text FROM kept").await.expect("a row"), "7");
    let base = stage.field.data_dir(member).join("postgresql.base.conf");
    stage.until("our own configuration", SHORT, async || base.exists()).await;
}

/// The store is empty, the server is down: a former primary leads again.
async fn stopped(stage: &mut Stage, member: &MemberPlan) {
    stage.field.signal_daemon(&member.name, nix::sys::signal::Signal::SIGTERM);
    stage.field.wait_exit(&member.name, SHORT).expect("it ends");
    let renamed = json!({"scope": "again"});
    stage.field.reconfigure(member, &renamed).expect("a file");
    stage.start(member);
    stage.until("a leader", LONG, async || stage.primary().await.is_some()).await;
    assert_eq!(ask_sql(member, "SELECT id::text FROM kept").await.expect("a row"), "7");
}

async fn of_another_version(stage: &mut Stage, member: &MemberPlan) {
    stage.field.signal_daemon(&member.name, nix::sys::signal::Signal::SIGTERM);
    stage.field.wait_exit(&member.name, SHORT).expect("it ends");
    let version = stage.field.data_dir(member).join("PG_VERSION");
    let before = fs::read_to_string(&version).expect("it is there");
    fs::write(&version, "9\n").expect("our own file");
    let control = stage.field.data_dir(member).join("global/pg_control");
    let bytes = fs::read(&control).expect("it is there");
    let mark = stage.mark(member);
    stage.start(member);
    stage
        .until("a refusal", SHORT, async || {
            stage.log_since(member, mark).contains("is of PostgreSQL 9, the programs")
        })
        .await;
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert!(stage.field.postmaster_pid(member).is_none());
    assert!(fs::read(&control).expect("it is there") == bytes, "it was touched");
    stage.field.kill_daemon(&member.name);
    fs::write(&version, before).expect("our own file");
    stage.start(member);
    stage.until("a leader", LONG, async || stage.primary().await.is_some()).await;
}
