//! What an operator's commands hear and decide, restarts for later, and stops
//! and starts that take long.

use super::stage::{LONG, SHORT, Stage, ask_sql};
use ctl::field::MemberPlan;
use ctl::field::process::is_alive;
use jiff::{SignedDuration, Timestamp};
use nix::sys::signal::Signal;
use reqwest::Method;
use serde_json::{Value, json};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// Members whose daemons have this beside their own configuration.
async fn raise(members: usize, overlay: impl Fn(&MemberPlan, &Path) -> Value) -> Stage {
    let mut stage = Stage::prepare(members);
    stage.start_store();
    for member in stage.members() {
        let overlay = overlay(&member, &place(&stage, &member));
        stage.field.reconfigure(&member, &overlay).expect("the file is written");
        stage.start(&member);
    }
    stage.healthy(LONG).await;
    stage
}

/// The directory of the stage, which the daemons may write to.
fn place(stage: &Stage, member: &MemberPlan) -> PathBuf {
    let data = stage.field.data_dir(member);
    data.ancestors().nth(2).expect("data/NAME in a directory").to_path_buf()
}

fn mark(stage: &Stage, member: &MemberPlan, name: &str) -> PathBuf {
    place(stage, member).join(name)
}

fn heard(stage: &Stage, member: &MemberPlan) -> Vec<String> {
    let text = std::fs::read_to_string(mark(stage, member, &format!("{}.events", member.name)));
    text.unwrap_or_default().lines().map(str::to_string).collect()
}

async fn hears(stage: &Stage, member: &MemberPlan, wanted: &[&str]) {
    let what = format!("{} hears {wanted:?}", member.name);
    let told = stage.field.until(&what, SHORT, async || heard(stage, member) == wanted).await;
    if told.is_err() {
        panic!("{what}, but {:?}", heard(stage, member));
    }
}

fn commands(member: &MemberPlan, place: &Path) -> Value {
    let file = |end: &str| place.join(format!("{}.{end}", member.name)).display().to_string();
    let tell = format!("sh -c 'echo \"$@\" >>{}' tell", file("events"));
    let names = ["on_start", "on_stop", "on_restart", "on_reload", "on_role_change"];
    let callbacks: serde_json::Map<String, Value> =
        names.iter().map(|name| (name.to_string(), tell.clone().into())).collect();
    json!({"postgresql": {
        "callbacks": callbacks,
        "pre_promote": format!("sh -c 'echo asked >>{}; test ! -e {}'", file("gate"), file("shut")),
        "before_stop": format!("sh -c 'echo stops >>{}; exit 7'", file("stops")),
    }})
}

/// Callbacks in the order of what happens; a gate that refuses a promotion.
pub async fn callbacks() {
    let stage = raise(2, commands).await;
    let old = stage.leader().await;
    let other = stage.others(&old)[0].clone();
    hears(&stage, &old, &["on_start primary shop"]).await;
    hears(&stage, &other, &["on_start replica shop"]).await;

    let reply = stage.send(Method::POST, &other, "/restart", json!({})).await;
    assert_eq!(reply.status, 200, "{}", reply.body);
    let mut replicas = vec!["on_start replica shop", "on_restart replica shop"];
    hears(&stage, &other, &replicas).await;
    let stops = |member| mark(&stage, member, &format!("{}.stops", member.name)).exists();
    assert!(stops(&other) && !stops(&old), "before_stop runs before every stop");

    stage.patch(json!({"postgresql": {"parameters": {"work_mem": "9MB"}}})).await;
    let mut primaries = vec!["on_start primary shop", "on_reload primary shop"];
    hears(&stage, &old, &primaries).await;
    replicas.push("on_reload replica shop");
    hears(&stage, &other, &replicas).await;

    gate_refuses(&stage, &old, &other).await;
    let told = heard(&stage, &old);
    let last = told.iter().rfind(|line| !line.starts_with("on_reload")).cloned();
    assert_eq!(last.as_deref(), Some("on_role_change primary shop"));
    primaries.push("on_stop primary shop");
    assert!(heard(&stage, &old).starts_with(&primaries.map_text()), "{:?}", heard(&stage, &old));
    assert!(stops(&old));
    assert_eq!(heard(&stage, &other), replicas, "a gate that is shut is no change of role");
    stage.one_writer();
    stage.end();
}

