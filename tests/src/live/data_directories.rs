//! What is half of something: of a copy by this daemon, of a restore by another
//! program, or of a data directory that has lost its control file.

use super::birth::meddle;
use super::stage::{LONG, SHORT, Stage, connect};
use ctl::field::MemberPlan;
use ctl::field::process::is_alive;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use reqwest::Method;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::time::{Duration, UNIX_EPOCH};

/// Looks at all of it, several times.
const A_WHILE: Duration = Duration::from_secs(5);

/// Every file below, links followed, with its size.
fn contents(dir: &Path) -> BTreeMap<PathBuf, u64> {
    let mut found = BTreeMap::new();
    let mut open = vec![dir.to_path_buf()];
    while let Some(path) = open.pop() {
        let meta = fs::metadata(&path).expect("it can be looked at");
        if meta.is_dir() {
            let entries = fs::read_dir(&path).expect("it can be listed");
            open.extend(entries.map(|entry| entry.expect("an entry").path()));
        }
        found.insert(path, if meta.is_dir() { 0 } else { meta.len() });
    }
    found
}

/// A replica without its control file, whose log lies elsewhere: nothing is removed,
/// what is missing and what helps is told. A restore by another program is waited
/// for, and `reinit` builds the member anew.
pub async fn without_a_control_file() {
    let mut stage = Stage::raise(2).await;
    let leader = stage.leader().await;
    let replica = stage.others(&leader)[0].clone();
    stage.field.kill_node(&replica);
    let (data, wal) = (stage.field.data_dir(&replica), stage.field.dir.join("far_wal"));
    move_log_away(&stage, &data, &wal);
    let (control, kept) = (data.join("global/pg_control"), stage.field.dir.join("kept_control"));
    fs::rename(&control, &kept).expect("our own file");
    let before = contents(&data);

    stage.start(&replica);
    says_why(&stage, &leader, &replica, "there is no global/pg_control").await;
    tokio::time::sleep(A_WHILE).await;
    assert_eq!(contents(&data), before, "something was touched");
    assert!(stage.field.postmaster_pid(&replica).is_none());

    let mark = stage.mark(&replica);
    a_restore_is_not_disturbed(&stage, &leader, &replica, &kept).await;
    let log = stage.log_since(&replica, mark);
    assert!(!log.contains("is emptied") && !log.contains("bootstrap from"), "{log}");

    stage.field.kill_node(&replica);
    fs::remove_file(&control).expect("our own file");
    stage.start(&replica);
    says_why(&stage, &leader, &replica, "`matriarchctl reinit`").await;
    let mark = stage.mark(&replica);
    let reply = stage.send(Method::POST, &replica, "/reinitialize", json!({})).await;
    assert_eq!(reply.status, 200, "{}", reply.body);
    stage.healthy(LONG).await;
    let log = stage.log_since(&replica, mark);
    assert!(log.contains("is emptied: an operator asked for reinitialize"), "{log}");
    assert_eq!(stage.get(&replica, "/patroni").await.body["reason"], Value::Null);
    stage.one_writer();
    stage.end();
}

fn move_log_away(stage: &Stage, data: &Path, wal: &Path) {
    let script = "mv \"$1/pg_wal\" \"$2\" && ln -s \"$2\" \"$1/pg_wal\"";
    let mut shell = stage.field.command(Path::new("sh"));
    shell.args(["-c", script, "sh"]).arg(data).arg(wal);
    assert!(shell.status().expect("sh runs").success());
}

/// The member itself, and the others by its record.
async fn says_why(stage: &Stage, leader: &MemberPlan, member: &MemberPlan, wanted: &str) {
    let has = |value: &Value| value.as_str().is_some_and(|why| why.contains(wanted));
    stage
        .until(&format!("{wanted} in the member's state"), SHORT, async || {
            let own = stage.ask.get(member, "/patroni").await;
            let own = own.is_some_and(|reply| has(&reply.body["reason"]));
            let all = stage.get(leader, "/cluster").await.body["members"].clone();
            let mut all = all.as_array().cloned().unwrap_or_default().into_iter();
            own && all.any(|m| m["name"] == member.name.as_str() && has(&m["reason"]))
        })
        .await;
}

