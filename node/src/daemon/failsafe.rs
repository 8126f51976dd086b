//! Failsafe mode, both sides: asking everybody, and keeping a promise.
//!
//! The rules of who may promise what are in `ha/failsafe.rs`. A promise also
//! lies in the data directory: a daemon that is started again must not race
//! against the leader that it agreed to. It ends with the clock of the machine;
//! after a reboot it is kept for one more `ttl`.
//!
//! Absent on purpose: agreement of a majority. Whoever was not asked could lead.

use super::Daemon;
use crate::act::txn;
use crate::clock;
use crate::ha::failsafe::{self, Desk, Failsafe, Map, Promise};
use crate::ha::observation::{Job, Lock, Process};
use crate::ha::{Observation, Outcome};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use topology::id::slot_name;
use topology::{GroupView, Lsn, Millis};

/// One member may take this long to answer, tried twice.
const ANSWER: Duration = Duration::from_secs(2);
const FILE: &str = "matriarch.promise.json";

/// Shared with the API, which gives the promises.
pub type SharedDesk = Arc<Mutex<Desk>>;

pub fn lock(desk: &SharedDesk) -> MutexGuard<'_, Desk> {
    // Every change leaves it whole.
    desk.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What a daemon keeps for failsafe mode.
#[derive(Default)]
pub(super) struct Keeper {
    pub desk: SharedDesk,
    pub audience: failsafe::Audience,
    pub proof: Option<Millis>,
    pub asked: Millis,
    /// What standbys said to have, for those who stream from them.
    pub positions: BTreeMap<topology::MemberName, Lsn>,
}

impl Keeper {
    pub fn new(data_dir: &Path, me: &topology::MemberName, ttl_ms: u64) -> Keeper {
        let promise = read_promise(data_dir, me, ttl_ms);
        Keeper { desk: Arc::new(Mutex::new(Desk::with_promise(promise))), ..Keeper::default() }
    }
}

impl Daemon {
    /// What this beat sees of failsafe mode; a group that nobody leads by the
    /// store is led by whom this member was promised to.
    pub(super) fn settle_failsafe(&mut self, seen: &mut Observation) {
        let me = &self.settings.name;
        if let Some(view) = seen.view() {
            self.failsafe.audience.read(view);
        }
        let promise = {
            let mut desk = lock(&self.failsafe.desk);
            desk.is_on = self.dynamic.failsafe_mode;
            desk.promise(seen.now).cloned()
        };
        seen.failsafe = Failsafe {
            proof: self.failsafe.proof,
            asked: self.failsafe.asked,
            is_ready: self.failsafe.audience.names(me),
            promise,
        };
        if let (topology::Seen::Known(view), Some(promise)) =
            (&mut seen.store, &seen.failsafe.promise)
        {
            failsafe::inject(view, promise);
        }
    }

    /// A proof is over when the lock is there again, or nothing writes here.
    pub(super) fn settle_proof(&mut self, seen: &mut Observation) {
        let covered = matches!(
            (&seen.lock, self.failsafe.proof),
            (Lock::Mine { deadline, .. }, Some(proof)) if *deadline >= proof
        );
        if covered || !seen.is_primary() || matches!(seen.lock, Lock::Other(_)) {
            self.failsafe.proof = None;
        }
        seen.failsafe.proof = self.failsafe.proof;
    }

    /// Sets out to lead; not against a promise.
    pub(super) fn set_out(&self) -> bool {
        lock(&self.failsafe.desk).claim(clock::now())
    }

    /// At the end of a beat: does this member lead, or may its server open?
    pub(super) fn settle_desk(&self, seen: &Observation) {
        let leader = match &seen.lock {
            Lock::Other(name) if seen.failsafe.promise.is_none() => Some(name.clone()),
            _ => None,
        };
        lock(&self.failsafe.desk).settle(occupied(seen, self.memory.promoting.is_some()), leader);
    }

