//! What is not ours is not touched, and what is wrong is said at once.

use super::stage::{LONG, SHORT, Stage};
use ctl::field::MemberPlan;
use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::time::Duration;

/// A data directory of another cluster, then one of another program.
pub async fn foreign_data() {
    let mut stage = Stage::raise(2).await;
    let leader = stage.leader().await;
    let member = stage.others(&leader)[0].clone();
    stage.field.kill_node(&member);
    let (data, kept) = (stage.field.data_dir(&member), stage.field.dir.join("kept"));
    fs::rename(&data, &kept).expect("the old data is put away");

    another_cluster(&mut stage, &member).await;
    fs::rename(&data, stage.field.dir.join("other")).expect("the other cluster is put away");
    another_program(&mut stage, &member).await;

    fs::remove_dir_all(&data).expect("our own file");
    fs::rename(&kept, &data).expect("the old data is put back");
    stage.start(&member);
    assert_eq!(stage.healthy(LONG).await.name, leader.name);
    stage.one_writer();
    stage.end();
}

async fn another_cluster(stage: &mut Stage, member: &MemberPlan) {
    let data = stage.field.data_dir(member);
    let mut initdb = stage.field.command(&stage.field.plan.pg_bin.join("initdb"));
    initdb.args(["-U", "postgres", "--no-sync", "-D"]).arg(&data);
    assert!(initdb.output().expect("initdb runs").status.success());
    let before = contents(&data);
    let mark = stage.mark(member);
    stage.start(member);
    let code = stage.field.wait_exit(&member.name, SHORT).expect("the daemon ends");
    let log = stage.log_since(member, mark);
    assert_eq!(code, Some(1), "{log}");
    assert!(log.contains("belongs to another cluster"), "{log}");
    assert!(contents(&data) == before, "the other cluster's files were touched");
}

async fn another_program(stage: &mut Stage, member: &MemberPlan) {
    let data = stage.field.data_dir(member);
    let mut mkdir = stage.field.command(Path::new("mkdir"));
    assert!(mkdir.arg(&data).status().expect("mkdir runs").success());
    let mut write = stage.field.command(Path::new("sh"));
    write.args(["-c", "echo precious > \"$1/letters.txt\"", "sh"]).arg(&data);
    assert!(write.status().expect("sh runs").success());
    let before = contents(&data);
    let mark = stage.mark(member);
    stage.start(member);
    stage
        .until("a refusal", SHORT, async || {
            stage.log_since(member, mark).contains("letters.txt and no PG_VERSION")
        })
        .await;
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert!(contents(&data) == before, "another program's files were touched");
    stage.field.kill_daemon(&member.name);
}

/// Every file below, with its bytes.
fn contents(dir: &Path) -> BTreeMap<String, Vec<u8>> {
    let mut found = BTreeMap::new();
    let mut open = vec![dir.to_path_buf()];
    while let Some(path) = open.pop() {
        if path.is_dir() {
            let entries = fs::read_dir(&path).expect("it can be listed");
            open.extend(entries.flatten().map(|entry| entry.path()));
        } else {
            let bytes = fs::read(&path).expect("it can be read");
            found.insert(path.display().to_string(), bytes);
        }
    }
    found
}

/// All mistakes of a file at once, before anything is started.
pub async fn bad_configuration() {
    let mut stage = Stage::prepare(1);
    let member = stage.members()[0].clone();
    // No store runs yet, and every address is one of this machine only.
    let (code, text) = validate(&stage, &member);
    assert_eq!(code, Some(1));
    let expected =
        |line: &str| line.starts_with("etcd3: ") || line.contains("means another machine");
    assert!(text.lines().count() == 3 && text.lines().all(expected), "{text}");

    let bad = serde_json::json!({
        "scope": "",
        "restapi": {"listen": "127.0.0.1:notaport"},
        "postgresql": {"connect_address": 7},
        "bootstrap": {"dcs": {"ttl": "soon"}},
    });
    stage.field.reconfigure(&member, &bad).expect("the file is written");
    let (code, text) = validate(&stage, &member);
    println!("  findings of one run:\n{}", indented(&text));
    assert_eq!(code, Some(1));
    for path in ["scope", "restapi.listen", "postgresql.connect_address", "bootstrap.dcs.ttl"] {
        assert!(text.lines().any(|line| line.starts_with(path)), "no finding for {path}");
    }
    let (code, told) = run(&stage, &member, &[]);
    assert_eq!(code, Some(1));
    assert!(told.lines().count() >= 4, "{told}");
    assert!(told.lines().all(|line| text.lines().any(|found| found == line)), "{told}");
    assert!(!stage.field.dir.join("data").exists(), "something was made");
    let connected = tokio::net::TcpStream::connect(("127.0.0.1", member.api_port)).await;
    assert!(connected.is_err(), "something listens");
}

fn validate(stage: &Stage, member: &MemberPlan) -> (Option<i32>, String) {
    run(stage, member, &["--validate-config"])
}

fn run(stage: &Stage, member: &MemberPlan, flags: &[&str]) -> (Option<i32>, String) {
    let mut daemon = stage.field.command(&stage.field.daemon_program());
    daemon.args(flags).arg(stage.field.config_path(member));
    let output = daemon.output().expect("the daemon runs");
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    (output.status.code(), text)
}

fn indented(text: &str) -> String {
    text.lines().map(|line| format!("    {line}\n")).collect()
}
