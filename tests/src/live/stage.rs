//! One plain group of real members, and what a test may ask of it.

use super::ground;
use super::watch::{Doubled, Watch};
use ctl::field::ask::{Asker, Reply};
use ctl::field::process::find;
use ctl::field::writer::Count;
use ctl::field::{Field, MemberPlan, Plan, Writer};
use reqwest::Method;
use serde_json::{Value, json};
use std::path::Path;
use std::time::{Duration, Instant};
use tokio_postgres::{Client, NoTls};

/// A group is born, or one of its members comes back, within this.
pub const LONG: Duration = Duration::from_secs(60);
/// Anything that no lease has to run out for.
pub const SHORT: Duration = Duration::from_secs(20);
pub const REGION: &str = "local";
/// Settings that every test begins with; the shortest times that are allowed.
pub const TTL: Duration = Duration::from_secs(20);
/// Lines of each log that a failed test shows.
const TAIL: usize = 60;

pub struct Stage {
    pub field: Field,
    pub ask: Asker,
    pub watch: Watch,
    began: Instant,
    dir: Option<tempfile::TempDir>,
}

impl Stage {
    /// A store and `members` daemons; waits until one leads and the rest stream.
    pub async fn raise(members: usize) -> Stage {
        let began = Instant::now();
        let mut stage = Stage::prepare(members);
        stage.began = began;
        stage.stand_up().await;
        stage
    }

    /// Starts what was prepared; waits until one leads and the rest stream.
    pub async fn stand_up(&mut self) {
        self.start_store();
        for member in self.members() {
            self.start(&member);
        }
        self.healthy(LONG).await;
        let (members, took) = (self.members().len(), self.began.elapsed().as_secs_f64());
        println!("  {members} members stand after {took:.1} s");
    }

    /// Directory and configurations only.
    pub fn prepare(members: usize) -> Stage {
        let pg_bin = ground::programs();
        Stage::prepare_on(members, &pg_bin)
    }

    /// The same with a plan that was changed for this directory.
    pub fn prepare_with(members: usize, change: impl FnOnce(&mut Plan, &Path)) -> Stage {
        let pg_bin = ground::programs();
        Stage::prepare_plan(members, &pg_bin, change)
    }

    /// The same with these programs of PostgreSQL.
    pub fn prepare_on(members: usize, pg_bin: &Path) -> Stage {
        Stage::prepare_plan(members, pg_bin, |_, _| {})
    }

    /// The same with a plan that is changed before anything is made of it.
    pub fn prepare_in(members: usize, change: impl FnOnce(&mut Plan)) -> Stage {
        let pg_bin = ground::programs();
        Stage::prepare_plan(members, &pg_bin, |plan, _| change(plan))
    }

    pub fn prepare_plan(
        members: usize,
        pg_bin: &Path,
        change: impl FnOnce(&mut Plan, &Path),
    ) -> Stage {
        let dir = ground::directory("live");
        let pg_bin = ground::within_reach(pg_bin, dir.path());
        assert!(find("etcd").is_some(), "etcd is missing: apt-get install etcd-server");
        let mut plan = Plan::new(&[REGION], &[None], members, pg_bin).expect("free ports");
        plan.dcs = json!({
            "ttl": 20, "loop_wait": 5, "retry_timeout": 5, "maximum_lag_on_failover": 1048576,
            "postgresql": {
                "use_pg_rewind": true,
                "parameters": {"max_connections": 40, "wal_keep_size": "64MB"},
            },
        });
        change(&mut plan, dir.path());
        let field = Field::prepare(dir.path(), plan, &ground::daemon()).expect("a field");
        let dsn = |m: &MemberPlan| (m.name.clone(), dsn_of(m));
        let watch = Watch::start(field.plan.members().map(dsn).collect());
        Stage { field, ask: Asker::new(), watch, began: Instant::now(), dir: Some(dir) }
    }

    pub fn start_store(&mut self) {
        ground::start_store(&mut self.field);
    }

    pub fn start(&mut self, member: &MemberPlan) {
        self.field.start_member(member).expect("the daemon starts");
    }

