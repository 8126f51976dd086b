//! What every store must do, as checks that run against any of them.
//!
//! The daemons and the proofs rest on these properties; a store that fails one
//! of them must not be used for a cluster. No other client may write to the
//! store below the prefix while the checks run.
//!
//! The checks speak in writes, as the machines do. What a key-value store must do
//! beyond that is in `kv/conform.rs`.

mod writes;

use super::keys::Keys;
use super::{DcsError, Event, KeyValue, Renewal, Session, Snapshot, Store, Version};
use super::{WatchItem, Write, Written};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc::Receiver;
use topology::write::Replacement;
use topology::{Group, MemberName, Status};
use writes::{acquire, as_leader, config, made, record, release, remove, request};

/// The lease of the checks: long enough for a slow machine to renew in time.
const TTL: Duration = Duration::from_secs(4);
/// A store may notice the end of a lease late, by at most this many steps.
const EXPIRY_STEPS_MAX: u32 = 40;
const EXPIRY_STEP: Duration = Duration::from_millis(250);
/// How long a change may take to reach a watch.
const WATCH_WAIT: Duration = Duration::from_secs(5);

type Verdict = Result<(), String>;

/// Runs all checks below `prefix` (it ends with `/`). `elapse` lets time pass
/// as the store's leases see it. The error says what did not hold.
pub(crate) async fn run(
    store: Arc<dyn Store>,
    prefix: &str,
    elapse: impl AsyncFn(Duration),
) -> Verdict {
    let store = store.as_ref();
    let at = |part: &str| Suite { store, keys: Keys::new(prefix, part, Group::PLAIN) };
    at("lock").lock().await?;
    at("versions").versions().await?;
    at("leader").leader_writes().await?;
    at("atomic").atomicity().await?;
    at("read").one_version().await?;
    at("remove").removal().await?;
    at("lease").lease_life(&elapse).await?;
    at("gone").lease_gone(&elapse).await?;
    at("watch").watch_order().await?;
    at("prefixes").watch_prefixes().await?;
    at("expiry").watch_expiry(&elapse).await
}

struct Suite<'a> {
    store: &'a dyn Store,
    keys: Keys,
}

fn hold(condition: bool, what: &str) -> Verdict {
    condition.then_some(()).ok_or_else(|| what.to_string())
}

fn told(what: &str) -> impl Fn(DcsError) -> String {
    move |error| format!("{what}: {error}")
}

