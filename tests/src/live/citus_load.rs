//! Clients of a distributed table: transactions over two workers and on one, through the
//! coordinator and through another worker.
//!
//! Each client keeps its connection as long as that lives, and notes how long every
//! statement took and which errors it got. A transaction writes two rows, or one; at the
//! end every acknowledged one is there and no pair is torn.

use super::citus_formation::{COORDINATOR, Formation, connect};
use ctl::field::MemberPlan;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use tokio::task::JoinHandle;
use tokio_postgres::Client;

const PAUSE: Duration = Duration::from_millis(4);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Does {
    /// Two rows: one on each worker.
    WritesBoth,
    /// One row on the worker of group 1.
    WritesOne,
    Reads,
}

#[derive(Clone, Debug)]
struct Line {
    at: Instant,
    took: Duration,
    seq: i64,
    error: Option<String>,
}

type Log = Arc<Mutex<Vec<Line>>>;

struct LoadClient {
    name: String,
    does: Does,
    number: i32,
    log: Log,
    task: JoinHandle<()>,
}

pub struct Load {
    clients: Vec<LoadClient>,
}

/// Keys whose shards lie on groups 1 and 2.
#[derive(Clone, Copy)]
struct Keys {
    one: i32,
    two: i32,
}

/// What the clients of one kind saw since a moment.
#[derive(Debug, Default)]
pub struct Seen {
    pub longest: Duration,
    pub errors: Vec<String>,
}

impl Load {
    pub async fn start(formation: &Formation) -> Load {
        let coordinator = formation.leader(COORDINATOR).await;
        let worker = formation.leader(2).await;
        let create = "CREATE TABLE IF NOT EXISTS ledger \
            (k int, client int, seq bigint, PRIMARY KEY (k, client, seq))";
        formation.sql(&coordinator, create).await;
        let distribute = "SET citus.shard_count = 4; \
            SELECT create_distributed_table('ledger', 'k') \
            WHERE NOT EXISTS (SELECT FROM pg_dist_partition WHERE logicalrelid = 'ledger'::regclass)";
        formation.sql(&coordinator, distribute).await;
        let keys = keys(&coordinator).await;
        let mut load = Load { clients: Vec::new() };
        for (at, through) in [(&coordinator, "coordinator"), (&worker, "worker")] {
            for does in [Does::WritesBoth, Does::WritesBoth, Does::WritesOne, Does::Reads] {
                load.add(at, &format!("{does:?} through the {through}"), does, keys);
            }
        }
        formation
            .soon("writes of every client", async || {
                load.clients.iter().all(|c| c.log.lock().expect("no panic").len() > 3)
            })
            .await;
        load
    }

    fn add(&mut self, at: &MemberPlan, name: &str, does: Does, keys: Keys) {
        let (log, number) = (Log::default(), self.clients.len() as i32);
        let task = tokio::spawn(go_on(at.clone(), does, keys, number, log.clone()));
        self.clients.push(LoadClient { name: name.to_string(), does, number, log, task });
    }

    /// Writers whose name ends so, since a moment.
    pub fn writers(&self, through: &str, since: Instant) -> Seen {
        let ours = |c: &&LoadClient| c.does != Does::Reads && c.name.ends_with(through);
        seen(self.clients.iter().filter(ours), since)
    }

    pub fn readers(&self, since: Instant) -> Seen {
        seen(self.clients.iter().filter(|c| c.does == Does::Reads), since)
    }

    /// The longest time in which any of these writers got nothing done.
    pub fn longest_gap(&self, through: &str, since: Instant) -> Duration {
        let ours =
            self.clients.iter().filter(|c| c.does != Does::Reads && c.name.ends_with(through));
        let gap = |c: &LoadClient| {
            let log = c.log.lock().expect("no panic");
            let ok: Vec<Instant> = log.iter().filter(|l| l.error.is_none()).map(|l| l.at).collect();
            let before = ok.iter().rfind(|at| **at <= since).copied().unwrap_or(since);
            let mut last = before;
            let mut longest = Duration::ZERO;
            for at in ok.into_iter().filter(|at| *at > since).chain([Instant::now()]) {
                longest = longest.max(at - last);
                last = at;
            }
            longest
        };
        ours.map(gap).max().unwrap_or_default()
    }

