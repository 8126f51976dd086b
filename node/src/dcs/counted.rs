//! How often this process writes each document of its scope.
//!
//! The numbers stand in `/metrics`: a document that is written again and again
//! with nothing new in it shows there, and tests bound them.
//!
//! Absent on purpose: what the store does by itself (keys that end with a lease).

use super::keys::{DOCUMENTS, Keys};
use super::kv::{Edit, lower};
use super::{Answer, Renewal, Session, Snapshot, Store, Version, WatchItem, Write, Written};
use crate::dcs::settings::StoreSettings;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tokio::sync::mpsc::Receiver;

/// Writes that the store has taken, by document.
#[derive(Debug, Default)]
pub struct Writes([AtomicU64; DOCUMENTS.len()]);

impl Writes {
    pub fn rows(&self) -> impl Iterator<Item = (&'static str, u64)> {
        let counts = self.0.iter().map(|count| count.load(Ordering::Relaxed));
        DOCUMENTS.into_iter().zip(counts)
    }

    fn note(&self, keys: &Keys, op: &Edit) {
        let (Edit::Put { key, .. } | Edit::Delete { key } | Edit::DeletePrefix { prefix: key }) =
            op;
        let document = keys.document(key);
        if let Some(at) = DOCUMENTS.iter().position(|name| *name == document) {
            self.0[at].fetch_add(1, Ordering::Relaxed);
        }
    }
}

/// A store whose writes are counted.
pub(crate) struct CountedStore {
    store: Arc<dyn Store>,
    keys: Keys,
    writes: Arc<Writes>,
}

impl CountedStore {
    pub(crate) fn new(store: Arc<dyn Store>, keys: &Keys) -> CountedStore {
        CountedStore { store, keys: keys.clone(), writes: Arc::default() }
    }

    pub(crate) fn writes(&self) -> Arc<Writes> {
        self.writes.clone()
    }
}

impl Store for CountedStore {
    fn read<'a>(&'a self, prefixes: &'a [String]) -> Answer<'a, Snapshot> {
        self.store.read(prefixes)
    }

    fn write<'a>(&'a self, keys: &'a Keys, write: &'a Write) -> Answer<'a, Written> {
        Box::pin(async move {
            let result = self.store.write(keys, write).await?;
            if result.succeeded {
                lower(keys, write).then.iter().for_each(|op| self.writes.note(&self.keys, op));
            }
            Ok(result)
        })
    }

    fn watch<'a>(
        &'a self,
        prefixes: &'a [String],
        version: Version,
    ) -> Answer<'a, Receiver<WatchItem>> {
        self.store.watch(prefixes, version)
    }

    fn grant(&self, ttl: Duration) -> Answer<'_, Session> {
        self.store.grant(ttl)
    }

    fn renew(&self, session: Session) -> Answer<'_, Renewal> {
        self.store.renew(session)
    }

    fn set_login(&self, settings: &StoreSettings) {
        self.store.set_login(settings);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dcs::memory::MemoryStore;
    use topology::write::{LeaderWrite, Replacement};
    use topology::{Failover, Group};

    #[tokio::test]
    async fn only_writes_that_were_taken_count_each_for_its_document() {
        let keys = Keys::new("/service/", "shop", Group(Some(1)));
        let store = CountedStore::new(Arc::new(MemoryStore::new()), &keys);
        let session = store.grant(Duration::from_secs(30)).await.expect("reachable");
        let (me, agent) = ("n1".into(), "a/n1".to_string());
        let record = Replacement { value: Default::default(), on: None };
        let elect = topology::write::RegionWrite::ElectAgent { agent, session };
        let write =
            LeaderWrite::PutStatus { status: Some(Default::default()), legacy_optime: None };
        let status = Write::AsLeader { session, write };
        let request = Replacement { value: Failover::default(), on: None };
        let asked = Write::PutRequest { request, leader: None };
        let record = Write::PutRecord { me, session, record };
        for (write, taken) in [
            (record, true),
            (status, false),
            (Write::Region(elect), true),
            (asked.clone(), true),
            (asked, false),
        ] {
            let written = store.write(&keys, &write).await.expect("reachable");
            assert_eq!(written.succeeded, taken, "{write:?}");
        }
        let writes = store.writes();
        let counted: Vec<_> = writes.rows().filter(|(_, count)| *count > 0).collect();
        assert_eq!(counted, [("members", 1), ("failover", 1), ("topology", 1)]);
    }
}
