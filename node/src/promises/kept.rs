//! What failsafe mode keeps on disk, beside the data.
//!
//! A promise: a daemon that is started again must not race against the leader that it
//! agreed to. It ends with the clock of the machine; after a reboot it is kept once
//! more for as long as it was given for.
//!
//! A proof: a leader's daemon that is started again while its store is away goes on
//! from the agreement of all members, and asks again. It is good until then on the
//! clock of this machine, and not after a reboot.

use super::slots_of;
use crate::clock;
use crate::postgres;
use member::KeptProof;
use member::ha::failsafe::{Asker, Map, Promise};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::io::Write;
use std::path::Path;
use topology::{MemberName, Millis};

const PROMISE: &str = "matriarch.promise.json";
const PROOF: &str = "matriarch.proof.json";

fn boot_id() -> String {
    postgres::boot_id().unwrap_or_default()
}

/// Without a data directory there is nothing here that could lead.
fn write(data_dir: &Path, name: &str, text: &Value) -> std::io::Result<()> {
    if !data_dir.join("PG_VERSION").is_file() {
        return Ok(());
    }
    let fresh = data_dir.join(format!("{name}.tmp"));
    let mut file = std::fs::File::create(&fresh)?;
    file.write_all(text.to_string().as_bytes())?;
    file.sync_all()?;
    std::fs::rename(&fresh, data_dir.join(name))?;
    std::fs::File::open(data_dir)?.sync_all()
}

/// A file of this member. Base backups copy those of others.
fn read(data_dir: &Path, name: &str, me: &MemberName) -> Option<Value> {
    let text = std::fs::read_to_string(data_dir.join(name)).ok()?;
    let value: Value = serde_json::from_str(&text).ok()?;
    (word(&value, "by")? == me.as_str()).then_some(value)
}

fn remove(data_dir: &Path, name: &str) {
    let path = data_dir.join(name);
    if let Err(error) = std::fs::remove_file(&path)
        && error.kind() != std::io::ErrorKind::NotFound
    {
        tracing::warn!("{} could not be removed: {error}", path.display());
    }
}

fn word<'a>(value: &'a Value, key: &str) -> Option<&'a str> {
    value.get(key).and_then(Value::as_str)
}

/// Keeps a promise beyond the end of this process.
pub(crate) fn write_promise(
    data_dir: &Path,
    me: &MemberName,
    promise: &Promise,
) -> std::io::Result<()> {
    let slots: BTreeMap<&str, u64> = promise.slots.iter().map(|(k, v)| (k.as_str(), v.0)).collect();
    let text = json!({
        "by": me.as_str(), "to": promise.to.as_str(), "conn_url": promise.conn_url,
        "api_url": promise.api_url, "slots": slots, "until": promise.until.0,
        "ms": promise.until.since(clock::now()), "boot": boot_id(),
    });
    write(data_dir, PROMISE, &text)
}

/// The promise of an earlier process, if it is this member's and still holds.
pub(crate) fn read_promise(data_dir: &Path, me: &MemberName, ttl_ms: u64) -> Option<Promise> {
    let value = read(data_dir, PROMISE, me)?;
    let text = |key: &str| word(&value, key).map(str::to_string);
    let number = |key: &str| value.get(key).and_then(Value::as_u64);
    let same_boot = text("boot")? == boot_id();
    let until = match same_boot {
        true => Millis(number("until")?),
        false => clock::now() + number("ms").unwrap_or(0).max(ttl_ms),
    };
    let promise = Promise {
        to: text("to")?.as_str().into(),
        conn_url: text("conn_url")?,
        api_url: text("api_url")?,
        slots: slots_of(&value),
        until,
        by: Asker::default(),
    };
    if !same_boot {
        keep_for_this_boot(data_dir, me, &promise);
    }
    Some(promise)
}

/// The daemon may be started again before the promise is over: the next process must
/// find it, and find that its time runs already.
fn keep_for_this_boot(data_dir: &Path, me: &MemberName, promise: &Promise) {
    if let Err(error) = write_promise(data_dir, me, promise) {
        tracing::warn!("the promise to {} was not written again: {error}", promise.to);
    }
}

pub(crate) fn remove_promise(data_dir: &Path) {
    remove(data_dir, PROMISE);
}