trait Texts {
    fn map_text(&self) -> Vec<String>;
}

impl Texts for Vec<&str> {
    fn map_text(&self) -> Vec<String> {
        self.iter().map(|text| text.to_string()).collect()
    }
}

/// The candidate wins the lock, its gate refuses, the old leader leads again.
async fn gate_refuses(stage: &Stage, old: &MemberPlan, candidate: &MemberPlan) {
    let writer = stage.writer("gate").await;
    let shut = mark(stage, candidate, &format!("{}.shut", candidate.name));
    std::fs::write(shut, "").expect("a mark");
    let since = Instant::now();
    let body = json!({"leader": old.name, "candidate": candidate.name});
    stage.send(Method::POST, old, "/switchover", body).await;
    let outage = stage.writes_go_on(&writer, since, SHORT).await;
    println!("  a gate refused: {} leads again, no writes for {outage:.2?}", old.name);
    assert_eq!(stage.healthy(LONG).await.name, old.name);
    let log = stage.field.log(&candidate.name);
    assert!(log.contains("pre_promote failed: the lock is released"), "no gate in the log");
    assert!(!log.contains("leaving recovery"), "a shut gate let it pass");
    let asked = std::fs::read_to_string(mark(stage, old, &format!("{}.gate", old.name)));
    assert_eq!(asked.ok().as_deref(), Some("asked\n"), "the gate of the winner was asked once");
    stage.settle_without_loss(writer).await;
}

/// A moment as an operator writes it.
pub(super) fn in_seconds(seconds: i64) -> String {
    (Timestamp::now() + SignedDuration::from_secs(seconds)).to_string()
}

async fn started(member: &MemberPlan) -> String {
    let sql = "SELECT pg_postmaster_start_time()::text";
    ask_sql(member, sql).await.unwrap_or_default()
}

/// Restarts for later: kept, shown, taken back, dropped, judged when due, done.
pub async fn restarts() {
    let stage = Stage::raise(2).await;
    let leader = stage.leader().await;
    let replica = stage.others(&leader)[0].clone();
    plan_and_flush(&stage, &replica).await;

    // Dropped with the server that it was meant for.
    let later = json!({"schedule": in_seconds(3_600)});
    assert_eq!(stage.send(Method::POST, &replica, "/restart", later).await.status, 202);
    let reply = stage.send(Method::POST, &replica, "/restart", json!({"timeout": "30s"})).await;
    assert_eq!((reply.status, reply.body), (200, "restarted successfully".into()));
    no_plan(&stage, &replica).await;

    // Due, but not for this one; then for both.
    let before = (started(&leader).await, started(&replica).await);
    let only = json!({"schedule": in_seconds(2), "role": "replica"});
    for member in [&leader, &replica] {
        assert_eq!(stage.send(Method::POST, member, "/restart", only.clone()).await.status, 202);
    }
    stage
        .until("the scheduled restart", SHORT, async || {
            let now = started(&replica).await;
            !now.is_empty() && now != before.1
        })
        .await;
    no_plan(&stage, &leader).await;
    no_plan(&stage, &replica).await;
    assert_eq!(started(&leader).await, before.0, "the leader is no replica");
    assert_eq!(stage.healthy(LONG).await.name, leader.name);
    stage.end();
}

