//! The store's client on a real etcd cluster of three members, under what
//! happens to such a cluster: a majority lost, its leader frozen, members
//! replaced, connections that stay open without an answer, TLS and users.
//!
//! No daemon and no PostgreSQL takes part: what a daemon sees of its store is
//! the trait `Store` and the mirror. Each test has its own cluster, directory
//! and ports.

mod gate;

use gate::Gate;
use node::config::{Secret, StoreSettings};
use node::dcs::by_hand::Edit;
use node::dcs::mirror::{Change, Mirror};
use node::dcs::{self, DcsError, Renewal, Session, Store};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tests::live::birth::by_hand;
use tests::live::etcd::Cluster;

/// The daemon's own deadline of a call.
const CALL: Duration = Duration::from_secs(3);
/// Beyond its deadline a call has this long to return, on a busy machine.
const SLACK: Duration = Duration::from_secs(1);
/// Elections of etcd take a second or two.
const LONG: Duration = Duration::from_secs(30);
const TTL: Duration = Duration::from_secs(20);

fn store(settings: &StoreSettings) -> Arc<dyn Store> {
    dcs::open(settings, CALL).expect("good settings")
}

async fn put(store: &Arc<dyn Store>, key: &str, value: &str) -> Result<(), DcsError> {
    by_hand(store.as_ref()).edit(vec![Edit::put(key, value)]).await
}

/// The leader's key hangs on this lease.
async fn is_locked(store: &Arc<dyn Store>, lease: Session) -> bool {
    let read = store.read(&all()).await.expect("a read");
    read.entries.iter().any(|entry| entry.key == "/app/leader" && entry.session == Some(lease))
}

fn all() -> [String; 1] {
    ["/app/".to_string()]
}

