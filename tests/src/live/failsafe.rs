//! Failsafe mode: the store is away and the leader leads on, as long as all agree.

use super::birth::entries;
use super::stage::{LONG, REGION, SHORT, Stage, TTL, connect, timeline_of};
use ctl::field::MemberPlan;
use nix::sys::signal::Signal;
use reqwest::Method;
use serde_json::{Value, json};
use std::time::{Duration, Instant};

/// Past the end of every lease.
const PAST: Duration = Duration::from_secs(TTL.as_secs() + 4);
/// A pause of writes that no client notices.
const HICCUP: Duration = Duration::from_secs(2);

pub async fn store_frozen() {
    // Only members may change anything, by records that end with the store.
    let mut stage = Stage::prepare_in(3, |plan| {
        let names: Vec<String> = plan.members().map(|m| m.name.clone()).collect();
        for name in names {
            let listed = json!({"restapi": {"allowlist_include_members": true}});
            plan.overlays.insert(name, listed);
        }
    });
    stage.stand_up().await;
    let leader = turn_on(&stage).await;
    let writer = stage.writer("failsafe").await;
    let (timeline, postmaster) = (timeline_of(&leader).await, stage.field.postmaster_pid(&leader));

    let since = Instant::now();
    assert!(stage.field.signal_store(REGION, Signal::SIGSTOP));
    tokio::time::sleep(PAST).await;
    assert!(writer.wrote_since(Instant::now() - HICCUP), "writes ended with the lease");
    assert!(writer.longest_pause(since) < HICCUP, "{:?}", writer.longest_pause(since));
    shows_failsafe(&stage, &leader).await;
    assert!(stage.field.signal_store(REGION, Signal::SIGCONT));
    stage
        .until("the end of failsafe mode", SHORT, async || !is_active(&stage, &leader).await)
        .await;
    // All records ended with their leases. The leader comes back before the others.
    for _ in 0..30 {
        let kept = entries(&stage).await.remove("failsafe").expect("the key is there");
        let named: Value = serde_json::from_str(&kept.value).expect("JSON");
        assert_eq!(named.as_object().map(|map| map.len()), Some(3), "{named}");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    println!("  {PAST:.0?} without a store: no row for {:.2?}", writer.longest_pause(since));
    assert!(writer.longest_pause(since) < HICCUP, "{:?}", writer.longest_pause(since));
    assert_eq!(stage.healthy(LONG).await.name, leader.name);
    assert_eq!(timeline_of(&leader).await, timeline, "somebody promoted");
    assert_eq!(stage.field.postmaster_pid(&leader), postmaster, "the leader was restarted");

    one_is_missing(&mut stage, &leader).await;
    stage.writes_go_on(&writer, since, LONG).await;
    stage.healthy(LONG).await;
    stage.settle_without_loss(writer).await;
    stage.one_writer();
    stage.end();
}

/// Turns the mode on and waits until `/failsafe` names all members.
pub(super) async fn turn_on(stage: &Stage) -> MemberPlan {
    turn_on_with(stage, json!(true)).await
}

async fn turn_on_with(stage: &Stage, mode: Value) -> MemberPlan {
    stage.patch(json!({ "failsafe_mode": mode })).await;
    let leader = stage.leader().await;
    for member in stage.members() {
        stage
            .until("/failsafe everywhere", SHORT, async || {
                let reply = stage.get(&member, "/failsafe").await;
                reply.body.as_object().is_some_and(|map| map.len() == 3)
            })
            .await;
    }
    let kept = entries(stage).await.remove("failsafe").expect("the key is there");
    assert_eq!(kept.session, None, "/failsafe hangs on a lease");
    leader
}

async fn is_active(stage: &Stage, member: &MemberPlan) -> bool {
    stage.get(member, "/patroni").await.body["failsafe_mode_is_active"] == Value::Bool(true)
}

async fn shows_failsafe(stage: &Stage, leader: &MemberPlan) {
    assert_eq!(stage.get(leader, "/primary").await.status, 200);
    for member in stage.members() {
        assert!(is_active(stage, &member).await, "{} does not know of it", member.name);
    }
    let metrics = stage.get(leader, "/metrics").await.body;
    assert!(metrics.as_str().is_some_and(|m| m.contains("failsafe_mode_is_active{")), "{metrics}");
    let me = json!({"name": "x", "conn_url": "postgres://x/x", "api_url": "http://x/patroni"});
    let refused = stage.send(Method::POST, leader, "/failsafe", me).await;
    assert_eq!((refused.status, refused.body), (500, "Running as a leader".into()));
    assert_eq!(stage.watch.writable().len(), 1);
}

/// A single member that cannot be asked ends it: it might lead.
async fn one_is_missing(stage: &mut Stage, leader: &MemberPlan) {
    let missing = stage.others(leader)[0].clone();
    assert!(stage.field.signal_daemon(&missing.name, Signal::SIGSTOP));
    assert!(stage.field.signal_store(REGION, Signal::SIGSTOP));
    let since = Instant::now();
    stage.until("nobody writable", TTL, async || stage.watch.writable().is_empty()).await;
    println!("  one member does not answer: writes end after {:.2?}", since.elapsed());
    assert!(stage.field.signal_daemon(&missing.name, Signal::SIGCONT));
    assert!(stage.field.signal_store(REGION, Signal::SIGCONT));
}

/// With a majority a member that does not answer ends nothing, two that do not answer do. A
/// member that sees the store meanwhile does not lead beside the leader.
pub async fn by_majority() {
    let mut stage = Stage::raise(3).await;
    let refused = json!({"failsafe_mode": "most"});
    let member = stage.members()[0].clone();
    let reply = stage.send(Method::PATCH, &member, "/config", refused).await;
    assert_eq!(reply.status, 400, "{}", reply.body);
    let text = reply.body.to_string();
    assert!(text.contains("true, false or majority"), "{text}");

    let leader = turn_on_with(&stage, json!("majority")).await;
    stage
        .until("the leader in /status", SHORT, async || {
            let status = entries(&stage).await.remove("status");
            let named = format!("\"failsafe_majority\":\"{}\"", leader.name);
            status.is_some_and(|status| status.value.contains(&named))
        })
        .await;
    let writer = stage.writer("by_majority").await;
    let timeline = timeline_of(&leader).await;
    let others = stage.others(&leader);
    let since = Instant::now();
    assert!(stage.field.signal_daemon(&others[0].name, Signal::SIGSTOP));
    assert!(stage.field.signal_store(REGION, Signal::SIGSTOP));
    tokio::time::sleep(PAST).await;
    assert!(writer.wrote_since(Instant::now() - HICCUP), "writes ended with the lease");
    assert!(writer.longest_pause(since) < HICCUP, "{:?}", writer.longest_pause(since));
    assert!(stage.field.signal_daemon(&others[1].name, Signal::SIGSTOP));
    let alone = Instant::now();
    let end = 2 * TTL;
    stage.until("nobody writable", end, async || stage.watch.writable().is_empty()).await;
    println!("  no other member answers: writes end after {:.2?}", alone.elapsed());
    for other in &others {
        assert!(stage.field.signal_daemon(&other.name, Signal::SIGCONT));
    }
    assert!(stage.field.signal_store(REGION, Signal::SIGCONT));
    let leader = stage.healthy(LONG).await;
    println!("  {} leads, timeline {timeline} before", leader.name);

    // A crash: a candidate gets the promise of the member that is left.
    let lost = Instant::now();
    stage.field.kill_node(&leader);
    let new = stage.new_leader(&leader, TTL + SHORT).await;
    println!("  crash: {} leads after {:.1?}", new.name, lost.elapsed());
    let log = stage.log_since(&new, 0);
    assert!(log.contains("asking the members that `/failsafe` names"), "no promise was asked for");
    stage.start(&leader);
    stage.healthy(LONG).await;
    stage.settle(writer).await;
    stage.one_writer();
    stage.end();
}

/// Right after an outage of the store a switchover takes as long as any: the lock
/// that the leader releases is free for the member that had promised not to lead.
pub async fn switchover_after() {
    let stage = Stage::raise(3).await;
    let leader = turn_on(&stage).await;
    let writer = stage.writer("after").await;
    let candidate = stage.others(&leader)[0].clone();
    let mut stage = stage;
    led_on_until_the_store_is_back(&mut stage, &leader).await;

    let since = Instant::now();
    let body = json!({"leader": leader.name, "candidate": candidate.name});
    let reply = stage.send(Method::POST, &leader, "/switchover", body).await;
    assert_eq!(reply.status, 200, "{}", reply.body);
    let outage = stage.writes_go_on(&writer, since, SHORT).await;
    println!("  switchover after failsafe mode: no row for {outage:.2?}");
    assert!(outage < SWITCHOVER_MAX, "{outage:?}");
    assert_eq!(stage.healthy(LONG).await.name, candidate.name);
    stage.settle_without_loss(writer).await;
    stage.one_writer();
    stage.end();
}

/// A debug build on two busy cores.
const SWITCHOVER_MAX: Duration = Duration::from_secs(4);

/// All have agreed, and their promises last for a while.
async fn led_on_until_the_store_is_back(stage: &mut Stage, leader: &MemberPlan) {
    assert!(stage.field.signal_store(REGION, Signal::SIGSTOP));
    stage.until("failsafe mode", SHORT, async || is_active(stage, leader).await).await;
    assert!(stage.field.signal_store(REGION, Signal::SIGCONT));
    stage.until("the store", SHORT, async || !is_active(stage, leader).await).await;
}

/// In failsafe mode a backend crashes, and the leader's daemon is killed and started
/// anew: the leader leads on past the end of every lease.
pub async fn hiccups() {
    let mut stage = Stage::raise(3).await;
    let leader = turn_on(&stage).await;
    let writer = stage.writer("hiccups").await;
    let (timeline, postmaster) = (timeline_of(&leader).await, stage.field.postmaster_pid(&leader));
    let since = Instant::now();
    assert!(stage.field.signal_store(REGION, Signal::SIGSTOP));
    stage.until("failsafe mode", SHORT, async || is_active(&stage, &leader).await).await;
    crash_a_backend(&leader).await;
    let recovery = stage.writes_go_on(&writer, since, SHORT).await;
    println!("  a backend crashed without a store: no row for {recovery:.2?}");
    stage.field.kill_daemon(&leader.name);
    stage.start(&leader);
    tokio::time::sleep(PAST.saturating_sub(since.elapsed())).await;
    assert!(writer.wrote_since(Instant::now() - HICCUP), "writes ended with the lease");
    assert!(is_active(&stage, &leader).await, "the daemon that was started anew does not ask");
    assert_eq!(stage.field.postmaster_pid(&leader), postmaster, "the primary was stopped");
    assert!(stage.field.signal_store(REGION, Signal::SIGCONT));
    assert_eq!(stage.healthy(LONG).await.name, leader.name);
    assert_eq!(timeline_of(&leader).await, timeline, "somebody promoted");
    stage.settle_without_loss(writer).await;
    stage.one_writer();
    stage.end();
}

/// The postmaster ends all others with it and recovers in place.
async fn crash_a_backend(leader: &MemberPlan) {
    let client = connect(leader).await.expect("the leader answers");
    let row = client.query_one("SELECT pg_backend_pid()", &[]).await.expect("a pid");
    let pid = nix::unistd::Pid::from_raw(row.get(0));
    nix::sys::signal::kill(pid, Signal::SIGKILL).expect("a backend of ours");
}
