//! The mirror over the store in memory, with faults.

use super::*;
use crate::dcs::kv::KeyValueStore;
use crate::dcs::kv::{Compare, Edit};
use crate::dcs::memory::MemoryStore;
use crate::dcs::{Answer, Renewal, Session, Version};
use topology::{Group, Lsn, Status};

const WAIT: Duration = Duration::from_secs(5);

fn put(key: &str, value: &str) -> Txn {
    let put = Edit::Put { key: key.to_string(), value: value.to_string(), session: None };
    Txn { when: Vec::new(), then: vec![put] }
}

fn mirror(store: &MemoryStore) -> Mirror {
    Mirror::spawn(Arc::new(store.clone()), vec!["/s/".to_string()])
}

fn value(mirror: &Mirror, key: &str) -> Option<String> {
    let snapshot = mirror.snapshot()?.snapshot;
    snapshot.entries.iter().find(|e| e.key == key).map(|e| e.value.clone())
}

async fn until(what: &str, condition: impl Fn() -> bool) {
    let end = Instant::now() + WAIT;
    while !condition() {
        assert!(Instant::now() < end, "{what}: did not happen in {WAIT:?}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

fn keys(keys: &[&str], own: bool) -> Option<Change> {
    let keys: Vec<_> = keys.iter().map(|k| k.to_string()).collect();
    Some(Change::Keys { keys: keys.into(), own })
}

#[tokio::test]
async fn follows_the_store_and_tells_what_changed() {
    let store = MemoryStore::new();
    store.txn_now(&put("/s/leader", "a")).expect("reachable");
    let mirror = mirror(&store.client());
    assert!(mirror.snapshot().is_none());
    let mut changes = mirror.subscribe();
    assert_eq!(mirror.ready(WAIT).await.expect("read").snapshot.entries.len(), 1);
    assert_eq!(changes.next().await, keys(&["/s/leader"], false));
    until("watching", || mirror.snapshot().is_some_and(|v| !v.lost)).await;
    store.txn_now(&put("/elsewhere", "x")).expect("reachable");
    store.txn_now(&put("/s/leader", "b")).expect("reachable");
    assert_eq!(changes.next().await, keys(&["/s/leader"], false));
    assert_eq!(value(&mirror, "/s/leader").as_deref(), Some("b"));
    drop(mirror);
    assert_eq!(changes.next().await, None);
}

#[tokio::test]
async fn an_empty_store_is_known_to_be_empty() {
    let mirror = mirror(&MemoryStore::new());
    assert_eq!(mirror.ready(WAIT).await.expect("read").snapshot.entries, []);
}

#[tokio::test]
async fn an_unreachable_store_is_unknown_not_empty() {
    let store = MemoryStore::new();
    store.set_unreachable(true);
    let mirror = mirror(&store);
    assert!(mirror.ready(Duration::from_millis(300)).await.is_none());
    store.set_unreachable(false);
    assert!(mirror.ready(WAIT).await.is_some());
}

#[tokio::test]
async fn a_lost_watch_keeps_the_old_copy_and_recovers() {
    let store = MemoryStore::new();
    let mine = store.client();
    let mirror = mirror(&mine);
    until("watching", || mirror.snapshot().is_some_and(|v| !v.lost)).await;
    store.txn_now(&put("/s/a", "1")).expect("reachable");
    until("followed", || value(&mirror, "/s/a").is_some()).await;
    mine.set_unreachable(true);
    until("lost", || mirror.snapshot().is_some_and(|v| v.lost)).await;
    let gone = Edit::Delete { key: "/s/a".to_string() };
    let put = put("/s/b", "1").then.remove(0);
    let txn = Txn { when: vec![], then: vec![gone, put] };
    store.txn_now(&txn).expect("reachable");
    store.compact(Version::of_store(3));
    assert!(value(&mirror, "/s/a").is_some());
    assert!(mirror.refresh().await.is_err());
    let mut changes = mirror.subscribe();
    mine.set_unreachable(false);
    assert_eq!(changes.next().await, keys(&["/s/a", "/s/b"], false));
    until("watching", || mirror.snapshot().is_some_and(|v| !v.lost)).await;
}

#[tokio::test]
async fn own_writes_show_at_once_and_are_told_once() {
    let store = MemoryStore::new();
    let mirror = mirror(&store);
    until("watching", || mirror.snapshot().is_some_and(|v| !v.lost)).await;
    let mut changes = mirror.subscribe();
    let mut txn = put("/s/a", "1");
    txn.then.extend(put("/not ours", "1").then);
    let result = store.txn_now(&txn).expect("reachable");
    mirror.fold(&txn, result);
    assert_eq!(value(&mirror, "/s/a").as_deref(), Some("1"));
    assert_eq!(changes.next().await, keys(&["/s/a"], true));
    let mut failing = put("/s/a", "2");
    failing.when.push(Compare::Absent("/s/a".to_string()));
    let failed = store.txn_now(&failing).expect("reachable");
    mirror.fold(&failing, failed);
    assert_eq!(value(&mirror, "/s/a").as_deref(), Some("1"));
    store.txn_now(&put("/s/b", "1")).expect("reachable");
    assert_eq!(changes.next().await, keys(&["/s/b"], false));
}

/// A store whose first watch tells nothing, as a connection that is half open.
struct Deaf {
    store: MemoryStore,
    watches: std::sync::atomic::AtomicUsize,
    silent: Mutex<Vec<tokio::sync::mpsc::Sender<WatchItem>>>,
}

impl Store for Deaf {
    fn read<'a>(&'a self, prefixes: &'a [String]) -> Answer<'a, Snapshot> {
        self.store.read(prefixes)
    }

    fn watch<'a>(
        &'a self,
        prefixes: &'a [String],
        after: Version,
    ) -> Answer<'a, tokio::sync::mpsc::Receiver<WatchItem>> {
        if self.watches.fetch_add(1, std::sync::atomic::Ordering::Relaxed) > 0 {
            return self.store.watch(prefixes, after);
        }
        let (keep, silent) = tokio::sync::mpsc::channel(1);
        self.silent.lock().expect("no panic").push(keep);
        Box::pin(async move { Ok(silent) })
    }

    fn write<'a>(&'a self, keys: &'a Keys, write: &'a Write) -> Answer<'a, Written> {
        self.store.write(keys, write)
    }

    fn grant(&self, ttl: Duration) -> Answer<'_, Session> {
        self.store.grant(ttl)
    }

    fn renew(&self, session: Session) -> Answer<'_, Renewal> {
        self.store.renew(session)
    }
}