    /// Writers go on: each has written after this moment.
    pub async fn goes_on(&self, formation: &Formation, since: Instant, limit: Duration) {
        let wrote = |c: &LoadClient| {
            let log = c.log.lock().expect("no panic");
            log.iter().rev().take(20).any(|l| l.at - l.took > since && l.error.is_none())
        };
        formation
            .until("writes of every client", limit, async || self.clients.iter().all(wrote))
            .await;
    }

    /// Ends the clients and compares: nothing acknowledged is lost, no pair is torn.
    pub async fn settle(self, formation: &Formation) {
        for client in &self.clients {
            client.task.abort();
        }
        tokio::time::sleep(Duration::from_millis(300)).await;
        let at = formation.leader(COORDINATOR).await;
        let db = connect(&at).await.expect("the coordinator takes connections");
        let _ = db.execute("SELECT recover_prepared_transactions()", &[]).await;
        for client in &self.clients {
            if client.does != Does::Reads {
                client.compare(&db).await;
            }
        }
    }
}

impl LoadClient {
    async fn compare(&self, db: &Client) {
        let sql = "SELECT seq, count(*) FROM ledger WHERE client = $1 GROUP BY seq";
        let rows = db.query(sql, &[&self.number]).await.expect("rows");
        let found: BTreeMap<i64, i64> = rows.iter().map(|r| (r.get(0), r.get(1))).collect();
        let wanted = if self.does == Does::WritesBoth { 2 } else { 1 };
        let torn = found.values().filter(|count| **count != wanted).count();
        let log = self.log.lock().expect("no panic");
        let acknowledged = log.iter().filter(|l| l.error.is_none());
        let lost = acknowledged.clone().filter(|l| !found.contains_key(&l.seq)).count();
        println!(
            "  {}: {} acknowledged, {lost} lost, {torn} torn",
            self.name,
            acknowledged.count()
        );
        assert_eq!((lost, torn), (0, 0), "{}", self.name);
    }
}

fn seen<'a>(clients: impl Iterator<Item = &'a LoadClient>, since: Instant) -> Seen {
    let mut all = Seen::default();
    for client in clients {
        let log = client.log.lock().expect("no panic");
        for line in log.iter().filter(|line| line.at > since) {
            all.longest = all.longest.max(line.took);
            let error = line.error.as_ref();
            all.errors.extend(error.map(|why| format!("{}: {why}", client.name)));
        }
    }
    all
}

async fn keys(coordinator: &MemberPlan) -> Keys {
    let db = connect(coordinator).await.expect("the coordinator takes connections");
    let sql = "SELECT groupid, min(k)::int4 FROM generate_series(1, 100) k \
        JOIN pg_dist_placement p ON p.shardid = get_shard_id_for_distribution_column('ledger', k) \
        GROUP BY groupid ORDER BY groupid";
    let rows = db.query(sql, &[]).await.expect("placements");
    let of: BTreeMap<i32, i32> = rows.iter().map(|r| (r.get(0), r.get(1))).collect();
    Keys { one: of[&1], two: of[&2] }
}

async fn go_on(at: MemberPlan, does: Does, keys: Keys, number: i32, log: Log) {
    let mut seq = 0i64;
    let mut client: Option<Client> = None;
    loop {
        seq += 1;
        let begin = Instant::now();
        let done = once(&at, &mut client, does, keys, number, seq).await;
        let took = begin.elapsed();
        let error = done.err();
        if error.is_some() {
            client = None;
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        let line = Line { at: begin + took, took, seq, error };
        log.lock().expect("no panic").push(line);
        tokio::time::sleep(PAUSE).await;
    }
}

async fn once(
    at: &MemberPlan,
    client: &mut Option<Client>,
    does: Does,
    keys: Keys,
    number: i32,
    seq: i64,
) -> Result<(), String> {
    if client.is_none() {
        *client = Some(connect(at).await.map_err(say)?);
    }
    let client = client.as_ref().expect("just made");
    let row = |k: i32| format!("INSERT INTO ledger VALUES ({k}, {number}, {seq})");
    let sql = match does {
        Does::WritesBoth => format!("BEGIN; {}; {}; COMMIT", row(keys.one), row(keys.two)),
        Does::WritesOne => row(keys.one),
        Does::Reads => {
            format!("SELECT count(*) FROM ledger WHERE k = {} AND client = -1", keys.one)
        }
    };
    client.batch_execute(&sql).await.map_err(say)
}

fn say(error: tokio_postgres::Error) -> String {
    match error.as_db_error() {
        Some(db) => db.message().to_string(),
        None => format!("{error:?}"),
    }
}
