//! PostgreSQL dies, or a whole node with it.

use super::stage::{LONG, SHORT, Stage, TTL, ask_sql, connect, timeline_of};
use ctl::field::{MemberPlan, Writer};
use nix::sys::signal::Signal;
use serde_json::json;
use std::time::{Duration, Instant};

/// What the daemon and a client that connects again may add to PostgreSQL's own
/// crash recovery.
const OWN_SHARE: Duration = Duration::from_millis(200);
/// Other tests share the processors and may delay one recovery; one in time shows what the
/// daemon can do.
const CRASHES_MAX: usize = 3;
const DAY_MS: u64 = 24 * 60 * 60 * 1_000;

/// kill -9 of the postmaster: started again in place, or given away at once.
pub async fn postmaster_killed() {
    let stage = Stage::raise(3).await;
    let writer = stage.writer("killed").await;
    let old = stage.leader().await;

    let mut own = Duration::MAX;
    for _ in 0..CRASHES_MAX {
        own = own.min(recovered_in_place(&stage, &old, &writer).await);
        if own < OWN_SHARE {
            break;
        }
    }
    assert!(own < OWN_SHARE, "{own:?} beyond PostgreSQL's own recovery");

    stage.patch(json!({"primary_start_timeout": 0})).await;
    stage.rows_on_a_replica().await;
    let mark = stage.mark(&old);
    let since = Instant::now();
    assert!(stage.field.signal_postmaster(&old, Signal::SIGKILL));
    let new = stage.new_leader(&old, SHORT).await;
    let outage = stage.writes_go_on(&writer, since, SHORT).await;
    println!("  failover at once to {}: no writes for {outage:.2?}", new.name);
    assert!(outage < Duration::from_secs(5), "no writes for {outage:?}");
    assert_eq!(stage.healthy(LONG).await.name, new.name);
    println!("  the old primary streams after {:.2?}", since.elapsed());
    assert!(!stage.log_since(&old, mark).contains("bootstrap from leader"));
    stage.settle_without_loss(writer).await;
    stage.one_writer();
    stage.end();
}

/// How much longer no client could write than PostgreSQL's own recovery took.
async fn recovered_in_place(stage: &Stage, old: &MemberPlan, writer: &Writer) -> Duration {
    let killed = stage.field.postmaster_pid(old).expect("the leader runs");
    let mark = stage.mark(old);
    let since = Instant::now();
    assert!(stage.field.signal_postmaster(old, Signal::SIGKILL));
    stage.restarted(old, killed).await;
    let outage = stage.writes_go_on(writer, since, SHORT).await;
    let recovery = recovery_of(&stage.log_since(old, mark));
    println!("  recovery in place: no writes for {outage:.2?}, PostgreSQL took {recovery:.2?}");
    assert_eq!(stage.healthy(LONG).await.name, old.name);
    assert_eq!(timeline_of(old).await, 1);
    assert!(outage < Duration::from_secs(5), "no writes for {outage:?}");
    outage.saturating_sub(recovery)
}

/// What a server's log says of its own start and crash recovery.
fn recovery_of(log: &str) -> Duration {
    let at = |text: &str| {
        let line = log.lines().rfind(|line| line.contains(text));
        millisecond_of_day(line.unwrap_or_else(|| panic!("no line `{text}` in {log}")))
    };
    let (began, ready) = (at("starting PostgreSQL"), at("is ready to accept connections"));
    Duration::from_millis((ready + DAY_MS - began) % DAY_MS)
}

/// Of a line that begins as `log_line_prefix` is by default: `2030-01-31 23:59:59.123 UTC`.
fn millisecond_of_day(line: &str) -> u64 {
    let clock = line.split_whitespace().nth(1).expect("a time of day");
    let parts = clock.split([':', '.']).map(|part| part.parse::<u64>().expect("a number"));
    let [hour, minute, second, ms] = parts.collect::<Vec<_>>()[..] else { panic!("{clock}") };
    ((hour * 60 + minute) * 60 + second) * 1_000 + ms
}

/// A node is gone with rows that no other node has, and comes back.
pub async fn node_lost() {
    let mut stage = Stage::raise(3).await;
    let writer = stage.writer("before").await;
    stage.settle_without_loss(writer).await;
    let old = stage.leader().await;
    diverge(&stage, &old).await;

    let since = Instant::now();
    stage.field.kill_node(&old);
    let new = stage.new_leader(&old, TTL + SHORT).await;
    let led = since.elapsed();
    println!("  node lost: {} leads after {led:.2?} (ttl {TTL:?})", new.name);
    assert!(led < TTL + Duration::from_secs(3), "only after {led:?}");
    let writer = stage.writer("after").await;

    let mark = stage.mark(&old);
    stage.start(&old);
    assert_eq!(stage.healthy(LONG).await.name, new.name);
    let log = stage.log_since(&old, mark);
    assert!(log.contains("done: running pg_rewind"), "{} was not rewound", old.name);
    assert!(!log.contains("bootstrap from leader"), "{} was copied anew", old.name);
    stage.settle_without_loss(writer).await;
    for member in stage.members() {
        let seen = ask_sql(&member, "SELECT count(*)::text FROM diverged").await;
        assert_eq!(seen.ok().as_deref(), Some("0"), "{} kept a foreign history", member.name);
        let same = "SELECT (SELECT count(*) FROM before)::text";
        assert!(ask_sql(&member, same).await.is_ok(), "{} lacks a table", member.name);
    }
    stage.one_writer();
    stage.end();
}

/// Rows on this primary alone: its walsenders are frozen while they are written.
async fn diverge(stage: &Stage, primary: &MemberPlan) {
    let client = connect(primary).await.expect("the primary takes connections");
    client.batch_execute("CREATE TABLE diverged (id bigint)").await.expect("a table");
    stage.replayed_by(2, primary).await;
    let frozen = stage.field.signal_backends(primary, "walsender", Signal::SIGSTOP);
    assert_eq!(frozen, 2, "one walsender for each replica");
    let rows = "INSERT INTO diverged SELECT generate_series(1, 1000)";
    client.batch_execute(rows).await.expect("a primary without standbys writes on");
}
