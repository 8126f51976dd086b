//! What every store must do, as checks that run against any of them.
//!
//! The daemons and the proofs rest on these properties; a store that fails one
//! of them must not be used for a cluster. No other client may write to the
//! store below the prefix while the checks run.

use super::kv::{Compare, KeyValueStore, Op, Txn};
use super::{DcsError, Event, KeyValue, Renewal, Session, Snapshot, Version, WatchItem, Written};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc::Receiver;

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
pub async fn run(
    store: Arc<dyn KeyValueStore>,
    prefix: &str,
    elapse: impl AsyncFn(Duration),
) -> Verdict {
    let at = |part: &str| Suite { store: store.as_ref(), prefix: format!("{prefix}{part}/") };
    at("conditions").conditions().await?;
    at("atomic").atomicity().await?;
    at("read").one_revision().await?;
    at("delete").delete_prefix().await?;
    at("revoke").revoke().await?;
    at("lease").lease_life(&elapse).await?;
    at("gone").lease_gone(&elapse).await?;
    at("watch").watch_order().await?;
    at("prefixes").watch_prefixes().await?;
    at("expiry").watch_expiry(&elapse).await
}

struct Suite<'a> {
    store: &'a dyn KeyValueStore,
    prefix: String,
}

fn hold(condition: bool, what: &str) -> Verdict {
    condition.then_some(()).ok_or_else(|| what.to_string())
}

fn told(what: &str) -> impl Fn(DcsError) -> String {
    move |error| format!("{what}: {error}")
}

