//! Transfers between accounts of a distributed table, each over both workers and with its two
//! rows in a journal, through the coordinator and through a worker at once.
//!
//! Whatever becomes of the servers, no money is made or lost, every transfer that was
//! acknowledged is in the journal once and whole, and every balance is what the journal says.

use super::citus_formation::{COORDINATOR, Formation, connect};
use ctl::field::MemberPlan;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use tokio::sync::RwLock;
use tokio::task::JoinHandle;
use tokio_postgres::{Client, NoTls};

const ACCOUNTS: i32 = 200;
const BALANCE: i64 = 1_000;
const PACE: Duration = Duration::from_millis(20);
/// For a connection: a frozen server takes it and says nothing.
const PATIENCE: Duration = Duration::from_secs(3);
/// The daemon has resolved every in-doubt transaction by then, without an operator.
const RESOLVED_MAX: Duration = Duration::from_secs(10);
pub const COORDINATORS: &str = "coordinator";
pub const WORKERS: &str = "worker";

#[derive(Clone, Debug)]
struct Line {
    at: Instant,
    took: Duration,
    seq: i64,
    error: Option<String>,
}

type Log = Arc<Mutex<Vec<Line>>>;

struct Teller {
    through: &'static str,
    number: i32,
    log: Log,
    task: JoinHandle<()>,
}

pub struct Bank {
    tellers: Vec<Teller>,
    /// Who transfers has it shared; the audit has it alone.
    open: Arc<RwLock<()>>,
}

/// What the tellers of one way saw since a moment.
#[derive(Clone, Debug, Default)]
pub struct Tale {
    /// One transfer from its begin to its end.
    pub longest: Duration,
    /// One teller without a transfer that was acknowledged.
    pub gap: Duration,
    pub errors: BTreeMap<String, usize>,
}

/// Accounts whose shards lie on group 1 and on group 2.
#[derive(Clone)]
struct Accounts {
    one: Vec<i32>,
    two: Vec<i32>,
}

impl Bank {
    pub async fn open(formation: &Formation) -> Bank {
        let coordinator = formation.leader(COORDINATOR).await;
        found(formation, &coordinator).await;
        let accounts = accounts(&coordinator).await;
        let mut bank = Bank { tellers: Vec::new(), open: Arc::default() };
        for _ in 0..3 {
            for (through, group) in [(COORDINATORS, COORDINATOR), (WORKERS, 2)] {
                bank.hire(through, formation.field.plan.dsn(Some(group)), accounts.clone());
            }
        }
        let begin = Instant::now();
        bank.goes_on(formation, begin, super::stage::SHORT).await;
        bank
    }

    fn hire(&mut self, through: &'static str, dsn: String, accounts: Accounts) {
        let (log, number) = (Log::default(), self.tellers.len() as i32);
        let work = go_on(dsn, accounts, number, log.clone(), self.open.clone());
        self.tellers.push(Teller { through, number, log, task: tokio::spawn(work) });
    }

    /// Every teller has begun and ended a transfer after this moment.
    pub async fn goes_on(&self, formation: &Formation, since: Instant, limit: Duration) {
        let wrote = |teller: &Teller| {
            let log = teller.log.lock().expect("no panic");
            let last = log.iter().rev().find(|line| line.error.is_none());
            last.is_some_and(|line| line.at - line.took > since)
        };
        let what = "transfers of every teller";
        formation.until(what, limit, async || self.tellers.iter().all(wrote)).await;
    }

    pub fn tale(&self, through: &str, since: Instant) -> Tale {
        let mut all = Tale::default();
        for teller in self.tellers.iter().filter(|teller| teller.through == through) {
            let log = teller.log.lock().expect("no panic");
            let mut last = since;
            for line in log.iter().filter(|line| line.at > since) {
                all.longest = all.longest.max(line.took);
                match &line.error {
                    Some(why) => *all.errors.entry(kind_of(why)).or_default() += 1,
                    None => {
                        all.gap = all.gap.max(line.at - last);
                        last = line.at;
                    }
                }
            }
        }
        all
    }

    /// No teller transfers meanwhile. Gives how long in-doubt transactions were there.
    pub async fn audit(&self, formation: &Formation) -> Duration {
        let _closed = self.open.write().await;
        let took = nothing_is_in_doubt(formation).await;
        for group in [COORDINATOR, 2] {
            let db = connect(&formation.leader(group).await).await.expect("it takes connections");
            let sum = one(&db, "SELECT sum(bal)::int8 FROM account").await;
            assert_eq!(sum, BALANCE * i64::from(ACCOUNTS), "money was made or lost");
            assert_eq!(one(&db, TORN).await, 0, "torn transfers, seen through group {group}");
            assert_eq!(one(&db, UNFOUNDED).await, 0, "balances that the journal does not explain");
        }
        let db = connect(&formation.leader(COORDINATOR).await).await.expect("connections");
        for teller in &self.tellers {
            teller.compare(&db).await;
        }
        took
    }

    pub fn close(self) {
        let mut acknowledged = 0;
        for teller in &self.tellers {
            teller.task.abort();
            let log = teller.log.lock().expect("no panic");
            acknowledged += log.iter().filter(|line| line.error.is_none()).count();
        }
        println!("  {acknowledged} transfers were acknowledged, none is lost or torn");
    }
}

const TORN: &str = "SELECT count(*) FROM (SELECT seq FROM journal GROUP BY client, seq \
    HAVING count(*) <> 2 OR sum(delta) <> 0) torn";
