//! Two standbys are promoted by hand, apart from each other: both are on a
//! timeline of the same number, with another history.

use super::birth::{by_hand, keys_and_store};
use super::stage::{LONG, SHORT, Stage, ask_sql, connect, timeline_of};
use ctl::field::MemberPlan;
use node::dcs::by_hand::Edit;
use reqwest::Method;
use serde_json::json;
use std::time::Instant;

async fn run_sql(member: &MemberPlan, sql: &str) {
    let client = connect(member).await.expect("it takes connections");
    client.batch_execute(sql).await.unwrap_or_else(|why| panic!("{}: {sql}: {why}", member.name));
}

async fn rows(member: &MemberPlan) -> Option<String> {
    ask_sql(member, "SELECT string_agg(what, ',' ORDER BY what) FROM apart").await.ok()
}

pub async fn one_number() {
    let mut stage = Stage::raise(3).await;
    let leader = stage.leader().await;
    let [near, far] = promoted_apart(&mut stage, &leader).await;
    assert_eq!((timeline_of(&near).await, timeline_of(&far).await), (2, 2));

    // One of them leads, by its daemon.
    unlock(&stage).await;
    stage.start(&near);
    stage.until("a leader", LONG, async || stage.primary().await.is_some()).await;
    assert_eq!(timeline_of(&near).await, 2, "it was promoted again");

    // The other one is stopped at once, told apart, and kept.
    let mark = stage.mark(&far);
    stage.start(&far);
    stage
        .until("what is to be done", LONG, async || {
            let log = stage.log_since(&far, mark);
            log.contains("timeline 2 is another one here") && log.contains("reinitialize")
        })
        .await;
    let log = stage.log_since(&far, mark);
    assert!(log.contains("pg_rewind cannot tell two timelines of one number apart"), "{log}");
    assert!(!log.contains("running pg_rewind"), "{log}");
    assert!(stage.field.postmaster_pid(&far).is_none(), "it runs on a history of its own");
    assert!(stage.field.data_dir(&far).join("global/pg_control").is_file(), "data were removed");
    let since = Instant::now();

    // The old leader has nothing that the new one lacks.
    stage.start(&leader);
    // An operator permits to build it anew.
    let reply = stage.send(Method::POST, &far, "/reinitialize", json!({})).await;
    assert_eq!(reply.status, 200, "{}", reply.body);
    assert_eq!(stage.healthy(LONG).await.name, near.name);
    stage
        .until("the same rows everywhere", SHORT, async || {
            let all = [rows(&near).await, rows(&far).await, rows(&leader).await];
            all.iter().all(|rows| rows.as_deref() == Some("both,near"))
        })
        .await;
    stage.one_writer_since(since);
    stage.end();
}

/// `near` has received everything, `far` lacks the end; neither daemon runs.
async fn promoted_apart(stage: &mut Stage, leader: &MemberPlan) -> [MemberPlan; 2] {
    run_sql(leader, "CREATE TABLE apart (what text); INSERT INTO apart VALUES ('both')").await;
    let [near, far] = [stage.others(leader)[0].clone(), stage.others(leader)[1].clone()];
    for member in [&near, &far] {
        stage.until("the row", SHORT, async || rows(member).await.as_deref() == Some("both")).await;
        stage.field.kill_daemon(&member.name);
    }
    run_sql(&far, "ALTER SYSTEM SET primary_conninfo = ''").await;
    run_sql(&far, "SELECT pg_reload_conf()").await;
    let streams = "SELECT count(*)::text FROM pg_stat_wal_receiver";
    stage
        .until("no stream", SHORT, async || ask_sql(&far, streams).await.is_ok_and(|n| n == "0"))
        .await;
    run_sql(leader, "INSERT INTO apart VALUES ('near')").await;
    stage.until("the row", SHORT, async || rows(&near).await.as_deref() == Some("both,near")).await;
    stage.field.kill_node(leader);
    for member in [&near, &far] {
        run_sql(member, "SELECT pg_promote()").await;
    }
    run_sql(&far, "ALTER SYSTEM RESET primary_conninfo").await;
    run_sql(&far, "INSERT INTO apart VALUES ('far')").await;
    // The end of the recovery: the control file shows the timeline.
    for member in [&near, &far] {
        run_sql(member, "CHECKPOINT").await;
    }
    [near, far]
}

/// The killed leader's key, before its lease ends.
async fn unlock(stage: &Stage) {
    let (keys, store) = keys_and_store(stage);
    let unlocked = by_hand(store.as_ref()).edit(vec![Edit::delete(keys.leader())]).await;
    unlocked.expect("the store answers");
}
