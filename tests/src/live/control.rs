//! What an operator asks `matriarchctl` about a group: SQL, what is wrong, and why.

use super::stage::{LONG, SHORT, Stage};
use ctl::field::MemberPlan;
use reqwest::Method;
use serde_json::{Value, json};
use std::time::Duration;

/// How a run of `matriarchctl` ended.
struct Ended {
    code: Option<i32>,
    output: String,
    errors: String,
}

async fn control(stage: &Stage, words: &[&str]) -> Ended {
    let us = std::env::current_exe().expect("where is this program?");
    let built = us.ancestors().nth(2).expect("target/<profile>/deps");
    let config = stage.field.config_path(&stage.members()[0]);
    let mut command = tokio::process::Command::new(built.join("matriarchctl"));
    // The configuration may stand behind the command, too.
    let run =
        command.args(words).arg("--config-file").arg(config).env("PGUSER", "postgres").output();
    let ended = tokio::time::timeout(SHORT, run).await.expect("it ends").expect("it runs");
    let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
    let (output, errors) = (text(ended.stdout), text(ended.stderr));
    Ended { code: ended.status.code(), output, errors }
}

pub async fn questions() {
    let stage = Stage::raise(2).await;
    let leader = stage.healthy(LONG).await;
    let replica = stage.others(&leader).remove(0);
    sql(&stage, &leader, &replica).await;
    reasons(&stage, &replica).await;
    wrong(&stage, &replica).await;
    stage.end();
}

async fn sql(stage: &Stage, leader: &MemberPlan, replica: &MemberPlan) {
    let asked = "SELECT current_setting('port')::int AS port, pg_is_in_recovery() AS standby, \
                 NULL AS nothing";
    let on_leader = control(stage, &["query", "-c", asked]).await;
    assert_eq!(on_leader.code, Some(0), "{}", on_leader.errors);
    let lines: Vec<&str> = on_leader.output.lines().collect();
    assert_eq!(lines[0], "port\tstandby\tnothing");
    assert_eq!(lines[1], format!("{}\tFalse\tNone", leader.pg_port));
    let words = ["query", "-r", "replica", "--format", "json", "-c", asked];
    let on_replica: Value =
        serde_json::from_str(&control(stage, &words).await.output).expect("JSON");
    let expected = json!([{"port": replica.pg_port, "standby": true, "nothing": null}]);
    assert_eq!(on_replica, expected);
    // Names are found as the server's own settings say.
    let made = "CREATE TABLE asked (a int); INSERT INTO asked VALUES (7); SELECT a FROM asked";
    assert_eq!(control(stage, &["query", "-c", made]).await.output, "a\n7\n");
    let wrong = control(stage, &["query", "-c", "SELECT * FROM nosuch"]).await;
    assert_eq!(wrong.code, Some(0));
    assert!(wrong.output.ends_with("\tERROR, SQLSTATE: 42P01\n"), "{}", wrong.output);
    assert!(wrong.errors.contains("nosuch"), "{}", wrong.errors);
}

async fn reasons(stage: &Stage, replica: &MemberPlan) {
    let explained = control(stage, &["explain", &replica.name]).await;
    assert_eq!(explained.code, Some(0), "{}", explained.errors);
    let first = format!("{} is a replica: streaming, receives WAL from ", replica.name);
    assert!(explained.output.starts_with(&first), "{}", explained.output);
    assert!(explained.output.contains("\nrule "), "{}", explained.output);
    let listed = control(stage, &["decisions", &replica.name, "-f", "json"]).await;
    let listed: Value = serde_json::from_str(&listed.output).expect("JSON");
    assert!(listed.as_array().is_some_and(|rows| rows.len() > 1), "{listed}");
}

async fn codes(stage: &Stage) -> (Option<i32>, Vec<String>) {
    let ended = control(stage, &["doctor", "-f", "json"]).await;
    let rows: Value = serde_json::from_str(&ended.output).unwrap_or_else(|_| {
        panic!("{}{}", ended.output, ended.errors);
    });
    let rows = rows.as_array().expect("a list").iter();
    let code = |row: &Value| row["Code"].as_str().expect("a code").to_string();
    (ended.code, rows.map(code).collect())
}

/// The store of the stage is one server.
async fn wrong(stage: &Stage, replica: &MemberPlan) {
    stage.patch(json!({"failsafe_mode": true})).await;
    stage
        .until("a group in order", SHORT, async || codes(stage).await == (Some(0), Vec::new()))
        .await;
    let change = json!({"postgresql": {"parameters": {"max_connections": 50}}, "pause": true});
    stage.patch(change).await;
    stage
        .until("what waits for a restart", SHORT, async || {
            let (code, found) = codes(stage).await;
            let restarts = found.iter().filter(|code| *code == "pending-restart").count();
            code == Some(3) && restarts == 2 && found.contains(&"paused".to_string())
        })
        .await;
    let page = control(stage, &["doctor"]).await;
    println!("{}", page.output);
    // In pause a server that ends is not started again.
    let postmaster = stage.field.postmaster_pid(replica).expect("it runs");
    nix::sys::signal::kill(nix::unistd::Pid::from_raw(postmaster), nix::sys::signal::SIGINT)
        .expect("a signal");
    stage
        .until("an error", SHORT, async || {
            let (code, found) = codes(stage).await;
            code == Some(4) && found.contains(&"not-running".to_string())
        })
        .await;
    let reply = stage.send(Method::PATCH, replica, "/config", json!({"pause": null})).await;
    assert_eq!(reply.status, 200);
    stage.healthy(Duration::from_secs(60)).await;
}
