//! The store of one region: keys, leases and transactions on the virtual clock.
//!
//! It keeps the contract of `node::dcs`: transactions are all or nothing, a key
//! that hangs on a lease goes when the lease ends, and a lease ends exactly its
//! ttl after the store last renewed it.

use node::dcs::{Compare, KeyValue, LeaseId, Op, Renewal, Snapshot, Txn, TxnResult};
use std::collections::BTreeMap;

#[derive(Clone, Copy, Debug)]
struct Lease {
    ttl_ms: u64,
    ends: u64,
}

#[derive(Clone, Debug, Default)]
pub struct SimStore {
    revision: i64,
    keys: BTreeMap<String, KeyValue>,
    leases: BTreeMap<LeaseId, Lease>,
    next_lease: LeaseId,
    /// Keys changed since the world last asked, for the watchers.
    changed: Vec<String>,
}

impl SimStore {
    /// Ends the leases whose time is up.
    pub fn advance(&mut self, now: u64) {
        let over: Vec<LeaseId> =
            self.leases.iter().filter(|(_, lease)| lease.ends <= now).map(|(id, _)| *id).collect();
        for lease in over {
            self.revoke(lease);
        }
    }

    pub fn revoke(&mut self, lease: LeaseId) {
        self.leases.remove(&lease);
        let gone: Vec<String> =
            self.keys.values().filter(|kv| kv.lease == lease).map(|kv| kv.key.clone()).collect();
        if gone.is_empty() {
            return;
        }
        self.revision += 1;
        for key in gone {
            self.keys.remove(&key);
            self.changed.push(key);
        }
    }

    pub fn grant(&mut self, now: u64, ttl_ms: u64) -> LeaseId {
        self.next_lease += 1;
        let ends = now + ttl_ms;
        self.leases.insert(self.next_lease, Lease { ttl_ms, ends });
        self.next_lease
    }

    pub fn renew(&mut self, now: u64, id: LeaseId) -> Renewal {
        match self.leases.get_mut(&id) {
            Some(lease) => {
                lease.ends = now + lease.ttl_ms;
                Renewal::Alive
            }
            None => Renewal::Gone,
        }
    }

    pub fn read(&self, prefix: &str) -> Snapshot {
        let below = self.keys.range(prefix.to_string()..);
        Snapshot {
            revision: self.revision,
            entries: below
                .take_while(|(key, _)| key.starts_with(prefix))
                .map(|(_, kv)| kv.clone())
                .collect(),
        }
    }

    pub fn get(&self, key: &str) -> Option<&KeyValue> {
        self.keys.get(key)
    }

    pub fn txn(&mut self, txn: &Txn) -> TxnResult {
        let holds = txn.when.iter().all(|compare| self.holds(compare));
        if !holds || self.is_lease_gone(txn) {
            return TxnResult { succeeded: false, revision: self.revision };
        }
        self.revision += 1;
        for op in &txn.then {
            self.apply(op);
        }
        TxnResult { succeeded: true, revision: self.revision }
    }

    /// Would a key be put under a lease that has ended?
    pub fn is_lease_gone(&self, txn: &Txn) -> bool {
        txn.then.iter().any(|op| match op {
            Op::Put { lease, .. } => lease.is_some_and(|l| !self.leases.contains_key(&l)),
            _ => false,
        })
    }

    fn holds(&self, compare: &Compare) -> bool {
        let key = |key: &String| self.keys.get(key);
        match compare {
            Compare::Absent(k) => key(k).is_none(),
            Compare::ValueIs(k, value) => key(k).is_some_and(|kv| &kv.value == value),
            Compare::RevisionIs(k, revision) => {
                key(k).is_some_and(|kv| kv.mod_revision == *revision)
            }
            Compare::LeaseIs(k, lease) => key(k).is_some_and(|kv| kv.lease == *lease),
        }
    }

    fn apply(&mut self, op: &Op) {
        match op {
            Op::Put { key, value, lease } => self.put(key, value, lease.unwrap_or(0)),
            Op::Delete { key } => {
                if self.keys.remove(key).is_some() {
                    self.changed.push(key.clone());
                }
            }
            Op::DeletePrefix { prefix } => {
                let gone = self.read(prefix).entries;
                for kv in gone {
                    self.keys.remove(&kv.key);
                    self.changed.push(kv.key);
                }
            }
        }
    }

    fn put(&mut self, key: &str, value: &str, lease: LeaseId) {
        let created = self.keys.get(key).map(|kv| kv.create_revision);
        let entry = KeyValue {
            key: key.to_string(),
            value: value.to_string(),
            mod_revision: self.revision,
            create_revision: created.unwrap_or(self.revision),
            lease,
        };
        self.keys.insert(key.to_string(), entry);
        self.changed.push(key.to_string());
    }

    pub fn take_changes(&mut self) -> Vec<String> {
        std::mem::take(&mut self.changed)
    }
}
