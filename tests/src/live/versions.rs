//! The life of a group on one version of PostgreSQL.

use super::recovery::{self, shows};
use super::stage::{LONG, SHORT, Stage, ask_sql, connect};
use ctl::field::MemberPlan;
use ctl::field::process::find_postgres;
use nix::sys::signal::Signal;
use reqwest::Method;
use serde_json::{Value, json};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;

/// A setting with a unit that only a restart changes.
const SIZE: &str = "track_activity_query_size";

/// Born, streams, takes settings, switches over, rewinds.
pub async fn life(major: u32) {
    let mut stage = Stage::prepare_on(2, &programs(major));
    stage.start_store();
    for member in stage.members() {
        stage.start(&member);
    }
    let leader = stage.healthy(LONG).await;
    for member in stage.members() {
        let version = ask_sql(&member, "SHOW server_version_num").await.expect("a version");
        assert!(version.starts_with(&major.to_string()), "{version}");
    }
    impossible_settings(&stage, &leader, major).await;
    recovery::of_a_standby(&mut stage, &leader).await;
    roles(&mut stage, &leader).await;
    let new = switchover(&stage, &leader).await;
    waiting_settings(&stage, &new).await;
    replay_goes_on(&stage, &leader).await;
    diverged(&stage, &new).await;
    stage.one_writer();
    stage.end();
}

/// Where the programs of this version are: installed, or fetched for tests.
pub(super) fn programs(major: u32) -> PathBuf {
    let installed = find_postgres().filter(|bin| version_of(bin) == Some(major));
    let target = Path::new(env!("CARGO_MANIFEST_DIR")).join("../target");
    let target = std::env::var_os("CARGO_TARGET_DIR").map_or(target, PathBuf::from);
    let places = [
        Some(PathBuf::from(format!("/usr/lib/postgresql/{major}/bin"))),
        installed,
        Some(target.join(format!("postgres/{major}/bin"))),
    ];
    let found = places.into_iter().flatten().find(|bin| version_of(bin) == Some(major));
    found.unwrap_or_else(|| panic!("PostgreSQL {major} is missing: run tools/postgres_versions.sh"))
}

fn version_of(bin: &Path) -> Option<u32> {
    let output = Command::new(bin.join("postgres")).arg("--version").output().ok()?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let word = text.split_whitespace().find(|word| word.starts_with(|c: char| c.is_numeric()))?;
    word.split('.').next()?.parse().ok()
}

/// What this version would not start with does not get into its files.
async fn impossible_settings(stage: &Stage, leader: &MemberPlan, major: u32) {
    let mark = stage.mark(leader);
    let parameters = json!({"work_mem": "1kB", "work_men": "4MB", "autovacuum": "maybe",
        "wal_compression": "perhaps", "random_page_cost": 2.5, "app.shard": 7,
        "statement_timeout": "99999999999"});
    stage.patch(json!({"postgresql": {"parameters": parameters}})).await;
    for member in stage.members() {
        shows(stage, &member, "random_page_cost", "2.5").await;
        shows(stage, &member, "work_mem", "64kB").await;
        shows(stage, &member, "app.shard", "7").await;
        shows(stage, &member, "statement_timeout", "2147483647ms").await;
        shows(stage, &member, "autovacuum", "on").await;
        let path = stage.field.data_dir(&member).join("postgresql.conf");
        let conf = std::fs::read_to_string(path).expect("postgresql.conf");
        for left_out in ["work_men", "autovacuum", "wal_compression"] {
            assert!(!conf.contains(left_out), "{conf}");
        }
    }
    let log = stage.log_since(leader, mark);
    for word in ["work_men = 4MB is not a setting", "autovacuum = maybe requires a Boolean"] {
        assert!(log.contains(word), "`{word}` of PostgreSQL {major} is not in\n{log}");
    }
    let gone = ["work_men", "autovacuum", "wal_compression", "work_mem", "statement_timeout"];
    let gone: serde_json::Map<String, Value> =
        gone.iter().map(|name| (name.to_string(), Value::Null)).collect();
    stage.patch(json!({"postgresql": {"parameters": gone}})).await;
}

/// What holds for one role follows the role.
async fn roles(stage: &mut Stage, leader: &MemberPlan) {
    let replica = json!({"work_mem": "6MB"});
    let primary = json!({"work_mem": "7MB"});
    let by_role = json!({"parameters_replica": replica, "parameters_primary": primary});
    stage.patch(json!({"postgresql": by_role})).await;
    shows(stage, leader, "work_mem", "7MB").await;
    shows(stage, &stage.others(leader)[0], "work_mem", "6MB").await;
}