/// By `matriarchctl`, as far as it has words for it.
async fn plan_and_flush(stage: &Stage, replica: &MemberPlan) {
    let at = in_seconds(7_200);
    let words = ["restart", "shop", &replica.name, "--force", "--scheduled", &at];
    let said = control(stage, &words).await;
    assert!(said.contains(&format!("Success: restart scheduled on member {}", replica.name)));
    stage
        .until("the plan in the member key", SHORT, async || {
            let body = stage.get(replica, "/cluster").await.body;
            body["members"].as_array().is_some_and(|members| {
                members.iter().any(|m| m["scheduled_restart"]["postmaster_start_time"].is_string())
            })
        })
        .await;
    let shown = stage.get(replica, "/patroni").await.body["scheduled_restart"].clone();
    assert!(shown["schedule"].is_string() && shown["postmaster_start_time"].is_null(), "{shown}");
    let again = json!({"schedule": in_seconds(60)});
    assert_eq!(stage.send(Method::POST, replica, "/restart", again).await.status, 409);
    let said = control(stage, &["flush", "shop", &replica.name, "restart", "--force"]).await;
    assert!(said.contains("Success: flush scheduled restart"), "{said}");
    let reply = stage.send(Method::DELETE, replica, "/restart", json!({})).await;
    assert_eq!((reply.status, reply.body), (404, "no restarts are scheduled".into()));
}

async fn no_plan(stage: &Stage, member: &MemberPlan) {
    stage
        .until("no plan any more", SHORT, async || {
            stage.get(member, "/patroni").await.body["scheduled_restart"].is_null()
        })
        .await;
}

/// What `matriarchctl` prints.
pub(super) async fn control(stage: &Stage, words: &[&str]) -> String {
    let us = std::env::current_exe().expect("where is this program?");
    let built = us.ancestors().nth(2).expect("target/<profile>/deps");
    let program = built.join("matriarchctl");
    let config = stage.field.config_path(&stage.members()[0]);
    let mut command = tokio::process::Command::new(program);
    let run = command.arg("-c").arg(config).args(words).output();
    let output = tokio::time::timeout(SHORT, run).await.expect("it ends").expect("it runs");
    let both = [output.stdout, output.stderr].concat();
    String::from_utf8_lossy(&both).into_owned()
}

/// The archiver works while the file is there.
fn archiving(_: &MemberPlan, place: &Path) -> Value {
    let hold = place.join("hold").display().to_string();
    json!({"postgresql": {"parameters": {
        "archive_mode": "on",
        "archive_command": format!("while test -e {hold}; do sleep 0.1; done"),
    }}})
}

/// A leader that ends leads no longer than it writes, whatever it archives.
pub async fn archive_backlog() {
    let mut stage = raise(2, archiving).await;
    let writer = stage.writer("backlog").await;
    let old = stage.leader().await;
    let hold = mark(&stage, &old, "hold");
    std::fs::write(&hold, "").expect("a mark");
    let postmaster = stage.field.postmaster_pid(&old).expect("the leader runs");
    let since = Instant::now();
    assert!(stage.field.signal_daemon(&old.name, Signal::SIGTERM));
    let new = stage.new_leader(&old, SHORT).await;
    let outage = stage.writes_go_on(&writer, since, SHORT).await;
    println!("  {} leads while {} archives: no writes for {outage:.2?}", new.name, old.name);
    assert!(is_alive(postmaster), "it did not wait for its archiver");
    std::fs::remove_file(&hold).expect("the mark is there");
    let code = stage.field.wait_exit(&old.name, SHORT).expect("it ends");
    assert_eq!(code, Some(0));
    stage.start(&old);
    assert_eq!(stage.healthy(LONG).await.name, new.name);
    assert!(!stage.field.log(&old.name).contains("pg_rewind"), "it had everything");
    stop_timeout(&mut stage, &new, &old).await;
    stage.settle_without_loss(writer).await;
    stage.one_writer();
    stage.end();
}

