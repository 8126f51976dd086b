//! What an agent does to servers: probes, checkpoints, holding, receipts.
//!
//! A trait, so that the tests of `perform` and of `matriarchctl` work without
//! servers. `SqlGroupServers` does it for real: SQL as superuser against the groups' leaders,
//! and the members' REST APIs for receipts.
//!
//! Invariant: nothing here decides. Every call has a deadline and an answer;
//! a failure is a sentence for the journal.

use super::sql::{Access, Session};
use crate::config::{Citus, Login, Settings};
use crate::peers::{ClientError, Peers};
use citus::handover;
use citus::node::NodeRow;
use citus::statement::Statement;
use serde_json::Value;
use standby::switch::preflight::Probe;
use standby::switch::{HOLD_LOCK_MS, Replayed, Target};
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::task::JoinSet;
use topology::{Lsn, SystemId, Timeline};

/// How long it waits until no prepared transaction of Citus is left. Those that
/// stay are resolved after the move.
const DRAIN_WAIT: Duration = Duration::from_millis(200);
const DRAIN_POLL: Duration = Duration::from_millis(5);
/// One question for a receipt.
const RECEIPT_WAIT: Duration = Duration::from_millis(500);

/// Open sessions that hold writes back; dropping it lets go.
pub type Held = Box<dyn Send + Sync>;

pub type Done<'a, T> = Pin<Box<dyn Future<Output = Result<T, String>> + Send + 'a>>;

pub trait GroupServers: Send + Sync {
    fn probe(&self, target: Target) -> Done<'_, Probe>;
    /// One checkpoint; says how long it took.
    fn checkpoint(&self, target: Target) -> Done<'_, Duration>;
    /// Keeps the groups of the old side from deciding distributed transactions.
    fn hold(&self, targets: Vec<Target>, limit_ms: u64) -> Done<'_, Held>;
    fn replayed(&self, target: Target) -> Done<'_, Replayed>;
    /// Makes a standby look at once at what it has received.
    fn wake_replay(&self, _: Target) -> Done<'_, ()> {
        Box::pin(async { Ok(()) })
    }
    /// One statement of an operator, for as long as it takes; the number it answers.
    fn change(&self, _: Target, _: Statement) -> Done<'_, Option<i64>> {
        Box::pin(async { Err("this implementation changes nothing".to_string()) })
    }
    /// The coordinator's `pg_dist_node`, for graphs; a move does without.
    fn nodes(&self, _: Target) -> Done<'_, Vec<NodeRow>> {
        Box::pin(async { Err("this implementation does not read pg_dist_node".to_string()) })
    }
}

pub struct SqlGroupServers {
    access: Access,
    /// `None`: for probes only.
    peers: Option<Peers>,
    with_citus: bool,
}

impl SqlGroupServers {
    pub fn new(settings: &Settings) -> Result<SqlGroupServers, ClientError> {
        let citus = settings.citus.as_ref();
        let database = citus.map_or(&settings.postgresql.database, |citus| &citus.database);
        let stand_in = citus.is_some_and(|citus| citus.stand_in);
        Ok(SqlGroupServers {
            access: Access::new(&settings.postgresql.superuser, database, stand_in)?,
            peers: Some(Peers::new(settings)?),
            with_citus: citus.is_some(),
        })
    }

    /// For an operator's questions: it probes and never holds.
    pub fn for_probes(
        login: &Login,
        citus: Option<&Citus>,
    ) -> Result<SqlGroupServers, ClientError> {
        let database = citus.map_or("postgres", |citus| &citus.database);
        let access = Access::new(login, database, citus.is_some_and(|citus| citus.stand_in))?;
        Ok(SqlGroupServers { access, peers: None, with_citus: false })
    }
}