#[tokio::test]
async fn n17_a_compare_that_fails_reads_the_copy_anew_and_begins_another_watch() {
    let store = MemoryStore::new();
    let deaf = Deaf { store: store.clone(), watches: 0.into(), silent: Mutex::default() };
    let mirror = Mirror::spawn(Arc::new(deaf), vec!["/s/".to_string()]);
    until("watching", || mirror.snapshot().is_some_and(|v| !v.lost)).await;
    store.txn_now(&put("/s/leader", "other")).expect("reachable");
    assert_eq!(value(&mirror, "/s/leader"), None, "the watch is deaf");
    let mut mine = put("/s/leader", "me");
    mine.when.push(Compare::Absent("/s/leader".to_string()));
    let lost = store.txn_now(&mine).expect("reachable");
    assert!(!lost.succeeded);
    mirror.settle(&mine, lost).await;
    assert_eq!(value(&mirror, "/s/leader").as_deref(), Some("other"));
    until("watching again", || {
        store.txn_now(&put("/s/beat", "1")).expect("reachable");
        value(&mirror, "/s/beat").is_some()
    })
    .await;
}

/// A store whose answers come long after what they are about.
struct Late(MemoryStore);

impl Store for Late {
    fn read<'a>(&'a self, prefixes: &'a [String]) -> Answer<'a, Snapshot> {
        self.0.read(prefixes)
    }
    fn write<'a>(&'a self, keys: &'a Keys, write: &'a Write) -> Answer<'a, Written> {
        Box::pin(async move { self.txn(&lower(keys, write)).await })
    }
    fn watch<'a>(
        &'a self,
        prefixes: &'a [String],
        version: Version,
    ) -> Answer<'a, tokio::sync::mpsc::Receiver<WatchItem>> {
        self.0.watch(prefixes, version)
    }
    fn grant(&self, ttl: Duration) -> Answer<'_, Session> {
        self.0.grant(ttl)
    }
    fn renew(&self, session: Session) -> Answer<'_, Renewal> {
        self.0.renew(session)
    }
}

