//! A cluster that follows another one changes its own leader.

use super::stage::{LONG, SHORT, Stage, ask_sql, connect};
use super::standby_cluster::{
    arrives, copy_of, follows, has, opens, shows, stand_by, standby_leader, starts, table, upstream,
};
use ctl::field::MemberPlan;
use reqwest::Method;
use serde_json::{Value, json};
use std::time::{Duration, Instant};

/// No commit of the tests is as old as this.
const DELAY: &str = "6h";
/// A debug build; nothing is stopped or started.
const ANSWER_MAX: Duration = Duration::from_secs(6);

/// A switchover, a failover by name and an election: no server is restarted by them, and
/// none opens.
pub async fn inside() {
    let main = Stage::raise(1).await;
    let remote = main.leader().await;
    table(&remote).await;
    let client = connect(&remote).await.expect("it answers");
    let mut copy = copy_of(3, upstream(std::slice::from_ref(&remote)));
    copy.field.plan.dcs["synchronous_mode"] = json!(true);
    let first = stand_by(&mut copy).await;
    let before = starts(&copy).await;
    let [second, third]: [MemberPlan; 2] = copy.others(&first).try_into().expect("two");

    let body = json!({"leader": first.name, "candidate": second.name});
    moves(&copy, "/switchover", body, &second, remote.pg_port).await;
    arrives(&copy, &client, 1).await;
    moves(&copy, "/failover", json!({"candidate": third.name}), &third, remote.pg_port).await;
    arrives(&copy, &client, 2).await;
    let body = json!({"leader": third.name});
    let old = third.clone();
    let reply = copy.send(Method::POST, &old, "/switchover", body).await;
    assert_eq!(reply.status, 200, "{}", reply.body);
    let leader = standby_leader(&copy).await;
    assert_ne!(leader.name, third.name);
    arrives(&copy, &client, 3).await;
    assert_eq!(starts(&copy).await, before, "a server was restarted");
    refused(&copy, &leader, &client).await;

    // Its machine is lost.
    copy.field.kill_node(&leader);
    let others = copy.others(&leader);
    let rest: Vec<&MemberPlan> = others.iter().collect();
    let mut new = None;
    copy.until("another standby leader", LONG, async || {
        new = copy.ask.who(&rest, "/standby-leader").await.first().map(|m| (*m).clone());
        new.is_some()
    })
    .await;
    follows(&copy, &new.expect("just seen"), remote.pg_port).await;
    copy.start(&leader);
    standby_leader(&copy).await;
    arrives(&copy, &client, 4).await;
    copy.end();
    main.end();
}

/// The answer comes when `to` leads; it streams from afar, and the others from it.
async fn moves(copy: &Stage, path: &str, body: Value, to: &MemberPlan, remote: u16) {
    let since = Instant::now();
    let reply = copy.send(Method::POST, to, path, body).await;
    assert_eq!(reply.status, 200, "{path}: {}", reply.body);
    println!("  {path} to {} answered after {:.2?}", to.name, since.elapsed());
    assert!(since.elapsed() < ANSWER_MAX, "{path} took {:?}", since.elapsed());
    assert_eq!(standby_leader(copy).await.name, to.name);
    follows(copy, to, remote).await;
    for other in copy.others(to) {
        follows(copy, &other, to.pg_port).await;
    }
}

/// A candidate that lacks a row does not get the lock.
async fn refused(copy: &Stage, leader: &MemberPlan, remote: &tokio_postgres::Client) {
    let candidate = copy.others(leader)[0].clone();
    copy.field.signal_backends(&candidate, "walreceiver", nix::sys::signal::Signal::SIGSTOP);
    remote.execute("INSERT INTO kept VALUES (100)", &[]).await.expect("a row");
    shows(copy, leader, 100).await;
    let body = json!({"leader": leader.name, "candidate": candidate.name});
    let reply = copy.send(Method::POST, leader, "/switchover", body).await;
    copy.field.signal_backends(&candidate, "walreceiver", nix::sys::signal::Signal::SIGCONT);
    println!("  a candidate that stands still: {} {}", reply.status, reply.body);
    assert_ne!(reply.status, 200, "the switchover was taken: {}", reply.body);
    assert_eq!(standby_leader(copy).await.name, leader.name);
    let failover = super::birth::entries(copy).await.remove("failover").map(|e| e.value);
    assert_eq!(failover.as_deref(), Some("{}"), "the request stands for ever");
}

