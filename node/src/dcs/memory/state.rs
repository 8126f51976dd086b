//! What the store in memory knows, and how it changes.
//!
//! Revisions are etcd's: they start at 1, every transaction that writes takes
//! the next one, and so does the end of a lease that held keys.

use crate::dcs::outlet::Outlet;
use crate::dcs::{
    Compare, DcsError, Event, KeyValue, LeaseId, OPS_MAX, Op, Renewal, Snapshot, Txn, TxnResult,
};
use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

/// Changes that can be replayed to a watch; older ones count as compacted.
const HISTORY_MAX: usize = 100_000;

pub struct State {
    revision: i64,
    /// History is whole after this revision.
    compacted: i64,
    keys: BTreeMap<String, KeyValue>,
    leases: BTreeMap<LeaseId, Lease>,
    history: VecDeque<Event>,
    watchers: Vec<Watcher>,
    leases_granted: LeaseId,
    clients: u64,
}

struct Lease {
    ttl_ms: u64,
    deadline_ms: u64,
}

pub struct Watcher {
    pub client: u64,
    pub prefixes: Vec<String>,
    pub outlet: Outlet,
}

impl Default for State {
    fn default() -> State {
        State {
            revision: 1,
            compacted: 0,
            keys: BTreeMap::new(),
            leases: BTreeMap::new(),
            history: VecDeque::new(),
            watchers: Vec::new(),
            leases_granted: 0,
            clients: 0,
        }
    }
}

impl State {
    pub fn next_client(&mut self) -> u64 {
        self.clients += 1;
        self.clients
    }

    pub fn read(&self, prefixes: &[String]) -> Snapshot {
        let entries = prefixes.iter().flat_map(|p| self.below(p)).cloned().collect();
        Snapshot { revision: self.revision, entries }
    }

    fn below<'a>(&'a self, prefix: &'a str) -> impl Iterator<Item = &'a KeyValue> {
        let tail = self.keys.range(prefix.to_string()..);
        tail.map(|(_, entry)| entry).take_while(move |entry| entry.key.starts_with(prefix))
    }

    pub fn txn(&mut self, txn: &Txn) -> Result<TxnResult, DcsError> {
        check_shape(txn)?;
        let succeeded = txn.when.iter().all(|c| self.holds(c));
        if succeeded {
            self.check_leases(txn)?;
            let events = self.write(&txn.then);
            self.publish(events);
        }
        Ok(TxnResult { succeeded, revision: self.revision })
    }

    fn holds(&self, compare: &Compare) -> bool {
        match compare {
            Compare::Absent(key) => !self.keys.contains_key(key),
            Compare::ValueIs(key, value) => self.keys.get(key).is_some_and(|e| e.value == *value),
            Compare::RevisionIs(key, revision) => {
                self.keys.get(key).is_some_and(|e| e.mod_revision == *revision)
            }
            Compare::LeaseIs(key, lease) => self.keys.get(key).is_some_and(|e| e.lease == *lease),
        }
    }

    fn check_leases(&self, txn: &Txn) -> Result<(), DcsError> {
        let mut asked = txn.then.iter().filter_map(|op| match op {
            Op::Put { lease, .. } => *lease,
            Op::Delete { .. } | Op::DeletePrefix { .. } => None,
        });
        match asked.all(|lease| self.leases.contains_key(&lease)) {
            true => Ok(()),
            false => Err(DcsError::LeaseGone),
        }
    }

    /// Everything checked: writes at the next revision and says what changed.
    fn write(&mut self, ops: &[Op]) -> Vec<Event> {
        let at = self.revision + 1;
        let mut events = Vec::new();
        for op in ops {
            match op {
                Op::Put { key, value, lease } => {
                    events.push(self.put(key, value, lease.unwrap_or(0), at));
                }
                Op::Delete { key } => events.extend(self.delete(key, at)),
                Op::DeletePrefix { prefix } => {
                    let keys: Vec<_> = self.below(prefix).map(|e| e.key.clone()).collect();
                    events.extend(keys.iter().filter_map(|key| self.delete(key, at)));
                }
            }
        }
        events
    }

    fn put(&mut self, key: &str, value: &str, lease: LeaseId, at: i64) -> Event {
        let created = self.keys.get(key).map_or(at, |entry| entry.create_revision);
        let entry = KeyValue {
            key: key.to_string(),
            value: value.to_string(),
            mod_revision: at,
            create_revision: created,
            lease,
        };
        self.keys.insert(entry.key.clone(), entry.clone());
        Event::Put(entry)
    }

    fn delete(&mut self, key: &str, at: i64) -> Option<Event> {
        self.keys.remove(key).map(|entry| Event::Deleted { key: entry.key, revision: at })
    }

