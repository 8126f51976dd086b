//! Stores that hold keys with values: what etcd and the store in memory share.
//!
//! Such a store performs a write as one transaction: comparisons of keys, and
//! edits that happen together if all of them hold. `lower` makes it. This module is
//! private to the store: tests that play another program use `by_hand`.

#[cfg(test)]
pub(crate) mod conform;
mod lower;
mod lower_region;

use super::{Answer, Session, Store, Version, Written};
pub(super) use lower::lower;

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Compare {
    /// The key does not exist.
    Absent(String),
    /// The key exists with this value.
    ValueIs(String, String),
    /// The key was last written at this version.
    VersionIs(String, Version),
    /// The key hangs on this lease.
    SessionIs(String, Session),
}

/// One change of a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Edit {
    Put { key: String, value: String, session: Option<Session> },
    Delete { key: String },
    DeletePrefix { prefix: String },
}

impl Edit {
    pub fn put(key: impl Into<String>, value: impl Into<String>) -> Edit {
        Edit::Put { key: key.into(), value: value.into(), session: None }
    }

    pub fn delete(key: impl Into<String>) -> Edit {
        Edit::Delete { key: key.into() }
    }

    pub fn delete_below(prefix: impl Into<String>) -> Edit {
        Edit::DeletePrefix { prefix: prefix.into() }
    }
}

/// If all comparisons hold, all edits happen, atomically; else none.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Txn {
    pub when: Vec<Compare>,
    pub then: Vec<Edit>,
}

/// A store that performs any transaction, also one that no `Write` stands for.
pub trait KeyValueStore: Store {
    fn txn(&self, txn: Txn) -> Answer<'_, Written>;

    /// Ends the lease; keys that hang on it go with it.
    fn revoke(&self, session: Session) -> Answer<'_, ()>;
}

/// The key as it was read: absent, or at that version.
fn unchanged(key: String, version: Option<Version>) -> Compare {
    match version {
        Some(version) => Compare::VersionIs(key, version),
        None => Compare::Absent(key),
    }
}

fn put(key: String, value: impl Into<String>) -> Edit {
    Edit::Put { key, value: value.into(), session: None }
}

fn put_on(session: Session, key: String, value: impl Into<String>) -> Edit {
    Edit::Put { key, value: value.into(), session: Some(session) }
}

impl Txn {
    /// These operations, if this holds.
    fn of<const W: usize, const T: usize>(when: [Compare; W], then: [Edit; T]) -> Txn {
        Txn { when: when.into(), then: then.into() }
    }

    /// Also writes a value in the place of what was read.
    fn replace(&mut self, key: String, on: Option<Version>, value: String) {
        self.when.push(unchanged(key.clone(), on));
        self.then.push(put(key, value));
    }
}
