//! How reads, events and own writes become one copy.
//!
//! They arrive in any order. Two numbers decide: a key's version, kept for
//! deleted keys too, and `floor`, the revision of the newest whole read, which
//! already holds everything up to itself.

use crate::dcs::kv::Edit;
use crate::dcs::{Event, KeyValue, Session, Snapshot, Version};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// Deleted keys that are remembered since the last whole read; the oldest is
/// forgotten first. Members and leaders leave by the dozen, not by the thousand.
const DELETED_MAX: usize = 4096;

#[derive(Default)]
pub(super) struct Fold {
    entries: BTreeMap<String, KeyValue>,
    deleted: BTreeMap<String, Version>,
    floor: Version,
    version: Version,
    /// The copy as it was last asked for, until it changes.
    made: Option<Arc<Snapshot>>,
}

impl Fold {
    pub(super) fn snapshot(&mut self) -> Arc<Snapshot> {
        let (version, entries) = (self.version, &self.entries);
        let make = || {
            let entries = entries.values().cloned().collect();
            Arc::new(Snapshot { version, entries })
        };
        self.made.get_or_insert_with(make).clone()
    }

    /// The newest revision that was folded in.
    pub(super) fn version(&self) -> Version {
        self.version
    }

    /// Does the copy show what this operation would leave behind?
    pub(super) fn holds(&self, op: &Edit) -> bool {
        match op {
            Edit::Put { key, value, session } => self
                .entries
                .get(key)
                .is_some_and(|entry| entry.value == *value && entry.session == *session),
            Edit::Delete { key } => !self.entries.contains_key(key),
            Edit::DeletePrefix { prefix } => {
                let first = self.entries.range(prefix.clone()..).next();
                first.is_none_or(|(key, _)| !key.starts_with(prefix))
            }
        }
    }

    /// Forgets everything for a read of another history; returns all keys of
    /// both.
    pub(super) fn anew(&mut self, read: &Snapshot) -> Vec<String> {
        let old = std::mem::take(self).entries.into_keys();
        let keys: BTreeSet<_> = old.chain(self.whole(read)).collect();
        keys.into_iter().collect()
    }

    /// Folds a whole read; returns the keys that it changed.
    pub(super) fn whole(&mut self, read: &Snapshot) -> Vec<String> {
        if read.version < self.floor {
            return Vec::new();
        }
        let present: BTreeSet<&str> = read.entries.iter().map(|e| e.key.as_str()).collect();
        let gone = |e: &KeyValue| e.version <= read.version && !present.contains(e.key.as_str());
        let mut changed: Vec<_> =
            self.entries.values().filter(|e| gone(e)).map(|e| e.key.clone()).collect();
        for key in &changed {
            self.entries.remove(key);
        }
        let all = read.entries.iter();
        changed.extend(all.filter_map(|entry| self.settle(entry.clone(), read.version)));
        self.floor = read.version;
        self.deleted.retain(|_, at| *at > read.version);
        self.advance(read.version);
        changed
    }

    /// Folds what a watch brought; returns the keys that it changed.
    pub(super) fn events(&mut self, events: Vec<Event>) -> Vec<String> {
        events.into_iter().filter_map(|event| self.event(event)).collect()
    }

    /// Folds an own write at its revision; returns the keys that it changed.
    pub(super) fn own(
        &mut self,
        ops: &[Edit],
        at: Version,
        below: impl Fn(&str) -> bool,
    ) -> Vec<String> {
        let mut changed = Vec::new();
        for op in ops {
            match op {
                Edit::Put { key, value, session } if below(key) => {
                    let entry = self.written(key, value, *session, at);
                    changed.extend(self.event(Event::Put(entry)));
                }
                Edit::Put { .. } => {}
                Edit::Delete { key } => changed.extend(self.delete(key, at)),
                Edit::DeletePrefix { prefix } => {
                    let tail = self.entries.range(prefix.clone()..);
                    let keys = tail.map(|(key, _)| key.clone());
                    let keys: Vec<_> = keys.take_while(|k| k.starts_with(prefix)).collect();
                    changed.extend(keys.iter().filter_map(|key| self.delete(key, at)));
                }
            }
        }
        changed
    }