    /// Nothing changed, no revision taken.
    fn publish(&mut self, events: Vec<Event>) {
        if events.is_empty() {
            return;
        }
        self.revision += 1;
        self.watchers.retain(|w| !w.outlet.is_abandoned());
        let lagging: Vec<_> = self.watchers.extract_if(.., |w| !w.show(&events)).collect();
        for watcher in lagging {
            watcher.outlet.close("the reader was too slow".to_string());
        }
        self.history.extend(events);
        while self.history.len() > HISTORY_MAX {
            if let Some(oldest) = self.history.pop_front() {
                self.compacted = revision_of(&oldest);
            }
        }
    }

    pub fn grant(&mut self, ttl: Duration, now: u64) -> LeaseId {
        self.leases_granted += 1;
        let ttl_ms = (ttl.as_millis() as u64).div_ceil(1000).max(1) * 1000;
        self.leases.insert(self.leases_granted, Lease { ttl_ms, deadline_ms: now + ttl_ms });
        self.leases_granted
    }

    pub fn renew(&mut self, lease: LeaseId, now: u64) -> Renewal {
        match self.leases.get_mut(&lease) {
            Some(lease) => {
                lease.deadline_ms = now + lease.ttl_ms;
                Renewal::Alive
            }
            None => Renewal::Gone,
        }
    }

    pub fn revoke(&mut self, lease: LeaseId) {
        if self.leases.remove(&lease).is_none() {
            return;
        }
        let held = self.keys.values().filter(|e| e.lease == lease);
        let ops: Vec<_> = held.map(|e| Op::Delete { key: e.key.clone() }).collect();
        let events = self.write(&ops);
        self.publish(events);
    }

    pub fn expire(&mut self, now: u64) {
        let over = self.leases.iter().filter(|(_, l)| l.deadline_ms <= now);
        let over: Vec<_> = over.map(|(id, _)| *id).collect();
        for lease in over {
            self.revoke(lease);
        }
    }

    pub fn events_since(&self, revision: i64) -> Result<Vec<Event>, DcsError> {
        if revision < self.compacted {
            return Err(DcsError::Compacted);
        }
        let from = self.history.partition_point(|e| revision_of(e) <= revision);
        Ok(self.history.range(from..).cloned().collect())
    }

    pub fn watch(&mut self, watcher: Watcher, revision: i64) -> Result<(), DcsError> {
        let missed = self.events_since(revision)?;
        for batch in missed.chunk_by(|a, b| revision_of(a) == revision_of(b)) {
            if !watcher.show(batch) {
                watcher.outlet.close("too much has changed since".to_string());
                return Ok(());
            }
        }
        self.watchers.push(watcher);
        Ok(())
    }

    pub fn lose_watches(&mut self, which: impl Fn(&Watcher) -> bool, why: &str) {
        let lost: Vec<_> = self.watchers.extract_if(.., |w| which(w)).collect();
        for watcher in lost {
            watcher.outlet.close(why.to_string());
        }
    }

    pub fn compact(&mut self, revision: i64) {
        let from = self.history.partition_point(|e| revision_of(e) <= revision);
        self.history.drain(..from);
        self.compacted = self.compacted.max(revision.min(self.revision));
    }
}

impl Watcher {
    /// False: the watcher cannot take it.
    fn show(&self, events: &[Event]) -> bool {
        let below = |e: &&Event| self.prefixes.iter().any(|p| key_of(e).starts_with(p.as_str()));
        let mine: Vec<_> = events.iter().filter(below).cloned().collect();
        mine.is_empty() || self.outlet.offer(mine)
    }
}

fn revision_of(event: &Event) -> i64 {
    match event {
        Event::Put(entry) => entry.mod_revision,
        Event::Deleted { revision, .. } => *revision,
    }
}

fn key_of(event: &Event) -> &str {
    match event {
        Event::Put(entry) => &entry.key,
        Event::Deleted { key, .. } => key,
    }
}

/// etcd refuses long transactions and those that write a key twice.
fn check_shape(txn: &Txn) -> Result<(), DcsError> {
    if txn.when.len() > OPS_MAX || txn.then.len() > OPS_MAX {
        return Err(DcsError::Refused(format!("more than {OPS_MAX} operations")));
    }
    let puts = txn.then.iter().enumerate().filter_map(|(i, op)| match op {
        Op::Put { key, .. } => Some((i, key)),
        Op::Delete { .. } | Op::DeletePrefix { .. } => None,
    });
    for (i, key) in puts {
        let mut others = txn.then.iter().enumerate().filter(|(j, _)| *j != i);
        if others.any(|(_, op)| writes(op, key)) {
            return Err(DcsError::Refused(format!("{key} is written twice")));
        }
    }
    Ok(())
}

fn writes(op: &Op, key: &str) -> bool {
    match op {
        Op::Put { key: other, .. } | Op::Delete { key: other } => other == key,
        Op::DeletePrefix { prefix } => key.starts_with(prefix.as_str()),
    }
}
