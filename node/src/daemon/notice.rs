//! Telling the coordinator's leader that this worker's leader changes: Patroni's
//! `POST /citus`. What is told, and when, the machine decides (`member/events.rs`).
//!
//! Invariant: nothing depends on it. An event that does not arrive costs clients errors
//! instead of a wait; the rows follow from what the store says.

use super::Daemon;
use super::STORE_CALL;
use crate::dcs::Store;
use crate::dcs::keys::{Keys, split_groups};
use crate::peers::Peers;
use member::events::EventRow;
use member::ha::Observation;
use serde_json::json;
use std::sync::Arc;
use std::time::Duration;
use topology::{Group, MemberRecord};

const COORDINATOR: Group = Group(Some(0));

/// One event on its way.
#[derive(Clone)]
pub(super) struct Notice {
    store: Arc<dyn Store>,
    keys: Keys,
    peers: Peers,
    body: serde_json::Value,
    wait: Duration,
}

impl Daemon {
    pub(super) fn notice(&self, row: &EventRow) -> Notice {
        let dynamic = &self.member.dynamic;
        let body = json!({
            "type": row.name,
            "group": self.settings.group().0,
            "leader": self.settings.name,
            "timeout": whole_seconds(dynamic.ttl_ms),
            "cooldown": whole_seconds(dynamic.retry_timeout_ms),
        });
        Notice {
            store: self.store.clone(),
            keys: self.keys.for_group(COORDINATOR),
            peers: self.peers.clone(),
            body,
            wait: Duration::from_millis(row.wait_ms(dynamic.ttl_ms)),
        }
    }
}

impl Daemon {
    /// After the record was written: the coordinator hears of a leader that runs.
    pub(super) fn tell_of_record(&mut self, seen: &Observation) {
        if !self.settings.group().is_worker() {
            return;
        }
        let key = self.keys.member(&self.settings.name);
        let entry = self
            .mirror
            .snapshot()
            .and_then(|view| view.snapshot.entries.iter().find(|entry| entry.key == key).cloned());
        let record = entry.map(|entry| MemberRecord::read(&entry.value)).unwrap_or_default();
        let started = self.server.status().map(|status| status.postmaster_start_time.clone());
        if let Some(row) = self.member.event_of_record(seen, &record, started) {
            tokio::spawn(self.notice(row).send());
        }
    }
}

/// Patroni hands the cooldown to a function that takes whole numbers, and refuses the event
/// over any other.
fn whole_seconds(ms: u64) -> u64 {
    ms.div_ceil(1_000)
}

impl Notice {
    pub(super) async fn send(self) {
        let Some(url) = self.coordinator().await else {
            tracing::warn!("the coordinator's leader is not known: its clients are not held");
            return;
        };
        if self.peers.post(&url, "citus", &self.body, self.wait).await.is_none() {
            tracing::warn!("{url} did not take {}", self.body);
        }
    }

    async fn coordinator(&self) -> Option<String> {
        let prefixes = [self.keys.group_prefix()];
        let read = self.store.read(&prefixes);
        let read = tokio::time::timeout(STORE_CALL, read).await.ok()?.ok()?;
        let groups = split_groups(&self.keys.scope_prefix(), &read.entries);
        groups.get(&COORDINATOR)?.leader_record()?.api_url.clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_coordinator_of_patroni_gets_whole_seconds() {
        assert_eq!(json!(whole_seconds(30_000)).to_string(), "30");
        assert_eq!(json!(whole_seconds(2_500)).to_string(), "3");
    }
}
