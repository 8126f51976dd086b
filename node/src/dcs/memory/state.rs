//! What the store in memory knows, and how it changes.
//!
//! Revisions are etcd's: they start at 1, every transaction that writes takes
//! the next one, and so does the end of a lease that held keys.

use crate::dcs::kv::{Compare, Edit, Txn};
use crate::dcs::outlet::Outlet;
use crate::dcs::{
    DcsError, Event, KeyValue, OPS_MAX, Renewal, Session, Snapshot, Version, Written,
};
use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

/// Changes that can be replayed to a watch; older ones count as compacted.
const HISTORY_MAX: usize = 100_000;

pub(super) struct State {
    version: Version,
    /// History is whole after this version.
    compacted: Version,
    keys: BTreeMap<String, KeyValue>,
    leases: BTreeMap<Session, Lease>,
    history: VecDeque<Event>,
    watchers: Vec<Watcher>,
    leases_granted: i64,
    clients: u64,
}

#[derive(Clone, Debug)]
struct Lease {
    ttl_ms: u64,
    deadline_ms: u64,
}

/// What a backup of the store holds.
#[derive(Clone, Debug)]
pub struct Saved {
    version: Version,
    keys: BTreeMap<String, KeyValue>,
    leases: BTreeMap<Session, Lease>,
}

impl Default for Saved {
    /// A store that has never been used.
    fn default() -> Saved {
        Saved { version: Version::of_store(1), keys: BTreeMap::new(), leases: BTreeMap::new() }
    }
}

pub(super) struct Watcher {
    pub client: u64,
    pub prefixes: Vec<String>,
    pub outlet: Outlet,
}