pub(crate) fn write_proof(
    data_dir: &Path,
    me: &MemberName,
    proof: &KeptProof,
) -> std::io::Result<()> {
    let map = |map: &Map| -> Value {
        let urls = map.iter().map(|(name, url)| (name.to_string(), Value::from(url.clone())));
        Value::Object(urls.collect())
    };
    let (known, unsure) = (map(&proof.known), map(&proof.unsure));
    let text = json!({
        "by": me.as_str(), "until": proof.until.0, "boot": boot_id(),
        "known": known, "unsure": unsure, "majority": proof.is_majority_told,
    });
    write(data_dir, PROOF, &text)
}

/// The proof of an earlier process of this boot.
pub(crate) fn read_proof(data_dir: &Path, me: &MemberName) -> Option<KeptProof> {
    let value = read(data_dir, PROOF, me)?;
    let until = Millis(value.get("until")?.as_u64()?);
    if word(&value, "boot")? != boot_id() {
        return None;
    }
    let map = |key: &str| -> Option<Map> {
        let map = value.get(key)?.as_object()?.iter();
        map.map(|(name, url)| Some((name.as_str().into(), url.as_str()?.to_string()))).collect()
    };
    let is_majority_told = value.get("majority").and_then(Value::as_bool) == Some(true);
    Some(KeptProof { until, known: map("known")?, unsure: map("unsure")?, is_majority_told })
}

pub(crate) fn remove_proof(data_dir: &Path) {
    remove(data_dir, PROOF);
}

#[cfg(test)]
mod tests {
    use super::*;
    use topology::Lsn;

    #[test]
    fn a_promise_outlives_the_process_and_is_not_another_members() {
        let dir = tempfile::tempdir().unwrap();
        let me = MemberName::new("me");
        let promise = Promise {
            to: "a".into(),
            conn_url: "postgres://h:1/postgres".into(),
            api_url: "http://h:2/patroni".into(),
            slots: BTreeMap::from([("b".to_string(), Lsn(7))]),
            until: clock::now() + 10_000,
            by: Asker::default(),
        };
        // A member with an empty directory cannot lead; the directory must stay empty.
        write_promise(dir.path(), &me, &promise).unwrap();
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
        std::fs::write(dir.path().join("PG_VERSION"), "15").unwrap();
        write_promise(dir.path(), &me, &promise).unwrap();
        assert_eq!(read_promise(dir.path(), &me, 30_000), Some(promise));
        assert_eq!(read_promise(dir.path(), &"a".into(), 30_000), None);
        remove_promise(dir.path());
        assert_eq!(read_promise(dir.path(), &me, 30_000), None);
    }

    #[test]
    fn after_a_reboot_a_promise_is_kept_for_as_long_as_it_was_given_and_not_twice() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("PG_VERSION"), "15").unwrap();
        let text = |ms: &str| {
            format!(
                r#"{{"by":"me","to":"a","conn_url":"c","api_url":"u","until":1,{ms}"boot":"old"}}"#
            )
        };
        for (ms, long) in [("", 30_000), (r#""ms":60000,"#, 60_000)] {
            std::fs::write(dir.path().join(PROMISE), text(ms)).unwrap();
            let before = clock::now();
            let kept = read_promise(dir.path(), &"me".into(), 30_000).unwrap();
            assert!(kept.until >= before + long);
            // The next process of this boot goes on from there, and waits no longer.
            assert_eq!(read_promise(dir.path(), &"me".into(), 30_000), Some(kept));
        }
    }

    #[test]
    fn n10_a_daemon_that_is_started_anew_goes_on_from_what_all_agreed_to() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("PG_VERSION"), "15").unwrap();
        let me = MemberName::new("me");
        let map = |name: &str| Map::from([(name.into(), format!("http://{name}:8008/patroni"))]);
        let until = clock::now() + 10_000;
        let (known, unsure) = (map("me"), map("a"));
        let proof = KeptProof { until, known, unsure, is_majority_told: true };
        write_proof(dir.path(), &me, &proof).unwrap();
        assert_eq!(read_proof(dir.path(), &me), Some(proof));
        assert_eq!(read_proof(dir.path(), &"a".into()), None, "a copy of another's data");
        let path = dir.path().join(PROOF);
        let text = std::fs::read_to_string(&path).unwrap().replace(&boot_id(), "earlier");
        std::fs::write(&path, text).unwrap();
        assert_eq!(read_proof(dir.path(), &me), None, "the clock began anew with the boot");
        remove_proof(dir.path());
        remove_proof(dir.path());
        assert!(!path.exists());
    }
}
