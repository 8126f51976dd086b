//! The store: what a daemon needs of one, and nothing more.
//!
//! Invariant *no blind put*: every write is a `topology::Write`, which carries what
//! it was decided on. Every call has a deadline; a frozen store hangs instead of
//! failing. Calls do not retry inside: the beat decides again.
//!
//! Both implementations (`etcd`, `memory`) are key-value stores: they share the
//! lowering of a write to a transaction (`kv`) and pass one conformance suite
//! (`conform`). `mirror` keeps a local copy that a watch feeds.

pub mod by_hand;
#[cfg(test)]
pub(crate) mod conform;
pub(crate) mod counted;
mod etcd;
#[cfg(test)]
mod group_writes_test;
pub mod keys;
mod kv;
pub mod memory;
pub mod mirror;
mod outlet;
pub mod settings;

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use by_hand::ByHand;
use keys::Keys;
use settings::StoreSettings;
pub use topology::write::Written;
pub use topology::{Session, Version, Write};

/// Most prefixes of one read or watch, and most keys that one write changes: what
/// etcd allows unless told otherwise.
pub const OPS_MAX: usize = 128;

/// One key as it was read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyValue {
    pub key: String,
    pub value: String,
    /// Of the last write.
    pub version: Version,
    pub created: Version,
    /// `None` when the key hangs on no lease.
    pub session: Option<Session>,
}

/// Everything below the prefixes asked for, at one version of the store.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Snapshot {
    pub version: Version,
    pub entries: Vec<KeyValue>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    Put(KeyValue),
    Deleted { key: String, version: Version },
}

/// What a watch brings, in order.
#[derive(Clone, Debug)]
pub enum WatchItem {
    Events(Vec<Event>),
    /// The watch is over (cancelled, compacted, disconnected): read again and
    /// open a new one. Nothing follows.
    Lost(String),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Renewal {
    Alive,
    /// The lease is gone and so are the keys that hung on it.
    Gone,
}

#[derive(Debug, thiserror::Error)]
pub enum DcsError {
    #[error("{}", unreached(*waited, reason))]
    Unreachable { waited: Duration, reason: String },
    #[error("the store refused our credentials; check its user's name and grants: {0}")]
    Denied(String),
    #[error("the lease is gone")]
    LeaseGone,
    #[error("the watch revision was compacted away; read again")]
    Compacted,
    #[error("the store's settings are wrong: {0}")]
    Settings(String),
    /// Asking again brings the same answer: a malformed or too big request, or
    /// a store without space.
    #[error("the store refused the request: {0}")]
    Refused(String),
}

/// What happened: nothing listens there, an answer that says no, or none in time.
fn unreached(waited: Duration, reason: &str) -> String {
    if reason.contains("onnection refused") {
        return format!("the store is not reached, the connection is refused: {reason}");
    }
    if waited < SILENCE {
        return format!("the store is not reached: {reason}");
    }
    format!("the store did not answer within {}: {reason}", topology::time::span(waited))
}

/// A failure that comes sooner is an answer, if not of the store.
const SILENCE: Duration = Duration::from_millis(500);

/// The newest version that anyone has asked for or was told of.
#[derive(Debug, Default)]
pub struct Newest(AtomicI64);

impl Newest {
    pub fn get(&self) -> Version {
        Version::of_store(self.0.load(Ordering::Relaxed))
    }

    pub fn raise(&self, to: Version) {
        self.0.fetch_max(to.number(), Ordering::Relaxed);
    }

    pub fn lower(&self, to: Version) {
        self.0.fetch_min(to.number(), Ordering::Relaxed);
    }
}

pub type Answer<'a, T> = Pin<Box<dyn Future<Output = Result<T, DcsError>> + Send + 'a>>;

pub trait Store: Send + Sync {
    /// Reads everything below all prefixes at one version, linearizably.
    fn read<'a>(&'a self, prefixes: &'a [String]) -> Answer<'a, Snapshot>;

    /// Performs the write for the group that `keys` name, if what it was decided on
    /// holds still.
    fn write<'a>(&'a self, keys: &'a Keys, write: &'a Write) -> Answer<'a, Written>;

    /// Streams every change below the prefixes after `version`.
    fn watch<'a>(
        &'a self,
        prefixes: &'a [String],
        version: Version,
    ) -> Answer<'a, tokio::sync::mpsc::Receiver<WatchItem>>;

    fn grant(&self, ttl: Duration) -> Answer<'_, Session>;

    fn renew(&self, session: Session) -> Answer<'_, Renewal>;

    /// Takes another user and password from now on, if it knows users at all.
    fn set_login(&self, _settings: &StoreSettings) {}

    /// The store as other programs use it, if this handle lets them; for tests.
    fn by_hand(&self) -> Option<&dyn ByHand> {
        None
    }
}

/// The store that these settings name, the only way to one. Nothing connects before
/// the first call; each call answers or fails `within` this time.
pub fn open(settings: &StoreSettings, within: Duration) -> Result<Arc<dyn Store>, DcsError> {
    Ok(Arc::new(etcd::EtcdStore::new(settings, within)?))
}

/// The prefixes in order, without those that lie below another one: a key is
/// read and watched once, however the prefixes overlap.
fn covering(prefixes: &[String]) -> Result<Vec<String>, DcsError> {
    let mut sorted = prefixes.to_vec();
    sorted.sort();
    let mut kept: Vec<String> = Vec::new();
    for prefix in sorted {
        if kept.last().is_none_or(|last| !prefix.starts_with(last.as_str())) {
            kept.push(prefix);
        }
    }
    if kept.is_empty() || kept.len() > OPS_MAX {
        let count = kept.len();
        return Err(DcsError::Refused(format!("1..{OPS_MAX} prefixes are allowed, not {count}")));
    }
    Ok(kept)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn p9_what_happened_is_said_and_times_are_such_that_people_read() {
        let told = |waited, reason: &str| {
            DcsError::Unreachable { waited, reason: reason.to_string() }.to_string()
        };
        let refused = "127.0.0.1:2379: tcp connect error: Connection refused (os error 111)";
        assert_eq!(
            told(Duration::from_nanos(670_434), refused),
            format!("the store is not reached, the connection is refused: {refused}")
        );
        assert_eq!(
            told(Duration::from_millis(3_000), "127.0.0.1:2379 kept silent"),
            "the store did not answer within 3 s: 127.0.0.1:2379 kept silent"
        );
        assert_eq!(
            told(Duration::from_micros(8_123), "etcdserver: no leader"),
            "the store is not reached: etcdserver: no leader"
        );
        let span = |ms| topology::time::span(Duration::from_millis(ms));
        assert_eq!([span(1), span(1_234), span(59_400)], ["less than 0.1 s", "1.2 s", "59 s"]);
    }

    #[test]
    fn overlapping_prefixes_are_taken_once() {
        let of = |words: &[&str]| {
            covering(&words.iter().map(|w| w.to_string()).collect::<Vec<_>>()).ok()
        };
        let is = |words: &[&str]| Some(words.iter().map(|w| w.to_string()).collect::<Vec<_>>());
        assert_eq!(of(&["/s/a/topology/", "/s/a/", "/s/a/"]), is(&["/s/a/"]));
        assert_eq!(of(&["/s/b/", "/s/a/"]), is(&["/s/a/", "/s/b/"]));
        assert_eq!(of(&["/s/ab/", "/s/a/"]), is(&["/s/a/", "/s/ab/"]));
        assert_eq!(of(&[]), None);
    }
}