/// A tool that brings the control file long before it is done.
async fn a_restore_is_not_disturbed(
    stage: &Stage,
    leader: &MemberPlan,
    replica: &MemberPlan,
    kept: &Path,
) {
    let data = stage.field.data_dir(replica);
    let script = "exec 3> \"$1/base/part\"; cp \"$2\" \"$1/global/pg_control\"; read go; \
                  rm \"$1/base/part\"";
    let mut tool = stage.field.command(Path::new("sh"));
    tool.args(["-c", script, "sh"]).arg(&data).arg(kept).stdin(Stdio::piped());
    let mut tool: Child = tool.spawn().expect("sh runs");
    let there = async || data.join("global/pg_control").exists();
    stage.until("the control file", SHORT, there).await;
    says_why(stage, leader, replica, "is left alone until it has ended").await;
    tokio::time::sleep(A_WHILE).await;
    assert!(stage.field.postmaster_pid(replica).is_none(), "it was started half restored");
    assert!(data.join("base/part").exists());
    drop(tool.stdin.take());
    assert!(tool.wait().expect("it ends").success());
    stage.healthy(LONG).await;
}

/// A copy by a command that leaves a helper behind, then one that is killed in its
/// middle together with its daemon.
pub async fn copies_and_their_helpers() {
    let mut stage = Stage::prepare(2);
    let [first, second]: [MemberPlan; 2] = stage.members().try_into().expect("two members");
    let methods = json!({"postgresql": {
        "create_replica_methods": ["copy"],
        "copy": {"command": leaving_a_helper(&stage), "no_params": false},
    }});
    stage.field.reconfigure(&second, &methods).expect("a file");
    stage.start_store();
    stage.start(&first);
    stage.until("a leader", LONG, async || stage.primary().await.is_some()).await;
    stage.start(&second);
    stage.healthy(LONG).await;
    let data = stage.field.data_dir(&second);
    assert!(!data.with_extension("filling").exists(), "the mark stays");
    a_helper_is_left_alone(&mut stage, &second).await;
    half_a_copy_is_begun_anew(&mut stage, &second).await;
    stage.one_writer();
    stage.end();
}

/// Waits half way while a file `slow` is there; its helper has its environment.
fn leaving_a_helper(stage: &Stage) -> String {
    format!(
        "sh -c 'for a in \"$@\"; do case \"$a\" in --datadir=*) d=${{a#*=}};; \
         --connstring=*) c=${{a#*=}};; esac; done; \
         mkdir -p \"$d/global\"; chmod 700 \"$d\"; echo 15 > \"$d/PG_VERSION\"; echo x > \"$d/global/pg_control\"; \
         setsid sleep 600 < /dev/null > /dev/null 2>&1 & echo $! >> helpers; \
         echo $$ > half; while test -e slow; do sleep 0.1; done; rm -rf \"$d\"/*; \
         {}/pg_basebackup -X stream -c fast -D \"$d\" -d \"$c\"' --",
        stage.field.plan.pg_bin.display()
    )
}

fn pids(stage: &Stage, name: &str) -> Vec<i32> {
    let text = fs::read_to_string(stage.field.dir.join(name)).unwrap_or_default();
    text.lines().filter_map(|line| line.trim().parse().ok()).collect()
}

async fn a_helper_is_left_alone(stage: &mut Stage, member: &MemberPlan) {
    let helper = pids(stage, "helpers")[0];
    assert!(is_alive(helper));
    stage.field.kill_node(member);
    let mark = stage.mark(member);
    stage.start(member);
    follows_again(stage, member, mark).await;
    let log = stage.log_since(member, mark);
    assert!(!log.contains("bootstrap from") && !log.contains("was ended"), "{log}");
    assert!(is_alive(helper), "a helper that is done was killed");
    kill(Pid::from_raw(helper), Signal::SIGKILL).expect("our own helper");
}

/// The group's own view may be older than the start.
async fn follows_again(stage: &Stage, member: &MemberPlan, mark: usize) {
    stage
        .until("a daemon that follows", LONG, async || {
            stage.log_since(member, mark).contains("a secondary, and following a leader")
        })
        .await;
    stage.healthy(LONG).await;
}

