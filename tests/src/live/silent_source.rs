//! A member that is copied goes silent: its machine freezes, its connections stay open.

use super::stage::{LONG, Stage, TTL, ask_sql, connect};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::json;
use std::time::{Duration, Instant};

/// Two members lead and follow, a third one is copied from the leader when that one
/// freezes with its daemon. The copy ends and begins anew from the next leader.
pub async fn copied_from() {
    let mut stage = Stage::prepare_in(3, |plan| {
        let options = json!([{"checkpoint": "fast"}, {"max-rate": "2M"}]);
        let slow = json!({"postgresql": {"basebackup": options}});
        let third = plan.members().nth(2).expect("three members").name.clone();
        plan.overlays.insert(third, slow);
    });
    stage.start_store();
    let members = stage.members();
    for member in &members[..2] {
        stage.start(member);
    }
    stage.until("a leader", LONG, async || stage.primary().await.is_some()).await;
    let old = stage.leader().await;
    let client = connect(&old).await.expect("the leader takes connections");
    let table = "CREATE TABLE filler AS SELECT repeat(md5(g::text), 30) AS t \
                 FROM generate_series(1, 60000) g; CHECKPOINT";
    client.batch_execute(table).await.expect("a table of some size");
    drop(client);
    let caught_up = "SELECT count(*)::text FROM pg_stat_replication WHERE application_name ~ '^n' \
                     AND replay_lsn >= pg_current_wal_flush_lsn()";
    stage
        .until("a replica that has all of it", LONG, async || {
            ask_sql(&old, caught_up).await.is_ok_and(|count| count == "1")
        })
        .await;
    let third = &members[2];
    stage.start(third);
    stage
        .until("a base backup that runs", LONG, async || {
            let data = stage.field.data_dir(third).join("base");
            data.is_dir() && stage.log_since(third, 0).contains("trying to bootstrap from")
        })
        .await;

    let mut frozen = stage.field.backends(&old, "postgres");
    frozen.extend(stage.field.postmaster_pid(&old));
    assert!(stage.field.signal_daemon(&old.name, Signal::SIGSTOP));
    for pid in &frozen {
        // A backend may have ended since it was found.
        let _ = kill(Pid::from_raw(*pid), Signal::SIGSTOP);
    }
    let since = Instant::now();
    let mark = stage.mark(third);
    stage.new_leader(&old, TTL * 2).await;
    let led = since.elapsed();
    stage
        .until("the end of the silent copy", TTL * 2, async || {
            let log = stage.log_since(third, mark);
            log.contains("cancelled: bootstrap from leader") || log.contains("is silent")
        })
        .await;
    println!("  another leads after {led:.1?}, the copy ends after {:.1?}", since.elapsed());
    assert!(since.elapsed() < TTL * 2 + Duration::from_secs(20));
    let here = "SELECT count(*)::text FROM filler";
    stage
        .until("a copy of the next leader", LONG * 2, async || {
            ask_sql(third, here).await.is_ok_and(|count| count == "60000")
        })
        .await;
    stage.field.kill_node(&old);
    stage.end();
}
