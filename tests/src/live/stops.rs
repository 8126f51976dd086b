//! Orderly stops: which receivers they wait for, what they never lose, and how they end.
//!
//! A receiver is frozen with SIGSTOP: the kernel still answers for it, so its server
//! cannot tell it from one that is slow.

use super::birth::entries;
use super::checkpoint::file;
use super::planned::freeze;
use super::stage::{LONG, SHORT, Stage, TTL, connect};
use ctl::field::MemberPlan;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use reqwest::Method;
use serde_json::json;
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

/// Rows that are written while a replica receives nothing.
const ROWS: i64 = 300;
/// A debug build on two busy cores; PostgreSQL alone waits for 60 s.
const HELD_MAX: Duration = Duration::from_secs(5);
/// A replica that stands still has 10 s.
const STILL_MAX: Duration = Duration::from_secs(20);

async fn write_rows(leader: &MemberPlan) {
    let client = connect(leader).await.expect("the leader takes connections");
    client.batch_execute("CREATE TABLE kept (id bigint)").await.expect("a table");
    for id in 0..ROWS {
        let sql = "INSERT INTO kept VALUES ($1)";
        client.execute(sql, &[&id]).await.expect("a row is acknowledged");
    }
}

async fn rows_of(member: &MemberPlan) -> i64 {
    let client = connect(member).await.expect("the leader takes connections");
    client.query_one("SELECT count(*) FROM kept", &[]).await.expect("the rows").get(0)
}

async fn table_arrived(stage: &Stage, leader: &MemberPlan) {
    stage
        .until("a replica that streams", SHORT, async || {
            let sql = "SELECT count(*) FROM pg_stat_replication WHERE state = 'streaming'";
            let client = connect(leader).await.expect("the leader takes connections");
            client.query_one(sql, &[]).await.is_ok_and(|row| row.get::<_, i64>(0) > 0)
        })
        .await;
}

/// The replica is seconds behind when the leader's daemon ends.
pub async fn waits_for_a_replica() {
    let mut stage = Stage::raise(2).await;
    let leader = stage.leader().await;
    let replica = stage.others(&leader)[0].clone();
    table_arrived(&stage, &leader).await;
    freeze(&stage, &replica, false, Signal::SIGSTOP);
    write_rows(&leader).await;
    let since = Instant::now();
    assert!(stage.field.signal_daemon(&leader.name, Signal::SIGTERM));
    tokio::time::sleep(Duration::from_secs(6)).await;
    assert!(!stage.watch.writable().contains(&replica.name), "it promoted without the rows");
    freeze(&stage, &replica, false, Signal::SIGCONT);
    let new = stage.new_leader(&leader, SHORT).await;
    println!("  6 s behind at SIGTERM: {} leads after {:.2?}", new.name, since.elapsed());
    assert_eq!(stage.field.wait_exit(&leader.name, SHORT).expect("it ends"), Some(0));
    assert_eq!(rows_of(&new).await, ROWS, "acknowledged rows are lost");
    stage.start(&leader);
    stage.healthy(LONG).await;
    assert!(!stage.field.log(&leader.name).contains("pg_rewind"));
    stage.one_writer();
    stage.end();
}