/// In synchronous mode a stop ends after `primary_stop_timeout`.
async fn stop_timeout(stage: &mut Stage, leader: &MemberPlan, replica: &MemberPlan) {
    // No member can take over: only the timeout ends this stop.
    assert!(stage.field.signal_daemon(&replica.name, Signal::SIGTERM));
    stage.field.wait_exit(&replica.name, SHORT).expect("it ends");
    stage
        .send(
            Method::PATCH,
            leader,
            "/config",
            json!({"synchronous_mode": true, "primary_stop_timeout": 3}),
        )
        .await;
    let hold = mark(stage, leader, "hold");
    std::fs::write(&hold, "").expect("a mark");
    let since = Instant::now();
    assert!(stage.field.signal_daemon(&leader.name, Signal::SIGTERM));
    let code = stage.field.wait_exit(&leader.name, SHORT).expect("it ends");
    let took = since.elapsed();
    println!("  primary_stop_timeout 3: the stop took {took:.2?}");
    assert_eq!(code, Some(0));
    assert!(took > Duration::from_secs(3) && took < Duration::from_secs(12), "{took:?}");
    ends_before_its_switch(stage, leader).await;
    std::fs::remove_file(&hold).expect("the mark is there");
    stage.start(leader);
    stage.start(replica);
    stage.healthy(LONG).await;
}

/// No other member has the end of its log: others count as behind from the record that
/// closed the segment, because the checkpoint lies at the beginning of the next one.
async fn ends_before_its_switch(stage: &Stage, member: &MemberPlan) {
    let entries = super::birth::entries(stage).await;
    assert!(!entries.contains_key("leader"), "the lock was kept");
    let status: Value = serde_json::from_str(&entries["status"].value).expect("JSON");
    let program = stage.field.plan.pg_bin.join("pg_controldata");
    let told = stage.field.command(&program).arg(stage.field.data_dir(member)).output();
    let told = String::from_utf8_lossy(&told.expect("it runs").stdout).into_owned();
    let line = told.lines().find(|line| line.starts_with("Latest checkpoint location"));
    let lsn = line.and_then(|line| line.split_whitespace().last()).expect("a position");
    let checkpoint: topology::Lsn = lsn.parse().expect("a position");
    let optime = status["optime"].as_u64().expect("a position");
    assert_eq!(checkpoint.0 % (16 << 20), 0x28, "the segment before was closed");
    assert!(optime < checkpoint.0 && optime + (32 << 20) > checkpoint.0, "{optime} {checkpoint}");
}

/// A recovery that does not come to its end is given up for a replica.
pub async fn slow_start() {
    let stage = Stage::raise(2).await;
    stage.rows_on_a_replica().await;
    let writer = stage.writer("slow").await;
    let old = stage.leader().await;
    stage.patch(json!({"primary_start_timeout": 3})).await;
    tokio::time::sleep(Duration::from_secs(1)).await;
    let killed = stage.field.postmaster_pid(&old).expect("the leader runs");
    let since = Instant::now();
    assert!(stage.field.signal_postmaster(&old, Signal::SIGKILL));
    let caught = freeze_startup(&stage, &old, killed).await;
    assert!(caught, "the startup process was too quick");
    let new = stage.new_leader(&old, LONG).await;
    let led = since.elapsed();
    println!("  recovery hangs: {} leads after {led:.2?}", new.name);
    assert!(led > Duration::from_secs(3), "it did not wait for primary_start_timeout");
    // PostgreSQL itself waits 5 s for a process that does not end.
    assert!(led < Duration::from_secs(14), "a new leader only after {led:?}");
    assert_eq!(stage.healthy(LONG).await.name, new.name);
    stage.settle_without_loss(writer).await;
    stage.one_writer();
    stage.end();
}

/// Stops the recovery of the next start in its middle.
pub(super) async fn freeze_startup(stage: &Stage, member: &MemberPlan, killed: i32) -> bool {
    let until = Instant::now() + SHORT;
    while Instant::now() < until {
        let new = stage.field.postmaster_pid(member).is_some_and(|pid| pid != killed);
        if new && stage.field.signal_backends(member, "startup", Signal::SIGSTOP) == 1 {
            return true;
        }
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    false
}
