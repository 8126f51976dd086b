//! A cluster that follows another one while that one changes its leader.

use super::stage::{LONG, SHORT, Stage, ask_sql, connect};
use super::standby_cluster::{copy_of, follows, rounds, shows, stand_by, starts, table, upstream};
use ctl::field::MemberPlan;
use reqwest::Method;
use serde_json::json;

/// Changes of the remote leader; more of them by `MATRIARCH_ROUNDS`.
const ROUNDS: usize = 2;

/// All servers of the remote side are named: its failovers and switchovers are followed
/// without a restart, with and without a slot.
pub async fn changes_its_leader() {
    let mut main = Stage::raise(2).await;
    table(&main.leader().await).await;
    main.patch(json!({"standby_clusters": [{"name": "copy", "slot": "dr"}]})).await;
    let mut copy = copy_of(2, upstream(&main.members()));
    let leader = stand_by(&mut copy).await;
    // A synchronous mode has no meaning here.
    copy.patch(json!({"synchronous_mode": true, "synchronous_mode_strict": true})).await;
    let before = starts(&copy).await;
    for round in 0..rounds(ROUNDS) {
        crash_or_switch(&mut main, round).await;
        reaches_all(&main, &copy, round as i32).await;
    }
    assert_eq!(starts(&copy).await, before, "a server of the standby cluster was restarted");
    no_synchronous_standbys(&copy, &leader).await;

    with_a_slot(&main, &copy, &leader).await;
    assert_eq!(starts(&copy).await, before, "a server of the standby cluster was restarted");
    without_the_slot(&copy, &leader).await;
    unlisted(&main, &copy).await;
    copy.end();
    main.end();
}

/// In turn: the remote leader's machine is lost and comes back, or it is asked to switch.
async fn crash_or_switch(main: &mut Stage, round: usize) {
    let old = main.healthy(LONG).await;
    let new = main.others(&old)[0].clone();
    if round.is_multiple_of(2) {
        let body = json!({"leader": old.name, "candidate": new.name});
        let reply = main.send(Method::POST, &old, "/switchover", body).await;
        assert_eq!(reply.status, 200, "{}", reply.body);
        return;
    }
    main.field.kill_node(&old);
    main.new_leader(&old, LONG).await;
    main.start(&old);
}

async fn reaches_all(main: &Stage, copy: &Stage, row: i32) {
    let leader = main.healthy(LONG).await;
    let client = connect(&leader).await.expect("it answers");
    client.execute("INSERT INTO kept VALUES ($1)", &[&row]).await.expect("a row");
    for member in copy.members() {
        shows(copy, &member, row).await;
    }
}

async fn no_synchronous_standbys(copy: &Stage, leader: &MemberPlan) {
    let names = ask_sql(leader, "SHOW synchronous_standby_names").await;
    assert_eq!(names.ok().as_deref(), Some(""), "a standby waits for no standby");
    let entries = super::birth::entries(copy).await;
    let sync = entries.get("sync").map(|entry| entry.value.clone()).unwrap_or_default();
    assert!(!sync.contains("dr"), "/sync of a standby cluster: {sync}");
}

/// The standby leader streams through the slot of the remote side's primary; its
/// replicas have slots of their own.
async fn with_a_slot(main: &Stage, copy: &Stage, leader: &MemberPlan) {
    copy.patch(json!({"standby_cluster": {"primary_slot_name": "dr"}})).await;
    uses_slot(copy, leader, "dr").await;
    let conninfo = ask_sql(leader, "SHOW primary_conninfo").await.expect("it answers");
    assert!(conninfo.contains("target_session_attrs=read-write"), "{conninfo}");
    let replica = &copy.others(leader)[0];
    uses_slot(copy, replica, &replica.name).await;

    let old = main.healthy(LONG).await;
    follows(copy, leader, old.pg_port).await;
    let new = main.others(&old)[0].clone();
    let body = json!({"leader": old.name, "candidate": new.name});
    let reply = main.send(Method::POST, &old, "/switchover", body).await;
    assert_eq!(reply.status, 200, "{}", reply.body);
    follows(copy, leader, new.pg_port).await;
    let active = "SELECT active::text FROM pg_replication_slots WHERE slot_name = 'dr'";
    assert_eq!(ask_sql(&new, active).await.ok().as_deref(), Some("true"));
    reaches_all(main, copy, 1_000).await;
}

async fn uses_slot(copy: &Stage, member: &MemberPlan, slot: &str) {
    let what = format!("{} streams through the slot {slot}", member.name);
    let sql = "SELECT slot_name FROM pg_stat_wal_receiver WHERE status = 'streaming'";
    copy.until(&what, SHORT, async || ask_sql(member, sql).await.is_ok_and(|name| name == slot))
        .await;
}

/// A slot that the remote side does not have is named: in the log, by REST, and until
/// it is there.
async fn without_the_slot(copy: &Stage, leader: &MemberPlan) {
    let mark = copy.mark(leader);
    copy.patch(json!({"standby_cluster": {"primary_slot_name": "nowhere"}})).await;
    let said = "has no replication slot \"nowhere\"";
    copy.until("a sentence on the slot", SHORT, async || {
        copy.log_since(leader, mark).contains(said)
    })
    .await;
    copy.until("the same by REST", SHORT, async || {
        let reason = copy.get(leader, "/patroni").await.body["reason"].clone();
        reason.as_str().is_some_and(|reason| reason.contains(said))
    })
    .await;
    copy.patch(json!({"standby_cluster": {"primary_slot_name": "dr"}})).await;
    uses_slot(copy, leader, "dr").await;
}

/// The slot of a cluster that is listed no more goes from every member, once it is unused.
async fn unlisted(main: &Stage, copy: &Stage) {
    let slots = "SELECT count(*)::text FROM pg_replication_slots WHERE slot_name = 'dr'";
    for member in main.members() {
        assert_eq!(ask_sql(&member, slots).await.ok().as_deref(), Some("1"), "{}", member.name);
    }
    copy.patch(json!({"standby_cluster": {"primary_slot_name": null}})).await;
    main.patch(json!({"standby_clusters": null})).await;
    for member in main.members() {
        let what = format!("no slot dr on {}", member.name);
        main.until(&what, SHORT, async || ask_sql(&member, slots).await.is_ok_and(|n| n == "0"))
            .await;
    }
}