impl Suite<'_> {
    async fn write(&self, write: &Write) -> Result<Written, String> {
        self.store.write(&self.keys, write).await.map_err(told("a write"))
    }

    async fn passes(&self, write: Write) -> Result<bool, String> {
        Ok(self.write(&write).await?.succeeded)
    }

    /// A write that must happen; gives its version.
    async fn done(&self, write: Write) -> Result<Version, String> {
        let written = self.write(&write).await?;
        hold(written.succeeded, &format!("{write:?} happens"))?;
        Ok(written.version)
    }

    async fn done_in(&self, group: u32, write: Write) -> Result<Version, String> {
        let keys = self.keys.for_group(Group(Some(group)));
        Suite { store: self.store, keys }.done(write).await
    }

    async fn read(&self) -> Result<Snapshot, String> {
        let prefixes = [self.keys.scope_prefix()];
        self.store.read(&prefixes).await.map_err(told("a read"))
    }

    async fn names(&self) -> Result<Vec<String>, String> {
        let read = self.read().await?;
        Ok(read.entries.iter().map(|entry| self.short(&entry.key)).collect())
    }

    async fn lock_key(&self) -> Result<Option<KeyValue>, String> {
        let key = self.keys.leader();
        Ok(self.read().await?.entries.into_iter().find(|entry| entry.key == key))
    }

    async fn grant(&self) -> Result<Session, String> {
        self.store.grant(TTL).await.map_err(told("a grant"))
    }

    async fn renew(&self, session: Session) -> Result<Renewal, String> {
        self.store.renew(session).await.map_err(told("a renewal"))
    }

    async fn watch(
        &self,
        prefixes: &[String],
        after: Version,
    ) -> Result<Receiver<WatchItem>, String> {
        self.store.watch(prefixes, after).await.map_err(told("a watch"))
    }

    fn below(&self, name: &str) -> String {
        self.keys.scope_prefix() + name
    }

    fn short(&self, key: &str) -> String {
        key.strip_prefix(&self.keys.scope_prefix()).unwrap_or(key).to_string()
    }

    /// Events in short: `+key=value` and `-key`.
    fn steps(&self, events: &[Event]) -> Vec<String> {
        let step = |event: &Event| match event {
            Event::Put(entry) => format!("+{}={}", self.short(&entry.key), entry.value),
            Event::Deleted { key, .. } => format!("-{}", self.short(key)),
        };
        events.iter().map(step).collect()
    }

    async fn lock(&self) -> Verdict {
        let (session, second) = (self.grant().await?, self.grant().await?);
        let adopt = |me: &str, session| Write::AdoptLock { me: MemberName::new(me), session };
        hold(!self.passes(adopt("", session)).await?, "an absent key has no value")?;
        let first = self.done(acquire("a", session)).await?;
        hold(!self.passes(acquire("b", second)).await?, "a present key is not absent")?;
        let lock = self.lock_key().await?.ok_or("a created key is there")?;
        hold(lock.value == "a", "a write whose condition fails writes nothing")?;
        hold(lock.version == first, "the answer is the version of the key")?;
        hold(lock.created == first, "a new key is created at its version")?;
        hold(lock.session == Some(session), "a key tells its lease")?;
        for (me, session, expected) in
            [("a", session, true), ("b", session, false), ("a", second, false)]
        {
            let what = format!("the proof of {me} on {session:?} is {expected}");
            let proof = Write::ProveLock { me: MemberName::new(me), session };
            hold(self.passes(proof).await? == expected, &what)?;
        }
        hold(!self.passes(adopt("b", second)).await?, "another value is another value")?;
        hold(self.passes(adopt("a", second)).await?, "a value is compared")?;
        let lock = self.lock_key().await?.ok_or("the key is there")?;
        hold(lock.session == Some(second), "a key moves to another lease")?;
        hold(lock.version > first && lock.created == first, "a key keeps its creation")
    }

    async fn versions(&self) -> Verdict {
        let stray = config("x", Some(Version::default()));
        hold(!self.passes(stray).await?, "an absent key has no version")?;
        let first = self.done(config("1", None)).await?;
        hold(!self.passes(config("2", None)).await?, "a present key is not absent")?;
        let second = self.done(config("2", Some(first))).await?;
        hold(!self.passes(config("3", Some(first))).await?, "an old version is refused")?;
        let other = self.passes(request(Some(second))).await?;
        hold(!other, "a version is one of a key, not of the store")?;
        hold(self.passes(config("3", Some(second))).await?, "the version is compared")
    }

    async fn leader_writes(&self) -> Verdict {
        let (session, other, none) = (self.grant().await?, self.grant().await?, Session::default());
        hold(!self.passes(as_leader(none)).await?, "an absent key hangs on no lease")?;
        self.done(acquire("a", session)).await?;
        for (session, expected) in [(session, true), (other, false), (none, false)] {
            let what = format!("the lock hangs on {session:?} is {expected}");
            hold(self.passes(as_leader(session)).await? == expected, &what)?;
        }
        Ok(())
    }

    async fn atomicity(&self) -> Verdict {
        let before = self.done(config("{}", None)).await?;
        let session = self.grant().await?;
        // The lock is free, but there is a configuration already.
        let second = Replacement { value: "x".to_string(), on: None };
        let failed = self.write(&made(session, Some(second))).await?;
        hold(!failed.succeeded, "one failing condition is enough to fail")?;
        hold(failed.version == before, "a failed write takes no version")?;
        hold(self.names().await? == ["config"], "a failed write writes nothing")?;
        let at = self.done(made(session, None)).await?;
        hold(at == next(before), "a write takes one version")?;
        let read = self.read().await?;
        let written = read.entries.iter().filter(|entry| entry.version == at).count();
        hold(written == 2, "all of a write happens at one version")?;
        hold(read.version == at, "a read tells the store's version")?;
        let gone = self.done(remove(Some("a"))).await?;
        hold(self.names().await?.is_empty(), "what was written is removed")?;
        let idle = self.done(Write::RemoveOthers(vec!["none".to_string()])).await?;
        hold(idle == gone, "deleting what is not there takes no version")
    }

    /// Group 12 lies beside group 1, not below it.
    async fn one_version(&self) -> Verdict {
        self.done_in(2, config("2", None)).await?;
        self.done_in(1, request(None)).await?;
        self.done_in(12, config("12", None)).await?;
        let at = self.done_in(1, config("1", None)).await?;
        let prefixes = ["2/", "1/", "1/f"].map(|name| self.below(name));
        let read = self.store.read(&prefixes).await.map_err(told("a read"))?;
        hold(read.version == at, "a read tells the store's version")?;
        let keys: Vec<_> = read.entries.iter().map(|e| self.short(&e.key)).collect();
        let expected = ["1/config", "1/failover", "2/config"];
        hold(keys == expected, "prefixes are read once, in order, and nothing else")
    }

    async fn removal(&self) -> Verdict {
        let session = self.grant().await?;
        self.done(acquire("a", session)).await?;
        for name in ["a", "b"] {
            self.done(record(name, session)).await?;
        }
        self.done_in(1, config("1", None)).await?;
        hold(!self.passes(remove(None)).await?, "a cluster that is led is not removed")?;
        hold(!self.passes(remove(Some("b"))).await?, "nor one that another member leads")?;
        self.done(remove(Some("a"))).await?;
        hold(self.names().await? == ["1/config"], "a cluster is deleted, and nothing else")
    }

    async fn lease_life(&self, elapse: &impl AsyncFn(Duration)) -> Verdict {
        let session = self.grant().await?;
        self.done(config("{}", None)).await?;
        self.done(acquire("a", session)).await?;
        self.done(record("a", session)).await?;
        for _ in 0..3 {
            elapse(TTL / 2).await;
            hold(self.renew(session).await? == Renewal::Alive, "a lease is renewed in time")?;
        }
        let held = ["config", "leader", "members/a", "topology/timeline/default"];
        hold(self.names().await? == held, "a renewed lease keeps its keys")?;
        let free = ["config", "topology/timeline/default"];
        self.expire(&free, elapse).await?;
        hold(self.names().await? == free, "a lease ends with its keys, and only those")?;
        hold(self.renew(session).await? == Renewal::Gone, "a lease that ended is gone")
    }

    /// Waits for the end of a lease, after which only these keys are left.
    async fn expire(&self, left: &[&str], elapse: &impl AsyncFn(Duration)) -> Verdict {
        elapse(TTL).await;
        for _ in 0..EXPIRY_STEPS_MAX {
            if self.names().await? == left {
                break;
            }
            elapse(EXPIRY_STEP).await;
        }
        Ok(())
    }

    async fn lease_gone(&self, elapse: &impl AsyncFn(Duration)) -> Verdict {
        let session = self.grant().await?;
        self.done(record("a", session)).await?;
        self.expire(&[], elapse).await?;
        let refused = self.store.write(&self.keys, &made(session, None)).await;
        hold(matches!(refused, Err(DcsError::LeaseGone)), "a lease that is gone holds no key")?;
        hold(self.names().await?.is_empty(), "a gone lease fails the whole write")?;
        let adopt = Write::AdoptLock { me: MemberName::new("a"), session };
        hold(!self.passes(adopt).await?, "conditions are looked at before leases")
    }

    async fn watch_order(&self) -> Verdict {
        let session = self.grant().await?;
        let start = self.done(config("0", None)).await?;
        let second = self.done(config("1", Some(start))).await?;
        self.done(made(session, None)).await?;
        let mut watch = self.watch(&[self.keys.scope_prefix()], start).await?;
        let old = collect(&mut watch, 3).await?;
        hold(self.steps(&old[..1]) == ["+config=1"], "a watch starts after its version")?;
        let mut of_one = self.steps(&old[1..]);
        of_one.sort();
        hold(of_one == ["+initialize=7", "+leader=a"], "a watch shows all of a write")?;
        let status = Status::read("5");
        let at = self.done(release("a", status.clone())).await?;
        self.done(config("2", Some(second))).await?;
        let new = collect(&mut watch, 3).await?;
        let mut first = self.steps(&new[..2]);
        first.sort();
        let status = format!("+status={}", status.write());
        hold(first == [status.as_str(), "-leader"], "a watch shows what is deleted, too")?;
        hold(self.steps(&new[2..]) == ["+config=2"], "a watch keeps the order")?;
        let versions: Vec<_> = new.iter().map(version_of).collect();
        hold(versions == [at, at, next(at)], "an event tells its version")
    }

    async fn watch_prefixes(&self) -> Verdict {
        let start = self.read().await?.version;
        let prefixes = ["1/", "2/", "1/f"].map(|name| self.below(name));
        let mut watch = self.watch(&prefixes, start).await?;
        self.done_in(1, config("1", None)).await?;
        self.done_in(12, config("12", None)).await?;
        self.done_in(2, config("2", None)).await?;
        self.done_in(1, request(None)).await?;
        let mut seen = self.steps(&collect(&mut watch, 3).await?);
        seen.sort();
        let expected = ["+1/config=1", "+1/failover={}", "+2/config=2"];
        hold(seen == expected, "a watch shows its prefixes, once")?;
        hold(watch.try_recv().is_err(), "a watch shows nothing else")
    }

    async fn watch_expiry(&self, elapse: &impl AsyncFn(Duration)) -> Verdict {
        let session = self.grant().await?;
        let at = self.done(acquire("a", session)).await?;
        let mut watch = self.watch(&[self.keys.scope_prefix()], at).await?;
        elapse(TTL).await;
        let seen = collect(&mut watch, 1).await?;
        hold(self.steps(&seen) == ["-leader"], "a watch shows the end of a lease")
    }
}

/// The next `count` events at least; more when a batch brings more.
async fn collect(watch: &mut Receiver<WatchItem>, count: usize) -> Result<Vec<Event>, String> {
    let mut events = Vec::new();
    while events.len() < count {
        match tokio::time::timeout(WATCH_WAIT, watch.recv()).await {
            Ok(Some(WatchItem::Events(batch))) => events.extend(batch),
            Ok(Some(WatchItem::Lost(why))) => return Err(format!("the watch was lost: {why}")),
            Ok(None) => return Err("the watch ended without a word".to_string()),
            Err(_) => return Err(format!("a change did not come, after {events:?}")),
        }
    }
    Ok(events)
}

/// The version of the write after this one.
fn next(version: Version) -> Version {
    Version::of_store(version.number() + 1)
}

fn version_of(event: &Event) -> Version {
    match event {
        Event::Put(entry) => entry.version,
        Event::Deleted { version, .. } => *version,
    }
}