impl Default for State {
    fn default() -> State {
        State {
            version: Version::of_store(1),
            compacted: Version::default(),
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
    pub(super) fn next_client(&mut self) -> u64 {
        self.clients += 1;
        self.clients
    }

    pub(super) fn version(&self) -> Version {
        self.version
    }

    pub(super) fn read(&self, prefixes: &[String]) -> Snapshot {
        let entries = prefixes.iter().flat_map(|p| self.below(p)).cloned().collect();
        Snapshot { version: self.version, entries }
    }

    fn below<'a>(&'a self, prefix: &'a str) -> impl Iterator<Item = &'a KeyValue> {
        let tail = self.keys.range(prefix.to_string()..);
        tail.map(|(_, entry)| entry).take_while(move |entry| entry.key.starts_with(prefix))
    }

    pub(super) fn txn(&mut self, txn: &Txn) -> Result<Written, DcsError> {
        check_shape(txn)?;
        let succeeded = txn.when.iter().all(|c| self.holds(c));
        if succeeded {
            self.check_leases(txn)?;
            let events = self.write(&txn.then);
            self.publish(events);
        }
        Ok(Written { succeeded, version: self.version })
    }

    fn holds(&self, compare: &Compare) -> bool {
        match compare {
            Compare::Absent(key) => !self.keys.contains_key(key),
            Compare::ValueIs(key, value) => self.keys.get(key).is_some_and(|e| e.value == *value),
            Compare::VersionIs(key, version) => {
                self.keys.get(key).is_some_and(|e| e.version == *version)
            }
            Compare::SessionIs(key, session) => {
                self.keys.get(key).is_some_and(|e| e.session == Some(*session))
            }
        }
    }

    fn check_leases(&self, txn: &Txn) -> Result<(), DcsError> {
        let mut asked = txn.then.iter().filter_map(|op| match op {
            Edit::Put { session, .. } => *session,
            Edit::Delete { .. } | Edit::DeletePrefix { .. } => None,
        });
        match asked.all(|session| self.leases.contains_key(&session)) {
            true => Ok(()),
            false => Err(DcsError::LeaseGone),
        }
    }

    /// Everything checked: writes at the next revision and says what changed.
    fn write(&mut self, ops: &[Edit]) -> Vec<Event> {
        let at = after(self.version);
        let mut events = Vec::new();
        for op in ops {
            match op {
                Edit::Put { key, value, session } => {
                    events.push(self.put(key, value, *session, at));
                }
                Edit::Delete { key } => events.extend(self.delete(key, at)),
                Edit::DeletePrefix { prefix } => {
                    let keys: Vec<_> = self.below(prefix).map(|e| e.key.clone()).collect();
                    events.extend(keys.iter().filter_map(|key| self.delete(key, at)));
                }
            }
        }
        events
    }

    fn put(&mut self, key: &str, value: &str, session: Option<Session>, at: Version) -> Event {
        let created = self.keys.get(key).map_or(at, |entry| entry.created);
        let entry = KeyValue {
            key: key.to_string(),
            value: value.to_string(),
            version: at,
            created,
            session,
        };
        self.keys.insert(entry.key.clone(), entry.clone());
        Event::Put(entry)
    }

    fn delete(&mut self, key: &str, at: Version) -> Option<Event> {
        self.keys.remove(key).map(|entry| Event::Deleted { key: entry.key, version: at })
    }

    /// Nothing changed, no revision taken.
    fn publish(&mut self, events: Vec<Event>) {
        if events.is_empty() {
            return;
        }
        self.version = after(self.version);
        self.watchers.retain(|w| !w.outlet.is_abandoned());
        let lagging: Vec<_> = self.watchers.extract_if(.., |w| !w.show(&events)).collect();
        for watcher in lagging {
            watcher.outlet.close("the reader was too slow".to_string());
        }
        self.history.extend(events);
        while self.history.len() > HISTORY_MAX {
            if let Some(oldest) = self.history.pop_front() {
                self.compacted = version_of(&oldest);
            }
        }
    }

    /// Keys are gone as if each had been deleted.
    pub(super) fn wipe(&mut self, is_lost: impl Fn(&str) -> bool) {
        let lost = self.keys.keys().filter(|key| is_lost(key));
        let edits: Vec<_> = lost.map(|key| Edit::delete(key.clone())).collect();
        let events = self.write(&edits);
        self.publish(events);
    }

    pub(super) fn grant(&mut self, ttl: Duration, now: u64) -> Session {
        self.leases_granted += 1;
        let ttl_ms = (ttl.as_millis() as u64).div_ceil(1000).max(1) * 1000;
        let session = Session::of_store(self.leases_granted);
        self.leases.insert(session, Lease { ttl_ms, deadline_ms: now + ttl_ms });
        session
    }

    pub(super) fn renew(&mut self, session: Session, now: u64) -> Renewal {
        match self.leases.get_mut(&session) {
            Some(session) => {
                session.deadline_ms = now + session.ttl_ms;
                Renewal::Alive
            }
            None => Renewal::Gone,
        }
    }

    pub(super) fn revoke(&mut self, session: Session) {
        if self.leases.remove(&session).is_none() {
            return;
        }
        let held = self.keys.values().filter(|e| e.session == Some(session));
        let ops: Vec<_> = held.map(|e| Edit::Delete { key: e.key.clone() }).collect();
        let events = self.write(&ops);
        self.publish(events);
    }

    pub(super) fn expire(&mut self, now: u64) {
        let over = self.leases.iter().filter(|(_, l)| l.deadline_ms <= now);
        let over: Vec<_> = over.map(|(id, _)| *id).collect();
        for session in over {
            self.revoke(session);
        }
    }

    pub(super) fn prolong_leases(&mut self, now: u64) {
        for lease in self.leases.values_mut() {
            lease.deadline_ms = now + lease.ttl_ms;
        }
    }

    pub(super) fn save(&self) -> Saved {
        Saved { version: self.version, keys: self.keys.clone(), leases: self.leases.clone() }
    }

    /// Numbers of leases are not used twice: a store takes them from its clock.
    pub(super) fn restore(&mut self, saved: &Saved, now: u64) {
        self.lose_watches(|_| true, "the store was restored");
        (self.version, self.compacted) = (saved.version, saved.version);
        (self.keys, self.leases) = (saved.keys.clone(), saved.leases.clone());
        self.history.clear();
        self.prolong_leases(now);
    }

    pub(super) fn events_since(&self, version: Version) -> Result<Vec<Event>, DcsError> {
        if version < self.compacted {
            return Err(DcsError::Compacted);
        }
        let from = self.history.partition_point(|e| version_of(e) <= version);
        Ok(self.history.range(from..).cloned().collect())
    }

    pub(super) fn watch(&mut self, watcher: Watcher, version: Version) -> Result<(), DcsError> {
        let missed = self.events_since(version)?;
        for batch in missed.chunk_by(|a, b| version_of(a) == version_of(b)) {
            if !watcher.show(batch) {
                watcher.outlet.close("too much has changed since".to_string());
                return Ok(());
            }
        }
        self.watchers.push(watcher);
        Ok(())
    }

    pub(super) fn lose_watches(&mut self, which: impl Fn(&Watcher) -> bool, why: &str) {
        let lost: Vec<_> = self.watchers.extract_if(.., |w| which(w)).collect();
        for watcher in lost {
            watcher.outlet.close(why.to_string());
        }
    }

    pub(super) fn compact(&mut self, version: Version) {
        let from = self.history.partition_point(|e| version_of(e) <= version);
        self.history.drain(..from);
        self.compacted = self.compacted.max(version.min(self.version));
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

fn after(version: Version) -> Version {
    Version::of_store(version.number() + 1)
}

fn version_of(event: &Event) -> Version {
    match event {
        Event::Put(entry) => entry.version,
        Event::Deleted { version, .. } => *version,
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
        Edit::Put { key, .. } => Some((i, key)),
        Edit::Delete { .. } | Edit::DeletePrefix { .. } => None,
    });
    for (i, key) in puts {
        let mut others = txn.then.iter().enumerate().filter(|(j, _)| *j != i);
        if others.any(|(_, op)| writes(op, key)) {
            return Err(DcsError::Refused(format!("{key} is written twice")));
        }
    }
    Ok(())
}

fn writes(op: &Edit, key: &str) -> bool {
    match op {
        Edit::Put { key: other, .. } | Edit::Delete { key: other } => other == key,
        Edit::DeletePrefix { prefix } => key.starts_with(prefix.as_str()),
    }
}
