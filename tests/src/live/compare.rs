//! A former primary comes back: its log is compared with the leader's history
//! before it follows.

use super::stage::{LONG, SHORT, Stage, TTL, ask_sql, connect};
use ctl::field::MemberPlan;
use serde_json::json;
use std::fs;

const REPLAYED: &str = "SELECT count(*)::text FROM pg_stat_replication WHERE replay_lsn >= ";

/// The log of a primary that died ends exactly with a segment, and no later one
/// was made: there is nothing that a reader of the log could find behind it.
pub async fn log_ends_with_a_segment() {
    let mut stage = Stage::raise(2).await;
    let old = stage.leader().await;
    let client = connect(&old).await.expect("the leader takes connections");
    let table = "CREATE TABLE kept AS SELECT 1 AS id";
    client.batch_execute(table).await.expect("a table");
    let switched = ask_sql(&old, "SELECT pg_switch_wal()::text").await.expect("a switch");
    let closed = ask_sql(&old, &format!("SELECT pg_walfile_name('{switched}')")).await;
    let closed = closed.expect("the name of a segment");
    stage
        .until("a replica that has the closed segment", SHORT, async || {
            let count = ask_sql(&old, &format!("{REPLAYED} '{switched}'")).await;
            count.is_ok_and(|count| count == "1")
        })
        .await;
    stage.field.kill_node(&old);
    forget_later_segments(&stage, &old, &closed);
    let new = stage.new_leader(&old, TTL + SHORT).await;
    let mark = stage.mark(&old);
    stage.start(&old);
    assert_eq!(stage.healthy(LONG).await.name, new.name);
    let log = stage.log_since(&old, mark);
    for word in ["pg_rewind", "reinitialize", "bootstrap from", "cannot be read"] {
        assert!(!log.contains(word), "{} comes back by itself, without `{word}`", old.name);
    }
    let kept = ask_sql(&old, "SELECT count(*)::text FROM kept").await;
    assert_eq!(kept.ok().as_deref(), Some("1"));
    stage.one_writer();
    stage.end();
}

/// As if nothing had been written behind the segment that was closed.
fn forget_later_segments(stage: &Stage, member: &MemberPlan, closed: &str) {
    let wal = stage.field.data_dir(member).join("pg_wal");
    for entry in fs::read_dir(&wal).expect("a directory") {
        let name = entry.expect("an entry").file_name().to_string_lossy().into_owned();
        if name.len() == closed.len() && name.as_str() > closed {
            fs::remove_file(wal.join(name)).expect("a segment");
        }
    }
}

/// The leader lets the superuser in by its socket only, and no member may rewind: a
/// former primary whose log fits is compared as the replication user.
pub async fn superuser_is_refused() {
    let mut stage = Stage::prepare_with(2, |plan, dir| {
        let psql = plan.pg_bin.join("psql");
        let make = "CREATE ROLE postgres SUPERUSER LOGIN";
        let overlay = json!({
            "bootstrap": {"post_bootstrap": format!("{} -X -c '{make}' -d", psql.display())},
            "postgresql": {
                "use_pg_rewind": false,
                "use_unix_socket": true,
                "parameters": {"unix_socket_directories": dir.display().to_string()},
                "authentication": {"superuser": {"username": "chief", "password": "of-here"}},
                "pg_hba": [
                    "local all all trust",
                    "host all chief all reject",
                    "host all all samenet trust",
                    "host replication all samenet trust",
                ],
            },
        });
        let names: Vec<String> = plan.members().map(|m| m.name.clone()).collect();
        plan.overlays.extend(names.into_iter().map(|name| (name, overlay.clone())));
    });
    stage.stand_up().await;
    let old = stage.leader().await;
    stage.field.kill_node(&old);
    let new = stage.new_leader(&old, TTL + SHORT).await;
    let mark = stage.mark(&old);
    stage.start(&old);
    assert_eq!(stage.healthy(LONG).await.name, new.name);
    let log = stage.log_since(&old, mark);
    assert!(log.contains("rule 660"), "{} was not compared: {log}", old.name);
    assert!(!log.contains("rule 662"), "{} was not compared in time: {log}", old.name);
    stage.one_writer();
    stage.end();
}