/// The replica receives nothing until the leader's daemon has ended.
pub async fn hands_nothing_to_a_replica_that_lacks_the_end() {
    let mut stage = Stage::raise(2).await;
    let leader = stage.leader().await;
    let replica = stage.others(&leader)[0].clone();
    table_arrived(&stage, &leader).await;
    freeze(&stage, &replica, false, Signal::SIGSTOP);
    write_rows(&leader).await;
    let since = Instant::now();
    assert!(stage.field.signal_daemon(&leader.name, Signal::SIGTERM));
    assert_eq!(stage.field.wait_exit(&leader.name, LONG).expect("it ends"), Some(0));
    println!("  a replica stands still: the daemon ends after {:.2?}", since.elapsed());
    assert!(since.elapsed() < STILL_MAX, "{:?}", since.elapsed());
    assert!(stage.field.postmaster_pid(&leader).is_none(), "PostgreSQL outlived its daemon");
    let mark = stage.mark(&replica);
    // What its kernel has received goes with the process, which ends before it reads on.
    freeze(&stage, &replica, false, Signal::SIGTERM);
    freeze(&stage, &replica, false, Signal::SIGCONT);
    // Longer than the record and the lease of the member that ended.
    tokio::time::sleep(TTL + Duration::from_secs(5)).await;
    assert!(!stage.watch.writable().contains(&replica.name), "it promoted without the rows");
    let log = stage.log_since(&replica, mark);
    let sentence = format!("{} ended in order and its log goes up to", leader.name);
    assert!(log.contains(&sentence), "it does not say why it waits");
    stage.start(&leader);
    let again = stage.healthy(LONG).await;
    assert_eq!(again.name, leader.name, "only it has all rows");
    assert_eq!(rows_of(&again).await, ROWS, "acknowledged rows are lost");
    stage.one_writer();
    stage.end();
}

/// `pg_recvlogical` on a slot of its own, frozen by the test.
struct Consumer(Child);

impl Consumer {
    async fn start(stage: &Stage, leader: &MemberPlan) -> Consumer {
        let client = connect(leader).await.expect("the leader takes connections");
        let sql = "SELECT pg_create_logical_replication_slot('consumer', 'test_decoding')";
        client.execute(sql, &[]).await.expect("a slot");
        let program = stage.field.plan.pg_bin.join("pg_recvlogical");
        let (host, port) = (leader.host.clone(), leader.pg_port.to_string());
        let words = ["-h", &host, "-p", &port, "-U", "postgres", "-d", "postgres"];
        let mut command = stage.field.command(&program);
        command.args(words).args(["--slot", "consumer", "--start", "-f", "/dev/null"]);
        let child = command.stderr(Stdio::null()).spawn().expect("pg_recvlogical");
        stage
            .until("a consumer", SHORT, async || {
                let sql = "SELECT active FROM pg_replication_slots WHERE slot_name = 'consumer'";
                client.query_one(sql, &[]).await.is_ok_and(|row| row.get(0))
            })
            .await;
        Consumer(child)
    }

    fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(self.0.id() as i32), signal).expect("it runs");
    }
}

impl Drop for Consumer {
    fn drop(&mut self) {
        if let Err(error) = self.0.kill().and_then(|()| self.0.wait().map(drop)) {
            eprintln!("pg_recvlogical: {error}");
        }
    }
}

/// Neither a frozen member nor a consumer that reads nothing holds up a switchover.
pub async fn does_not_wait_for_others() {
    let stage = Stage::prepare_in(3, |plan| {
        plan.dcs["postgresql"]["parameters"]["wal_level"] = json!("logical");
        // Unused for a moment while its server changes its role.
        plan.dcs["ignore_slots"] = json!([{"name": "consumer"}]);
    });
    let mut stage = stage;
    stage.stand_up().await;
    let writer = stage.writer("others").await;
    let leader = stage.leader().await;
    let others = stage.others(&leader);
    let (candidate, third) = (&others[0], &others[1]);
    for backlog in [false, true] {
        let old = stage.leader().await;
        let new = if old.name == leader.name { candidate } else { &leader };
        let consumer = Consumer::start(&stage, &old).await;
        consumer.signal(Signal::SIGSTOP);
        if backlog {
            // More than the buffers between the two hold: its walsender is stuck.
            let client = connect(&old).await.expect("the leader takes connections");
            let sql = "CREATE TABLE IF NOT EXISTS bulk (t text); INSERT INTO bulk \
                SELECT repeat(md5(n::text), 30) FROM generate_series(1, 20000) n";
            client.batch_execute(sql).await.expect("many rows");
        }
        freeze(&stage, third, true, Signal::SIGSTOP);
        let mark = stage.mark(&old);
        let since = Instant::now();
        let body = json!({"leader": old.name, "candidate": new.name});
        let reply = stage.send(Method::POST, &old, "/switchover", body).await;
        assert_eq!(reply.status, 200, "{}", reply.body);
        // Not by the client: it would wait for the frozen member itself.
        let opens = async || stage.watch.writable().contains(&new.name);
        stage.until("a candidate that accepts writes", SHORT, opens).await;
        let outage = since.elapsed();
        println!("  past a frozen member and a consumer (backlog: {backlog}): {outage:.2?}");
        assert!(outage < HELD_MAX, "no writes for {outage:?}");
        let log = stage.log_since(&old, mark);
        assert!(
            log.contains("the stop does not wait for the remaining receivers"),
            "it is not told"
        );
        let held = log.contains("consumers of logical replication hold up");
        // Without a backlog it depends on how much its buffers take.
        assert!(held || !backlog, "the consumer held up the shutdown checkpoint");
        freeze_back(&stage, third);
        consumer.signal(Signal::SIGCONT);
        drop(consumer);
        assert_eq!(stage.healthy(LONG).await.name, new.name);
        drop_slot(&stage, &old).await;
    }
    stage.settle_without_loss(writer).await;
    stage.one_writer();
    stage.end();
}

