//! One SQL connection, to the local server or to a peer.
//!
//! Invariant *every question has a deadline*: the server's (statement_timeout)
//! and, because a frozen server keeps no deadline, our own a little later. A
//! session that let ours pass is not used again.
//!
//! Absent on purpose: replication connections (`replication.rs`).

use super::error::Error;
use super::sslmode::{self, Wire};
use super::target::Target;
use super::tls;
use std::collections::HashMap;
use std::fmt;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use tokio::sync::watch;
use tokio_postgres::config::SslMode;
use tokio_postgres::types::ToSql;
use tokio_postgres::{Client, NoTls, Row, Statement};
use tokio_postgres_rustls::MakeRustlsConnect;

/// Our own deadline comes this much after the server's.
const GRACE: Duration = Duration::from_secs(1);
pub struct Session {
    client: Client,
    ended: watch::Receiver<()>,
    /// It did not answer in time once: what it says next may be old.
    silent: AtomicBool,
    statements: Mutex<HashMap<&'static str, Statement>>,
    statement_limit: Duration,
    /// Of an encrypted connection: a request to cancel goes the same way.
    connector: Option<MakeRustlsConnect>,
}

impl Session {
    pub async fn connect(target: &Target) -> Result<Session, Error> {
        let waited = target.connect_limit;
        let silent = |_| Error::Silent { address: target.address(), waited };
        tokio::time::timeout(waited, connect(target)).await.map_err(silent)?
    }

    /// False: connect anew.
    pub fn is_usable(&self) -> bool {
        !self.client.is_closed() && !self.silent.load(Ordering::Relaxed)
    }

    /// Ready when the server has closed the connection: the first sign that a
    /// postmaster is gone.
    pub async fn closed(&self) {
        let mut ended = self.ended.clone();
        while ended.changed().await.is_ok() {}
    }

    /// One round trip, except the first time for each text.
    pub async fn rows(
        &self,
        what: &'static str,
        sql: &'static str,
        values: &[&(dyn ToSql + Sync)],
    ) -> Result<Vec<Row>, Error> {
        self.in_time(what, self.statement_limit, async {
            let statement = self.statement(sql).await?;
            let answer = self.client.query(&statement, values).await;
            if answer.is_err() {
                // Its plan may be out of date; the next try makes a new one.
                self.cached().remove(sql);
            }
            answer
        })
        .await
    }

    /// The only row of an answer.
    pub async fn row(
        &self,
        what: &'static str,
        sql: &'static str,
        values: &[&(dyn ToSql + Sync)],
    ) -> Result<Row, Error> {
        let row = self.rows(what, sql, values).await?.into_iter().next();
        row.ok_or(Error::Answer { what, field: "row" })
    }

    /// Unknown is no standby and no primary: the question has to be answered.
    pub async fn is_in_recovery(&self) -> Result<bool, Error> {
        const WHAT: &str = "recovery";
        let row = self.row(WHAT, "SELECT pg_catalog.pg_is_in_recovery()", &[]).await?;
        row.try_get(0).map_err(|_| Error::Answer { what: WHAT, field: "pg_is_in_recovery" })
    }

    /// Statements without an answer, as one text.
    pub async fn execute(&self, what: &'static str, sql: &str) -> Result<(), Error> {
        self.in_time(what, self.statement_limit, self.client.batch_execute(sql)).await
    }

    /// One statement that may take longer than the others.
    pub async fn execute_long(
        &self,
        what: &'static str,
        sql: &str,
        limit: Duration,
    ) -> Result<(), Error> {
        let usual = self.statement_limit.as_millis();
        let set = |ms: u128| format!("SET statement_timeout = {ms}");
        self.execute(what, &set(limit.as_millis())).await?;
        let done = self.in_time(what, limit, self.client.batch_execute(sql)).await;
        if self.is_usable() {
            self.execute(what, &set(usual)).await?;
        }
        done
    }