impl Late {
    async fn txn(&self, txn: &Txn) -> Result<Written, DcsError> {
        let result = self.0.txn_now(txn)?;
        tokio::time::sleep(Duration::from_millis(100)).await;
        Ok(result)
    }
}

#[tokio::test]
async fn b6_an_own_write_is_told_as_own_also_when_the_watch_is_faster_than_the_answer() {
    let store = MemoryStore::new();
    let late = Arc::new(Late(store.client()));
    let mirror = Mirror::spawn(late.clone(), vec!["/s/".to_string()]);
    let write = async |txn: Txn| mirror.carry(&txn, late.txn(&txn)).await;
    until("watching", || mirror.snapshot().is_some_and(|v| !v.lost)).await;
    let mut changes = mirror.subscribe();
    assert!(write(put("/s/a", "1")).await.expect("reachable").succeeded);
    assert_eq!(changes.next().await, keys(&["/s/a"], true));
    let gone = Edit::Delete { key: "/s/a".to_string() };
    let delete = Txn { when: Vec::new(), then: vec![gone] };
    assert!(write(delete).await.expect("reachable").succeeded);
    assert_eq!(changes.next().await, keys(&["/s/a"], true));
    // The same key by another program, while an own write is on its way.
    let (mine, other) =
        tokio::join!(write(put("/s/a", "2")), async { store.txn_now(&put("/s/a", "3")) });
    assert!(mine.expect("reachable").succeeded && other.expect("reachable").succeeded);
    assert_eq!(changes.next().await, keys(&["/s/a"], true));
    assert_eq!(changes.next().await, keys(&["/s/a"], false));
    // What is no longer on its way explains nothing.
    store.txn_now(&put("/s/a", "1")).expect("reachable");
    assert_eq!(changes.next().await, keys(&["/s/a"], false));
}

#[tokio::test]
async fn b6_what_the_copy_shows_already_is_no_news() {
    let store = MemoryStore::new();
    let mirror = mirror(&store);
    let lease = store.grant_now(Duration::from_secs(30)).expect("reachable");
    let on = |lease, value: &str| {
        let op = Edit::Put { key: "/s/a".to_string(), value: value.to_string(), session: lease };
        Txn { when: vec![Compare::Absent("/s/x".to_string())], then: vec![op] }
    };
    let write = async |txn: Txn| mirror.carry(&txn, store.txn(txn.clone())).await;
    assert!(!mirror.shows(&on(None, "1")), "nothing was read yet");
    until("watching", || mirror.snapshot().is_some_and(|v| !v.lost)).await;
    write(on(Some(lease), "1")).await.expect("reachable");
    assert!(mirror.shows(&on(Some(lease), "1")));
    assert!(!mirror.shows(&on(Some(lease), "2")) && !mirror.shows(&on(None, "1")));
    let mut both = on(Some(lease), "1");
    both.then.extend(put("/s/b", "1").then);
    assert!(!mirror.shows(&both), "one of two");
    let delete =
        |key: &str| Txn { when: vec![], then: vec![Edit::Delete { key: key.to_string() }] };
    assert!(mirror.shows(&delete("/s/absent")) && !mirror.shows(&delete("/s/a")));
}

