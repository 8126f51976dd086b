//! Numbers of timelines that were claimed and never begun: members on an older timeline
//! and a recovery from the archive find their way past them.

use super::stage::{LONG, SHORT, Stage, TTL, ask_sql, connect};
use ctl::field::MemberPlan;
use reqwest::Method;
use serde_json::json;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Stdio};

/// The first winner's pre_promote refuses, the next one begins the number after. A
/// member of the first timeline comes back only then, and a base backup of the first
/// timeline is recovered from the archive to the latest one. `restore`: the group has a
/// restore_command; without one its archive_command shows that it replaces nothing.
pub async fn with_a_gap(restore: bool) {
    let mut stage = Stage::prepare_with(3, |plan, dir| {
        let at = |name: &str| dir.join(name).display().to_string();
        let command = format!("cp {}/%f %p", at("archive"));
        let change = json!({"postgresql": {
            "pre_promote": at("gate"),
            "parameters": {
                "archive_mode": "on",
                // What it has, it keeps. PostgreSQL offers a segment twice: pg_basebackup does not
                // mark its last one as archived if it has not received all of that.
                "archive_command":
                    format!("test ! -f {0}/%f && cp %p {0}/%f || cmp -s %p {0}/%f", at("archive")),
            },
            "recovery_conf": restore.then(|| json!({"restore_command": command})),
        }});
        topology::document::patch(&mut plan.dcs, &change);
    });
    let dir = stage.field.dir.clone();
    fs::create_dir(dir.join("archive")).expect("a directory");
    stage.field.give(&dir.join("archive")).expect("it is the servers'");
    let refuse = dir.join("refuse");
    let script = format!("#!/bin/sh\n[ -f {0} ] && rm {0} && exit 1\nexit 0\n", refuse.display());
    fs::write(dir.join("gate"), script).expect("a script");
    fs::set_permissions(dir.join("gate"), fs::Permissions::from_mode(0o755)).expect("a mode");
    stage.stand_up().await;

    let old = stage.leader().await;
    run_sql(&old, "CREATE TABLE kept (id int)").await;
    back_up(&stage, &old, &dir.join("backup"));
    run_sql(&old, "INSERT INTO kept SELECT generate_series(1, 10)").await;
    stage.replayed_by(2, &old).await;
    fs::write(&refuse, "").expect("a file");
    stage.field.kill_node(&old);
    let new = stage.new_leader(&old, TTL * 3).await;
    assert!(!refuse.exists(), "nobody was refused");
    let writes = "SELECT left(pg_walfile_name(pg_current_wal_lsn()), 8)";
    let writes = ask_sql(&new, writes).await;
    assert_eq!(writes.ok().as_deref(), Some("00000003"), "timeline 2 was never begun");
    run_sql(&new, "INSERT INTO kept SELECT generate_series(11, 50)").await;

    let reply = stage.send(Method::POST, &new, "/restart", json!({})).await;
    assert_eq!(reply.status, 200, "{}", reply.body);
    stage.start(&old);
    assert_eq!(stage.healthy(LONG).await.name, new.name);
    run_sql(&new, "INSERT INTO kept VALUES (51)").await;
    run_sql(&new, "SELECT pg_switch_wal()").await;
    let archived = "SELECT (last_archived_wal > '000000030000')::text FROM pg_stat_archiver";
    stage
        .until("an archive that has all", SHORT, async || {
            let waits =
                "SELECT count(*)::text FROM pg_ls_archive_statusdir() WHERE name ~ 'ready$'";
            ask_sql(&new, archived).await.is_ok_and(|yes| yes == "true")
                && ask_sql(&new, waits).await.is_ok_and(|count| count == "0")
        })
        .await;
    let rows = restored(&stage, &dir, &old).await;
    assert_eq!(rows, "51", "the archive was recovered to its latest timeline");
    stage.one_writer();
    stage.end();
}

async fn run_sql(member: &MemberPlan, sql: &str) {
    let client = connect(member).await.expect("it takes connections");
    client.simple_query(sql).await.unwrap_or_else(|why| panic!("{}: {sql}: {why}", member.name));
}

fn run(mut command: Command) {
    command.stdout(Stdio::null()).stdin(Stdio::null());
    let status = command.status().expect("it runs");
    assert!(status.success(), "{command:?}: {status}");
}

fn back_up(stage: &Stage, from: &MemberPlan, to: &Path) {
    let mut command = stage.field.command(&stage.field.plan.pg_bin.join("pg_basebackup"));
    command.args(["-h", &from.host, "-p", &from.pg_port.to_string(), "-U", "postgres"]);
    command.args(["-c", "fast", "-D"]).arg(to);
    run(command);
}

/// How many rows a server has that was made of the backup and the archive.
async fn restored(stage: &Stage, dir: &Path, like: &MemberPlan) -> String {
    let data = dir.join("backup");
    fs::write(data.join("recovery.signal"), "").expect("a file");
    stage.field.give(&data).expect("it is the servers'");
    let port = ctl::field::free_ports(1).expect("a free port")[0];
    let options = format!(
        "-p {port} -c archive_mode=off -c restore_command='cp {}/archive/%f %p' \
         -c recovery_target_timeline=latest -c recovery_target_action=promote",
        dir.display()
    );
    let mut command = stage.field.command(&stage.field.plan.pg_bin.join("pg_ctl"));
    command.arg("-D").arg(&data).arg("-l").arg(dir.join("restored.log"));
    command.args(["-w", "-t", "60", "-o", &options, "start"]);
    run(command);
    let server = MemberPlan { pg_port: port, ..like.clone() };
    stage
        .until("the end of recovery", SHORT, async || {
            ask_sql(&server, "SELECT pg_is_in_recovery()::text")
                .await
                .is_ok_and(|yes| yes == "false")
        })
        .await;
    let rows = ask_sql(&server, "SELECT count(*)::text FROM kept").await;
    let mut command = stage.field.command(&stage.field.plan.pg_bin.join("pg_ctl"));
    command.arg("-D").arg(&data).args(["-m", "immediate", "stop"]);
    run(command);
    rows.expect("the restored server answers")
}

/// The archive has the history of a timeline on which no member leads and that left this
/// one long ago: a standby that is started follows its leader all the same.
pub async fn of_no_leader() {
    let mut stage = Stage::prepare_with(2, |plan, dir| {
        let archive = dir.join("archive").display().to_string();
        let change = json!({"postgresql": {
            "recovery_conf": {"restore_command": format!("cp {archive}/%f %p")},
        }});
        topology::document::patch(&mut plan.dcs, &change);
    });
    let archive = stage.field.dir.join("archive");
    fs::create_dir(&archive).expect("a directory");
    stage.stand_up().await;
    let leader = stage.leader().await;
    let standby = stage.others(&leader).pop().expect("two members");
    let text = "1\t0/1000000\tno recovery target specified\n";
    fs::write(archive.join("00000002.history"), text).expect("a history");
    stage.field.kill_node(&standby);
    let mark = stage.mark(&standby);
    stage.start(&standby);
    let remedy = "above 00000001.history, in the archive";
    stage
        .until("the reason in its log", SHORT, async || {
            stage.log_since(&standby, mark).contains(remedy)
        })
        .await;
    let streams = "SELECT current_setting('recovery_target_timeline') || status \
                   FROM pg_stat_wal_receiver";
    stage
        .until("a standby that streams", LONG, async || {
            ask_sql(&standby, streams).await.is_ok_and(|seen| seen == "1streaming")
        })
        .await;
    assert_eq!(stage.healthy(LONG).await.name, leader.name);
    stage.end();
}
