//! What an operator asks for: switchovers, and daemons that end or come back.

use super::birth::entries;
use super::stage::{LONG, SHORT, Stage, timeline_of};
use ctl::field::{MemberPlan, Writer};
use nix::sys::signal::Signal;
use reqwest::Method;
use serde_json::json;
use std::time::{Duration, Instant};
use topology::{MemberRecord, MemberRole};

/// A debug build on two busy cores; a release build takes a tenth.
const OUTAGE_MAX: Duration = Duration::from_secs(3);
/// With a receiver that PostgreSQL waits for.
const HANGING_MAX: Duration = Duration::from_secs(6);

/// There and back again while a client writes.
pub async fn switchover() {
    let stage = Stage::raise(3).await;
    let writer = stage.writer("switchover").await;
    for turn in 1..=2 {
        let old = stage.leader().await;
        let candidate = stage.others(&old)[0].clone();
        let mark = stage.mark(&old);
        let since = Instant::now();
        let body = json!({"leader": old.name, "candidate": candidate.name});
        let reply = stage.send(Method::POST, &old, "/switchover", body).await;
        let answered = since.elapsed();
        assert_eq!(reply.status, 200, "{}", reply.body);
        let text = format!("Successfully switched over to \"{}\"", candidate.name);
        assert_eq!(reply.body, text.as_str());
        let outage = stage.writes_go_on(&writer, since, SHORT).await;
        let leader = stage.healthy(LONG).await;
        let healthy = since.elapsed();
        println!(
            "  switchover {turn}: no writes for {outage:.2?}, answer after {answered:.2?}, \
             all stream after {healthy:.2?}"
        );
        assert_eq!(leader.name, candidate.name);
        assert!(outage < OUTAGE_MAX, "no writes for {outage:?}");
        streams_without_rewind(&stage, &old, mark, turn + 1).await;
    }
    stage.settle_without_loss(writer).await;
    stage.one_writer();
    stage.end();
}

/// The old leader has everything: it follows onto the new timeline.
async fn streams_without_rewind(stage: &Stage, old: &MemberPlan, mark: usize, timeline: u32) {
    let log = stage.log_since(old, mark);
    for word in ["pg_rewind", "bootstrap from leader", "reinitialize"] {
        assert!(!log.contains(word), "{} needed {word}", old.name);
    }
    let path = "/patroni";
    stage
        .until("the old leader on the new timeline", SHORT, async || {
            let body = stage.get(old, path).await.body;
            body["replication_state"] == "streaming" && body["timeline"] == timeline
        })
        .await;
}

/// A candidate that receives nothing does not get the lock; clients write on.
pub async fn refused_switchover() {
    let stage = Stage::raise(3).await;
    let writer = stage.writer("refused").await;
    let leader = stage.leader().await;
    let candidate = stage.others(&leader)[0].clone();
    let body = json!({"leader": leader.name, "candidate": candidate.name});
    for (title, whole) in [("walreceiver", false), ("postmaster", true)] {
        freeze(&stage, &candidate, whole, Signal::SIGSTOP);
        let since = Instant::now();
        let reply = stage.send(Method::POST, &leader, "/switchover", body.clone()).await;
        let answered = since.elapsed();
        let outage = stage.writes_go_on(&writer, since, SHORT).await;
        println!(
            "  {title} of the candidate frozen: {} {} after {answered:.2?}, no writes for \
             {outage:.2?}",
            reply.status, reply.body
        );
        assert!([412, 503].contains(&reply.status), "{}", reply.body);
        assert!(outage < OUTAGE_MAX, "no writes for {outage:?}");
        freeze(&stage, &candidate, whole, Signal::SIGCONT);
        let still = stage.healthy(LONG).await;
        assert_eq!(still.name, leader.name);
    }
    assert_eq!(timeline_of(&leader).await, 1, "the leader was promoted anew");
    past_a_hanging_member(&stage, &writer, &leader).await;
    stage.settle_without_loss(writer).await;
    stage.one_writer();
    stage.end();
}

