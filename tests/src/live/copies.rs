//! Replicas by an operator's commands, and replicas that are made anew.

use super::stage::{LONG, SHORT, Stage};
use ctl::field::MemberPlan;
use reqwest::Method;
use serde_json::{Value, json};
use std::fs;
use std::os::unix::fs::PermissionsExt;

/// A method that writes down what it was told and takes a base backup; it
/// waits while a file `slow` is there.
fn copying(stage: &Stage) -> String {
    format!(
        "sh -c 'for a in \"$@\"; do echo \"$a\"; done >> copied; \
         while test -e slow; do sleep 0.1; done; \
         for a in \"$@\"; do case \"$a\" in --datadir=*) d=${{a#*=}};; \
         --connstring=*) c=${{a#*=}};; esac; done; \
         exec {}/pg_basebackup -X stream -c fast -D \"$d\" -d \"$c\"' --",
        stage.field.plan.pg_bin.display()
    )
}

/// A pg_basebackup that writes down its words, and fails at first with half of
/// a copy.
fn failing_once(stage: &Stage) -> String {
    let program = stage.field.dir.join("own_basebackup");
    let text = format!(
        "#!/bin/sh\ncd {dir}\nfor a in \"$@\"; do echo \"$a\"; done >> backups\n\
         for a in \"$@\"; do case \"$a\" in --pgdata=*) d=${{a#*=}};; esac; done\n\
         if mkdir once; then mkdir -p \"$d\"; echo x > \"$d/junk\"; exit 1; fi\n\
         test -e \"$d/junk\" && exit 1\nexec {bin}/pg_basebackup \"$@\"\n",
        dir = stage.field.dir.display(),
        bin = stage.field.plan.pg_bin.display()
    );
    fs::write(&program, text).expect("a file");
    fs::set_permissions(&program, PermissionsExt::from_mode(0o755)).expect("a mode");
    program.display().to_string()
}

/// The second try begins with nothing of the first.
fn came_by_the_second_try(stage: &Stage, member: &MemberPlan) {
    let told = fs::read_to_string(stage.field.dir.join("backups")).expect("it ran");
    let count = |word: &str| told.lines().filter(|line| *line == word).count();
    for word in ["--checkpoint=fast", "--max-rate=500M", "-X", "stream"] {
        assert_eq!(count(word), 2, "{word} in {told}");
    }
    assert!(!told.contains("--format") && !told.contains("copy-secret"), "{told}");
    let log = stage.field.log(&member.name);
    assert!(log.contains("the base backup is tried again: "), "{log}");
    assert!(log.contains("`format` is left out"), "{log}");
    assert!(!stage.field.data_dir(member).join("junk").exists());
}

/// n1 leads, n2 serves copies, n3 is copied from n2 by the second method; then
/// all are gone but a backup.
pub async fn by_commands() {
    let mut stage = Stage::prepare(3);
    let [n1, n2, n3]: [MemberPlan; 3] = stage.members().try_into().expect("three members");
    let serving = json!({"tags": {"clonefrom": true}, "postgresql": {
        "bin_name": {"pg_basebackup": failing_once(&stage)},
        "basebackup": [{"max-rate": "500M"}, {"checkpoint": "'fast'"}, {"format": "t"}],
    }});
    stage.field.reconfigure(&n2, &serving).expect("a file");
    let methods = json!({"postgresql": {
        "create_replica_methods": ["broken", "copy", "basebackup"],
        "broken": {"command": "sh -c 'mkdir -p half; exit 1'"},
        "copy": {"command": copying(&stage), "threshold": 5, "keep_data": false},
    }});
    stage.field.reconfigure(&n3, &methods).expect("a file");
    stage.start_store();
    stage.start(&n1);
    stage.until("a leader", LONG, async || stage.primary().await.is_some()).await;
    stage.start(&n2);
    let pair = [&n1, &n2];
    stage.until("a pair", LONG, async || stage.ask.is_healthy(&pair).await).await;
    came_by_the_second_try(&stage, &n2);
    stage.start(&n3);
    stage.healthy(LONG).await;

    let told = fs::read_to_string(stage.field.dir.join("copied")).expect("the method ran");
    let data = format!("--datadir={}", stage.field.data_dir(&n3).display());
    for word in ["--threshold=5", "--keep_data=False", "--scope=shop", "--role=replica", &data] {
        assert!(told.lines().any(|line| line == word), "no {word} in {told}");
    }
    let connstring = told.lines().find(|line| line.starts_with("--connstring=")).expect("one");
    assert!(connstring.contains(&format!("port={}", n2.pg_port)), "not from n2: {connstring}");
    assert!(!connstring.contains("copy-secret"), "{connstring}");
    assert!(stage.field.log("n3").contains("no replica by broken"));
    from_a_backup(&mut stage, [n1, n2, n3]).await;
}

/// No running member leads or has data: there is only a backup.
async fn from_a_backup(stage: &mut Stage, [n1, n2, n3]: [MemberPlan; 3]) {
    let backup = stage.field.dir.join("backup");
    for member in [&n3, &n2, &n1] {
        stage.field.signal_daemon(&member.name, nix::sys::signal::Signal::SIGTERM);
        assert_eq!(stage.field.wait_exit(&member.name, SHORT).expect("it ends"), Some(0));
    }
    fs::rename(stage.field.data_dir(&n1), &backup).expect("our own directory");
    fs::rename(stage.field.data_dir(&n3), stage.field.dir.join("old")).expect("our own");
    let data = stage.field.data_dir(&n3).display().to_string();
    let methods = json!({"postgresql": {
        "create_replica_methods": ["copy", "vault"],
        "vault": {
            "command": format!("cp -a {} {data}", backup.display()),
            "no_params": true,
            "no_leader": "1",
        },
    }});
    stage.field.reconfigure(&n3, &methods).expect("a file");
    let mark = stage.mark(&n3);
    stage.start(&n3);
    let alone = [&n3];
    stage
        .until("a leader from a backup", LONG, async || stage.ask.primary(&alone).await.is_some())
        .await;
    assert!(stage.log_since(&n3, mark).contains("done: bootstrap without leader"));
    stage.one_writer();
}

