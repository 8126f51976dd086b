//! SQL sessions of an agent with the leaders of all groups and regions.
//!
//! Absent on purpose: pools and retries. A session is opened for one step of a
//! move and the step's failure says why.

use crate::config::Login;
use crate::peers::ClientError;
use crate::postgres::{monitor, tls};
use citus::node::NodeRow;
use citus::statement::{Param, Statement};
use standby::switch::preflight::{Probe, STANDBY_SETTINGS};
use std::future::Future;
use std::time::Duration;
use tokio_postgres::config::SslMode;
use tokio_postgres::types::ToSql;
use tokio_postgres::{Client, Config, Row};
use tokio_postgres_rustls::MakeRustlsConnect;
use topology::Lsn;

/// Deadline of a connection and of a statement.
const TIMEOUT: Duration = Duration::from_secs(10);
/// A checkpoint of a busy server; the mover's own deadline ends it earlier or at the same time.
const CHECKPOINT: Duration = Duration::from_secs(300);
/// Marks our sessions: the statement that ends clients leaves them alone.
const APPLICATION: &str = "matriarch region";

const PROBE: &str = "\
    SELECT pg_is_in_recovery(), current_setting('server_version_num')::int8, \
    (SELECT system_identifier FROM pg_control_system())::text, \
    current_setting('wal_log_hints')::bool, current_setting('data_checksums')::bool, \
    CASE WHEN pg_is_in_recovery() THEN pg_is_wal_replay_paused() ELSE false END, \
    coalesce((SELECT status = 'streaming' FROM pg_stat_wal_receiver), false), \
    (CASE WHEN pg_is_in_recovery() THEN pg_last_wal_replay_lsn() \
          ELSE pg_current_wal_lsn() END - '0/0'::pg_lsn)::int8, \
    (SELECT count(*) FROM pg_prepared_xacts), \
    coalesce((SELECT max(extract(epoch FROM now() - xact_start)) FROM pg_stat_activity \
              WHERE backend_type = 'client backend' AND pid <> pg_backend_pid()), 0)::int8";

/// Every version shows some of the columns.
const LOGICAL: &str = "\
    SELECT coalesce(json_agg(row_to_json(s)), '[]')::text FROM pg_replication_slots s \
    WHERE slot_type = 'logical' AND NOT temporary";

/// The oldest segment that is there, as a position: `pg_wal` may begin behind what a slot needs.
const WAL_FROM: &str = "\
    WITH names AS (SELECT name FROM pg_ls_waldir() WHERE name ~ '^[0-9A-F]{24}$'), \
    sizes AS (SELECT pg_size_bytes(current_setting('wal_segment_size')) AS size) \
    SELECT min(('x' || substr(name, 9, 8))::bit(32)::int8 * 4294967296 \
               + ('x' || substr(name, 17, 8))::bit(32)::int8 * size) FROM names, sizes";

/// How to log in to every leader: all groups and regions share one superuser.
#[derive(Clone)]
pub(super) struct Access {
    config: Config,
    tls: MakeRustlsConnect,
}

impl Access {
    pub(super) fn new(
        login: &Login,
        database: &str,
        stand_in: bool,
    ) -> Result<Access, ClientError> {
        let mode = login.extra.get("sslmode").map_or("prefer", String::as_str);
        let tls = tls::connector(login, mode)?;
        let mode = security(mode);
        let mut config = Config::new();
        config.user(&login.username).application_name(APPLICATION).ssl_mode(mode);
        config.connect_timeout(TIMEOUT).dbname(database);
        let path = citus::statement::schemas(stand_in);
        config.options(format!("-c search_path={path}{}", crate::postgres::TRUSTED));
        if let Some(password) = &login.password {
            config.password(&password.0);
        }
        Ok(Access { config, tls })
    }

    pub(super) async fn connect(&self, host: &str, port: u16) -> Result<Session, String> {
        let mut config = self.config.clone();
        config.host(host).port(port);
        let connected = within(config.connect(self.tls.clone())).await;
        let (client, connection) = connected.map_err(|why| format!("{host}:{port}: {why}"))?;
        // Ends when the client is dropped or the server goes away.
        tokio::spawn(connection);
        Ok(Session { client, address: format!("{host}:{port}") })
    }
}

/// libpq's `sslmode`, as far as it changes whether to encrypt.
fn security(mode: &str) -> SslMode {
    match mode {
        "disable" => SslMode::Disable,
        "require" | "verify-ca" | "verify-full" => SslMode::Require,
        _ => SslMode::Prefer,
    }
}

pub(super) struct Session {
    client: Client,
    address: String,
}

impl Session {
    pub(super) async fn execute(&self, sql: &str) -> Result<(), String> {
        within(self.client.batch_execute(sql)).await.map_err(|why| self.at(why))
    }

    pub(super) async fn checkpoint(&self) -> Result<(), String> {
        let done = within_time(CHECKPOINT, self.client.batch_execute("CHECKPOINT"));
        done.await.map_err(|why| self.at(why))
    }