    pub fn members(&self) -> Vec<MemberPlan> {
        self.field.plan.members().cloned().collect()
    }

    pub fn others(&self, than: &MemberPlan) -> Vec<MemberPlan> {
        self.field.plan.members().filter(|m| m.name != than.name).cloned().collect()
    }

    // Questions over REST.

    pub async fn get(&self, member: &MemberPlan, path: &str) -> Reply {
        let answer = self.ask.get(member, path).await;
        answer.unwrap_or_else(|| panic!("{} does not answer GET {path}", member.name))
    }

    pub async fn send(&self, method: Method, to: &MemberPlan, path: &str, body: Value) -> Reply {
        let answer = self.ask.send(method.clone(), to, path, Some(&body)).await;
        answer.unwrap_or_else(|| panic!("{} does not answer {method} {path}", to.name))
    }

    /// Changes `/config`, through any member.
    pub async fn patch(&self, change: Value) {
        self.patch_by(&self.members()[0], change).await;
    }

    pub async fn patch_by(&self, to: &MemberPlan, change: Value) {
        let reply = self.send(Method::PATCH, to, "/config", change).await;
        assert_eq!(reply.status, 200, "PATCH /config: {}", reply.body);
    }

    pub async fn primary(&self) -> Option<MemberPlan> {
        let members = self.members();
        let members: Vec<&MemberPlan> = members.iter().collect();
        self.ask.primary(&members).await.cloned()
    }

    pub async fn leader(&self) -> MemberPlan {
        self.primary().await.expect("the group has a leader")
    }

    // Waiting.

    pub async fn until<F: AsyncFnMut() -> bool>(
        &self,
        what: &str,
        limit: Duration,
        question: F,
    ) -> Duration {
        ground::until(&self.field, what, limit, question).await
    }

    /// As many replicas have replayed all that this primary has written.
    pub async fn replayed_by(&self, replicas: usize, primary: &MemberPlan) {
        let sql = "SELECT count(*)::text FROM pg_stat_replication WHERE replay_lsn >= \
                   pg_current_wal_flush_lsn()";
        let wanted = replicas.to_string();
        let what = format!("{wanted} replicas that have everything");
        let question = async || ask_sql(primary, sql).await.is_ok_and(|count| count == wanted);
        self.until(&what, SHORT, question).await;
    }

    /// One leads and all others stream from it; gives the leader.
    pub async fn healthy(&self, limit: Duration) -> MemberPlan {
        let members = self.members();
        let members: Vec<&MemberPlan> = members.iter().collect();
        self.until("a healthy group", limit, async || {
            self.ask.is_healthy(&members).await && self.ask.primary(&members).await.is_some()
        })
        .await;
        self.leader().await
    }

    /// Another member that says it leads, and that accepts writes.
    pub async fn new_leader(&self, old: &MemberPlan, limit: Duration) -> MemberPlan {
        let others = self.others(old);
        let others: Vec<&MemberPlan> = others.iter().collect();
        let mut new = None;
        self.until("a new leader", limit, async || {
            new = self.ask.primary(&others).await.cloned();
            new.as_ref().is_some_and(|new| self.watch.writable().contains(&new.name))
        })
        .await;
        new.expect("it was there a moment ago")
    }

    /// The postmaster of a member that was killed runs again, as another one.
    pub async fn restarted(&self, member: &MemberPlan, killed: i32) -> Duration {
        self.until("a new postmaster", SHORT, async || {
            self.field.postmaster_pid(member).is_some_and(|pid| pid != killed)
        })
        .await
    }

    // Rows.

    /// A client that writes into a table of its own.
    pub async fn writer(&self, table: &str) -> Writer {
        let leader = self.leader().await;
        let create = format!("CREATE TABLE IF NOT EXISTS {table} (id bigint PRIMARY KEY)");
        let client = connect(&leader).await.expect("the leader takes connections");
        client.batch_execute(&create).await.expect("a table");
        let writer = Writer::start(self.field.plan.dsn(None), table, Duration::from_millis(5));
        self.until("the first row", SHORT, async || writer.acknowledged() > 0).await;
        writer
    }