impl GroupServers for SqlGroupServers {
    fn probe(&self, target: Target) -> Done<'_, Probe> {
        Box::pin(async move {
            let session = self.access.connect(&target.host, target.port).await?;
            session.probe().await
        })
    }

    fn nodes(&self, target: Target) -> Done<'_, Vec<NodeRow>> {
        Box::pin(async move {
            let session = self.access.connect(&target.host, target.port).await?;
            session.nodes().await
        })
    }

    fn change(&self, target: Target, statement: Statement) -> Done<'_, Option<i64>> {
        Box::pin(async move {
            let session = self.access.connect(&target.host, target.port).await?;
            session.run_long(&statement).await
        })
    }

    fn checkpoint(&self, target: Target) -> Done<'_, Duration> {
        Box::pin(async move {
            let session = self.access.connect(&target.host, target.port).await?;
            let began = Instant::now();
            session.checkpoint().await?;
            Ok(began.elapsed())
        })
    }

    fn hold(&self, targets: Vec<Target>, limit_ms: u64) -> Done<'_, Held> {
        Box::pin(async move {
            if !self.with_citus {
                // Without Citus there is nothing between groups: the fast stop
                // ends the clients.
                return Ok(Box::new(()) as Held);
            }
            let sessions = hold_all(&self.access, targets, limit_ms).await?;
            Ok(Box::new(sessions) as Held)
        })
    }

    fn replayed(&self, target: Target) -> Done<'_, Replayed> {
        Box::pin(async move {
            let url = target.api_url.ok_or("the leader has published no api_url")?;
            let peers = self.peers.as_ref().ok_or("this connection is for probes only")?;
            let body = peers.document(&url, RECEIPT_WAIT).await;
            let body = body.ok_or_else(|| format!("{url} gives no answer"))?;
            read_replayed(&body).ok_or_else(|| format!("{url} tells no replay position"))
        })
    }

    fn wake_replay(&self, target: Target) -> Done<'_, ()> {
        Box::pin(async move {
            let session = self.access.connect(&target.host, target.port).await?;
            session.execute("SELECT pg_catalog.pg_reload_conf()").await
        })
    }
}

/// Reads the body of `GET /patroni` of a standby.
fn read_replayed(body: &Value) -> Option<Replayed> {
    let xlog = body.get("xlog").or_else(|| body.get("wal"))?;
    let timeline = body.get("timeline").and_then(Value::as_u64);
    Some(Replayed {
        system_id: SystemId::parse(body.get("database_system_identifier")?.as_str()?)?,
        timeline: timeline.and_then(|t| u32::try_from(t).ok()).map(Timeline),
        lsn: Lsn(xlog.get("replayed_location")?.as_u64()?),
    })
}

/// First the lock everywhere, then the end of the clients, then the drain: a
/// client that ends earlier would free what others are waiting for.
async fn hold_all(
    access: &Access,
    targets: Vec<Target>,
    limit_ms: u64,
) -> Result<Vec<Arc<Session>>, String> {
    let mut locking = JoinSet::new();
    for target in targets {
        let access = access.clone();
        locking.spawn(async move {
            let session = access.connect(&target.host, target.port).await?;
            session.execute(&ending_by_itself(limit_ms)).await?;
            for statement in handover::hold(HOLD_LOCK_MS) {
                session.run(&statement).await?;
            }
            Ok::<_, String>(Arc::new(session))
        });
    }
    let mut sessions = Vec::new();
    while let Some(locked) = locking.join_next().await {
        sessions.push(locked.map_err(|e| e.to_string())??);
    }
    let mut ending = JoinSet::new();
    for session in &sessions {
        let session = Arc::clone(session);
        ending.spawn(async move { end_and_drain(&session).await });
    }
    while let Some(ended) = ending.join_next().await {
        ended.map_err(|e| e.to_string())??;
    }
    Ok(sessions)
}

/// The server ends a hold whose driver is gone: at once when its host says so, after the
/// timeouts of TCP when the host is silent, after the limit when only the process hangs.
fn ending_by_itself(limit_ms: u64) -> String {
    format!(
        "SET idle_in_transaction_session_timeout = {limit_ms}; SET tcp_keepalives_idle = 5; \
         SET tcp_keepalives_interval = 2; SET tcp_keepalives_count = 3; \
         SET tcp_user_timeout = 10000"
    )
}

async fn end_and_drain(session: &Session) -> Result<(), String> {
    for statement in handover::end_clients() {
        session.run(&statement).await?;
    }
    let began = Instant::now();
    while session.run(&handover::drained()).await? != Some(0) {
        if began.elapsed() > DRAIN_WAIT {
            tracing::warn!("prepared transactions are left; they are resolved after the move");
            return Ok(());
        }
        tokio::time::sleep(DRAIN_POLL).await;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn only_a_replay_position_with_its_system_is_a_receipt() {
        let body = json!({"database_system_identifier": "7710375988543033523", "timeline": 3,
            "xlog": {"received_location": 20, "replayed_location": 10}});
        let read = read_replayed(&body).expect("a receipt");
        assert_eq!((read.lsn, read.timeline), (Lsn(10), Some(Timeline(3))));
        let primary = json!({"database_system_identifier": "7710375988543033523",
            "xlog": {"location": 20}});
        assert_eq!(read_replayed(&primary), None);
        let nameless = json!({"xlog": {"replayed_location": 10}});
        assert_eq!(read_replayed(&nameless), None);
    }
}