    fn written(&self, key: &str, value: &str, session: Option<Session>, at: Version) -> KeyValue {
        KeyValue {
            key: key.to_string(),
            value: value.to_string(),
            version: at,
            created: self.entries.get(key).map_or(at, |entry| entry.created),
            session,
        }
    }

    fn event(&mut self, event: Event) -> Option<String> {
        match event {
            Event::Put(entry) if entry.version > self.floor => self.put(entry),
            Event::Put(_) => None,
            Event::Deleted { key, version } => self.delete(&key, version),
        }
    }

    fn put(&mut self, entry: KeyValue) -> Option<String> {
        let known = self.entries.get(&entry.key).map(|e| e.version);
        let deleted = self.deleted.get(&entry.key).copied();
        if known.max(deleted).is_some_and(|newest| newest >= entry.version) {
            return None;
        }
        self.advance(entry.version);
        self.deleted.remove(&entry.key);
        let key = entry.key.clone();
        self.entries.insert(key.clone(), entry);
        Some(key)
    }

    /// Folds what a whole read at this revision shows. Up to there it knows
    /// everything, so even a higher version that was known yields: it was of
    /// another history.
    fn settle(&mut self, entry: KeyValue, at: Version) -> Option<String> {
        let known = self.entries.get(&entry.key);
        let deleted = self.deleted.get(&entry.key).is_some_and(|deleted| *deleted > at);
        if deleted || known.is_some_and(|known| known.version > at || *known == entry) {
            return None;
        }
        let key = entry.key.clone();
        self.entries.insert(key.clone(), entry);
        Some(key)
    }

    fn delete(&mut self, key: &str, at: Version) -> Option<String> {
        let newer = self.entries.get(key).is_some_and(|entry| entry.version > at);
        if at <= self.floor || newer {
            return None;
        }
        self.advance(at);
        let last = self.deleted.entry(key.to_string()).or_insert(at);
        *last = at.max(*last);
        self.forget();
        self.entries.remove(key).map(|entry| entry.key)
    }

    fn forget(&mut self) {
        if self.deleted.len() > DELETED_MAX {
            let oldest = self.deleted.iter().min_by_key(|(_, at)| **at);
            if let Some(key) = oldest.map(|(key, _)| key.clone()) {
                self.deleted.remove(&key);
            }
        }
    }

