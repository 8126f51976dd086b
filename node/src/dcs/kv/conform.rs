//! What a key-value store must do beyond what writes can show (`dcs/conform.rs`):
//! each comparison for itself, and operations that no write combines.

use super::{Compare, Edit, KeyValueStore, Txn};
use crate::dcs::{DcsError, KeyValue, Renewal, Session, Snapshot, Version, Written};
use std::time::Duration;

const TTL: Duration = Duration::from_secs(4);

type Verdict = Result<(), String>;

/// Runs all checks below `prefix` (it ends with `/`). The error says what did not
/// hold.
pub(crate) async fn run(store: &dyn KeyValueStore, prefix: &str) -> Verdict {
    let at = |part: &str| Suite { store, prefix: format!("{prefix}{part}/") };
    at("conditions").conditions().await?;
    at("atomic").atomicity().await?;
    at("delete").delete_prefix().await?;
    at("revoke").revoke().await?;
    at("gone").lease_gone().await
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

    fn put(&self, name: &str, value: &str, session: Option<Session>) -> Edit {
        Edit::Put { key: self.key(name), value: value.to_string(), session }
    }

    async fn txn(&self, when: Vec<Compare>, then: Vec<Edit>) -> Result<Written, String> {
        self.store.txn(Txn { when, then }).await.map_err(told("a transaction"))
    }

    async fn write(&self, then: Vec<Edit>) -> Result<Version, String> {
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
        let idle = self.write(vec![Edit::Delete { key: self.key("none") }]).await?;
        hold(idle == at, "deleting what is not there takes no revision")?;
        let twice = vec![self.put("a", "x", None), self.put("a", "y", None)];
        let refused = self.store.txn(Txn { when: Vec::new(), then: twice }).await;
        hold(matches!(refused, Err(DcsError::Refused(_))), "a key is written once")
    }

    async fn delete_prefix(&self) -> Verdict {
        let names = ["d/1", "d/2", "keep"];
        self.write(names.iter().map(|n| self.put(n, n, None)).collect()).await?;
        self.write(vec![Edit::DeletePrefix { prefix: self.key("d/") }]).await?;
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

    async fn lease_gone(&self) -> Verdict {
        let session = self.grant().await?;
        self.store.revoke(session).await.map_err(told("a revocation"))?;
        let put = vec![self.put("k", "v", Some(session)), self.put("other", "v", None)];
        let refused = self.store.txn(Txn { when: Vec::new(), then: put.clone() }).await;
        hold(matches!(refused, Err(DcsError::LeaseGone)), "a lease that is gone holds no key")?;
        hold(self.read().await?.entries.is_empty(), "a gone lease fails the whole transaction")?;
        let never = vec![Compare::ValueIs(self.key("k"), "v".into())];
        let failed = self.txn(never, put).await?;
        hold(!failed.succeeded, "conditions are looked at before leases")
    }
}

/// The version that comes `count` writes later.
fn step(version: Version, count: i64) -> Version {
    Version::of_store(version.number() + count)
}