    /// Asks everybody at once. All of them must agree.
    pub(super) async fn ask_all(&mut self, seen: &Observation) -> Outcome {
        let sent = clock::now();
        let others = self.failsafe.audience.others(&self.settings.name);
        let limit = self.until_fence(seen);
        let body = self.question();
        let asked = self.peers.agree(&others, &body, self.dynamic.ttl_ms, ANSWER);
        let answers = tokio::time::timeout(limit, asked).await;
        self.failsafe.asked = clock::now();
        let Ok(answers) = answers else {
            tracing::warn!("failsafe: not everybody answered within {limit:?}");
            return Outcome::Lost;
        };
        let silent = others.iter().zip(&answers).find(|(_, answer)| answer.is_err());
        if let Some(((name, _), Err(why))) = silent {
            tracing::warn!("failsafe: {name} does not agree: {why}");
            return Outcome::Lost;
        }
        for ((name, _), answer) in others.into_iter().zip(answers) {
            if let Ok(Some(lsn)) = answer {
                self.failsafe.positions.insert(name, lsn);
            }
        }
        let proof = sent + self.dynamic.ttl_ms;
        self.failsafe.proof = self.failsafe.proof.max(Some(proof));
        self.arm(proof);
        self.watchdog.feed(&self.dynamic);
        Outcome::Done
    }

    /// Until when the mode is active, on either side.
    pub(super) fn failsafe_until(&self, seen: &Observation) -> Option<Millis> {
        seen.failsafe.promise.as_ref().map(|p| p.until).max(self.failsafe.proof)
    }

    fn question(&self) -> Value {
        let settings = &self.settings;
        let mut slots: serde_json::Map<String, Value> = self
            .server
            .slots()
            .iter()
            .filter_map(|slot| Some((slot.name.clone(), slot.restart_lsn?.0.into())))
            .collect();
        if let Some(lsn) = self.server.status().and_then(|s| s.position()) {
            slots.insert(slot_name(settings.name.as_str()), lsn.0.into());
        }
        json!({
            "name": settings.name.as_str(),
            "conn_url": settings.postgresql.conn_url(),
            "api_url": settings.restapi.api_url(),
            "slots": slots,
        })
    }

    /// `/failsafe` names everybody who may take the lock. Once it is there it is
    /// kept true, also when the mode is off: members judge by it.
    pub(super) async fn keep_failsafe(&mut self, view: &GroupView) {
        if !self.dynamic.failsafe_mode && view.failsafe.is_none() {
            return;
        }
        let me = &self.settings.name;
        let map = failsafe::map_of(me, &self.settings.restapi.api_url(), view);
        if view.failsafe.as_ref().is_some_and(|known| known.value == map) {
            return;
        }
        let Some(lease) = self.lease.id else { return };
        let (key, text) = (self.keys.failsafe(), text_of(&map));
        match self.write(txn::as_leader(&self.keys, lease, key, text)).await {
            Ok(result) if result.succeeded => self.failsafe.audience.written(map),
            Ok(_) => {}
            Err(error) => {
                tracing::warn!("/failsafe could not be written: {error}");
                self.failsafe.audience.unanswered(map);
            }
        }
    }
}

fn text_of(map: &Map) -> String {
    let urls = map.iter().map(|(name, url)| (name.to_string(), Value::from(url.clone())));
    Value::Object(urls.collect()).to_string()
}

/// Leads, or has a server that accepts writes or is about to.
fn occupied(seen: &Observation, promoting: bool) -> bool {
    let job = seen.job.as_ref().map(|running| &running.job);
    let opens = matches!(job, Some(Job::StartPrimary | Job::Bootstrap));
    let opening = matches!(seen.postgres.process, Process::Starting { as_primary: true, .. });
    seen.holds_lock() || seen.is_primary() || promoting || opens || opening
}

fn path_of(data_dir: &Path) -> PathBuf {
    data_dir.join(FILE)
}

fn boot_id() -> String {
    let id = std::fs::read_to_string("/proc/sys/kernel/random/boot_id");
    id.map(|id| id.trim().to_string()).unwrap_or_default()
}

