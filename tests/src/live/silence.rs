//! The store falls silent, or a daemon does.

use super::stage::{LONG, SHORT, Stage, TTL, dsn_of};
use ctl::field::Writer;
use nix::sys::signal::Signal;
use node::dcs::Version;
use std::time::{Duration, Instant};

/// etcd frozen: the leader stops before another member could hold its lock.
pub async fn store_frozen() {
    let mut stage = Stage::raise(3).await;
    let writer = stage.writer("frozen").await;
    let since = Instant::now();
    assert!(stage.field.signal_store(super::stage::REGION, Signal::SIGSTOP));
    stage
        .until("nobody writable", TTL + SHORT, async || {
            stage.watch.writable().is_empty() && writer.longest_pause(since).as_millis() > 500
        })
        .await;
    let last = writer.last_acknowledged().expect("rows were written before");
    let wrote_on = last.saturating_duration_since(since);
    println!("  store frozen: the last row after {wrote_on:.2?} (ttl {TTL:?})");
    assert!(wrote_on < TTL, "rows were acknowledged when the lock was over");
    let readable = stage.members();
    stage
        .until("servers that can be read", SHORT, async || {
            for member in &readable {
                let count = super::stage::ask_sql(member, "SELECT count(*)::text FROM frozen");
                if count.await.is_err() {
                    return false;
                }
            }
            true
        })
        .await;
    // Past the end of every lease, and still no member may write.
    let rest = (TTL + Duration::from_secs(2)).saturating_sub(since.elapsed());
    tokio::time::sleep(rest).await;
    assert!(!writer.wrote_since(last), "a row was acknowledged without a store");
    assert!(stage.watch.writable().is_empty());

    let thawed = Instant::now();
    assert!(stage.field.signal_store(super::stage::REGION, Signal::SIGCONT));
    stage.writes_go_on(&writer, since, LONG).await;
    println!("  store back: rows again after {:.2?}", thawed.elapsed());
    stage.healthy(LONG).await;
    stage.settle_without_loss(writer).await;
    stage.one_writer();
    stage.end();
}

/// A daemon that comes up beside a primary and hears nothing from its store
/// cannot know whose the lock is.
pub async fn store_frozen_at_start() {
    let mut stage = Stage::raise(3).await;
    let writer = stage.writer("started").await;
    let leader = stage.leader().await;
    assert!(stage.field.signal_store(super::stage::REGION, Signal::SIGSTOP));
    stage.field.kill_daemon(&leader.name);
    let since = Instant::now();
    stage.start(&leader);
    let closed = stage
        .until("the end of the primary", SHORT, async || stage.watch.writable().is_empty())
        .await;
    println!("  daemon started without a store: its primary is closed after {closed:.2?}");
    assert!(closed < Duration::from_secs(12), "writable without a store for {closed:?}");
    assert!(stage.field.signal_store(super::stage::REGION, Signal::SIGCONT));
    stage.writes_go_on(&writer, since, LONG).await;
    stage.healthy(LONG).await;
    stage.settle_without_loss(writer).await;
    stage.one_writer();
    stage.end();
}

/// A frozen daemon leaves its primary running; when it wakes, it ends it.
pub async fn daemon_frozen() {
    let mut stage = Stage::raise(3).await;
    let writer = stage.writer("early").await;
    stage.settle_without_loss(writer).await;
    let old = stage.leader().await;
    let since = Instant::now();
    assert!(stage.field.signal_daemon(&old.name, Signal::SIGSTOP));
    let new = stage.new_leader(&old, TTL + SHORT).await;
    let led = since.elapsed();
    println!("  daemon frozen: {} leads after {led:.2?} (ttl {TTL:?})", new.name);
    let writer = write_to(&stage, &new).await;

    let before = keys_of_the_leader(&stage).await;
    let thawed = Instant::now();
    assert!(stage.field.signal_daemon(&old.name, Signal::SIGCONT));
    stage
        .until("the end of the old primary", Duration::from_secs(1), async || {
            !stage.watch.writable().contains(&old.name)
        })
        .await;
    println!("  daemon awake: its primary is closed after {:.2?}", thawed.elapsed());
    assert_eq!(stage.healthy(LONG).await.name, new.name);
    assert_eq!(keys_of_the_leader(&stage).await, before, "it wrote what is a leader's to write");
    stage.settle_without_loss(writer).await;
    // Without a watchdog nothing stops a primary whose daemon is frozen.
    stage.one_writer_since(thawed + Duration::from_secs(1));
    stage.end();
}

/// What only a leader writes, with the version of its last change. Its position
/// moves all the time and is left out.
async fn keys_of_the_leader(stage: &Stage) -> Vec<(String, String, Version)> {
    let names = ["leader", "history", "config", "initialize", "failover", "sync"];
    let entries = super::birth::entries(stage).await;
    let entries = entries.into_iter().filter(|(name, _)| names.contains(&name.as_str()));
    entries.map(|(name, entry)| (name, entry.value, entry.version)).collect()
}

/// A client that knows the new leader only.
async fn write_to(stage: &Stage, leader: &ctl::field::MemberPlan) -> Writer {
    let client = super::stage::connect(leader).await.expect("the new leader answers");
    let create = "CREATE TABLE late (id bigint PRIMARY KEY)";
    client.batch_execute(create).await.expect("the new leader is writable");
    let writer = Writer::start(dsn_of(leader), "late", Duration::from_millis(5));
    stage.until("the first row", SHORT, async || writer.acknowledged() > 0).await;
    writer
}
