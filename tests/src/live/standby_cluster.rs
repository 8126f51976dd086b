//! A cluster that follows another one: born from it, with a leader of its own,
//! promoted in the end.

use super::scripts::control;
use super::stage::{LONG, SHORT, Stage, ask_sql, connect};
use ctl::field::{MemberPlan, Plan};
use nix::sys::signal::Signal;
use serde_json::{Value, json};
use std::path::Path;

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

/// A base backup that an operator has made, in a store that knows nothing: it leads
/// as soon as it runs, for there is no writer to wait for.
pub async fn brought_along() {
    let main = Stage::raise(1).await;
    let remote = main.leader().await;
    let client = connect(&remote).await.expect("it answers");
    client.batch_execute("CREATE TABLE kept (id int)").await.expect("a table");

    let mut stage = Stage::prepare(1);
    let member = stage.members()[0].clone();
    let dcs = json!({"standby_cluster": {"host": "127.0.0.1", "port": remote.pg_port}});
    let overlay = json!({"scope": "copy", "bootstrap": {"dcs": dcs}});
    stage.field.reconfigure(&member, &overlay).expect("a file");
    let mut backup = stage.field.command(&stage.field.plan.pg_bin.join("pg_basebackup"));
    backup.args(["-h", "127.0.0.1", "-U", "replicator", "-c", "fast", "-R", "-p"]);
    backup.arg(remote.pg_port.to_string()).arg("-D").arg(stage.field.data_dir(&member));
    backup.env("PGPASSWORD", "copy-secret");
    let output = backup.output().expect("pg_basebackup runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    stage.start_store();
    let begin = std::time::Instant::now();
    stage.start(&member);
    assert_eq!(standby_leader(&stage).await.name, member.name);
    println!("  a standby leader after {:.2?}", begin.elapsed());
    assert!(begin.elapsed() < super::stage::TTL / 2, "it waited: {:?}", begin.elapsed());
    arrives(&stage, &client, 1).await;
    stage.end();
    main.end();
}

/// Two clusters change places: the one that led is demoted in order, the other
/// promoted; and one that went on by itself is rewound against the other.
pub async fn change_places() {
    let mut archive = std::path::PathBuf::new();
    let mut main = Stage::prepare_with(1, |plan, dir| {
        archive = dir.join("archive");
        let command = format!("cp %p {}/%f", archive.display());
        plan.parameters = json!({"archive_mode": "on", "archive_command": command});
    });
    std::fs::create_dir(&archive).expect("a directory");
    main.field.give(&archive).expect("the servers' user has it");
    main.stand_up().await;
    let first = main.leader().await;
    let client = connect(&first).await.expect("it answers");
    client.batch_execute("CREATE TABLE kept (id int)").await.expect("a table");

    let mut copy = Stage::prepare(1);
    let cluster = |port: u16| json!({"host": "127.0.0.1", "port": port});
    let second = copy.members()[0].clone();
    let dcs = json!({"standby_cluster": cluster(first.pg_port)});
    let overlay = json!({"scope": "copy", "bootstrap": {"dcs": dcs}});
    copy.field.reconfigure(&second, &overlay).expect("a file");
    copy.start_store();
    copy.start(&second);
    standby_leader(&copy).await;
    arrives(&copy, &client, 1).await;
    drop(client);

    let mark = main.mark(&first);
    main.patch(json!({"standby_cluster": cluster(second.pg_port)})).await;
    follows(&main, &first, second.pg_port).await;
    let held = super::birth::entries(&main).await.remove("leader").map(|entry| entry.value);
    assert_eq!(held.as_ref(), Some(&first.name), "the lock was given away");
    assert_eq!(main.get(&first, "/standby-leader").await.status, 200);
    let log = main.log_since(&first, mark);
    assert!(log.contains("continues as standby leader"), "it was not demoted in order");
    ends_in(&main, &first, &archive);

    copy.patch(json!({"standby_cluster": null})).await;
    opens(&copy, &second).await;
    let client = connect(&second).await.expect("it answers");
    arrives(&main, &client, 2).await;
    assert!(!main.log_since(&first, mark).contains("pg_rewind"), "an orderly end needs none");

    // It goes on by itself, and so does the other one.
    main.patch(json!({"standby_cluster": null})).await;
    opens(&main, &first).await;
    let own = connect(&first).await.expect("it answers");
    own.batch_execute("INSERT INTO kept VALUES (3); CHECKPOINT").await.expect("a row of its own");
    drop(own);
    client.batch_execute("INSERT INTO kept VALUES (4)").await.expect("a row");
    let mark = main.mark(&first);
    main.patch(json!({"standby_cluster": cluster(second.pg_port)})).await;
    follows(&main, &first, second.pg_port).await;
    arrives(&main, &client, 5).await;
    let log = main.log_since(&first, mark);
    assert!(log.contains("done: running pg_rewind"), "it was not rewound against the remote");
    let rows = ask_sql(&first, "SELECT string_agg(id::text, ',' ORDER BY id) FROM kept").await;
    assert_eq!(rows.ok().as_deref(), Some("1,2,4,5"), "a row of its own history was kept");
    main.end();
    copy.end();
}

/// Two clusters of two members change places by `demote-cluster` and `promote-cluster`: no row is
/// lost, and nothing is rewound. More rounds by `MATRIARCH_ROUNDS`.
pub async fn change_places_often() {
    let mut one = Stage::raise(2).await;
    table(&one.leader().await).await;
    let mut two = copy_of(2, upstream(&one.members()));
    stand_by(&mut two).await;
    for round in 0..rounds(2) {
        let row = 2 * round as i32;
        let client = connect(&one.leader().await).await.expect("it answers");
        client.execute("INSERT INTO kept VALUES ($1)", &[&row]).await.expect("a row");
        drop(client);
        let begin = std::time::Instant::now();
        demote(&one, &two.members()).await;
        // Every row was received before the promotion.
        standby_leader(&one).await;
        for member in two.members() {
            assert!(has(&member, row).await, "{} lacks a row", member.name);
        }
        let demoted = begin.elapsed();
        promote(&two).await;
        assert!(two.primary().await.is_some(), "the command has waited for a primary");
        println!(
            "  round {round}: demoted after {demoted:.2?}, promoted after {:.2?}",
            begin.elapsed()
        );
        let leader = two.healthy(LONG).await;
        standby_leader(&one).await;
        let client = connect(&leader).await.expect("it answers");
        arrives(&one, &client, row + 1).await;
        (one, two) = (two, one);
    }
    for stage in [one, two] {
        for member in stage.members() {
            for word in ["running pg_rewind", "done: reinitialize"] {
                let log = stage.field.log(&member.name);
                assert!(!log.contains(word), "{} needed {word}", member.name);
            }
        }
        stage.end();
    }
}

/// By the command, which ends once the cluster follows.
async fn demote(stage: &Stage, servers: &[MemberPlan]) {
    let section = upstream(servers);
    let text = |key: &str| section[key].as_str().expect("a text").to_string();
    let (hosts, ports) = (text("host"), text("port"));
    let words = ["demote-cluster", "--host", &hosts, "--port", &ports, "--force"];
    let told = control(stage, &words).await;
    assert!(told.contains(" is demoted\n") && told.contains("Standby Leader"), "{told}");
    let again = control(stage, &words).await;
    assert!(again.contains("follows another one already"), "{again}");
}

async fn promote(stage: &Stage) {
    let told = control(stage, &["promote-cluster", "--force"]).await;
    assert!(told.contains(" is promoted\n") && told.contains(" waiting: the leader "), "{told}");
}

pub async fn opens(stage: &Stage, member: &MemberPlan) {
    let what = format!("{} accepts writes", member.name);
    stage.until(&what, SHORT, async || stage.watch.writable().contains(&member.name)).await;
}

/// The segment with the last checkpoint of the old primary is in the archive.
fn ends_in(stage: &Stage, member: &MemberPlan, archive: &std::path::Path) {
    let log = stage.field.log(&member.name);
    assert!(!log.contains("is not in the archive"), "the end of the log was not archived");
    let program = stage.field.plan.pg_bin.join("pg_waldump");
    let mut names: Vec<_> = std::fs::read_dir(archive)
        .expect("the archive")
        .flatten()
        .map(|entry| entry.path())
        .filter(|path| path.extension().is_none())
        .collect();
    names.sort();
    let last = names.last().expect("segments");
    let dump = stage.field.command(&program).arg(last).output().expect("it runs");
    let text = String::from_utf8_lossy(&dump.stdout).into_owned();
    assert!(text.contains("CHECKPOINT_SHUTDOWN"), "{}: {text}", last.display());
}

/// A cluster of its own store whose members are `dr1`, `dr2`, ...; nothing runs yet.
pub fn copy_with(members: usize, section: Value, change: impl FnOnce(&mut Plan, &Path)) -> Stage {
    Stage::prepare_with(members, |plan, dir| {
        plan.scope = "copy".into();
        for member in &mut plan.regions[0].members {
            member.name = member.name.replace('n', "dr");
        }
        plan.dcs["standby_cluster"] = section;
        change(plan, dir);
    })
}

pub fn copy_of(members: usize, section: Value) -> Stage {
    copy_with(members, section, |_, _| {})
}

/// The section of `/config` that names all of these servers.
pub fn upstream(servers: &[MemberPlan]) -> Value {
    let hosts: Vec<&str> = servers.iter().map(|server| server.host.as_str()).collect();
    let ports: Vec<String> = servers.iter().map(|server| server.pg_port.to_string()).collect();
    json!({"host": hosts.join(","), "port": ports.join(",")})
}

/// Starts a cluster that was prepared; gives its standby leader.
pub async fn stand_by(stage: &mut Stage) -> MemberPlan {
    stage.start_store();
    for member in stage.members() {
        stage.start(&member);
    }
    standby_leader(stage).await
}

/// `MATRIARCH_ROUNDS`, else as many as every run has time for.
pub fn rounds(usual: usize) -> usize {
    let more = std::env::var("MATRIARCH_ROUNDS").ok().and_then(|text| text.parse().ok());
    more.unwrap_or(usual)
}

/// When the server of each member began: another moment means a restart.
pub async fn starts(stage: &Stage) -> Vec<String> {
    let mut all = Vec::new();
    for member in stage.members() {
        let sql = "SELECT pg_postmaster_start_time()::text";
        all.push(ask_sql(&member, sql).await.expect("it answers"));
    }
    all
}

/// A table for rows that a remote cluster gives on.
pub async fn table(remote: &MemberPlan) {
    let client = connect(remote).await.expect("it answers");
    client.batch_execute("CREATE TABLE IF NOT EXISTS kept (id int)").await.expect("a table");
}

pub async fn standby_leader(stage: &Stage) -> MemberPlan {
    let members = stage.members();
    let all: Vec<&MemberPlan> = members.iter().collect();
    let mut leads = Vec::new();
    stage
        .until("a standby cluster with one leader", LONG, async || {
            leads = stage.ask.who(&all, "/standby-leader").await;
            leads.len() == 1 && stage.ask.is_healthy(&all).await
        })
        .await;
    assert!(stage.primary().await.is_none(), "it is no standby cluster");
    leads[0].clone()
}

pub async fn follows(stage: &Stage, member: &MemberPlan, port: u16) {
    let sql = "SELECT sender_port::text FROM pg_stat_wal_receiver WHERE status = 'streaming'";
    stage
        .until("the right upstream", SHORT, async || {
            ask_sql(member, sql).await.is_ok_and(|sender| sender == port.to_string())
        })
        .await;
}

/// A row of the remote side is on all members.
pub async fn arrives(stage: &Stage, remote: &tokio_postgres::Client, row: i32) {
    remote.execute("INSERT INTO kept VALUES ($1)", &[&row]).await.expect("a row");
    for member in stage.members() {
        shows(stage, &member, row).await;
    }
}

pub async fn shows(stage: &Stage, member: &MemberPlan, row: i32) {
    let what = format!("row {row} on {}", member.name);
    stage.until(&what, LONG, async || has(member, row).await).await;
}

pub async fn has(member: &MemberPlan, row: i32) -> bool {
    let sql = format!("SELECT count(*)::text FROM kept WHERE id = {row}");
    ask_sql(member, &sql).await.is_ok_and(|count| count == "1")
}