    /// The connection underneath, for statements that this type has no word for.
    pub fn client(&self) -> &Client {
        &self.client
    }

    /// Asks the server to end the statement under way.
    pub async fn cancel(&self) -> Result<(), tokio_postgres::Error> {
        let token = self.client.cancel_token();
        match &self.connector {
            Some(connector) => token.cancel_query(connector.clone()).await,
            None => token.cancel_query(NoTls).await,
        }
    }

    async fn statement(&self, sql: &'static str) -> Result<Statement, tokio_postgres::Error> {
        if let Some(statement) = self.cached().get(sql).cloned() {
            return Ok(statement);
        }
        let statement = self.client.prepare(sql).await?;
        self.cached().insert(sql, statement.clone());
        Ok(statement)
    }

    /// Texts are constants of this program, so the map cannot grow for ever.
    fn cached(&self) -> std::sync::MutexGuard<'_, HashMap<&'static str, Statement>> {
        self.statements.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    async fn in_time<T>(
        &self,
        what: &'static str,
        limit: Duration,
        question: impl Future<Output = Result<T, tokio_postgres::Error>>,
    ) -> Result<T, Error> {
        if limit.is_zero() {
            return question.await.map_err(Error::sql(what));
        }
        let waited = limit + GRACE;
        match tokio::time::timeout(waited, question).await {
            Ok(answer) => answer.map_err(Error::sql(what)),
            Err(_) => {
                self.silent.store(true, Ordering::Relaxed);
                Err(Error::Unanswered { what, waited })
            }
        }
    }
}

async fn connect(target: &Target) -> Result<Session, Error> {
    sslmode::connect(target, |host, port, wire| one(target, host, port, wire)).await
}

async fn one(target: &Target, host: String, port: u16, wire: Wire) -> Result<Session, Error> {
    match wire {
        Wire::Plain => plain(target, &host, port).await,
        Wire::Encrypted => encrypted(target, &host, port).await,
    }
}

async fn plain(target: &Target, host: &str, port: u16) -> Result<Session, Error> {
    let mut config = target.config(SslMode::Disable);
    config.host(host).port(port);
    let (client, connection) = config.connect(NoTls).await.map_err(refused(target))?;
    Ok(session(target, None, client, connection))
}

async fn encrypted(target: &Target, host: &str, port: u16) -> Result<Session, Error> {
    let connector = tls::connector(&target.login, sslmode::mode(target))
        .map_err(|why| Error::Tls { address: target.address(), why: why.to_string() })?;
    let mut config = target.config(SslMode::Require);
    config.host(host).port(port);
    let connected = config.connect(connector.clone()).await;
    let (client, connection) = connected.map_err(refused(target))?;
    Ok(session(target, Some(connector), client, connection))
}

fn refused(target: &Target) -> impl FnOnce(tokio_postgres::Error) -> Error {
    let address = target.address();
    move |source| Error::Refused { address, source }
}

fn session(
    target: &Target,
    connector: Option<MakeRustlsConnect>,
    client: Client,
    connection: impl Future<Output = Result<(), tokio_postgres::Error>> + Send + 'static,
) -> Session {
    let (alive, ended) = watch::channel(());
    tokio::spawn(async move {
        // A caller that waits for an answer gets the error; no other code needs the reason.
        let _ = connection.await;
        drop(alive);
    });
    Session {
        client,
        ended,
        silent: AtomicBool::new(false),
        statements: Mutex::new(HashMap::new()),
        statement_limit: target.statement_limit,
        connector,
    }
}

impl fmt::Debug for Session {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Session").field("is_usable", &self.is_usable()).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Login;

    #[tokio::test]
    async fn a_server_that_says_nothing_is_given_up() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let mut target = Target::new("127.0.0.1", port, &Login::default(), "postgres", "test");
        target.connect_limit = Duration::from_millis(100);
        let error = Session::connect(&target).await.unwrap_err();
        assert!(matches!(error, Error::Silent { .. }), "{error}");
    }
}