pub async fn reinitialize() {
    let mut stage = Stage::prepare(2);
    let methods = json!({"postgresql": {
        "create_replica_methods": ["copy"],
        "copy": {"command": copying(&stage)},
    }});
    for member in stage.members() {
        stage.field.reconfigure(&member, &methods).expect("a file");
    }
    stage.start_store();
    for member in stage.members() {
        stage.start(&member);
    }
    let leader = stage.healthy(LONG).await;
    let replica = stage.others(&leader)[0].clone();
    let refused = post(&stage, &leader, json!({})).await;
    assert_eq!(refused, (503, "I am the leader, can not reinitialize".into()));

    let slow = stage.field.dir.join("slow");
    fs::write(&slow, "").expect("a file");
    let begun = (200, Value::from("reinitialize started"));
    assert_eq!(post(&stage, &replica, json!({})).await, begun);
    state(&stage, &replica, "creating replica").await;
    let busy = post(&stage, &replica, json!({})).await;
    assert_eq!(busy, (503, "reinitialize already in progress".into()));
    // Cancelled for a base backup of the leader, which is not slow.
    let mark = stage.mark(&replica);
    let forced = json!({"force": true, "from_leader": true});
    assert_eq!(post(&stage, &replica, forced).await, begun);
    stage.healthy(LONG).await;
    assert!(stage.log_since(&replica, mark).contains("cancelled: reinitialize"));
    fs::remove_file(&slow).expect("our own file");

    topped_up(&mut stage, &replica).await;
    damaged(&mut stage, &replica).await;
    by_ctl(&stage, &replica).await;
    stage.one_writer();
    stage.end();
}

/// A method that goes on with what is there, and is told nothing but its own.
async fn topped_up(stage: &mut Stage, replica: &MemberPlan) {
    let data = stage.field.data_dir(replica);
    fs::write(data.join("marker"), "").expect("our own directory");
    let method = json!({"postgresql": {
        "create_replica_methods": ["top_up"],
        "top_up": {
            "command": format!("sh -c 'echo \"$*\" > topped; test -e {}/marker' --", data.display()),
            "keep_data": "on",
            "no_params": true,
            "depth": 3,
        },
    }});
    stage.field.reconfigure(replica, &method).expect("a file");
    stage.send(Method::POST, replica, "/reload", json!({})).await;
    let mark = stage.mark(replica);
    stage
        .until("a reinitialize", SHORT, async || post(stage, replica, json!({})).await.0 == 200)
        .await;
    let done = async || stage.log_since(replica, mark).contains("done: reinitialize");
    stage.until("the end of it", LONG, done).await;
    stage.healthy(LONG).await;
    assert!(data.join("marker").exists(), "the data was removed");
    let told = fs::read_to_string(stage.field.dir.join("topped")).expect("it ran");
    assert_eq!(told, "--depth=3\n");
    let copy = json!({"postgresql": {"create_replica_methods": ["copy"]}});
    stage.field.reconfigure(replica, &copy).expect("a file");
    stage.send(Method::POST, replica, "/reload", json!({})).await;
}

/// A server that does not start any more is what it is for.
async fn damaged(stage: &mut Stage, replica: &MemberPlan) {
    stage.field.kill_node(replica);
    let control = stage.field.data_dir(replica).join("global/pg_control");
    fs::write(&control, vec![0u8; 8192]).expect("our own file");
    stage.start(replica);
    stage
        .until("a member that answers", SHORT, async || {
            stage.ask.get(replica, "/patroni").await.is_some()
        })
        .await;
    stage
        .until("a reinitialize", SHORT, async || {
            post(stage, replica, json!({"force": true})).await.0 == 200
        })
        .await;
    stage.healthy(LONG).await;
}

async fn by_ctl(stage: &Stage, replica: &MemberPlan) {
    let us = std::env::current_exe().expect("where is this program?");
    let target = us.parent().and_then(std::path::Path::parent).expect("target/<profile>/deps");
    let mut ctl = tokio::process::Command::new(target.join("matriarchctl"));
    ctl.arg("-c").arg(stage.field.config_path(replica)).args(["reinit", "shop"]);
    ctl.arg(&replica.name).args(["--force", "--wait"]).kill_on_drop(true);
    let output = tokio::time::timeout(LONG, ctl.output()).await.expect("in time");
    let said = String::from_utf8_lossy(&output.expect("it runs").stdout).into_owned();
    assert!(said.contains("Success: reinitialize for member"), "{said}");
    assert!(said.contains(&format!("Reinitialize is completed on: {}", replica.name)), "{said}");
    stage.healthy(LONG).await;
}

async fn post(stage: &Stage, to: &MemberPlan, body: Value) -> (u16, Value) {
    let reply = stage.send(Method::POST, to, "/reinitialize", body).await;
    (reply.status, reply.body)
}

async fn state(stage: &Stage, member: &MemberPlan, wanted: &str) {
    stage
        .until(wanted, SHORT, async || stage.get(member, "/patroni").await.body["state"] == wanted)
        .await;
}