async fn until(what: &str, mut question: impl AsyncFnMut() -> bool) -> Duration {
    let begin = Instant::now();
    while !question().await {
        assert!(begin.elapsed() < LONG, "{what}: did not happen in {LONG:?}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    begin.elapsed()
}

async fn answers(store: &Arc<dyn Store>) -> Duration {
    until("an answer", async || store.read(&all()).await.is_ok()).await
}

/// Fails, as one that cannot be reached, and not later than it may.
fn fails_in_time<T: std::fmt::Debug>(answer: Result<T, DcsError>, began: Instant) {
    let took = began.elapsed();
    assert!(matches!(answer, Err(DcsError::Unreachable { .. })), "{answer:?}");
    assert!(took < CALL + SLACK, "a call of {CALL:?} took {took:?}");
}

#[tokio::test]
async fn a_lost_majority_stops_every_call_in_time_and_deletes_nothing() {
    let _turn = tests::live::turn();
    let mut cluster = Cluster::start(false);
    let store = store(&cluster.settings_of(0));
    answers(&store).await;
    put(&store, "/app/leader", "a").await.expect("a write");
    let mirror = Mirror::spawn(store.clone(), all().to_vec());
    until("a watch", async || mirror.snapshot().is_some_and(|view| !view.lost)).await;
    let lease = store.grant(TTL).await.expect("a lease");
    let mut changes = mirror.subscribe();

    cluster.kill(1);
    cluster.kill(2);
    let (began, app) = (Instant::now(), all());
    let (read, write, renewal) =
        tokio::join!(store.read(&app), put(&store, "/app/x", ""), store.renew(lease));
    fails_in_time(read, began);
    fails_in_time(write, began);
    // The leader of etcd renews alone until it notices that it has lost the others.
    assert!(began.elapsed() < CALL + SLACK, "{renewal:?} after {:?}", began.elapsed());
    let noticed = until("the watch is lost", async || mirror.snapshot().expect("read").lost).await;
    println!("  the watch without a majority was given up after {noticed:.1?}");
    let began = Instant::now();
    fails_in_time(store.renew(lease).await, began);
    let kept = mirror.snapshot().expect("read").snapshot;
    assert!(kept.entries.iter().any(|entry| entry.key == "/app/leader"), "a key was forgotten");

    cluster.restart(1);
    let back = answers(&store).await;
    println!("  answers again {back:.1?} after the second member's start");
    until("a watch", async || mirror.snapshot().is_some_and(|view| !view.lost)).await;
    put(&store, "/app/after", "").await.expect("a write");
    // The write that got no answer may have happened; the leader's key is as it was.
    loop {
        let Some(Change::Keys { keys, .. }) = changes.next().await else { panic!("missed some") };
        assert!(!keys.iter().any(|key| key == "/app/leader"), "nobody touched the leader's key");
        if keys.iter().any(|key| key == "/app/after") {
            break;
        }
    }
}

#[tokio::test]
async fn a_frozen_leader_of_etcd_is_left_for_another_member() {
    let _turn = tests::live::turn();
    let cluster = Cluster::start(false);
    let leader = cluster.leader().await;
    // Only the leader is named: the others are learned from it.
    let store = store(&cluster.settings_of(leader));
    answers(&store).await;
    let lease = store.grant(TTL).await.expect("a lease");
    let (key, value) = ("/app/leader".into(), "a".into());
    let leader_key = Edit::Put { key, value, session: Some(lease) };
    by_hand(store.as_ref()).edit(vec![leader_key]).await.expect("a write");
    let mirror = Mirror::spawn(store.clone(), all().to_vec());
    until("a watch", async || mirror.snapshot().is_some_and(|view| !view.lost)).await;

    cluster.freeze(leader);
    let began = Instant::now();
    let mut renewed = store.renew(lease).await;
    while renewed.is_err() {
        assert!(began.elapsed() < TTL, "the lease would be lost: {renewed:?}");
        renewed = store.renew(lease).await;
    }
    assert_eq!(renewed.expect("just looked"), Renewal::Alive);
    println!("  renewed by another member {:.1?} after the freeze", began.elapsed());
    assert!(is_locked(&store, lease).await, "the lock is still ours");
    put(&store, "/app/proof", "").await.expect("a write");
    until("the watch of a living member", async || {
        let view = mirror.snapshot().expect("read");
        !view.lost && view.snapshot.entries.iter().any(|entry| entry.key == "/app/proof")
    })
    .await;
    println!("  watched at another member after {:.1?}", began.elapsed());
    cluster.thaw(leader);
}

#[tokio::test]
async fn replaced_members_are_found_when_all_that_were_named_are_gone() {
    let _turn = tests::live::turn();
    let mut cluster = Cluster::start(false);
    let store = store(&cluster.settings_of(0));
    answers(&store).await;
    put(&store, "/app/a", "1").await.expect("a write");
    for old in 0..3 {
        cluster.add().await;
        cluster.remove(old).await;
        answers(&store).await;
        let written = put(&store, "/app/a", "2").await;
        assert!(written.is_ok(), "after member {old} was replaced: {written:?}");
        // The list is read beside the calls.
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
    let read = store.read(&all()).await.expect("only members that were never named are left");
    assert_eq!(read.entries[0].value, "2");
}

#[tokio::test]
async fn a_connection_without_a_server_is_noticed_within_the_ttl() {
    let _turn = tests::live::turn();
    let cluster = Cluster::start(false);
    let gate = Gate::before(cluster.address(0)).await;
    let hosts = vec![gate.address.to_string()];
    let settings = StoreSettings { hosts, use_proxies: true, ..cluster.settings_of(0) };
    let store = store(&settings);
    answers(&store).await;
    let mirror = Mirror::spawn(store.clone(), all().to_vec());
    until("a watch", async || mirror.snapshot().is_some_and(|view| !view.lost)).await;
    gate.swallow(true);
    let began = Instant::now();
    fails_in_time(put(&store, "/app/x", "").await, began);
    let began = Instant::now();
    fails_in_time(store.read(&all()).await, began);
    let noticed = until("the watch is lost", async || mirror.snapshot().expect("read").lost).await;
    println!("  a watch that nobody cut was given up after {noticed:.1?}");
    assert!(noticed < TTL - 2 * CALL, "{noticed:?}");
    gate.swallow(false);
    answers(&store).await;
    until("a watch", async || mirror.snapshot().is_some_and(|view| !view.lost)).await;
}

/// A member of etcd that was cut off comes back: nothing that it is asked tells of the
/// leader of before, neither a read nor the copy that a watch at it feeds.
#[tokio::test]
async fn known_bug_14_a_stale_member_shows_no_older_leader() {
    let _turn = tests::live::turn();
    let cluster = Cluster::start(false);
    let leads = cluster.leader().await;
    let (stale, well) = ((leads + 1) % 3, (leads + 2) % 3);
    let at = |member: usize| StoreSettings { use_proxies: true, ..cluster.settings_of(member) };
    let (behind, ahead) = (store(&at(stale)), store(&at(well)));
    answers(&behind).await;
    answers(&ahead).await;
    put(&ahead, "/app/leader", "a").await.expect("a write");
    let mirror = Mirror::spawn(behind.clone(), all().to_vec());
    let shown = || {
        let entries = mirror.snapshot()?.snapshot;
        entries.entries.iter().find(|entry| entry.key == "/app/leader").map(|e| e.value.clone())
    };
    until("the first leader", async || shown().as_deref() == Some("a")).await;

    cluster.freeze(stale);
    until("another leader", async || put(&ahead, "/app/leader", "b").await.is_ok()).await;
    cluster.thaw(stale);
    let read = loop {
        if let Ok(read) = behind.read(&all()).await {
            break read;
        }
    };
    let leader = read.entries.iter().find(|entry| entry.key == "/app/leader").expect("a leader");
    assert_eq!(leader.value, "b", "the member that was cut off told of the leader of before");
    until("the second leader", async || shown().as_deref() == Some("b")).await;
    for _ in 0..20 {
        assert_eq!(shown().as_deref(), Some("b"), "the copy went back");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

#[tokio::test]
async fn with_certificates_and_users_all_is_the_same() {
    let _turn = tests::live::turn();
    let mut cluster = Cluster::start(true);
    cluster.enable_users().await;
    let login = |password: &str| StoreSettings {
        username: Some("app".to_string()),
        password: Some(Secret(password.to_string())),
        ..cluster.settings()
    };
    let settings = login("secret");
    let wrong = store(&login("wrong")).read(&all()).await;
    assert!(matches!(wrong, Err(DcsError::Denied(_))), "{wrong:?}");
    let anonymous = StoreSettings { cert: None, key: None, ..settings.clone() };
    let refused = store(&anonymous).read(&all()).await;
    assert!(matches!(refused, Err(DcsError::Unreachable { .. })), "{refused:?}");

    let store = store(&settings);
    answers(&store).await;
    let lease = store.grant(TTL).await.expect("a lease");
    let mirror = Mirror::spawn(store.clone(), all().to_vec());
    until("a watch", async || mirror.snapshot().is_some_and(|view| !view.lost)).await;
    // Tokens are of one member and in its memory only: each restart ends them.
    for member in 0..3 {
        cluster.kill(member);
        answers(&store).await;
        assert_eq!(store.renew(lease).await.expect("a majority is well"), Renewal::Alive);
        cluster.restart(member);
        let key = format!("/app/{member}");
        until("a write", async || put(&store, &key, "").await.is_ok()).await;
    }
    until("three keys", async || {
        mirror.snapshot().is_some_and(|view| view.snapshot.entries.len() == 3)
    })
    .await;
    let elsewhere = put(&store, "/other", "").await;
    assert!(matches!(elsewhere, Err(DcsError::Denied(_))), "{elsewhere:?}");
}