/// Keeps a promise beyond the end of this process. Without a data directory
/// there is nothing here that could lead.
pub fn write_promise(
    data_dir: &Path,
    me: &topology::MemberName,
    promise: &Promise,
) -> std::io::Result<()> {
    if !data_dir.join("PG_VERSION").is_file() {
        return Ok(());
    }
    let slots: BTreeMap<&str, u64> = promise.slots.iter().map(|(k, v)| (k.as_str(), v.0)).collect();
    let text = json!({
        "by": me.as_str(), "to": promise.to.as_str(), "conn_url": promise.conn_url,
        "api_url": promise.api_url, "slots": slots, "until": promise.until.0, "boot": boot_id(),
    });
    let (path, fresh) = (path_of(data_dir), data_dir.join(format!("{FILE}.tmp")));
    let mut file = std::fs::File::create(&fresh)?;
    file.write_all(text.to_string().as_bytes())?;
    file.sync_all()?;
    std::fs::rename(&fresh, &path)?;
    std::fs::File::open(data_dir)?.sync_all()
}

/// The promise of an earlier process, if it is this member's and still holds.
fn read_promise(data_dir: &Path, me: &topology::MemberName, ttl_ms: u64) -> Option<Promise> {
    let text = std::fs::read_to_string(path_of(data_dir)).ok()?;
    let value: Value = serde_json::from_str(&text).ok()?;
    let word = |key: &str| value.get(key).and_then(Value::as_str).map(str::to_string);
    if word("by")? != me.as_str() {
        return None;
    }
    let same_boot = word("boot")? == boot_id();
    let until = match same_boot {
        true => Millis(value.get("until")?.as_u64()?),
        false => clock::now() + ttl_ms,
    };
    // A file of an earlier boot has done its duty with this start.
    let _ = (!same_boot).then(|| std::fs::remove_file(path_of(data_dir)));
    Some(Promise {
        to: word("to")?.as_str().into(),
        conn_url: word("conn_url")?,
        api_url: word("api_url")?,
        slots: slots_of(&value),
        until,
    })
}

/// `slots` of a question or of a kept promise.
pub fn slots_of(value: &Value) -> BTreeMap<String, Lsn> {
    let slots = value.get("slots").and_then(Value::as_object).into_iter().flatten();
    slots.filter_map(|(name, lsn)| Some((name.clone(), Lsn(lsn.as_u64()?)))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_promise_outlives_the_process_and_is_not_another_members() {
        let dir = tempfile::tempdir().unwrap();
        let me = topology::MemberName::new("me");
        let promise = Promise {
            to: "a".into(),
            conn_url: "postgres://h:1/postgres".into(),
            api_url: "http://h:2/patroni".into(),
            slots: BTreeMap::from([("b".to_string(), Lsn(7))]),
            until: clock::now() + 10_000,
        };
        // An empty directory can lead nobody, and must stay empty.
        write_promise(dir.path(), &me, &promise).unwrap();
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
        std::fs::write(dir.path().join("PG_VERSION"), "15").unwrap();
        write_promise(dir.path(), &me, &promise).unwrap();
        assert_eq!(read_promise(dir.path(), &me, 30_000), Some(promise));
        assert_eq!(read_promise(dir.path(), &"a".into(), 30_000), None);
    }

    #[test]
    fn after_a_reboot_a_promise_is_kept_for_one_ttl_and_not_twice() {
        let dir = tempfile::tempdir().unwrap();
        let text = r#"{"by":"me","to":"a","conn_url":"c","api_url":"u","until":1,"boot":"old"}"#;
        std::fs::write(path_of(dir.path()), text).unwrap();
        let before = clock::now();
        let kept = read_promise(dir.path(), &"me".into(), 30_000).unwrap();
        assert!(kept.until >= before + 30_000);
        assert_eq!(read_promise(dir.path(), &"me".into(), 30_000), None);
    }
}