const UNFOUNDED: &str = "SELECT count(*) FROM account LEFT JOIN \
    (SELECT id, sum(delta) AS moved FROM journal GROUP BY id) j USING (id) \
    WHERE bal <> 1000 + coalesce(moved, 0)";

impl Teller {
    /// What was acknowledged is there.
    async fn compare(&self, db: &Client) {
        let sql = "SELECT DISTINCT seq FROM journal WHERE client = $1";
        let rows = db.query(sql, &[&self.number]).await.expect("the journal");
        let found: std::collections::BTreeSet<i64> = rows.iter().map(|row| row.get(0)).collect();
        let log = self.log.lock().expect("no panic");
        let acknowledged = log.iter().filter(|line| line.error.is_none());
        let lost: Vec<i64> = acknowledged.map(|l| l.seq).filter(|s| !found.contains(s)).collect();
        assert!(lost.is_empty(), "acknowledged through the {} and lost: {lost:?}", self.through);
    }
}

async fn nothing_is_in_doubt(formation: &Formation) -> Duration {
    let what = "the end of all in-doubt transactions";
    formation
        .until(what, RESOLVED_MAX, async || {
            for group in [COORDINATOR, 1, 2] {
                let Ok(db) = connect(&formation.leader(group).await).await else { return false };
                if one(&db, "SELECT count(*) FROM pg_prepared_xacts").await > 0 {
                    return false;
                }
            }
            true
        })
        .await
}

async fn one(db: &Client, sql: &str) -> i64 {
    let row = db.query_one(sql, &[]).await.unwrap_or_else(|why| panic!("`{sql}`: {why:?}"));
    row.get(0)
}

async fn found(formation: &Formation, at: &MemberPlan) {
    let steps = [
        "CREATE TABLE account (id int PRIMARY KEY, bal bigint NOT NULL)".to_string(),
        "CREATE TABLE journal (id int, client int, seq bigint, delta bigint NOT NULL, \
         PRIMARY KEY (id, client, seq))"
            .to_string(),
        "SET citus.shard_count = 8; SELECT create_distributed_table('account', 'id')".to_string(),
        "SELECT create_distributed_table('journal', 'id', colocate_with => 'account')".to_string(),
        format!("INSERT INTO account SELECT g, {BALANCE} FROM generate_series(1, {ACCOUNTS}) g"),
    ];
    for step in steps {
        formation.sql(at, &step).await;
    }
}

async fn accounts(coordinator: &MemberPlan) -> Accounts {
    let db = connect(coordinator).await.expect("the coordinator takes connections");
    let sql = "SELECT groupid, id FROM generate_series(1, $1::int4) id JOIN pg_dist_placement p \
        ON p.shardid = get_shard_id_for_distribution_column('account', id)";
    let rows = db.query(sql, &[&ACCOUNTS]).await.expect("placements");
    let on = |group: i32| {
        rows.iter().filter(|row| row.get::<_, i32>(0) == group).map(|row| row.get(1)).collect()
    };
    Accounts { one: on(1), two: on(2) }
}

async fn go_on(dsn: String, accounts: Accounts, number: i32, log: Log, open: Arc<RwLock<()>>) {
    let mut client: Option<Client> = None;
    for seq in 1.. {
        let shared = open.read().await;
        let begin = Instant::now();
        let done = transfer(&dsn, &mut client, &accounts, number, seq).await;
        let took = begin.elapsed();
        drop(shared);
        let error = done.err();
        if error.is_some() {
            client = None;
        }
        let line = Line { at: begin + took, took, seq, error };
        log.lock().expect("no panic").push(line);
        tokio::time::sleep(PACE).await;
    }
}

/// An account of group 1 comes first, always: no two transfers wait for each other.
async fn transfer(
    dsn: &str,
    client: &mut Option<Client>,
    accounts: &Accounts,
    number: i32,
    seq: i64,
) -> Result<(), String> {
    if client.is_none() {
        let opening = tokio::time::timeout(PATIENCE, open(dsn)).await;
        *client = Some(opening.map_err(|_| "no answer to a connection".to_string())??);
    }
    let client = client.as_ref().expect("just made");
    let pick = |of: &[i32], by: i64| of[(seq * by + i64::from(number)) as usize % of.len()];
    let (from, to) = (pick(&accounts.one, 7), pick(&accounts.two, 11));
    let given = seq % 19 - 9;
    let taken = -given;
    let sql = format!(
        "BEGIN; \
         UPDATE account SET bal = bal + {taken} WHERE id = {from}; \
         UPDATE account SET bal = bal + {given} WHERE id = {to}; \
         INSERT INTO journal VALUES ({from}, {number}, {seq}, {taken}); \
         INSERT INTO journal VALUES ({to}, {number}, {seq}, {given}); \
         COMMIT"
    );
    client.batch_execute(&sql).await.map_err(say)
}

async fn open(dsn: &str) -> Result<Client, String> {
    let (client, connection) = tokio_postgres::connect(dsn, NoTls).await.map_err(say)?;
    tokio::spawn(connection);
    Ok(client)
}

fn say(error: tokio_postgres::Error) -> String {
    use std::error::Error;
    match error.as_db_error() {
        Some(db) => db.message().to_string(),
        None => error.source().map_or_else(|| error.to_string(), |cause| cause.to_string()),
    }
}

/// Errors that differ in numbers and names of servers are of one kind.
fn kind_of(error: &str) -> String {
    let no_digits = error.split(|c: char| c.is_ascii_digit() || c == '.' || c == ':');
    let words: Vec<&str> = no_digits.filter(|word| !word.is_empty()).collect();
    words.join("#").lines().next().unwrap_or_default().to_string()
}