/// Of a report that is known in part, the other part is sent.
#[tokio::test]
async fn b6_a_report_is_sent_without_what_the_copy_shows() {
    let store = MemoryStore::new();
    let mirror = mirror(&store);
    let keys = Keys::new("/", "s", Group::PLAIN);
    let session = store.grant_now(Duration::from_secs(30)).expect("reachable");
    let report = |status: Option<&str>, legacy_optime| {
        let status = status.map(|text| Box::new(Status::read(text)));
        Write::AsLeader { session, write: LeaderWrite::PutStatus { status, legacy_optime } }
    };
    let whole = || report(Some(r#"{"optime":5}"#), Some(Lsn(5)));
    assert_eq!(mirror.news(&keys, whole()), Some(whole()), "nothing was read yet");
    until("watching", || mirror.snapshot().is_some_and(|v| !v.lost)).await;
    store.txn_now(&put("/s/optime/leader", "5")).expect("reachable");
    until("followed", || value(&mirror, "/s/optime/leader").is_some()).await;
    assert_eq!(mirror.news(&keys, whole()), Some(report(Some(r#"{"optime":5}"#), None)));
    store.txn_now(&put("/s/status", r#"{"optime":5}"#)).expect("reachable");
    until("followed", || value(&mirror, "/s/status").is_some()).await;
    assert_eq!(mirror.news(&keys, whole()), None);
}

#[tokio::test]
async fn a_refresh_is_fresh_and_folded() {
    let store = MemoryStore::new();
    let mirror = mirror(&store.client());
    until("watching", || mirror.snapshot().is_some_and(|v| !v.lost)).await;
    let at = store.txn_now(&put("/s/a", "1")).expect("reachable").version;
    assert_eq!(mirror.refresh().await.expect("reachable").version, at);
    assert_eq!(value(&mirror, "/s/a").as_deref(), Some("1"));
}

#[tokio::test]
async fn a_slow_subscriber_is_told_that_it_missed_something() {
    let store = MemoryStore::new();
    let mirror = mirror(&store);
    until("watching", || mirror.snapshot().is_some_and(|v| !v.lost)).await;
    let mut changes = mirror.subscribe();
    for i in 0..=CHANGES_MAX {
        let txn = put(&format!("/s/{i}"), "1");
        mirror.fold(&txn, store.txn_now(&txn).expect("reachable"));
    }
    assert_eq!(changes.next().await, Some(Change::Missed));
    assert!(matches!(changes.next().await, Some(Change::Keys { .. })));
}

/// A store that can be replaced by another one behind the mirror's back.
struct Replaceable(Mutex<MemoryStore>);

impl Replaceable {
    fn now(&self) -> MemoryStore {
        self.0.lock().expect("no panic").clone()
    }
}

impl Store for Replaceable {
    fn read<'a>(&'a self, prefixes: &'a [String]) -> Answer<'a, Snapshot> {
        Box::pin(async move { self.now().read_now(prefixes) })
    }
    fn write<'a>(&'a self, keys: &'a Keys, write: &'a Write) -> Answer<'a, Written> {
        Box::pin(async move { self.now().write_now(keys, write) })
    }
    fn watch<'a>(
        &'a self,
        prefixes: &'a [String],
        version: Version,
    ) -> Answer<'a, tokio::sync::mpsc::Receiver<WatchItem>> {
        Box::pin(async move { self.now().watch_now(prefixes, version) })
    }
    fn grant(&self, ttl: Duration) -> Answer<'_, Session> {
        Box::pin(async move { self.now().grant_now(ttl) })
    }
    fn renew(&self, session: Session) -> Answer<'_, Renewal> {
        Box::pin(async move { self.now().renew_now(session) })
    }
}

#[tokio::test]
async fn a_store_that_went_back_in_time_is_believed() {
    let (old, new) = (MemoryStore::new(), MemoryStore::new());
    for key in ["/s/a", "/s/b", "/s/c"] {
        old.txn_now(&put(key, "old")).expect("reachable");
    }
    new.txn_now(&put("/s/a", "new")).expect("reachable");
    let store = Arc::new(Replaceable(Mutex::new(old.clone())));
    let mirror = Mirror::spawn(store.clone(), vec!["/s/".to_string()]);
    until("watching", || mirror.snapshot().is_some_and(|v| !v.lost)).await;
    let mut changes = mirror.subscribe();
    *store.0.lock().expect("no panic") = new.clone();
    old.break_watches();
    assert_eq!(changes.next().await, keys(&["/s/a", "/s/b", "/s/c"], false));
    assert_eq!(mirror.snapshot().expect("read").snapshot.version, Version::of_store(2));
    assert_eq!(value(&mirror, "/s/a").as_deref(), Some("new"));
    until("watching", || mirror.snapshot().is_some_and(|v| !v.lost)).await;
    new.txn_now(&put("/s/b", "new")).expect("reachable");
    assert_eq!(changes.next().await, keys(&["/s/b"], false));
}
