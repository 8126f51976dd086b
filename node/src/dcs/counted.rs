//! How often this process writes each document of its scope.
//!
//! The numbers stand in `/metrics`: a document that is written again and again
//! with nothing new in it shows there, and tests bound them.
//!
//! Absent on purpose: what the store does by itself (keys that end with a lease).

use super::keys::{DOCUMENTS, Keys};
use super::{Answer, Op, Renewal, Session, Snapshot, Store, Txn, TxnResult, Version, WatchItem};
use crate::config::StoreSettings;
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

    fn note(&self, keys: &Keys, op: &Op) {
        let (Op::Put { key, .. } | Op::Delete { key } | Op::DeletePrefix { prefix: key }) = op;
        let document = keys.document(key);
        if let Some(at) = DOCUMENTS.iter().position(|name| *name == document) {
            self.0[at].fetch_add(1, Ordering::Relaxed);
        }
    }
}

/// A store whose writes are counted.
pub struct CountedStore<S> {
    store: S,
    keys: Keys,
    writes: Arc<Writes>,
}

impl<S: Store> CountedStore<S> {
    pub fn new(store: S, keys: &Keys) -> CountedStore<S> {
        CountedStore { store, keys: keys.clone(), writes: Arc::default() }
    }

    pub fn writes(&self) -> Arc<Writes> {
        self.writes.clone()
    }
}

impl<S: Store> Store for CountedStore<S> {
    fn read<'a>(&'a self, prefixes: &'a [String]) -> Answer<'a, Snapshot> {
        self.store.read(prefixes)
    }

    fn txn(&self, txn: Txn) -> Answer<'_, TxnResult> {
        Box::pin(async move {
            let ops = txn.then.clone();
            let result = self.store.txn(txn).await?;
            if result.succeeded {
                ops.iter().for_each(|op| self.writes.note(&self.keys, op));
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

    fn revoke(&self, session: Session) -> Answer<'_, ()> {
        self.store.revoke(session)
    }

    fn set_login(&self, settings: &StoreSettings) {
        self.store.set_login(settings);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dcs::Compare;
    use crate::dcs::memory::MemoryStore;
    use topology::Group;

    #[tokio::test]
    async fn only_writes_that_were_taken_count_each_for_its_document() {
        let keys = Keys::new("/service/", "shop", Group(Some(1)));
        let store = CountedStore::new(MemoryStore::new(), &keys);
        let put = |key: String| Op::Put { key, value: "x".into(), session: None };
        let written = [keys.member(&"n1".into()), keys.status(), keys.topology("agent")];
        let txn = Txn { when: vec![], then: written.map(put).into() };
        assert!(store.txn(txn).await.expect("reachable").succeeded);
        let again =
            Txn { when: vec![Compare::Absent(keys.status())], then: vec![put(keys.status())] };
        assert!(!store.txn(again).await.expect("reachable").succeeded);
        let writes = store.writes();
        let counted: Vec<_> = writes.rows().filter(|(_, count)| *count > 0).collect();
        assert_eq!(counted, [("members", 1), ("status", 1), ("topology", 1)]);
    }
}
