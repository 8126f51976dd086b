//! A group on a store of three members that loses its majority and gets it back.
//!
//! Without a majority no lease of etcd ends and none is renewed: no member can take
//! over, and the leader cannot know that. It stops accepting writes before its lease
//! would be over, or leads on when all members agree (failsafe mode).

use super::etcd::Cluster;
use super::stage::{LONG, SHORT, Stage, TTL, timeline_of};
use ctl::field::{MemberPlan, Writer};
use serde_json::json;
use std::time::{Duration, Instant};

const PAST: Duration = Duration::from_secs(TTL.as_secs() + 2);
/// A pause of writes that no client notices.
const HICCUP: Duration = Duration::from_secs(2);

async fn raise(cluster: &Cluster) -> Stage {
    let hosts: Vec<String> = (0..3).map(|number| cluster.address(number)).collect();
    let stage = Stage::prepare_in(3, |plan| {
        let names: Vec<String> = plan.members().map(|m| m.name.clone()).collect();
        for name in names {
            plan.overlays.insert(name, json!({"etcd3": {"hosts": hosts}}));
        }
    });
    let mut stage = stage;
    for member in stage.members() {
        stage.start(&member);
    }
    stage.healthy(LONG).await;
    stage
}

/// Both at once: each waits for the end of a lease.
pub async fn lost() {
    tokio::join!(writes_end(), leads_on());
}

async fn writes_end() {
    let mut cluster = Cluster::start(false);
    let stage = raise(&cluster).await;
    let writer = stage.writer("majority").await;
    let leader = stage.leader().await;
    let marks = marks(&stage, &leader);

    let since = Instant::now();
    cluster.kill(1);
    cluster.kill(2);
    stage
        .until("nobody writable", TTL, async || {
            stage.watch.writable().is_empty() && writer.longest_pause(since).as_millis() > 500
        })
        .await;
    let last = writer.last_acknowledged().expect("rows were written before");
    let wrote_on = last.saturating_duration_since(since);
    println!("  majority lost: the last row after {wrote_on:.2?} (ttl {TTL:?})");
    assert!(wrote_on < TTL, "rows were acknowledged when the lock was over");
    tokio::time::sleep(PAST.saturating_sub(since.elapsed())).await;
    assert!(!writer.wrote_since(last) && stage.watch.writable().is_empty());

    let back = Instant::now();
    cluster.restart(1);
    stage.writes_go_on(&writer, since, LONG).await;
    println!("  majority back: rows again after {:.2?}", back.elapsed());
    same_leader(&stage, &leader, &marks).await;
    end(stage, writer).await;
}

async fn leads_on() {
    let mut cluster = Cluster::start(false);
    let stage = raise(&cluster).await;
    let leader = super::failsafe::turn_on(&stage).await;
    let writer = stage.writer("agreed").await;
    let (marks, timeline) = (marks(&stage, &leader), timeline_of(&leader).await);
    let postmaster = stage.field.postmaster_pid(&leader);

    let since = Instant::now();
    cluster.kill(1);
    cluster.kill(2);
    tokio::time::sleep(PAST).await;
    assert!(writer.wrote_since(Instant::now() - HICCUP), "writes ended with the lease");
    cluster.restart(1);
    let back = Instant::now();
    stage
        .until("the end of failsafe mode", SHORT, async || {
            let body = stage.get(&leader, "/patroni").await.body;
            body["failsafe_mode_is_active"].is_null()
        })
        .await;
    let pause = writer.longest_pause(since);
    println!(
        "  failsafe mode: over {:.2?} after the majority, no row for {pause:.2?}",
        back.elapsed()
    );
    assert!(pause < HICCUP, "no row for {pause:?}");
    same_leader(&stage, &leader, &marks).await;
    assert_eq!(timeline_of(&leader).await, timeline, "somebody promoted");
    assert_eq!(stage.field.postmaster_pid(&leader), postmaster, "the leader was restarted");
    end(stage, writer).await;
}

fn marks(stage: &Stage, leader: &MemberPlan) -> Vec<(MemberPlan, usize)> {
    stage.others(leader).into_iter().map(|m| (m.clone(), stage.mark(&m))).collect()
}

async fn same_leader(stage: &Stage, leader: &MemberPlan, others: &[(MemberPlan, usize)]) {
    assert_eq!(stage.healthy(LONG).await.name, leader.name);
    for (member, mark) in others {
        let log = stage.log_since(member, *mark);
        let promoted = log.contains("promoted self") || log.contains("leaving recovery");
        assert!(!promoted, "{} promoted", member.name);
    }
}

async fn end(stage: Stage, writer: Writer) {
    stage.settle_without_loss(writer).await;
    stage.one_writer();
    stage.end();
}