    fn advance(&mut self, version: Version) {
        self.version = self.version.max(version);
        self.made = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dcs::kv::Txn;
    use crate::dcs::memory::MemoryStore;
    use proptest::prelude::*;

    fn entry(key: &str, at: i64) -> KeyValue {
        KeyValue {
            key: key.to_string(),
            value: at.to_string(),
            version: v(at),
            created: v(at),
            session: None,
        }
    }

    fn v(number: i64) -> Version {
        Version::of_store(number)
    }

    fn keys(fold: &mut Fold) -> Vec<String> {
        fold.snapshot()
            .entries
            .iter()
            .map(|e| format!("{}@{}", e.key, e.version.number()))
            .collect()
    }

    #[test]
    fn a_late_event_does_not_bring_a_deleted_key_back() {
        let mut fold = Fold::default();
        fold.own(&[Edit::Delete { key: "/a".into() }], v(9), |_| true);
        assert_eq!(fold.events(vec![Event::Put(entry("/a", 8))]), Vec::<String>::new());
        assert_eq!(keys(&mut fold), Vec::<String>::new());
        assert_eq!(fold.events(vec![Event::Put(entry("/a", 10))]), ["/a"]);
    }

    #[test]
    fn a_late_event_does_not_bring_back_what_a_read_did_not_find() {
        let mut fold = Fold::default();
        fold.whole(&Snapshot { version: v(10), entries: vec![entry("/b", 5)] });
        fold.events(vec![Event::Put(entry("/a", 8))]);
        assert_eq!(keys(&mut fold), ["/b@5"]);
    }

    #[test]
    fn a_late_read_does_not_undo_newer_events() {
        let mut fold = Fold::default();
        fold.whole(&Snapshot { version: v(5), entries: vec![entry("/a", 4), entry("/b", 5)] });
        fold.events(vec![
            Event::Put(entry("/a", 7)),
            Event::Deleted { key: "/b".into(), version: v(8) },
        ]);
        let late = Snapshot { version: v(6), entries: vec![entry("/b", 5), entry("/c", 6)] };
        assert_eq!(fold.whole(&late), ["/c"]);
        assert_eq!(keys(&mut fold), ["/a@7", "/c@6"]);
        assert_eq!(fold.whole(&Snapshot { version: v(3), entries: vec![] }), Vec::<String>::new());
    }

    #[test]
    fn a_read_of_another_history_is_no_progress_of_this_one() {
        let mut fold = Fold::default();
        fold.whole(&Snapshot { version: v(9), entries: vec![entry("/a", 9), entry("/b", 3)] });
        let other = Snapshot { version: v(20), entries: vec![entry("/a", 5)] };
        assert_eq!(fold.whole(&other), ["/b", "/a"]);
        assert_eq!(keys(&mut fold), ["/a@5"]);
    }

    #[test]
    fn remembering_deleted_keys_is_bounded() {
        let mut fold = Fold::default();
        let ops: Vec<_> =
            (0..2 * DELETED_MAX).map(|i| Edit::Delete { key: i.to_string() }).collect();
        fold.own(&ops, v(1), |_| true);
        assert_eq!(fold.deleted.len(), DELETED_MAX);
    }

    #[derive(Clone, Debug)]
    enum Step {
        Write(Vec<(u8, bool)>, bool),
        DeleteAll,
        Read,
        Deliver(usize),
    }

    fn steps() -> impl Strategy<Value = Vec<Step>> {
        let ops = prop::collection::vec((0..4u8, any::<bool>()), 1..3);
        let step = prop_oneof![
            4 => (ops, any::<bool>()).prop_map(|(ops, own)| Step::Write(ops, own)),
            1 => Just(Step::DeleteAll),
            1 => Just(Step::Read),
            3 => (1..4usize).prop_map(Step::Deliver),
        ];
        prop::collection::vec(step, 1..40)
    }

    fn ops_of(writes: &[(u8, bool)]) -> Vec<Edit> {
        let unique: BTreeMap<u8, bool> = writes.iter().copied().collect();
        let op = |(n, put): (u8, bool)| match (format!("/{n}"), put) {
            (key, true) => Edit::Put { key, value: "v".into(), session: None },
            (key, false) => Edit::Delete { key },
        };
        unique.into_iter().map(op).collect()
    }

    proptest! {
        /// Whatever comes early or late: no key ever goes backwards, and when
        /// everything has arrived the copy is the store.
        #[test]
        fn the_copy_becomes_the_store(steps in steps()) {
            let store = MemoryStore::new();
            let all = ["/".to_string()];
            let (mut fold, mut late, mut seen) = (Fold::default(), Vec::new(), 1);
            for step in steps {
                let before: BTreeMap<_, _> = fold.entries.clone();
                match step {
                    Step::Write(writes, own) => {
                        let ops = ops_of(&writes);
                        let txn = Txn { when: vec![], then: ops.clone() };
                        let at = store.txn_now(&txn).unwrap().version;
                        if own { fold.own(&ops, at, |_| true); } else { late.push((ops, at)); }
                    }
                    Step::DeleteAll => {
                        let ops = vec![Edit::DeletePrefix { prefix: "/".into() }];
                        store.txn_now(&Txn { when: vec![], then: ops }).unwrap();
                    }
                    Step::Read => { fold.whole(&store.read_now(&all).unwrap()); }
                    Step::Deliver(count) => {
                        let mut events = store.events_since(v(seen)).unwrap();
                        events.truncate(count);
                        seen += count as i64;
                        fold.events(events);
                    }
                }
                for (key, old) in before {
                    let new = fold.entries.get(&key).map_or(v(i64::MAX), |e| e.version);
                    prop_assert!(new >= old.version);
                }
            }
            fold.events(store.events_since(v(1)).unwrap());
            for (ops, at) in late { fold.own(&ops, at, |_| true); }
            let names = |s: &Snapshot| {
                s.entries.iter().map(|e| (e.key.clone(), e.version)).collect::<Vec<_>>()
            };
            prop_assert_eq!(names(&fold.snapshot()), names(&store.read_now(&all).unwrap()));
        }
    }
}
