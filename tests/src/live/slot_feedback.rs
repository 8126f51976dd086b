//! Rows that slots keep for standbys with `hot_standby_feedback`, through a switchover.

use super::slots::{run_sql, shows, slots, stand_up_behind_the_first};
use super::stage::{LONG, Stage, ask_sql};
use super::versions::programs;
use ctl::field::{MemberPlan, free_ports};
use reqwest::Method;
use serde_json::json;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

/// Some loops, on busy cores.
const LOOPS: Duration = Duration::from_secs(40);

/// A former leader forgets the rows that its standbys asked it to keep, be they members or
/// readers of a permanent slot: else it asks the new leader to keep them, for ever.
pub async fn is_forgotten(major: u32) {
    let mut stage = Stage::prepare_plan(2, &programs(major), |plan, _| {
        let parameters = &mut plan.dcs["postgresql"]["parameters"];
        parameters["hot_standby_feedback"] = json!("on");
        parameters["wal_receiver_status_interval"] = json!("1s");
        plan.dcs["slots"] = json!({"keep": {"type": "physical"}});
    });
    let members = stand_up_behind_the_first(&mut stage).await;
    let (old, new) = (&members[0], &members[1]);
    slots(&stage, new, "keep n1").await;
    let outside = Outside::follow(&stage, &members, "keep");
    for name in ["n2", "keep"] {
        shows(&stage, old, "rows that are kept", &holds(name), "true").await;
    }
    let body = json!({"leader": old.name, "candidate": new.name});
    let reply = stage.send(Method::POST, old, "/switchover", body).await;
    assert_eq!(reply.status, 200, "{}", reply.body);
    assert_eq!(stage.healthy(LONG).await.name, new.name);
    // Its reader confirms something on the new leader.
    let rows = "CREATE TABLE gone AS SELECT generate_series(1, 10000) AS id";
    run_sql(new, rows).await;
    for name in ["n1", "keep"] {
        shows(&stage, new, "rows that are kept", &holds(name), "true").await;
    }
    for name in ["n2", "keep"] {
        shows(&stage, old, "a slot made anew", &holds(name), "false").await;
    }
    shows(&stage, new, "the reader", &is_active("keep"), "true").await;
    vacuum_removes_rows(&stage, new).await;
    drop(outside);
    stage.one_writer();
    stage.end();
}

fn holds(slot: &str) -> String {
    format!("SELECT (xmin IS NOT NULL)::text FROM pg_replication_slots WHERE slot_name = '{slot}'")
}

fn is_active(slot: &str) -> String {
    format!("SELECT active::text FROM pg_replication_slots WHERE slot_name = '{slot}'")
}

async fn vacuum_removes_rows(stage: &Stage, leader: &MemberPlan) {
    run_sql(leader, "DELETE FROM gone").await;
    let size = "SELECT pg_relation_size('gone')::text";
    stage
        .until("rows that vacuum removes", LOOPS, async || {
            run_sql(leader, "VACUUM gone").await;
            ask_sql(leader, size).await.is_ok_and(|size| size == "0")
        })
        .await;
}

/// A standby of the group that no daemon keeps; it ends when it is dropped.
struct Outside {
    stop: Command,
}

impl Outside {
    /// It streams through this slot from the member that accepts writes.
    fn follow(stage: &Stage, members: &[MemberPlan], slot: &str) -> Outside {
        let bin = &stage.field.plan.pg_bin;
        let first = stage.field.data_dir(&members[0]);
        let data = first.parent().expect("a directory of all members").join("outside");
        let mut copy = stage.field.command(&bin.join("pg_basebackup"));
        copy.args(["-h", &members[0].host, "-p", &members[0].pg_port.to_string()]);
        copy.args(["-U", "replicator", "-c", "fast", "-R", "-S", slot, "-D"]).arg(&data);
        done(copy.env("PGPASSWORD", "copy-secret"));
        let pg_ctl = |words: &[&str]| {
            let mut command = stage.field.command(&bin.join("pg_ctl"));
            command.arg("-D").arg(&data).arg("-w").args(words);
            command
        };
        let stop = pg_ctl(&["-m", "immediate", "stop"]);
        let options = options(members, slot, &data);
        let log = data.join("log").display().to_string();
        done(&mut pg_ctl(&["-l", &log, "-o", &options, "start"]));
        Outside { stop }
    }
}

fn options(members: &[MemberPlan], slot: &str, data: &Path) -> String {
    let hosts: Vec<&str> = members.iter().map(|member| member.host.as_str()).collect();
    let ports: Vec<String> = members.iter().map(|member| member.pg_port.to_string()).collect();
    let source = format!(
        "host={} port={} user=replicator password=copy-secret target_session_attrs=read-write \
         application_name=outside",
        hosts.join(","),
        ports.join(",")
    );
    let port = free_ports(1).expect("a port")[0];
    let quiet = format!("-c unix_socket_directories={}", data.display());
    format!(
        "-p {port} -c listen_addresses=127.0.0.1 {quiet} -c hot_standby_feedback=on \
         -c primary_slot_name={slot} -c 'primary_conninfo={source}'"
    )
}

fn done(command: &mut Command) {
    let output = command.output().expect("it runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

impl Drop for Outside {
    fn drop(&mut self) {
        if let Err(error) = self.stop.output() {
            eprintln!("the standby outside of the group: {error}");
        }
    }
}