async fn half_a_copy_is_begun_anew(stage: &mut Stage, member: &MemberPlan) {
    let (slow, half) = (stage.field.dir.join("slow"), stage.field.dir.join("half"));
    fs::write(&slow, "").expect("a file");
    fs::remove_file(&half).expect("it ran");
    let reply = stage.send(Method::POST, member, "/reinitialize", json!({})).await;
    assert_eq!(reply.status, 200, "{}", reply.body);
    stage.until("half of a copy", SHORT, async || half.exists()).await;
    let data = stage.field.data_dir(member);
    let mark = data.with_extension("filling");
    // The mark begins with the files that are replaced; these are others.
    let noted = async || {
        let Ok(control) = fs::metadata(data.join("global/pg_control")) else { return false };
        let born = control.created().expect("a file system that tells it");
        let born = born.duration_since(UNIX_EPOCH).expect("since then").as_nanos();
        let entry = format!("entry {} {born} global/pg_control", control.ino());
        fs::read_to_string(&mark).is_ok_and(|text| text.contains(&entry))
    };
    stage.until("the files of the copy in its mark", SHORT, noted).await;
    let command = pids(stage, "half")[0];
    stage.field.kill_daemon(&member.name);
    fs::remove_file(&slow).expect("our own file");
    // It would go on, but for the signal.
    kill(Pid::from_raw(command), Signal::SIGKILL).expect("our own command");
    let from = stage.mark(member);
    stage.start(member);
    follows_again(stage, member, from).await;
    let log = stage.log_since(member, from);
    assert!(log.contains("over what this daemon has begun"), "{log}");
    assert!(!mark.exists(), "the mark stays");
    for helper in pids(stage, "helpers") {
        // The first has ended, and those of a killed copy were ended with it.
        let _ = kill(Pid::from_raw(helper), Signal::SIGKILL);
    }
}

/// All servers have their sockets in their data directories. A former primary with
/// rows of its own is not rewound half way: it says why, and how it comes back.
pub async fn sockets_in_the_data() {
    let mut stage = Stage::prepare_in(2, |plan| {
        plan.parameters = json!({"unix_socket_directories": "."});
        topology::document::patch(&mut plan.dcs, &json!({"primary_start_timeout": 0}));
    });
    stage.stand_up().await;
    let old = stage.leader().await;
    let client = connect(&old).await.expect("the primary takes connections");
    let table = "CREATE TABLE diverged (id bigint); CHECKPOINT";
    client.batch_execute(table).await.expect("a table");
    assert_eq!(stage.field.signal_backends(&old, "walsender", Signal::SIGSTOP), 1);
    client.batch_execute("INSERT INTO diverged VALUES (1)").await.expect("a row of its own");
    let mark = stage.mark(&old);
    assert!(stage.field.signal_postmaster(&old, Signal::SIGKILL));
    let new = stage.new_leader(&old, SHORT).await;
    let socket = format!("has its socket .s.PGSQL.{} in its data directory", new.pg_port);
    stage.until(&socket, LONG, async || stage.log_since(&old, mark).contains(&socket)).await;
    stage
        .until("the state in which it stays", LONG, async || {
            stage.log_since(&old, mark).contains("is kept as it is: reinitialize this member")
        })
        .await;
    let rewinding = stage.field.data_dir(&old).with_extension("rewinding");
    assert!(!rewinding.exists(), "it was rewound half way");
    let reply = stage.send(Method::POST, &old, "/reinitialize", json!({})).await;
    assert_eq!(reply.status, 200, "{}", reply.body);
    stage.healthy(LONG).await;
    stage.one_writer();
    stage.end();
}

/// An operator had to throw the log of the only member away.
pub async fn reset_log() {
    let mut stage = Stage::raise(1).await;
    let member = stage.leader().await;
    stage.field.kill_node(&member);
    let mut reset = stage.field.command(&stage.field.plan.pg_bin.join("pg_resetwal"));
    let pid_file = stage.field.data_dir(&member).join("postmaster.pid");
    if pid_file.exists() {
        fs::remove_file(&pid_file).expect("of a killed server");
    }
    let output = reset.arg("-f").arg(stage.field.data_dir(&member)).output().expect("it runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    meddle(&stage, "leader", None).await;
    let mark = stage.mark(&member);
    stage.start(&member);
    stage.until("a primary", LONG, async || stage.primary().await.is_some()).await;
    let log = stage.log_since(&member, mark);
    assert!(log.contains("takes the free lock, to start as a primary"), "{log}");
    stage.end();
}