impl Suite<'_> {
    fn key(&self, name: &str) -> String {
        format!("{}{name}", self.prefix)
    }

    fn put(&self, name: &str, value: &str, session: Option<Session>) -> Op {
        Op::Put { key: self.key(name), value: value.to_string(), session: session }
    }

    async fn txn(&self, when: Vec<Compare>, then: Vec<Op>) -> Result<Written, String> {
        self.store.txn(Txn { when, then }).await.map_err(told("a transaction"))
    }

    async fn write(&self, then: Vec<Op>) -> Result<Version, String> {
        let result = self.txn(Vec::new(), then).await?;
        hold(result.succeeded, "a transaction without conditions succeeds")?;
        Ok(result.version)
    }

    async fn read(&self) -> Result<Snapshot, String> {
        let prefixes = [self.prefix.clone()];
        self.store.read(&prefixes).await.map_err(told("a read"))
    }

    async fn get(&self, name: &str) -> Result<Option<KeyValue>, String> {
        let key = self.key(name);
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

    /// Does a transaction under this condition succeed?
    async fn passes(&self, condition: Compare) -> Result<bool, String> {
        Ok(self.txn(vec![condition], vec![self.put("probe", "x", None)]).await?.succeeded)
    }

    async fn conditions(&self) -> Verdict {
        let (here, none) = (self.key("here"), self.key("none"));
        let session = self.grant().await?;
        let create = vec![Compare::Absent(here.clone())];
        let first = self.txn(create.clone(), vec![self.put("here", "1", Some(session))]).await?;
        hold(first.succeeded, "an absent key can be created")?;
        let second = self.txn(create, vec![self.put("here", "2", None)]).await?;
        hold(!second.succeeded, "a present key is not absent")?;
        let entry = self.get("here").await?.ok_or("a created key is there")?;
        hold(entry.value == "1", "a transaction whose condition fails writes nothing")?;
        hold(entry.version == first.version, "the answer is the version of the key")?;
        hold(entry.created == first.version, "a new key is created at its version")?;
        let cases = [
            (Compare::ValueIs(here.clone(), "1".into()), true),
            (Compare::ValueIs(here.clone(), "2".into()), false),
            (Compare::ValueIs(none.clone(), String::new()), false),
            (Compare::VersionIs(here.clone(), first.version), true),
            (Compare::VersionIs(here.clone(), step(first.version, -1)), false),
            (Compare::VersionIs(none.clone(), Version::default()), false),
            (Compare::SessionIs(here.clone(), session), true),
            (Compare::SessionIs(here, Session::default()), false),
            (Compare::SessionIs(none.clone(), Session::default()), false),
            (Compare::Absent(none), true),
        ];
        for (condition, expected) in cases {
            let what = format!("{condition:?} is {expected}");
            hold(self.passes(condition).await? == expected, &what)?;
        }
        Ok(())
    }

    async fn atomicity(&self) -> Verdict {
        let before = self.write(vec![self.put("a", "1", None)]).await?;
        let mixed = vec![
            Compare::ValueIs(self.key("a"), "1".into()),
            Compare::ValueIs(self.key("a"), "2".into()),
        ];
        let both = vec![self.put("b", "1", None), self.put("c", "1", None)];
        let failed = self.txn(mixed, both.clone()).await?;
        hold(!failed.succeeded, "one failing condition is enough to fail")?;
        hold(failed.version == before, "a failed transaction takes no revision")?;
        hold(self.read().await?.entries.len() == 1, "a failed transaction writes nothing")?;
        let at = self.write(both).await?;
        hold(at == step(before, 1), "a transaction takes one revision")?;
        let read = self.read().await?;
        let written = read.entries.iter().filter(|e| e.version == at).count();
        hold(written == 2, "all operations happen at one revision")?;
        let idle = self.write(vec![Op::Delete { key: self.key("none") }]).await?;
        hold(idle == at, "deleting what is not there takes no revision")?;
        let twice = vec![self.put("a", "x", None), self.put("a", "y", None)];
        let refused = self.store.txn(Txn { when: Vec::new(), then: twice }).await;
        hold(matches!(refused, Err(DcsError::Refused(_))), "a key is written once")
    }

    async fn one_revision(&self) -> Verdict {
        let (left, right) = (self.key("a/"), self.key("b/"));
        let names = ["b/2", "a/1", "a/0", "ab"];
        let at = self.write(names.iter().map(|n| self.put(n, n, None)).collect()).await?;
        let prefixes = [right, left.clone(), left.clone() + "1"];
        let read = self.store.read(&prefixes).await.map_err(told("a read"))?;
        hold(read.version == at, "a read tells the store's revision")?;
        let keys: Vec<_> = read.entries.iter().map(|e| e.key.clone()).collect();
        let expected = [self.key("a/0"), self.key("a/1"), self.key("b/2")];
        hold(keys == expected, "prefixes are read once, in order, and nothing else")
    }

    async fn delete_prefix(&self) -> Verdict {
        let names = ["d/1", "d/2", "keep"];
        self.write(names.iter().map(|n| self.put(n, n, None)).collect()).await?;
        self.write(vec![Op::DeletePrefix { prefix: self.key("d/") }]).await?;
        let left: Vec<_> = self.read().await?.entries.into_iter().map(|e| e.key).collect();
        hold(left == [self.key("keep")], "a prefix is deleted, and nothing else")
    }

    async fn revoke(&self) -> Verdict {
        let session = self.grant().await?;
        let ops = vec![
            self.put("held", "1", Some(session)),
            self.put("let go", "1", Some(session)),
            self.put("free", "1", None),
        ];
        self.write(ops).await?;
        let held = self.get("held").await?.ok_or("a key on a lease is there")?;
        hold(held.session == Some(session), "a key tells its lease")?;
        self.write(vec![self.put("let go", "2", None)]).await?;
        for what in ["a revocation", "a second revocation"] {
            self.store.revoke(session).await.map_err(told(what))?;
        }
        let left: Vec<_> = self.read().await?.entries.into_iter().map(|e| e.key).collect();
        let expected = [self.key("free"), self.key("let go")];
        hold(left == expected, "a revoked lease takes its keys, and only those")?;
        hold(self.renew(session).await? == Renewal::Gone, "a revoked lease is gone")
    }

    async fn lease_life(&self, elapse: &impl AsyncFn(Duration)) -> Verdict {
        let session = self.grant().await?;
        self.write(vec![self.put("leader", "a", Some(session))]).await?;
        for _ in 0..3 {
            elapse(TTL / 2).await;
            hold(self.renew(session).await? == Renewal::Alive, "a lease is renewed in time")?;
        }
        hold(self.get("leader").await?.is_some(), "a renewed lease keeps its keys")?;
        elapse(TTL).await;
        for _ in 0..EXPIRY_STEPS_MAX {
            if self.get("leader").await?.is_none() {
                break;
            }
            elapse(EXPIRY_STEP).await;
        }
        hold(self.get("leader").await?.is_none(), "a lease ends with its keys")?;
        hold(self.renew(session).await? == Renewal::Gone, "a lease that ended is gone")
    }

    async fn lease_gone(&self, elapse: &impl AsyncFn(Duration)) -> Verdict {
        let session = self.grant().await?;
        self.store.revoke(session).await.map_err(told("a revocation"))?;
        elapse(Duration::from_millis(1)).await;
        let put = vec![self.put("k", "v", Some(session)), self.put("other", "v", None)];
        let refused = self.store.txn(Txn { when: Vec::new(), then: put.clone() }).await;
        hold(matches!(refused, Err(DcsError::LeaseGone)), "a lease that is gone holds no key")?;
        hold(self.read().await?.entries.is_empty(), "a gone lease fails the whole transaction")?;
        let never = vec![Compare::ValueIs(self.key("k"), "v".into())];
        let failed = self.txn(never, put).await?;
        hold(!failed.succeeded, "conditions are looked at before leases")
    }

    async fn watch_order(&self) -> Verdict {
        let start = self.write(vec![self.put("a", "0", None)]).await?;
        self.write(vec![self.put("a", "1", None)]).await?;
        self.write(vec![self.put("b", "1", None)]).await?;
        let mut watch = self.watch(std::slice::from_ref(&self.prefix), start).await?;
        let old = collect(&mut watch, 2).await?;
        hold(steps(&old, &self.prefix) == ["+a=1", "+b=1"], "a watch starts after its revision")?;
        let ops = vec![Op::Delete { key: self.key("a") }, self.put("b", "2", None)];
        let at = self.write(ops).await?;
        self.write(vec![self.put("a", "3", None)]).await?;
        let new = collect(&mut watch, 3).await?;
        let mut first = steps(&new[..2], &self.prefix);
        first.sort();
        hold(first == ["+b=2", "-a"], "a watch shows all of a transaction")?;
        hold(steps(&new[2..], &self.prefix) == ["+a=3"], "a watch keeps the order")?;
        let versions: Vec<_> = new.iter().map(version_of).collect();
        hold(versions == [at, at, step(at, 1)], "an event tells its revision")
    }

    async fn watch_prefixes(&self) -> Verdict {
        let start = self.read().await?.version;
        let prefixes = [self.key("l/"), self.key("r/"), self.key("l/x/")];
        let mut watch = self.watch(&prefixes, start).await?;
        for name in ["l/1", "elsewhere", "r/1", "l/x/1"] {
            self.write(vec![self.put(name, "1", None)]).await?;
        }
        let mut seen = steps(&collect(&mut watch, 3).await?, &self.prefix);
        seen.sort();
        hold(seen == ["+l/1=1", "+l/x/1=1", "+r/1=1"], "a watch shows its prefixes, once")?;
        hold(watch.try_recv().is_err(), "a watch shows nothing else")
    }

    async fn watch_expiry(&self, elapse: &impl AsyncFn(Duration)) -> Verdict {
        let session = self.grant().await?;
        let at = self.write(vec![self.put("leader", "a", Some(session))]).await?;
        let mut watch = self.watch(std::slice::from_ref(&self.prefix), at).await?;
        elapse(TTL).await;
        let seen = collect(&mut watch, 1).await?;
        hold(steps(&seen, &self.prefix) == ["-leader"], "a watch shows the end of a lease")
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

/// Events in short: `+key=value` and `-key`.
fn steps(events: &[Event], prefix: &str) -> Vec<String> {
    let short = |key: &str| key.strip_prefix(prefix).unwrap_or(key).to_string();
    let step = |event: &Event| match event {
        Event::Put(entry) => format!("+{}={}", short(&entry.key), entry.value),
        Event::Deleted { key, .. } => format!("-{}", short(key)),
    };
    events.iter().map(step).collect()
}

/// The version that comes `count` writes later.
fn step(version: Version, count: i64) -> Version {
    Version::of_store(version.number() + count)
}

fn version_of(event: &Event) -> Version {
    match event {
        Event::Put(entry) => entry.version,
        Event::Deleted { version, .. } => *version,
    }
}
