//! A running cluster of Patroni becomes one of ours, member by member, and one
//! member goes back, while a client writes. No file is changed, no server is
//! restarted, and both kinds elect, hand over and follow each other.
//!
//! Patroni is what `tools/patroni.sh` has put into `target/patroni`. It runs as
//! a program; what it says and does on its own is shown nowhere else.

use super::stage::{LONG, SHORT, Stage, TTL, ask_sql};
use ctl::field::{MemberPlan, Writer};
use nix::sys::signal::Signal;
use reqwest::Method;
use serde_json::json;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

/// Where Patroni leads, its own way of a hand-over counts.
const HANDOVER_MAX: Duration = Duration::from_secs(10);
/// Clients see nothing of another daemon beside their server.
const UNSEEN: Duration = Duration::from_secs(1);
/// A lease, then an election among both kinds.
const ELECTION_MAX: Duration = Duration::from_secs(30);

pub async fn member_by_member() {
    let mut stage = Stage::prepare(3);
    let patroni = launcher(&stage.field.dir);
    for member in stage.members() {
        stage.field.programs.insert(member.name, patroni.clone());
    }
    stage.stand_up().await;
    stage.rows_on_a_replica().await;
    let writer = stage.writer("takeover").await;
    let old = stage.leader().await;
    let [first, second] = [0, 1].map(|i| stage.others(&old)[i].clone());

    replace(&mut stage, &first, None, &writer).await;
    hand_over(&stage, &old, &first, &writer).await;
    hand_over(&stage, &first, &second, &writer).await;
    pause(&stage, true).await;
    replace(&mut stage, &second, None, &writer).await;
    replace(&mut stage, &old, None, &writer).await;
    pause(&stage, false).await;
    let kinds: Vec<_> = stage.field.programs.keys().collect();
    assert!(kinds.is_empty(), "{kinds:?} still run Patroni");
    hand_over(&stage, &second, &old, &writer).await;

    replace(&mut stage, &second, Some(&patroni), &writer).await;
    hand_over(&stage, &old, &second, &writer).await;
    elect(&mut stage, &second, &writer).await;
    stage.settle_without_loss(writer).await;
    stage.one_writer();
    stage.end();
}

/// While the cluster pauses, a daemon that ends leaves its server running.
async fn pause(stage: &Stage, on: bool) {
    stage.patch(json!({"pause": if on { json!(true) } else { json!(null) }})).await;
    for member in stage.members() {
        stage
            .until("pause as it was asked for", LONG, async || {
                let body = stage.get(&member, "/patroni").await.body;
                body.get("pause").is_some_and(|p| p == true) == on
            })
            .await;
    }
}

/// Ends the daemon, by force unless the cluster pauses, and starts another kind
/// over the same file beside the same server, which goes on without a break and
/// with nothing to change.
async fn replace(stage: &mut Stage, member: &MemberPlan, by: Option<&Path>, writer: &Writer) {
    let postmaster = stage.field.postmaster_pid(member).expect("its server runs");
    let leader = stage.leader().await;
    let since = Instant::now();
    let paused = stage.get(member, "/patroni").await.body.get("pause").is_some();
    if paused {
        stage.field.signal_daemon(&member.name, Signal::SIGTERM);
        let ended = stage.field.wait_exit(&member.name, LONG);
        assert_eq!(ended.expect("it ends"), Some(0), "{} ends well", member.name);
    } else {
        stage.field.kill_daemon(&member.name);
    }
    match by {
        Some(program) => stage.field.programs.insert(member.name.clone(), program.to_path_buf()),
        None => stage.field.programs.remove(&member.name),
    };
    stage.start(member);
    stage
        .until("the new daemon's answer", LONG, async || {
            let answer = stage.ask.get(member, "/patroni").await;
            answer.is_some_and(|a| a.status == 200 && a.body["state"] == "running")
        })
        .await;
    let led = stage.healthy(LONG).await;
    let body = stage.get(member, "/patroni").await.body;
    let pause = stage.writes_go_on(writer, since, SHORT).await;
    println!("  {} has another daemon: no writes for {pause:.2?}", member.name);
    assert_eq!(led.name, leader.name, "the leader changed");
    assert_eq!(stage.field.postmaster_pid(member), Some(postmaster), "the server was restarted");
    assert_eq!(body.get("pending_restart"), None, "{body}");
    assert!(pause < UNSEEN, "no writes for {pause:?}");
}

/// A switchover that was asked of the leader, whatever runs there.
async fn hand_over(stage: &Stage, old: &MemberPlan, new: &MemberPlan, writer: &Writer) {
    let since = Instant::now();
    let body = json!({"leader": old.name, "candidate": new.name});
    let reply = stage.send(Method::POST, old, "/switchover", body).await;
    assert_eq!(reply.status, 200, "{}", reply.body);
    let pause = stage.writes_go_on(writer, since, SHORT).await;
    let leader = stage.healthy(LONG).await;
    println!("  from {} to {}: no writes for {pause:.2?}", old.name, new.name);
    assert_eq!(leader.name, new.name);
    assert!(pause < HANDOVER_MAX, "no writes for {pause:?}");
    for member in stage.members() {
        let shown = ask_sql(&member, "SHOW synchronous_standby_names").await;
        let shown = shown.expect("it answers");
        assert_eq!(shown, "ANY 1 (*)", "{} has lost a setting", member.name);
    }
}

/// The leader's node is lost; the rest elects one of its own.
async fn elect(stage: &mut Stage, leader: &MemberPlan, writer: &Writer) {
    let since = Instant::now();
    stage.field.kill_node(leader);
    let new = stage.new_leader(leader, ELECTION_MAX).await;
    let pause = stage.writes_go_on(writer, since, SHORT).await;
    println!("  {} is lost, {} leads: no writes for {pause:.2?}", leader.name, new.name);
    assert!(pause < TTL + SHORT, "no writes for {pause:?}");
    stage.field.programs.clear();
    stage.start(leader);
    stage.healthy(LONG).await;
}

/// A program that starts Patroni, where the servers' user may run it.
pub(super) fn launcher(dir: &Path) -> PathBuf {
    let us = std::env::current_exe().expect("where is this program?");
    let target = us.ancestors().nth(3).expect("target/<profile>/deps");
    let tree = target.join("patroni");
    assert!(tree.is_dir(), "Patroni is missing: run tools/patroni.sh");
    let here = dir.join("patroni");
    let copied = Command::new("cp").arg("-a").arg(&tree).arg(&here).status();
    assert!(copied.is_ok_and(|status| status.success()), "{} is copied", tree.display());
    let script = format!(
        "#!/bin/sh\nPYTHONPATH='{}' exec /usr/bin/python3 -m patroni \"$@\"\n",
        here.display()
    );
    let program = dir.join("bin/patroni");
    std::fs::write(&program, script).expect("a launcher");
    let may_run = std::fs::Permissions::from_mode(0o755);
    std::fs::set_permissions(&program, may_run).expect("a launcher that may run");
    program
}
