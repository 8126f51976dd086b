//! Synchronous replication: the steps that `decide` asks for.
//!
//! Invariant *in force before it counts*: a step is done when the server answers
//! with the new names, and its walsenders have had time to read them; until then
//! they may acknowledge commits by the old ones.

use super::Daemon;
use crate::act::txn;
use crate::ha::facts::Facts;
use crate::ha::{Observation, Outcome};
use standby::switch::ownership::Ownership;
use standby::sync::Names;
use std::time::Duration;
use topology::{GroupView, SyncState};

/// How long a reload may take until the server has read its files.
const IN_FORCE: Duration = Duration::from_secs(1);
/// Walsenders read the files on their own, and nothing tells when they have.
const WALSENDERS: Duration = Duration::from_millis(100);
const NAME: &str = "synchronous_standby_names";

impl Daemon {
    pub(super) async fn record_sync(&mut self, state: &SyncState, view: &GroupView) -> Outcome {
        let Some(lease) = self.lease.id else { return Outcome::Lost };
        let revision = view.sync.as_ref().map(|sync| sync.revision);
        let outcome = self.try_write(txn::sync(&self.keys, lease, state, revision)).await;
        if let Outcome::Unknown(_) = outcome {
            // A reply that was lost: the store is read before anything else.
            let _ = self.mirror.refresh().await;
        }
        outcome
    }

    pub(super) async fn name_sync(&mut self, names: &Names, seen: &Observation) -> Outcome {
        // Whatever comes of it, the files are looked at again.
        self.chores.applied = None;
        let text = names.write();
        let overrides = self.with_names(&seen.ownership, Some(text.clone()));
        if let Err(why) = self.server.rename_sync(&self.dynamic.raw, &overrides).await {
            return Outcome::Failed(why);
        }
        match tokio::time::timeout(IN_FORCE, self.server.has_in_force(NAME, &text)).await {
            Ok(Ok(())) => {}
            Ok(Err(why)) => return Outcome::Failed(why),
            Err(_) => {
                return Outcome::Failed(format!(
                    "{NAME} does not become `{text}`: does postgresql.auto.conf or a file that \
                     postgresql.conf includes set it? Take it out there"
                ));
            }
        }
        tracing::info!("{NAME} is now `{text}`");
        if seen.is_primary() {
            tokio::time::sleep(WALSENDERS).await;
        }
        Outcome::Done
    }

    pub(super) async fn write_wal(&self) -> Outcome {
        match self.server.write_wal().await {
            Ok(()) => Outcome::Done,
            Err(why) => Outcome::Failed(why),
        }
    }

    /// Settings that the server has beside the configured ones, now or, with
    /// `opens`, when it is started as a primary.
    pub(super) fn overrides(&self, seen: &Observation, opens: bool) -> Vec<(String, String)> {
        self.with_names(&seen.ownership, Facts::of(seen).sync_names(opens))
    }

    fn with_names(&self, owner: &Ownership, names: Option<String>) -> Vec<(String, String)> {
        let mut laid = self.quarantine(owner);
        laid.extend(names.map(|names| (NAME.to_string(), names)));
        laid
    }
}
