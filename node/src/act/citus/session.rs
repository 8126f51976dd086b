//! One connection for statements of Citus, which may wait for long.

use super::Reach;
use crate::config::Citus;
use crate::postgres::{Session, Target};
use citus::copies::NodeCopy;
use citus::statement::Authinfo;
use citus::{Address, NodeRow, Param, Statement};
use std::time::Duration;
use tokio_postgres::types::ToSql;

/// One statement; the longest cooldown of Citus that is asked for lies within.
const STATEMENT: Duration = Duration::from_secs(60);
const CANCEL: Duration = Duration::from_secs(1);
pub(super) const APPLICATION: &str = "Patroni citus";
/// A region at rest is read-only for clients, but not for these sessions.
const OPTIONS: &str = " -c idle_in_transaction_session_timeout=0 -c lock_timeout=0";

pub(crate) struct CitusSession(Session);

impl CitusSession {
    pub(crate) async fn open(target: Target, own: &Citus) -> Result<CitusSession, String> {
        let statement_limit = Duration::ZERO;
        let search_path = citus::statement::schemas(own.stand_in);
        let target = Target { statement_limit, search_path, options: OPTIONS, ..target };
        let opened = Session::connect(&target).await.map(CitusSession);
        opened.map_err(|error| error.with_causes())
    }

    /// To the server beside this daemon.
    pub(crate) async fn here(reach: &Reach) -> Result<CitusSession, String> {
        let target = reach.instance.local_target(&reach.own.database, APPLICATION);
        CitusSession::open(target, &reach.own).await
    }

    /// To the leader of another group.
    pub(crate) async fn at(reach: &Reach, leader: &Address) -> Result<CitusSession, String> {
        let login = &reach.settings.postgresql.superuser;
        let (host, port) = (&leader.host, leader.port);
        let there = Target::new(host, port, login, &reach.own.database, APPLICATION);
        CitusSession::open(there, &reach.own).await
    }

    /// Runs one statement; its rows come back as they are.
    pub(crate) async fn run(
        &self,
        statement: &Statement,
    ) -> Result<Vec<tokio_postgres::Row>, String> {
        let owned: Vec<Box<dyn ToSql + Sync + Send>> =
            statement.params().into_iter().map(bind).collect();
        let params: Vec<&(dyn ToSql + Sync)> =
            owned.iter().map(|p| p.as_ref() as &(dyn ToSql + Sync)).collect();
        let sql = statement.sql();
        let query = self.0.client().query(sql.as_ref(), &params);
        let answer = tokio::time::timeout(STATEMENT, query).await;
        let answer = answer.map_err(|_| format!("`{sql}` was not done in {STATEMENT:?}"))?;
        answer.map_err(|e| format!("`{sql}`: {}", said(&e)))
    }

    /// One after the other, up to the first that fails.
    pub(crate) async fn run_all(&self, statements: &[Statement]) -> Result<(), String> {
        for statement in statements {
            self.run(statement).await?;
        }
        Ok(())
    }

    /// Ends the statement under way on the server.
    pub(crate) async fn cancel(&self) {
        let cancelled = tokio::time::timeout(CANCEL, self.0.cancel()).await;
        if !matches!(cancelled, Ok(Ok(()))) {
            tracing::warn!("a statement on pg_dist_node could not be cancelled");
        }
    }

    /// What this node says of itself.
    pub(crate) async fn copy(&self) -> Result<NodeCopy, String> {
        let answer = self.run(&Statement::ReadLocalGroup).await?;
        let group = answer.first().ok_or("pg_dist_local_group is empty")?;
        let group: i32 = group.try_get(0).map_err(|e| e.to_string())?;
        Ok(NodeCopy { group: u32::try_from(group).unwrap_or(u32::MAX), rows: self.rows().await? })
    }

    pub(crate) async fn batch(&self, sql: &str) -> Result<(), String> {
        let answer = tokio::time::timeout(STATEMENT, self.0.client().batch_execute(sql)).await;
        answer.map_err(|_| "the batch was not done in time".to_string())?.map_err(|e| said(&e))
    }

    pub(crate) async fn rows(&self) -> Result<Vec<NodeRow>, String> {
        let rows = self.run(&Statement::ReadNodes).await?;
        let parse = |row: &tokio_postgres::Row| {
            let text: String = row.try_get(0).map_err(|e| e.to_string())?;
            serde_json::from_str(&text).map_err(|e| format!("pg_dist_node: {e}: {text}"))
        };
        rows.iter().map(parse).collect()
    }
}

fn bind(param: Param) -> Box<dyn ToSql + Sync + Send> {
    match param {
        Param::Int(number) => Box::new(number),
        Param::Text(text) | Param::Secret(Authinfo(text)) => Box::new(text),
    }
}

fn said(error: &tokio_postgres::Error) -> String {
    error.as_db_error().map_or_else(|| error.to_string(), |db| db.message().to_string())
}
