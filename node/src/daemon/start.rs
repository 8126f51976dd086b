//! Before the first beat: the store must answer, and no other daemon may use
//! this member's name.
//!
//! A daemon waits for its store, unless PostgreSQL runs here: a server that
//! accepts writes has to be watched from now on, with or without a store. Then
//! the name is proven as soon as the store is seen, and until then the daemon
//! acts as one that has lost its store.

use super::Daemon;
use crate::config::Settings;
use crate::dcs::keys::{Keys, split_groups};
use crate::dcs::{DcsError, KeyValue, Store};
use crate::peers::Peers;
use std::time::Duration;
use topology::GroupView;

/// Between two attempts to reach the store, counted from their beginnings.
pub(super) const STORE_AGAIN: Duration = Duration::from_secs(5);
/// A namesake has this long to show that it is alive.
const LIVENESS_WAIT_MAX: Duration = Duration::from_secs(3);

/// Reads the group. `None`: the store is silent, but there is a server to
/// watch. Settings that can never work are an error.
pub(super) async fn await_store(
    store: &dyn Store,
    keys: &Keys,
    again: Duration,
    is_server_here: impl Fn() -> bool,
) -> anyhow::Result<Option<GroupView>> {
    loop {
        let begin = tokio::time::Instant::now();
        match store.read(&[keys.group_prefix()]).await {
            Ok(read) => return Ok(Some(group(keys, &read.entries))),
            Err(error @ (DcsError::Denied(_) | DcsError::Settings(_))) => return Err(error.into()),
            Err(error) => tracing::error!("waiting for the store: {error}"),
        }
        if is_server_here() {
            return Ok(None);
        }
        tokio::time::sleep_until(begin + again).await;
    }
}

fn group(keys: &Keys, entries: &[KeyValue]) -> GroupView {
    split_groups(&keys.scope_prefix(), entries).remove(&keys.group).unwrap_or_default()
}

/// Another daemon with this member's name would fight over its record, its
/// slot and its lock.
pub(super) async fn refuse_namesake(
    settings: &Settings,
    peers: &Peers,
    group: &GroupView,
) -> Result<(), String> {
    let name = &settings.name;
    let record = group.members.get(name);
    let Some(api_url) = record.and_then(|record| record.value.api_url.clone()) else {
        return Ok(());
    };
    if peers.is_alive(&api_url, LIVENESS_WAIT_MAX).await {
        return Err(format!(
            "a member named `{name}` lives already: {api_url} answers; \
             give this one another name, or end the other one"
        ));
    }
    Ok(())
}

impl Daemon {
    /// Proves the name of a daemon that began without its store. An error: it has
    /// a namesake.
    pub(super) async fn prove_name(&mut self) -> Result<(), String> {
        if self.name_proven {
            return Ok(());
        }
        let Some(local) = self.mirror.snapshot().filter(|view| !view.lost) else {
            return Ok(());
        };
        let group = group(&self.keys, &local.snapshot.entries);
        let record = group.members.get(&self.settings.name);
        // This daemon answers at its own address by now.
        let own = Some(self.settings.restapi.api_url());
        let elsewhere = record.is_some_and(|record| record.value.api_url != own);
        if elsewhere {
            refuse_namesake(&self.settings, &self.peers, &group).await?;
        }
        self.name_proven = true;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dcs::memory::MemoryStore;
    use std::sync::atomic::{AtomicU32, Ordering};

    fn keys() -> Keys {
        Keys::new("/service", "s", topology::Group(None))
    }

    #[tokio::test]
    async fn a_silent_store_is_asked_again_until_it_answers() {
        let store = MemoryStore::new();
        store.set_unreachable(true);
        let asked = AtomicU32::new(0);
        let begin = tokio::time::Instant::now();
        let again = Duration::from_millis(30);
        let keys = keys();
        let waited = await_store(&store, &keys, again, || {
            if asked.fetch_add(1, Ordering::SeqCst) == 2 {
                store.set_unreachable(false);
            }
            false
        });
        let seen = waited.await.unwrap();
        assert!(seen.is_some());
        assert_eq!(asked.load(Ordering::SeqCst), 3);
        assert!(begin.elapsed() >= 3 * again);
    }

    #[tokio::test]
    async fn a_running_server_is_not_left_alone_for_a_silent_store() {
        let store = MemoryStore::new();
        store.set_unreachable(true);
        assert!(await_store(&store, &keys(), STORE_AGAIN, || true).await.unwrap().is_none());
    }
}
