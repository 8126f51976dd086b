//! Citus plans on real PostgreSQL: the extension where it is installed, else
//! the stand-in. Prints which.
//!
//! One formation of a coordinator and a worker in region `a`, a physical
//! standby of each in region `b`. A change of address is another address of the
//! loopback network on which the same server listens, so that it is really
//! reached after the change; the region move promotes the real standbys.
//!
//! Absent on purpose: daemons. Statements are run here exactly as the node runs
//! them, parameters and all, so that a text that PostgreSQL or Citus refuses is
//! found without a cluster.

use anyhow::{Context, Result, bail, ensure};
use citus::handover;
use citus::{
    Address, Desired, GroupNow, Groups, Level, NodeRow, Param, Poolers, STAND_IN, Statement, Terms,
    Wish, check, desired, diff,
};
use std::collections::BTreeMap;
use std::time::{Duration, Instant};
use tests::live::bare_server::{Server, has_extension, home};
use tokio_postgres::error::SqlState;
use tokio_postgres::types::ToSql;
use tokio_postgres::{Client, NoTls, Row, SimpleQueryMessage};
use topology::RegionName;

const CALL: Duration = Duration::from_secs(20);

const TERMS: Terms = Terms { cooldown_ms: 500, poolers: Poolers::Keep, pause_ms: 0 };

// ---- statements -----------------------------------------------------------

async fn ask(client: &Client, statement: &Statement) -> Result<Vec<Row>> {
    let params: Vec<Box<dyn ToSql + Sync + Send>> = statement
        .params()
        .into_iter()
        .map(|param| -> Box<dyn ToSql + Sync + Send> {
            match param {
                Param::Int(value) => Box::new(value),
                Param::Text(value) => Box::new(value),
                Param::Secret(value) => Box::new(value.0),
            }
        })
        .collect();
    let params: Vec<&(dyn ToSql + Sync)> = params.iter().map(|p| p.as_ref() as _).collect();
    let sql = statement.sql();
    let answer = tokio::time::timeout(CALL, client.query(sql.as_ref(), &params)).await;
    let answer = answer.with_context(|| format!("{statement:?} took too long"))?;
    answer.map_err(|e| anyhow::anyhow!("{statement:?}: {}", server_says(&e)))
}

fn server_says(error: &tokio_postgres::Error) -> String {
    error.as_db_error().map_or(error.to_string(), |e| e.message().to_string())
}

async fn run(client: &Client, statements: &[Statement]) -> Result<()> {
    for statement in statements {
        ask(client, statement).await?;
    }
    Ok(())
}

async fn rows(client: &Client) -> Result<Vec<NodeRow>> {
    let answer = ask(client, &Statement::ReadNodes).await?;
    let read = |row: &Row| Ok(serde_json::from_str(&row.try_get::<_, String>(0)?)?);
    answer.iter().map(read).collect()
}

