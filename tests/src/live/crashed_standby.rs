//! A standby that has more log than the next leader, crashes, and is compared with that
//! leader while its server does not start.
//!
//! Crash recovery would end with a checkpoint of its own. The standby is started without a
//! source and stopped in order instead; then pg_rewind takes it back.

use super::stage::{LONG, SHORT, Stage, ask_sql, connect};
use ctl::field::{MemberPlan, Plan};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::json;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

/// While this file is there, the server of the member whose directory it names fails.
const FAILS: &str = "server-fails";

pub async fn is_stopped_in_order() {
    let mut dir = std::path::PathBuf::new();
    let mut stage = Stage::prepare_with(3, |plan, place| {
        dir = place.to_path_buf();
        lay_out(plan, place);
    });
    stage.stand_up().await;
    let leader = stage.healthy(LONG).await;
    let [behind, ahead] = <[MemberPlan; 2]>::try_from(stage.others(&leader)).expect("two others");
    write_rows_that_one_lacks(&stage, &leader, &behind, &ahead).await;

    fs::write(dir.join(FAILS), stage.field.data_dir(&ahead).display().to_string()).expect("a file");
    let mark = stage.mark(&ahead);
    assert!(stage.field.signal_postmaster(&ahead, Signal::SIGKILL));
    says(&stage, &ahead, mark, "PostgreSQL ended while it was starting").await;
    assert!(stage.field.signal_postmaster(&leader, Signal::SIGKILL));
    assert_eq!(stage.new_leader(&leader, SHORT).await.name, behind.name);
    says(&stage, &ahead, mark, "this log has left the history of").await;
    fs::remove_file(dir.join(FAILS)).expect("the file is there");

    says(&stage, &ahead, mark, "rule 646").await;
    stage.healthy(LONG).await;
    let log = stage.log_since(&ahead, mark);
    assert!(log.contains("rule 650"), "{} was not rewound:\n{log}", ahead.name);
    assert!(!log.contains("rule 647"), "{} was recovered:\n{log}", ahead.name);
    let seen = ask_sql(&ahead, "SELECT count(*)::text FROM ahead").await;
    assert_eq!(seen.ok().as_deref(), Some("0"), "{} kept a foreign history", ahead.name);
    stage.one_writer();
    stage.end();
}

fn lay_out(plan: &mut Plan, dir: &Path) {
    topology::document::patch(&mut plan.dcs, &json!({"primary_start_timeout": 0}));
    let (path, real) = (dir.join("postgres_here"), plan.pg_bin.join("postgres"));
    let script = format!(
        "#!/bin/sh\n\
         for at in $(cat {}/{FAILS} 2>/dev/null); do\n\
         case \"$*\" in *-D*$at*) exit 1;; esac\n\
         done\n\
         exec {} \"$@\"\n",
        dir.display(),
        real.display()
    );
    fs::write(&path, script).expect("a script");
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).expect("permissions");
    let overlay = json!({"postgresql": {"bin_name": {"postgres": path.display().to_string()}}});
    let names: Vec<String> = plan.members().map(|m| m.name.clone()).collect();
    plan.overlays.extend(names.into_iter().map(|name| (name, overlay.clone())));
}

async fn write_rows_that_one_lacks(
    stage: &Stage,
    leader: &MemberPlan,
    behind: &MemberPlan,
    ahead: &MemberPlan,
) {
    let client = connect(leader).await.expect("the leader takes connections");
    client.batch_execute(TABLE).await.expect("a table");
    stop_sending(stage, leader, behind).await;
    client.simple_query(ROWS).await.expect("rows that one standby does not get");
    rows_reach(stage, ahead).await;
    // Its control file tells of them: crash recovery has to come this far.
    let standby = connect(ahead).await.expect("the standby takes connections");
    standby.batch_execute("CHECKPOINT").await.expect("a restartpoint");
}

pub const TABLE: &str = "CREATE TABLE ahead (id bigint); CHECKPOINT";
pub const ROWS: &str = "INSERT INTO ahead SELECT generate_series(1, 1000)";

/// From now on this standby gets nothing; so far it has everything.
pub async fn stop_sending(stage: &Stage, leader: &MemberPlan, standby: &MemberPlan) {
    let sender = format!(
        "SELECT pid::text FROM pg_stat_replication WHERE application_name = '{}' \
         AND replay_lsn >= pg_current_wal_flush_lsn()",
        standby.name
    );
    let mut pid = None;
    stage
        .until("a standby that has everything", SHORT, async || {
            pid = ask_sql(leader, &sender).await.ok().and_then(|pid| pid.parse().ok());
            pid.is_some()
        })
        .await;
    let pid = Pid::from_raw(pid.expect("just seen"));
    kill(pid, Signal::SIGSTOP).expect("a walsender");
}

pub async fn rows_reach(stage: &Stage, standby: &MemberPlan) {
    stage
        .until("a standby that has the rows", SHORT, async || {
            ask_sql(standby, "SELECT count(*)::text FROM ahead").await.is_ok_and(|n| n == "1000")
        })
        .await;
}

async fn says(stage: &Stage, member: &MemberPlan, mark: usize, words: &str) {
    stage.until(words, LONG, async || stage.log_since(member, mark).contains(words)).await;
}
