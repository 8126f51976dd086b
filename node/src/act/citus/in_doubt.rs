//! Resolving what the own group has left in doubt, once it is due (`citus::resolver`).
//!
//! Invariant: nothing that was done by rows that have become wrong meanwhile is committed. What
//! other nodes have committed or rolled back by then was right; only the record of a decision must
//! not be thrown away.

use super::{CitusSession, Reach};
use crate::dcs::Store;
use crate::dcs::keys::{Keys, split_groups};
use citus::resolver::{begin, stale};
use citus::{Groups, Statement, groups_now};
use std::sync::Arc;
use std::time::Duration;

/// All of it, in one database; the server's own limits are shorter.
const LIMIT: Duration = Duration::from_secs(30);
const STORE_CALL: Duration = Duration::from_millis(member::STORE_CALL_MS);

/// The leaders of all groups, as the store shows them at the moment.
pub(crate) struct LeadersInStore {
    pub(crate) store: Arc<dyn Store>,
    pub(crate) keys: Keys,
}

impl LeadersInStore {
    async fn groups(&self) -> Result<Groups, String> {
        let prefix = self.keys.scope_prefix();
        let prefixes = [prefix.clone()];
        let read = tokio::time::timeout(STORE_CALL, self.store.read(&prefixes)).await;
        let read = read.map_err(|_| "the store did not answer".to_string())?;
        let read = read.map_err(|error| error.to_string())?;
        Ok(groups_now(&split_groups(&prefix, &read.entries)))
    }

    async fn are_in_line(&self, session: &CitusSession) -> Result<(), String> {
        let groups = self.groups().await?;
        stale(&session.rows().await?, &groups).map_or(Ok(()), Err)
    }
}

/// In every database; the first failure is told when all were tried.
pub(crate) async fn resolve_own(reach: Reach, leaders: LeadersInStore) -> Result<(), String> {
    let mut first = Ok(());
    for reach in reach.of_each_database() {
        let resolved = tokio::time::timeout(LIMIT, resolve_in(&reach, &leaders)).await;
        let resolved = resolved.map_err(|_| format!("no answer within {LIMIT:?}")).flatten();
        first = first.and(resolved);
    }
    first
}

/// A session that is dropped rolls back.
async fn resolve_in(reach: &Reach, leaders: &LeadersInStore) -> Result<(), String> {
    let session = CitusSession::here(reach).await?;
    leaders.are_in_line(&session).await?;
    session.run_all(&begin()).await?;
    leaders.are_in_line(&session).await?;
    session.run(&Statement::Commit).await.map(drop)
}