async fn until_zero(client: &Client, statement: &Statement) -> Result<()> {
    assert!(statement.waits_for_zero());
    let started = Instant::now();
    while started.elapsed() < CALL {
        let left: i64 = ask(client, statement).await?[0].try_get(0)?;
        if left == 0 {
            return Ok(());
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    bail!("{statement:?} is not 0 after {CALL:?}")
}

/// One beat of the coordinator's leader.
async fn reconcile(client: &Client, wanted: &Desired) -> Result<()> {
    let plan = diff(wanted, &rows(client).await?, &TERMS);
    ensure!(plan.blocked.is_empty(), "{:?}", plan.blocked);
    run(client, &plan.transaction()).await?;
    until_zero(client, &handover::synced()).await?;
    run(client, &plan.after).await?;
    until_zero(client, &handover::synced()).await?;
    let after = rows(client).await?;
    let again = diff(wanted, &after, &TERMS);
    ensure!(again.is_empty(), "left to do: {again:?}");
    let findings = check(wanted, &after);
    let bad: Vec<_> = findings.iter().filter(|f| f.level > Level::Ok).collect();
    ensure!(bad.is_empty(), "{bad:?}");
    Ok(())
}

fn led(leaders: &[Address], wish: &Wish, others: &BTreeMap<RegionName, Groups>) -> Desired {
    desired(&groups(leaders), others, wish)
}

fn groups(leaders: &[Address]) -> Groups {
    let group = |leader: &Address| GroupNow { leader: Some(leader.clone()), ..GroupNow::default() };
    (0..).zip(leaders.iter().map(group)).collect()
}

fn ids(rows: &[NodeRow]) -> Vec<(i32, u32)> {
    let primaries = rows.iter().filter(|row| row.is_primary());
    primaries.map(|row| (row.nodeid, row.groupid)).collect()
}

// ---- the formation --------------------------------------------------------

struct Formation {
    extension: bool,
    a: [Server; 2],
    b: [Server; 2],
    /// Last: a server is stopped with the help of its data directory.
    _home: tempfile::TempDir,
}

impl Formation {
    async fn start(extension: bool) -> Result<Formation> {
        let home = home()?;
        let coordinator = Server::primary(home.path(), "a0", extension)?;
        let worker = Server::primary(home.path(), "a1", extension)?;
        for server in [&coordinator, &worker] {
            install(server, extension).await?;
        }
        let standbys = [
            coordinator.standby(home.path(), "b0", extension)?,
            worker.standby(home.path(), "b1", extension)?,
        ];
        Ok(Formation { extension, a: [coordinator, worker], b: standbys, _home: home })
    }

    /// The worker's own copy; the stand-in has none.
    async fn copy_agrees(&self, coordinator: &Client, worker: &Server) -> Result<()> {
        if !self.extension {
            return Ok(());
        }
        let strip = |rows: Vec<NodeRow>| -> Vec<(i32, u32, Address)> {
            let what = |row: &NodeRow| (row.nodeid, row.groupid, row.address());
            rows.iter().map(what).collect()
        };
        let worker = worker.connect().await?;
        let (here, there) = (rows(coordinator).await?, rows(&worker).await?);
        ensure!(strip(here) == strip(there), "the worker's copy differs");
        let group: i32 = ask(&worker, &Statement::ReadLocalGroup).await?[0].try_get(0)?;
        ensure!(group == 1, "the worker believes to be in group {group}");
        Ok(())
    }

    fn rows_made(&self) -> i64 {
        if self.extension { 100 } else { 0 }
    }

    /// All rows of the distributed table, through the coordinator.
    async fn count(&self, coordinator: &Client) -> Result<i64> {
        if !self.extension {
            return Ok(0);
        }
        let counting = coordinator.query_one("SELECT count(*) FROM t", &[]);
        Ok(tokio::time::timeout(CALL, counting).await??.try_get(0)?)
    }
}

async fn install(server: &Server, extension: bool) -> Result<()> {
    let client = server.connect().await?;
    if extension {
        ask(&client, &Statement::CreateExtension).await?;
    } else {
        client.batch_execute(STAND_IN).await?;
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn plans_work_on_the_stand_in() -> Result<()> {
    plans_work(false).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn plans_work_on_the_extension() -> Result<()> {
    if !has_extension()? {
        println!("the citus extension is not installed: the stand-in has to do");
        return Ok(());
    }
    plans_work(true).await
}

async fn plans_work(extension: bool) -> Result<()> {
    let formation = Formation::start(extension).await?;
    let coordinator = formation.a[0].connect().await?;
    let version: String = ask(&coordinator, &Statement::ReadVersion).await?[0].try_get(0)?;
    println!("running on: {version}");

    registration(&formation, &coordinator).await?;
    addresses(&formation, &coordinator).await?;
    switchover(&formation, &coordinator).await?;
    redirection(&coordinator).await?;
    region_move(&formation, coordinator).await
}

/// An empty table, then all of a bootstrap's statements.
async fn registration(formation: &Formation, coordinator: &Client) -> Result<()> {
    let [c, w] = &formation.a;
    let none = BTreeMap::new();
    let wanted = led(&[c.at(1), w.at(1)], &Wish::default(), &none);
    reconcile(coordinator, &wanted).await?;
    formation.copy_agrees(coordinator, w).await?;
    run(coordinator, &[Statement::ReplicateReferenceTables]).await?;
    let authinfo = citus::statement::Authinfo("password=secret".into());
    for _ in 0..2 {
        let authinfo = authinfo.clone();
        ask(coordinator, &Statement::SetAuthinfo { authinfo }).await?;
    }
    if formation.extension {
        let table = "CREATE TABLE t (k int PRIMARY KEY); \
                     SELECT create_distributed_table('t', 'k', shard_count => 4); \
                     INSERT INTO t SELECT generate_series(1, 100)";
        coordinator.batch_execute(table).await?;
        ensure!(formation.count(coordinator).await? == 100);
    }
    Ok(())
}

/// The worker moves, then the coordinator, then both in one transaction.
async fn addresses(formation: &Formation, coordinator: &Client) -> Result<()> {
    let [c, w] = &formation.a;
    let none = BTreeMap::new();
    let before = ids(&rows(coordinator).await?);
    for (coordinator_at, worker_at) in [(1, 2), (2, 2), (3, 3), (1, 1)] {
        let leaders = [c.at(coordinator_at), w.at(worker_at)];
        reconcile(coordinator, &led(&leaders, &Wish::default(), &none)).await?;
        formation.copy_agrees(coordinator, w).await?;
        ensure!(formation.count(coordinator).await? == formation.rows_made());
    }
    ensure!(before == ids(&rows(coordinator).await?), "a primary row changed its nodeid");
    Ok(())
}

/// A writer that comes during the pause waits, and writes at the new address.
async fn switchover(formation: &Formation, coordinator: &Client) -> Result<()> {
    let [c, w] = &formation.a;
    let none = BTreeMap::new();
    let pause = handover::pause(&rows(coordinator).await?, 1, &TERMS)?;
    run(coordinator, &pause).await?;
    let writer = formation.extension.then(|| write_one(c.port));
    tokio::time::sleep(Duration::from_millis(300)).await;
    ensure!(writer.as_ref().is_none_or(|w| !w.is_finished()), "the pause held nobody");
    nothing_is_recovered(c.port).await?;

    let wanted = led(&[c.at(1), w.at(2)], &Wish::default(), &none);
    let now = rows(coordinator).await?;
    ensure!(now.iter().any(|row| row.address().is_placeholder()));
    let resume = handover::resume(&wanted, &now, 1, &TERMS).context("nothing to resume with")?;
    run(coordinator, &resume).await?;
    if let Some(writer) = writer {
        tokio::time::timeout(CALL, writer).await???;
    }
    reconcile(coordinator, &wanted).await?;

    run(coordinator, &handover::pause(&rows(coordinator).await?, 1, &TERMS)?).await?;
    run(coordinator, &handover::release()).await?;
    reconcile(coordinator, &led(&[c.at(1), w.at(1)], &Wish::default(), &none)).await
}

/// Citus's maintenance daemon would look at the former leader, which shows nothing in recovery.
async fn nothing_is_recovered(port: u16) -> Result<()> {
    let to = format!("host=127.0.0.1 port={port} user=postgres options='-c lock_timeout=300ms'");
    let (client, connection) = tokio_postgres::connect(&to, NoTls).await?;
    tokio::spawn(connection);
    let path = citus::statement::schemas(true);
    client.batch_execute(&format!("SET search_path = {path}")).await?;
    let looked = client.query(Statement::RecoverPrepared.sql().as_ref(), &[]).await;
    let why = looked.err().and_then(|error| error.code().cloned());
    ensure!(why == Some(SqlState::LOCK_NOT_AVAILABLE), "a pause lets Citus recover: {why:?}");
    Ok(())
}

fn write_one(port: u16) -> tokio::task::JoinHandle<Result<()>> {
    tokio::spawn(async move {
        let to = format!("host=127.0.0.1 port={port} user=postgres");
        let (client, connection) = tokio_postgres::connect(&to, NoTls).await?;
        tokio::spawn(connection);
        // Every shard is in the paused group; deleting it again keeps the count.
        client.execute("INSERT INTO t VALUES (1000)", &[]).await?;
        client.execute("DELETE FROM t WHERE k = 1000", &[]).await?;
        Ok(())
    })
}

/// A redirection to a node is corrected, a pooler's goes after a region move.
async fn redirection(coordinator: &Client) -> Result<()> {
    let now = rows(coordinator).await?;
    let worker = now.iter().find(|row| row.groupid == 1).context("no worker")?;
    let (nodeid, own) = (worker.nodeid, worker.address());
    let other = now.iter().find(|row| row.groupid == 0).context("no coordinator")?;
    let wanted = led(&[other.address(), own.clone()], &Wish::default(), &BTreeMap::new());
    let wrong = Statement::SetPoolinfo { nodeid, address: other.address() };
    run(coordinator, &[wrong]).await?;
    let plan = diff(&wanted, &rows(coordinator).await?, &TERMS);
    ensure!(plan.in_one_transaction.len() == 1, "{plan:?}");
    reconcile(coordinator, &wanted).await?;

    let address = Address::new("pooler", 6432);
    run(coordinator, &[Statement::SetPoolinfo { nodeid, address }]).await?;
    let fixes = citus::redirections(&wanted, &rows(coordinator).await?, Poolers::Remove);
    ensure!(fixes == [Statement::DropPoolinfo { nodeid }], "{fixes:?}");
    run(coordinator, &fixes).await
}

fn regions(owner: &str) -> Wish {
    let owner = Some(owner.into());
    Wish { register_secondaries: true, register_regions: true, owner, ..Wish::default() }
}

/// Region `b` is registered, `a` is held and stopped, `b` opens and knows all.
async fn region_move(formation: &Formation, coordinator: Client) -> Result<()> {
    let here = formation.a.each_ref().map(|server| server.at(1));
    let there = formation.b.each_ref().map(|server| server.at(1));
    let standby = BTreeMap::from([(RegionName::new("b"), groups(&there))]);
    reconcile(&coordinator, &led(&here, &regions("a"), &standby)).await?;
    let before = ids(&rows(&coordinator).await?);
    ensure!(rows(&coordinator).await?.len() == 4, "two standbys are registered");

    let bystander = formation.a[0].connect_as("psql").await?;
    let mut held = Vec::new();
    for server in &formation.a {
        let session = server.connect().await?;
        run(&session, &handover::hold(3_000)).await?;
        held.push(session);
    }
    for session in &held {
        run(session, &handover::end_clients()).await?;
        until_zero(session, &handover::drained()).await?;
    }
    ensure!(bystander.batch_execute("SELECT 1").await.is_err(), "a client survived");
    drop((coordinator, held));
    for server in &formation.a {
        server.stop()?;
    }
    for server in formation.b.iter().rev() {
        server.promote()?;
    }
    open(formation, &here, &there, &before).await
}

async fn open(
    formation: &Formation,
    here: &[Address],
    there: &[Address],
    before: &[(i32, u32)],
) -> Result<()> {
    let coordinator = formation.b[0].connect().await?;
    let former = BTreeMap::from([(RegionName::new("a"), groups(here))]);
    reconcile(&coordinator, &led(there, &regions("b"), &former)).await?;
    formation.copy_agrees(&coordinator, &formation.b[1]).await?;
    for server in &formation.b {
        run(&server.connect().await?, &handover::settle()).await?;
    }
    let now = rows(&coordinator).await?;
    ensure!(before == ids(&now), "a primary row changed its nodeid");
    let clusters: Vec<_> = now.iter().map(|row| row.nodecluster.as_str()).collect();
    ensure!(clusters.iter().filter(|name| **name == "a").count() == 2, "{clusters:?}");
    ensure!(formation.count(&coordinator).await? == formation.rows_made());
    Ok(())
}

// ---- one suite for both ---------------------------------------------------

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_stand_in_finds_its_own_names_whatever_the_database_sets() -> Result<()> {
    let home = home()?;
    let server = Server::primary(home.path(), "s", false)?;
    let first = server.connect().await?;
    first.batch_execute("ALTER DATABASE postgres SET search_path TO app, \"Odd Name\"").await?;
    for _ in 0..2 {
        first.batch_execute(STAND_IN).await?;
    }
    let client = server.connect().await?;
    let path: String = client.query_one("SHOW search_path", &[]).await?.try_get(0)?;
    ensure!(path == "app, \"Odd Name\", citus_stand_in", "{path}");
    let version: String = ask(&client, &Statement::ReadVersion).await?[0].try_get(0)?;
    ensure!(version.starts_with("stand-in"), "{version}");
    Ok(())
}

/// Rows without what differs by design.
const ROWS: &str = "SELECT string_agg(concat_ws(' ', nodeid, groupid, nodename, noderole, \
    nodecluster, hasmetadata, isactive, shouldhaveshards), ', ' ORDER BY nodeid) FROM pg_dist_node";

/// Statements and what comes of them: the first column of the first row, or the error.
/// `{w}` is the worker's port, `{c}` the coordinator's.
const SUITE: [(&str, &str); 34] = [
    ("SELECT citus_is_coordinator()", "f"),
    ("SELECT citus_set_coordinator_host('127.0.0.1', {c})", ""),
    ("SELECT citus_is_coordinator()", "t"),
    ("SELECT citus_set_coordinator_host('127.0.0.1', {c})", ""),
    ("SELECT citus_add_node('127.0.0.1', {w}, 1)", "2"),
    ("SELECT citus_add_node('127.0.0.1', {w}, 7)", "2"),
    ("SELECT citus_add_secondary_node('s', 5432, '127.0.0.1', {w}, 'b')", "3"),
    ("SELECT citus_add_node('t', 5432, 1, 'secondary', 'default')", "4"),
    (
        ROWS,
        "1 0 127.0.0.1 primary default t t f, 2 1 127.0.0.1 primary default t t t, \
         3 1 s secondary b f t t, 4 1 t secondary default f t t",
    ),
    ("SELECT citus_update_node(99, 'x', 1)", "node 99 not found"),
    (
        "SELECT citus_update_node(3, '127.0.0.1', {w})",
        "there is already another node with the specified hostname and port",
    ),
    ("SELECT citus_update_node(2, '127.0.0.1', {w})", ""),
    ("SELECT citus_add_node('x', 1, 1)", "group 1 already has a primary node"),
    (
        "SELECT citus_add_node('x', 1, 2, 'primary', 'b')",
        "primaries must be added to the default cluster",
    ),
    ("SELECT citus_add_secondary_node('x', 1, 'y', 2)", "node at \"y:2\" does not exist"),
    ("SELECT citus_remove_node('x', 1)", "node at \"x:1\" does not exist"),
    ("BEGIN; SELECT citus_pause_node_within_txn(77)", "node 77 not found"),
    ("BEGIN; SELECT citus_pause_node_within_txn(2, true, 500)", ""),
    ("COMMIT", ""),
    (
        "UPDATE pg_dist_node SET groupid = 0 WHERE nodeid = 2",
        "there cannot be two primary nodes in a group",
    ),
    ("BEGIN; SELECT citus_update_node(2, 'other', 1, true, 500)", ""),
    ("SELECT nodename FROM pg_dist_node WHERE nodeid = 2", "other"),
    ("ROLLBACK", ""),
    ("SELECT nodename FROM pg_dist_node WHERE nodeid = 2", "127.0.0.1"),
    ("INSERT INTO pg_dist_poolinfo VALUES (2, 'host=p port=1')", ""),
    (
        "INSERT INTO pg_dist_authinfo VALUES (0, 'postgres', 'password=secret'); \
         SELECT count(*) FROM pg_dist_authinfo",
        "1",
    ),
    ("DELETE FROM pg_dist_authinfo; DELETE FROM pg_dist_poolinfo", ""),
    ("SELECT citus_update_node(4, 'u', 5432)", ""),
    ("SELECT start_metadata_sync_to_all_nodes()", "t"),
    ("SELECT citus_remove_node('u', 5432)", ""),
    ("SELECT citus_remove_node('s', 5432)", ""),
    ("SELECT count(*) FROM pg_dist_node", "2"),
    ("SELECT recover_prepared_transactions()", "0"),
    ("SELECT replicate_reference_tables()", ""),
];

/// On a standby of the coordinator; the text is contained in the answer.
const ON_A_STANDBY: [(&str, &str); 6] = [
    ("SELECT citus_is_coordinator()", "t"),
    ("SELECT citus_update_node(2, 'x', 1)", "cannot assign TransactionIds during recovery"),
    ("SELECT citus_add_node('x', 1)", "while recovery is in progress"),
    ("SELECT citus_remove_node('127.0.0.1', {w})", "while recovery is in progress"),
    ("SELECT recover_prepared_transactions()", "writing to worker nodes is not currently allowed"),
    ("SELECT count(*) FROM pg_dist_node", "2"),
];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_stand_in_gives_the_answers_of_the_suite() -> Result<()> {
    answers_of_the_suite(false).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_extension_gives_the_answers_of_the_suite() -> Result<()> {
    if !has_extension()? {
        println!("the citus extension is not installed: the stand-in is compared with a record");
        return Ok(());
    }
    answers_of_the_suite(true).await
}

async fn answers_of_the_suite(extension: bool) -> Result<()> {
    let home = home()?;
    let coordinator = Server::primary(home.path(), "c", extension)?;
    let worker = Server::primary(home.path(), "w", extension)?;
    for server in [&coordinator, &worker] {
        install(server, extension).await?;
    }
    let mut wrong =
        differences(&coordinator.connect().await?, &SUITE, (&coordinator, &worker)).await;
    let standby = coordinator.standby(home.path(), "t", extension)?;
    let client = standby.connect().await?;
    wrong.extend(differences(&client, &ON_A_STANDBY, (&coordinator, &worker)).await);
    ensure!(wrong.is_empty(), "{}", wrong.join("\n"));
    Ok(())
}

/// Statements whose answer is another one. A transaction that an error has broken ends.
async fn differences(
    client: &Client,
    suite: &[(&str, &str)],
    (coordinator, worker): (&Server, &Server),
) -> Vec<String> {
    let mut wrong = Vec::new();
    for (sql, wanted) in suite {
        let ports = [("{c}", coordinator.port), ("{w}", worker.port)];
        let sql = ports
            .iter()
            .fold(sql.to_string(), |sql, (name, port)| sql.replace(name, &port.to_string()));
        let said = match tokio::time::timeout(CALL, client.simple_query(&sql)).await {
            Ok(Ok(messages)) => first_text(&messages),
            Ok(Err(error)) => {
                let _ = client.batch_execute("ROLLBACK").await;
                server_says(&error)
            }
            Err(_) => format!("no answer within {CALL:?}"),
        };
        if !said.contains(wanted) || wanted.is_empty() != said.is_empty() {
            wrong.push(format!("`{sql}`: `{said}` instead of `{wanted}`"));
        }
    }
    wrong
}

/// Of the last statement that has rows.
fn first_text(messages: &[SimpleQueryMessage]) -> String {
    let text = |message: &SimpleQueryMessage| match message {
        SimpleQueryMessage::Row(row) => Some(row.get(0).unwrap_or_default().to_string()),
        _ => None,
    };
    messages.iter().rev().find_map(text).unwrap_or_default()
}
