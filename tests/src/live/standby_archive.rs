//! A cluster that follows another one by its archive alone.

use super::stage::{LONG, SHORT, Stage, ask_sql, connect};
use super::standby_cluster::{copy_with, has, opens, shows, table};
use ctl::field::MemberPlan;
use serde_json::json;
use std::path::{Path, PathBuf};

/// Born from a backup, without a server to ask; one member streams from the standby
/// leader, one lives on the archive as well.
pub async fn only() {
    let mut main = Stage::prepare_with(1, |plan, dir| {
        let command = format!("cp %p {}/%f", dir.join("archive").display());
        plan.parameters = json!({"archive_mode": "on", "archive_command": command});
    });
    let archive = main.field.dir.join("archive");
    std::fs::create_dir(&archive).expect("a directory");
    main.field.give(&archive).expect("the servers' user has it");
    main.stand_up().await;
    let remote = main.leader().await;
    table(&remote).await;
    let backup = back_up(&main, &remote);

    let mut copy = prepare(&archive, &backup);
    let [first, second, third]: [MemberPlan; 3] = copy.members().try_into().expect("three");
    copy.start_store();
    copy.start(&first);
    let alone = [&first];
    copy.until("a standby leader", LONG, async || {
        copy.ask.who(&alone, "/standby-leader").await.len() == 1
    })
    .await;
    copy.start(&second);
    copy.start(&third);
    switch_to(&main, &remote, 1).await;
    for member in copy.members() {
        shows(&copy, &member, 1).await;
    }
    as_their_role_demands(&copy, [&first, &second, &third]).await;
    cleans_up(&main, &copy, &remote).await;
    assert!(!copy.field.log(&first.name).contains("panicked"));

    copy.patch(json!({"standby_cluster": null})).await;
    opens(&copy, &first).await;
    assert!(has(&first, 2).await, "what was in the archive is not there");
    copy.end();
    main.end();
}

fn back_up(main: &Stage, remote: &MemberPlan) -> PathBuf {
    let backup = main.field.dir.join("backup");
    let mut tool = main.field.command(&main.field.plan.pg_bin.join("pg_basebackup"));
    tool.args(["-h", "127.0.0.1", "-U", "replicator", "-c", "fast", "-p"]);
    tool.arg(remote.pg_port.to_string()).arg("-D").arg(&backup).env("PGPASSWORD", "copy-secret");
    let output = tool.output().expect("pg_basebackup runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    backup
}

fn prepare(archive: &Path, backup: &Path) -> Stage {
    let section = |dir: &Path| {
        json!({
            "host": null,
            "restore_command": format!("cp {}/%f %p", archive.display()),
            "archive_cleanup_command": format!("echo %r >> {}", dir.join("cleaned").display()),
            "create_replica_methods": ["vault", "basebackup"],
        })
    };
    copy_with(3, json!(null), |plan, dir| {
        plan.dcs["standby_cluster"] = section(dir);
        let members: Vec<String> = plan.members().map(|member| member.name.clone()).collect();
        for name in members {
            let data = dir.join("data").join(&name);
            let (backup, data) = (backup.display(), data.display());
            let command = format!("sh -c 'mkdir -p {data} && cp -a {backup}/. {data}'");
            let vault = json!({"command": command, "no_params": true, "no_leader": true});
            let tags = if name == "dr3" { json!({"nostream": true}) } else { json!({}) };
            let overlay = json!({"postgresql": {"vault": vault}, "tags": tags});
            plan.overlays.insert(name, overlay);
        }
    })
}

/// A row, and the segment that has it in the archive.
async fn switch_to(main: &Stage, remote: &MemberPlan, row: i32) {
    let client = connect(remote).await.expect("it answers");
    client.execute("INSERT INTO kept VALUES ($1)", &[&row]).await.expect("a row");
    let name = "SELECT pg_walfile_name(pg_current_wal_lsn())";
    let segment = ask_sql(remote, name).await.expect("it answers");
    client.batch_execute("CHECKPOINT; SELECT pg_switch_wal()").await.expect("a switch");
    let done = format!("SELECT (last_archived_wal >= '{segment}')::text FROM pg_stat_archiver");
    main.until("the archive", SHORT, async || {
        ask_sql(remote, &done).await.is_ok_and(|done| done == "true")
    })
    .await;
}

async fn as_their_role_demands(copy: &Stage, [first, second, third]: [&MemberPlan; 3]) {
    let conninfo = "SHOW primary_conninfo";
    assert_eq!(ask_sql(first, conninfo).await.ok().as_deref(), Some(""), "there is no server");
    assert_eq!(ask_sql(third, conninfo).await.ok().as_deref(), Some(""), "tagged nostream");
    super::standby_cluster::follows(copy, second, first.pg_port).await;
    let slots = "SELECT string_agg(slot_name, ',') FROM pg_replication_slots";
    assert_eq!(ask_sql(first, slots).await.ok().as_deref(), Some("dr2"), "a slot for nostream");
    let states = ["in archive recovery", "streaming", "in archive recovery"];
    copy.until("how each member gets its log", SHORT, async || {
        let list = copy.get(first, "/cluster").await.body;
        let members = list["members"].as_array().cloned().unwrap_or_default();
        members.iter().map(|member| &member["state"]).eq(states.iter())
    })
    .await;
}

/// `archive_cleanup_command` runs at restart points of all members.
async fn cleans_up(main: &Stage, copy: &Stage, remote: &MemberPlan) {
    switch_to(main, remote, 2).await;
    let cleaned = copy.field.dir.join("cleaned");
    for member in copy.members() {
        shows(copy, &member, 2).await;
        let client = connect(&member).await.expect("it answers");
        let _ = std::fs::remove_file(&cleaned);
        client.batch_execute("CHECKPOINT").await.expect("a restart point");
        let what = format!("archive_cleanup_command of {}", member.name);
        copy.until(&what, SHORT, async || cleaned.exists()).await;
    }
}