fn freeze_back(stage: &Stage, member: &MemberPlan) {
    assert!(stage.field.signal_postmaster(member, Signal::SIGCONT));
    stage.field.signal_backends(member, "", Signal::SIGCONT);
}

async fn drop_slot(stage: &Stage, member: &MemberPlan) {
    stage
        .until("the end of the slot", SHORT, async || {
            let Ok(client) = connect(member).await else { return false };
            let sql = "SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots \
                WHERE slot_name = 'consumer'";
            client.execute(sql, &[]).await.is_ok()
        })
        .await;
}

/// In a synchronous mode a stop that `primary_stop_timeout` kills before its checkpoint.
pub async fn killed_before_its_checkpoint() {
    let mut stage = Stage::prepare_with(2, |plan, dir| {
        let names: Vec<String> = plan.members().map(|m| m.name.clone()).collect();
        for name in names {
            let place = dir.join(&name).display().to_string();
            let wait = format!("while test ! -e {place}.go; do sleep 0.05; done");
            let command = format!("sh -c 'touch {place}.stops; {wait}'");
            plan.overlays.insert(name, json!({"postgresql": {"before_stop": command}}));
        }
    });
    stage.stand_up().await;
    let leader = stage.leader().await;
    let candidate = stage.others(&leader)[0].clone();
    stage.patch(json!({"synchronous_mode": true, "primary_stop_timeout": 3})).await;
    stage
        .until("a synchronous standby", SHORT, async || {
            let all = entries(&stage).await;
            all.get("sync").is_some_and(|sync| sync.value.contains(&candidate.name))
        })
        .await;
    let writer = stage.writer("killed").await;
    let body = json!({"leader": leader.name, "candidate": candidate.name});
    let asked = stage.ask.send(Method::POST, &leader, "/switchover", Some(&body));
    let stops = async {
        stage.until("the stop", SHORT, async || file(&stage, &leader, "stops").exists()).await;
        let frozen = stage.field.signal_backends(&leader, "checkpointer", Signal::SIGSTOP);
        assert_eq!(frozen, 1, "one checkpointer");
        std::fs::write(file(&stage, &leader, "go"), "").expect("a mark");
    };
    let since = Instant::now();
    let (_, ()) = tokio::join!(asked, stops);
    let new = stage.new_leader(&leader, LONG).await;
    println!("  killed before its checkpoint: {} leads after {:.2?}", new.name, since.elapsed());
    assert_eq!(stage.healthy(LONG).await.name, candidate.name);
    let log = stage.field.log(&leader.name);
    assert_eq!(log.matches("handing over: PostgreSQL stops").count(), 1, "it was repeated");
    stage.settle_without_loss(writer).await;
    stage.one_writer();
    stage.end();
}