    /// Runs a statement of Citus; gives the number it answers, if it is one.
    pub(super) async fn run(&self, statement: &Statement) -> Result<Option<i64>, String> {
        let sql = statement.sql();
        let params = statement.params();
        if params.is_empty() && matches!(statement, Statement::Begin | Statement::HoldDecisions) {
            return self.execute(&sql).await.map(|()| None);
        }
        let params: Vec<&(dyn ToSql + Sync)> = params.iter().map(bound).collect();
        let rows = within(self.client.query(sql.as_ref(), &params)).await;
        let rows = rows.map_err(|why| self.at(why))?;
        Ok(rows.first().and_then(|row| row.try_get::<_, i64>(0).ok()))
    }

    /// The same without a deadline: the operator who waits for it may end it.
    pub(super) async fn run_long(&self, statement: &Statement) -> Result<Option<i64>, String> {
        let (sql, params) = (statement.sql(), statement.params());
        let params: Vec<&(dyn ToSql + Sync)> = params.iter().map(bound).collect();
        let rows = self.client.query(sql.as_ref(), &params).await;
        let rows = rows.map_err(|error| self.at(in_its_words(&error)))?;
        Ok(rows.first().and_then(|row| row.try_get::<_, i64>(0).ok()))
    }

    pub(super) async fn probe(&self) -> Result<Probe, String> {
        let row = within(self.client.query_one(PROBE, &[])).await.map_err(|why| self.at(why))?;
        let mut probe = read_probe(&row).map_err(|why| self.at(why.to_string()))?;
        let names = STANDBY_SETTINGS.map(str::to_string).to_vec();
        let query = "SELECT name, setting::int8 FROM pg_settings WHERE name = ANY($1)";
        let rows = within(self.client.query(query, &[&names])).await.map_err(|why| self.at(why))?;
        for row in rows {
            probe.settings.insert(row.get(0), row.get::<_, i64>(1).unsigned_abs());
        }
        let row = within(self.client.query_one(LOGICAL, &[])).await.map_err(|why| self.at(why))?;
        let slots: Vec<monitor::Slot> =
            serde_json::from_str(row.get(0)).map_err(|why| self.at(why.to_string()))?;
        let row = within(self.client.query_one(WAL_FROM, &[])).await.map_err(|why| self.at(why))?;
        let from: Option<i64> = row.try_get(0).map_err(|why| self.at(why.to_string()))?;
        probe.wal_from = from.map(|from| Lsn(from.unsigned_abs()));
        probe.logical = slots.iter().map(monitor::Slot::seen).collect();
        Ok(probe)
    }

    /// The rows of `pg_dist_node`.
    pub(super) async fn nodes(&self) -> Result<Vec<NodeRow>, String> {
        let sql = Statement::ReadNodes.sql();
        let rows = within(self.client.query(sql.as_ref(), &[])).await;
        let parse = |row: &Row| {
            let text: String = row.try_get(0).map_err(|why| why.to_string())?;
            serde_json::from_str(&text).map_err(|why| format!("pg_dist_node: {why}: {text}"))
        };
        let rows = rows.and_then(|rows| rows.iter().map(parse).collect());
        rows.map_err(|why: String| self.at(why))
    }

    fn at(&self, why: String) -> String {
        format!("{}: {why}", self.address)
    }
}

fn bound(param: &Param) -> &(dyn ToSql + Sync) {
    match param {
        Param::Int(number) => number,
        Param::Text(text) => text,
        Param::Secret(secret) => &secret.0,
    }
}

fn read_probe(row: &Row) -> Result<Probe, tokio_postgres::Error> {
    let count = |index: usize| row.try_get::<_, i64>(index).map(i64::unsigned_abs);
    Ok(Probe {
        in_recovery: row.try_get(0)?,
        version: count(1)?,
        system_id: row.try_get(2)?,
        settings: Default::default(),
        wal_log_hints: row.try_get(3)?,
        checksums: row.try_get(4)?,
        is_replay_paused: row.try_get(5)?,
        is_streaming: row.try_get(6)?,
        lsn: Lsn(count(7)?),
        prepared: count(8)?,
        oldest_transaction_s: count(9)?,
        logical: Vec::new(),
        wal_from: None,
    })
}

fn in_its_words(error: &tokio_postgres::Error) -> String {
    match error.as_db_error() {
        Some(server) => server.message().to_string(),
        None => error.to_string(),
    }
}

/// One call within the deadline; a server's error in the server's words.
async fn within<T>(
    call: impl Future<Output = Result<T, tokio_postgres::Error>>,
) -> Result<T, String> {
    within_time(TIMEOUT, call).await
}

async fn within_time<T>(
    limit: Duration,
    call: impl Future<Output = Result<T, tokio_postgres::Error>>,
) -> Result<T, String> {
    match tokio::time::timeout(limit, call).await {
        Err(_) => Err(format!("no answer within {limit:?}")),
        Ok(Err(error)) => Err(in_its_words(&error)),
        Ok(Ok(value)) => Ok(value),
    }
}