/// A hanging receiver of a third member delays the stop, but only for seconds.
async fn past_a_hanging_member(stage: &Stage, writer: &Writer, leader: &MemberPlan) {
    let others = stage.others(leader);
    let (candidate, hanging) = (&others[0], &others[1]);
    freeze(stage, hanging, false, Signal::SIGSTOP);
    let since = Instant::now();
    let body = json!({"leader": leader.name, "candidate": candidate.name});
    let reply = stage.send(Method::POST, leader, "/switchover", body).await;
    assert_eq!(reply.status, 200, "{}", reply.body);
    let outage = stage.writes_go_on(writer, since, SHORT).await;
    println!("  switchover past a third member that hangs: no writes for {outage:.2?}");
    assert!(outage < HANGING_MAX, "no writes for {outage:?}");
    freeze(stage, hanging, false, Signal::SIGCONT);
    assert_eq!(stage.healthy(LONG).await.name, candidate.name);
}

pub fn freeze(stage: &Stage, member: &MemberPlan, whole: bool, signal: Signal) {
    let hit = stage.field.signal_backends(member, "walreceiver", signal);
    assert_eq!(hit, 1, "{} has one walreceiver", member.name);
    if whole {
        // Its backends as well, else the monitoring session still answers.
        stage.field.signal_backends(member, "", signal);
        assert!(stage.field.signal_postmaster(member, signal));
    }
}

/// SIGTERM hands over, SIGKILL of the daemon alone touches no client.
/// The record of a daemon that has ended, as Patroni leaves it.
async fn last_words(stage: &Stage, ended: &MemberPlan) {
    let left = entries(stage).await.remove(&format!("members/{}", ended.name));
    let record = MemberRecord::read(&left.expect("it stays until its lease ends").value);
    assert_eq!((record.state.as_str(), record.role), ("stopped", MemberRole::Primary));
    assert_eq!((record.xlog_location, record.timeline), (None, None));
}

pub async fn daemon_ends() {
    let mut stage = Stage::raise(3).await;
    let writer = stage.writer("ends").await;
    let old = stage.leader().await;
    let since = Instant::now();
    assert!(stage.field.signal_daemon(&old.name, Signal::SIGTERM));
    let new = stage.new_leader(&old, SHORT).await;
    let led = since.elapsed();
    let outage = stage.writes_go_on(&writer, since, SHORT).await;
    let code = stage.field.wait_exit(&old.name, SHORT).expect("it ends");
    println!("  SIGTERM: {} leads after {led:.2?}, no writes for {outage:.2?}", new.name);
    assert_eq!(code, Some(0));
    assert!(led < Duration::from_secs(2), "a new leader only after {led:?}");
    assert!(stage.field.postmaster_pid(&old).is_none(), "PostgreSQL outlived its daemon");
    last_words(&stage, &old).await;
    stage.start(&old);
    stage.healthy(LONG).await;
    assert!(!stage.field.log(&old.name).contains("pg_rewind"));

    let leader = stage.leader().await;
    let postmaster = stage.field.postmaster_pid(&leader);
    let since = Instant::now();
    stage.field.kill_daemon(&leader.name);
    tokio::time::sleep(Duration::from_millis(500)).await;
    stage.start(&leader);
    stage.until("a leader again", LONG, async || stage.primary().await.is_some()).await;
    // Longer than any lease that the killed process may have left.
    tokio::time::sleep(super::stage::TTL + Duration::from_secs(2)).await;
    let outage = stage.writes_go_on(&writer, since, SHORT).await;
    println!("  daemon killed and restarted: no writes for {outage:.2?}");
    assert!(outage < Duration::from_secs(1), "no writes for {outage:?}");
    assert_eq!(stage.field.postmaster_pid(&leader), postmaster, "PostgreSQL was restarted");
    assert_eq!(stage.healthy(SHORT).await.name, leader.name);
    stage.settle_without_loss(writer).await;
    stage.one_writer();
    stage.end();
}