    /// From here on every acknowledged row is on one replica at least: a
    /// failover loses nothing if the right one wins.
    pub async fn rows_on_a_replica(&self) {
        let names = json!({"synchronous_standby_names": "ANY 1 (*)"});
        self.patch(json!({"postgresql": {"parameters": names}})).await;
        for member in self.members() {
            self.until("synchronous_standby_names everywhere", SHORT, async || {
                let shown = ask_sql(&member, "SHOW synchronous_standby_names").await;
                shown.is_ok_and(|names| names == "ANY 1 (*)")
            })
            .await;
        }
    }

    /// Writes go on; gives the longest pause since `since`.
    pub async fn writes_go_on(&self, writer: &Writer, since: Instant, limit: Duration) -> Duration {
        let now = Instant::now();
        self.until("writes that go on", limit, async || writer.wrote_since(now)).await;
        writer.longest_pause(since)
    }

    /// Ends the client and counts every row that was acknowledged to it.
    pub async fn settle(&self, writer: Writer) -> Count {
        let now = Instant::now();
        self.until("writes at the end", SHORT, async || writer.wrote_since(now)).await;
        writer.stop().await;
        let count = writer.count().await.expect("the rows can be counted");
        println!(
            "  {}: {} rows acknowledged, {} lost",
            writer.table, count.acknowledged, count.lost
        );
        count
    }

    pub async fn settle_without_loss(&self, writer: Writer) {
        let table = writer.table.clone();
        let count = self.settle(writer).await;
        assert_eq!(count.lost, 0, "rows of {table} that were acknowledged are lost");
    }

    pub fn one_writer(&self) {
        self.one_writer_since(self.began);
    }

    pub fn one_writer_since(&self, since: Instant) {
        let doubled: Vec<Doubled> = self.watch.doubled_since(since);
        assert!(doubled.is_empty(), "several servers accepted writes: {:?}", doubled[0].who);
        assert!(self.watch.rounds() > 10, "the watch has seen hardly anything");
    }

    // Logs.

    /// What a member's daemon writes from now on.
    pub fn mark(&self, member: &MemberPlan) -> usize {
        self.field.log(&member.name).len()
    }

    pub fn log_since(&self, member: &MemberPlan, mark: usize) -> String {
        self.field.log(&member.name).get(mark..).unwrap_or_default().to_string()
    }

    /// Ends everything; no daemon may have panicked.
    pub fn end(mut self) {
        ground::end(&mut self.field);
    }

    fn show_logs(&self) {
        let names = self.field.plan.members().map(|m| m.name.clone());
        for name in names.chain([format!("etcd-{REGION}")]) {
            let log = self.field.log(&name);
            let lines: Vec<&str> = log.lines().collect();
            let tail = &lines[lines.len().saturating_sub(TAIL)..];
            eprintln!("---- the end of {name}.log\n{}", tail.join("\n"));
        }
    }
}

impl Drop for Stage {
    /// A failed test shows its logs and leaves its directory.
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.show_logs();
        }
        ground::keep_if_asked(&mut self.dir);
    }
}

pub fn dsn_of(member: &MemberPlan) -> String {
    format!("host={} port={} user=postgres dbname=postgres", member.host, member.pg_port)
}

pub async fn connect(member: &MemberPlan) -> Result<Client, tokio_postgres::Error> {
    let (client, connection) = tokio_postgres::connect(&dsn_of(member), NoTls).await?;
    tokio::spawn(connection);
    Ok(client)
}

/// One text of one row, or why not.
pub async fn ask_sql(member: &MemberPlan, sql: &str) -> Result<String, tokio_postgres::Error> {
    let row = connect(member).await?.query_one(sql, &[]).await?;
    Ok(row.try_get::<_, Option<String>>(0)?.unwrap_or_default())
}

pub async fn timeline_of(member: &MemberPlan) -> u32 {
    let sql = "SELECT timeline_id::text FROM pg_control_checkpoint()";
    ask_sql(member, sql).await.ok().and_then(|t| t.parse().ok()).unwrap_or_default()
}