async fn switchover(stage: &Stage, old: &MemberPlan) -> MemberPlan {
    let new = stage.others(old)[0].clone();
    let since = Instant::now();
    let body = json!({"leader": old.name, "candidate": new.name});
    let reply = stage.send(Method::POST, old, "/switchover", body).await;
    assert_eq!(reply.status, 200, "{}", reply.body);
    assert_eq!(stage.healthy(LONG).await.name, new.name);
    println!("  switched over, all stream after {:.2?}", since.elapsed());
    shows(stage, &new, "work_mem", "7MB").await;
    shows(stage, old, "work_mem", "6MB").await;
    new
}

/// Fewer connections: the leader restarts with less; a standby keeps what its
/// log demands until it has replayed that, and says so.
async fn waiting_settings(stage: &Stage, leader: &MemberPlan) {
    let parameters = json!({"max_connections": 35, "track_activity_query_size": 2048});
    stage.patch(json!({"postgresql": {"parameters": parameters}})).await;
    for member in stage.members() {
        let what = format!("reasons of {}", member.name);
        stage
            .until(&what, SHORT, async || {
                let reasons = reasons(stage, &member).await;
                reasons["max_connections"] == json!({"old_value": "40", "new_value": "35"})
                    && reasons[SIZE] == json!({"old_value": "1kB", "new_value": "2kB"})
            })
            .await;
    }
    let standby = stage.others(leader)[0].clone();
    // The standby first: it may not have less than its primary had.
    restart(stage, &standby).await;
    shows(stage, &standby, SIZE, "2kB").await;
    shows(stage, &standby, "max_connections", "40").await;
    let kept = json!({"max_connections": {"old_value": "40", "new_value": "35"}});
    stage
        .until("only the demanded one is left", SHORT, async || {
            reasons(stage, &standby).await == kept
        })
        .await;
    restart(stage, leader).await;
    shows(stage, leader, "max_connections", "35").await;
    stage.healthy(LONG).await;
}

async fn reasons(stage: &Stage, member: &MemberPlan) -> Value {
    stage.get(member, "/patroni").await.body["pending_restart_reason"].clone()
}

async fn restart(stage: &Stage, member: &MemberPlan) {
    let reply = stage.send(Method::POST, member, "/restart", json!({})).await;
    assert_eq!(reply.status, 200, "{}", reply.body);
}

/// Replay that was paused (by a parameter change, or by hand) is resumed.
async fn replay_goes_on(stage: &Stage, standby: &MemberPlan) {
    let client = connect(standby).await.expect("a standby takes connections");
    client.batch_execute("SELECT pg_wal_replay_pause()").await.expect("a pause");
    stage
        .until("replay that goes on", SHORT, async || {
            let paused = ask_sql(standby, "SELECT pg_is_wal_replay_paused()::text").await;
            paused.is_ok_and(|paused| paused == "false")
        })
        .await;
}

/// Rows that only this primary has; then it dies, and comes back by rewind.
async fn diverged(stage: &Stage, old: &MemberPlan) {
    stage.patch(json!({"primary_start_timeout": 0})).await;
    let client = connect(old).await.expect("the primary takes connections");
    client.batch_execute("CREATE TABLE diverged (id bigint)").await.expect("a table");
    let sql = "SELECT (replay_lsn >= pg_current_wal_flush_lsn())::text FROM pg_stat_replication";
    stage
        .until("the table on the standby", SHORT, async || {
            ask_sql(old, sql).await.is_ok_and(|there| there == "true")
        })
        .await;
    assert_eq!(stage.field.signal_backends(old, "walsender", Signal::SIGSTOP), 1);
    client
        .batch_execute("INSERT INTO diverged SELECT generate_series(1, 1000)")
        .await
        .expect("rows");
    let mark = stage.mark(old);
    let since = Instant::now();
    assert!(stage.field.signal_postmaster(old, Signal::SIGKILL));
    let new = stage.new_leader(old, SHORT).await;
    assert_eq!(stage.healthy(LONG).await.name, new.name);
    println!("  rewound, all stream after {:.2?}", since.elapsed());
    let log = stage.log_since(old, mark);
    assert!(log.contains("done: running pg_rewind"), "{} was not rewound", old.name);
    for member in stage.members() {
        let count = ask_sql(&member, "SELECT count(*)::text FROM diverged").await;
        assert_eq!(count.ok().as_deref(), Some("0"), "{} kept a foreign history", member.name);
    }
}