/// The standby leader applies late, its replicas at once; the delay goes with the lock
/// and ends with a promotion.
pub async fn delayed() {
    let main = Stage::raise(1).await;
    let remote = main.leader().await;
    table(&remote).await;
    let client = connect(&remote).await.expect("it answers");
    let mut section = upstream(std::slice::from_ref(&remote));
    section["recovery_min_apply_delay"] = json!(DELAY);
    let mut copy = copy_of(2, section);
    let first = stand_by(&mut copy).await;
    let second = copy.others(&first)[0].clone();
    let before = starts(&copy).await;
    has_delay(&copy, [&first, &second]).await;
    client.execute("INSERT INTO kept VALUES (1)", &[]).await.expect("a row");
    shows(&copy, &second, 1).await;
    assert!(!has(&first, 1).await, "the standby leader does not wait");

    let body = json!({"leader": first.name, "candidate": second.name});
    moves(&copy, "/switchover", body, &second, remote.pg_port).await;
    has_delay(&copy, [&second, &first]).await;
    shows(&copy, &first, 1).await;
    client.execute("INSERT INTO kept VALUES (2)", &[]).await.expect("a row");
    shows(&copy, &first, 2).await;
    assert!(!has(&second, 2).await, "the standby leader does not wait");
    assert_eq!(starts(&copy).await, before, "a server was restarted");

    // Another spelling of the remote side: the delay is not lost on the way.
    let port = remote.pg_port;
    let hosts = json!({"host": format!("{0}:{port},{0}:{port}", remote.host), "port": null});
    copy.patch(json!({"standby_cluster": hosts})).await;
    let twice = format!("host={0},{0} ", remote.host);
    copy.until("the other upstream", SHORT, async || {
        let conninfo = ask_sql(&second, "SHOW primary_conninfo").await;
        conninfo.is_ok_and(|conninfo| conninfo.contains(&twice))
    })
    .await;
    tokio::time::sleep(Duration::from_secs(3)).await;
    has_delay(&copy, [&second, &first]).await;
    assert!(!has(&second, 2).await, "the delay was lost for a moment");
    follows_quietly(&copy, &second).await;

    is_shown_behind(&copy, &second).await;

    // Everything that was received is there when it opens.
    let since = Instant::now();
    copy.patch(json!({"standby_cluster": null})).await;
    opens(&copy, &second).await;
    println!("  promoted after {:.2?} with a delay of {DELAY}", since.elapsed());
    assert!(has(&second, 2).await, "what was received is lost");
    assert_eq!(copy.healthy(LONG).await.name, second.name);
    copy.end();
    main.end();
}

/// What waits to be applied: in bytes and seconds, in all places.
async fn is_shown_behind(copy: &Stage, leader: &MemberPlan) {
    let remote = copy.get(leader, "/patroni").await.body["remote"].clone();
    assert!(remote["replay_lag"].as_u64().is_some_and(|bytes| bytes > 0), "{remote}");
    assert!(remote["replay_lag_seconds"].as_f64().is_some_and(|age| age > 0.0), "{remote}");
    let metrics = copy.get(leader, "/metrics").await.body;
    let metrics = metrics.as_str().unwrap_or_default();
    for name in ["replay_lag_bytes", "replay_lag_seconds", "receive_lag_bytes"] {
        assert!(metrics.contains(&format!("\nmatriarch_remote_{name}{{")), "{name}");
    }
    let us = std::env::current_exe().expect("where is this program?");
    let target = us.parent().and_then(std::path::Path::parent).expect("target/<profile>/deps");
    copy.until("the lag in the list", SHORT, async || {
        let mut ctl = tokio::process::Command::new(target.join("matriarchctl"));
        ctl.arg("-c").arg(copy.field.config_path(leader)).args(["list", "--remote-lag"]);
        let output = ctl.args(["-f", "json"]).output().await.expect("it runs");
        let rows: Value = serde_json::from_slice(&output.stdout).unwrap_or_default();
        let row = rows.as_array().and_then(|rows| rows.iter().find(|r| r["Member"] == leader.name));
        row.is_some_and(|row| {
            let bytes = row["Remote Replay Lag"].as_u64();
            bytes.is_some_and(|bytes| bytes > 0) && row["Remote Lag Seconds"].is_u64()
        })
    })
    .await;
}

/// It is not pointed to the same server again and again.
async fn follows_quietly(copy: &Stage, leader: &MemberPlan) {
    let mark = copy.mark(leader);
    tokio::time::sleep(Duration::from_secs(6)).await;
    let log = copy.log_since(leader, mark);
    assert!(!log.contains("the remote leader changed"), "{log}");
}

async fn has_delay(copy: &Stage, [leader, replica]: [&MemberPlan; 2]) {
    for (member, wanted) in [(leader, DELAY), (replica, "0")] {
        let what = format!("{} applies after {wanted}", member.name);
        let sql = "SHOW recovery_min_apply_delay";
        copy.until(&what, SHORT, async || {
            ask_sql(member, sql).await.is_ok_and(|shown| shown == wanted)
        })
        .await;
    }
}
