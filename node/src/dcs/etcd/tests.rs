//! The store against real servers, healthy and not.

use super::EtcdStore;
use super::server::{Server, answered};
use crate::dcs::kv::{Edit, KeyValueStore, Txn};
use crate::dcs::mirror::Mirror;
use crate::dcs::settings::StoreSettings;
use crate::dcs::{DcsError, Renewal, Store, Version, WatchItem, conform, kv};
use crate::document::Secret;
use crate::tls::made::{openssl, self_signed};
use etcd_client::{Client, PermissionType};
use std::net::TcpListener;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

const TIMEOUT: Duration = Duration::from_secs(5);

fn store(settings: &StoreSettings, timeout: Duration) -> EtcdStore {
    let _ = rustls::crypto::ring::default_provider().install_default();
    EtcdStore::new(settings, timeout).expect("good settings")
}

fn put(key: &str) -> Txn {
    let put = Edit::Put { key: key.to_string(), value: "v".to_string(), session: None };
    Txn { when: Vec::new(), then: vec![put] }
}

fn all() -> [String; 1] {
    ["/".to_string()]
}

async fn lost(watch: &mut tokio::sync::mpsc::Receiver<WatchItem>) -> String {
    let wait = Duration::from_secs(20);
    match tokio::time::timeout(wait, watch.recv()).await.expect("an end of the watch") {
        Some(WatchItem::Lost(why)) => why,
        other => panic!("not lost but {other:?}"),
    }
}

#[tokio::test]
async fn conforms() {
    let server = Server::start();
    let store = Arc::new(store(&server.settings(), TIMEOUT));
    answered(&store).await;
    let elapse = async |d: Duration| tokio::time::sleep(d).await;
    conform::run(store.clone(), "/conform/", elapse).await.expect("conformance");
    kv::conform::run(&*store, "/conform-keys/").await.expect("conformance of keys");
}

#[tokio::test]
async fn the_store_may_come_later_and_come_back() {
    let mut server = Server::start();
    server.stop();
    let store = store(&server.settings(), TIMEOUT);
    let began = Instant::now();
    let down = store.read(&all()).await.expect_err("no server listens there");
    assert!(matches!(down, DcsError::Unreachable { .. }), "{down}");
    assert!(down.to_string().contains("refused"), "{down}");
    assert!(began.elapsed() < TIMEOUT);
    server.start_again();
    let at = answered(&store).await.version;
    let mut watch = store.watch(&all(), at).await.expect("a watch");
    server.stop();
    lost(&mut watch).await;
    assert!(watch.recv().await.is_none());
    server.start_again();
    answered(&store).await;
    assert!(store.txn(put("/back")).await.expect("it is back").succeeded);
}

#[tokio::test]
async fn a_name_is_tried_at_all_its_addresses() {
    let server = Server::start();
    let hosts = vec![format!("localhost:{}", server.port())];
    let store = store(&StoreSettings { hosts, ..server.settings() }, TIMEOUT);
    answered(&store).await;
}

#[tokio::test]
async fn dead_and_silent_endpoints_cost_little() {
    let server = Server::start();
    answered(&store(&server.settings(), TIMEOUT)).await;
    let silent = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let mute = silent.local_addr().expect("a bound socket").to_string();
    let hosts = vec!["127.0.0.1:1".to_string(), mute, server.address()];
    let store = store(&StoreSettings { hosts, ..server.settings() }, TIMEOUT);
    let began = Instant::now();
    assert!(store.txn(put("/a")).await.expect("one endpoint is well").succeeded);
    assert!(began.elapsed() < Duration::from_secs(2), "{:?}", began.elapsed());
}

#[tokio::test]
async fn a_frozen_store_is_noticed_and_taken_back() {
    let server = Server::start();
    let timeout = Duration::from_secs(2);
    let second = Duration::from_secs(1);
    let store = store(&server.settings(), timeout).with_keep_alive(second, second);
    let at = answered(&store).await.version;
    let session = store.grant(Duration::from_secs(60)).await.expect("a lease");
    let mut watch = store.watch(&all(), at).await.expect("a watch");
    server.freeze();
    let began = Instant::now();
    let (renewal, write) = tokio::join!(store.renew(session), store.txn(put("/a")));
    assert!(matches!(renewal, Err(DcsError::Unreachable { .. })), "{renewal:?}");
    assert!(matches!(write, Err(DcsError::Unreachable { .. })), "{write:?}");
    assert!(began.elapsed() < timeout * 2, "{:?}", began.elapsed());
    lost(&mut watch).await;
    server.thaw();
    answered(&store).await;
    assert_eq!(store.renew(session).await.expect("it is back"), Renewal::Alive);
}

#[tokio::test]
async fn another_cluster_takes_over_only_when_the_old_one_is_gone() {
    let (mut first, second) = (Server::start(), Server::start());
    answered(&store(&first.settings(), TIMEOUT)).await;
    answered(&store(&second.settings(), TIMEOUT)).await;
    let hosts = vec![first.address(), second.address()];
    let timeout = Duration::from_secs(3);
    let store = store(&StoreSettings { hosts, ..first.settings() }, timeout);
    assert!(store.txn(put("/on the first")).await.expect("the first is well").succeeded);
    first.freeze();
    let refused = store.read(&all()).await.expect_err("only a stranger answers");
    assert!(matches!(refused, DcsError::Unreachable { .. }), "{refused}");
    first.thaw();
    first.stop();
    let end = Instant::now() + Duration::from_secs(20);
    let new = loop {
        match store.read(&all()).await {
            Ok(new) => break new,
            Err(error) => assert!(Instant::now() < end, "{error}"),
        }
    };
    assert_eq!(new.entries, []);
}

#[tokio::test]
async fn a_store_that_was_replaced_at_its_address_is_noticed() {
    let mut server = Server::start();
    let store = Arc::new(store(&server.settings(), TIMEOUT));
    answered(&store).await;
    let mirror = Mirror::spawn(store.clone(), vec!["/m/".to_string()]);
    store.txn(put("/m/old")).await.expect("a write");
    let keys = || {
        let view = mirror.snapshot().filter(|view| !view.lost);
        view.map(|view| view.snapshot.entries.iter().map(|e| e.key.clone()).collect::<Vec<_>>())
    };
    until(|| keys().is_some_and(|keys| keys == ["/m/old"])).await;
    server.stop();
    server.forget();
    server.start_again();
    // More revisions than before: only the cluster's id tells that it is new.
    let fresh = EtcdStore::new(&server.settings(), TIMEOUT).expect("good settings");
    answered(&fresh).await;
    for _ in 0..5 {
        fresh.txn(put("/m/new")).await.expect("a write");
    }
    until(|| keys().is_some_and(|keys| keys == ["/m/new"])).await;
}

#[tokio::test]
async fn what_is_too_large_is_refused_with_a_sentence() {
    let server = Server::start();
    let store = store(&server.settings(), TIMEOUT);
    answered(&store).await;
    let mut large = put("/large");
    if let Edit::Put { value, .. } = &mut large.then[0] {
        *value = "x".repeat(2_000_000);
    }
    let refused = store.txn(large).await.expect_err("etcd takes 1.5 MiB");
    assert!(matches!(&refused, DcsError::Refused(why) if why.contains("large")), "{refused:?}");
    assert!(store.txn(put("/small")).await.expect("the connection is well").succeeded);
}

#[tokio::test]
async fn dropping_either_end_ends_a_watch() {
    let server = Server::start();
    let store = store(&server.settings(), TIMEOUT);
    let at = answered(&store).await.version;
    let tasks = || tokio::runtime::Handle::current().metrics().num_alive_tasks();
    let before = tasks();
    drop(store.watch(&all(), at).await.expect("a watch"));
    until(|| tasks() <= before).await;
    let mut watch = store.watch(&all(), at).await.expect("a watch");
    drop(store);
    assert!(lost(&mut watch).await.contains("closed"));
    until(|| tasks() == 0).await;
}

async fn until(condition: impl Fn() -> bool) {
    let end = Instant::now() + Duration::from_secs(10);
    while !condition() {
        assert!(Instant::now() < end, "it did not happen in 10 s");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test]
async fn a_compacted_revision_is_not_watched() {
    let server = Server::start();
    let store = store(&server.settings(), TIMEOUT);
    answered(&store).await;
    for _ in 0..3 {
        store.txn(put("/a")).await.expect("a write");
    }
    let at = answered(&store).await.version;
    let mut client = Client::connect([server.address()], None).await.expect("a client");
    client.compact(at.number(), None).await.expect("a compaction");
    match store.watch(&all(), Version::of_store(1)).await {
        Err(error) => assert!(matches!(error, DcsError::Compacted), "{error}"),
        Ok(mut watch) => assert!(lost(&mut watch).await.contains("compacted")),
    }
}

async fn turn_login_on(server: &Server) {
    let mut root = Client::connect([server.address()], None).await.expect("a client");
    root.role_add("root").await.expect("a role");
    root.role_add("app").await.expect("a role");
    let range = etcd_client::Permission::new(PermissionType::Readwrite, "/app/").with_prefix();
    root.role_grant_permission("app", range).await.expect("a grant");
    for (user, role) in [("root", "root"), ("app", "app")] {
        root.user_add(user, "secret", None).await.expect("a user");
        root.user_grant_role(user, role).await.expect("a grant");
    }
    root.auth_enable().await.expect("login is on");
}

#[tokio::test]
async fn logins_are_renewed_and_refusals_named() {
    let mut server = Server::start();
    let app = |password: &str| StoreSettings {
        username: Some("app".to_string()),
        password: Some(Secret(password.to_string())),
        ..server.settings()
    };
    let (mine, wrong, anonymous) = (app("secret"), app("wrong"), server.settings());
    let early = store(&mine, TIMEOUT);
    answered(&early).await; // a login at a store without users is passed over
    turn_login_on(&server).await;
    for settings in [&wrong, &anonymous] {
        let refused = store(settings, TIMEOUT).read(&["/app/".to_string()]).await;
        assert!(matches!(refused, Err(DcsError::Denied(_))), "{refused:?}");
    }
    for known in [early, store(&mine, TIMEOUT)] {
        assert!(known.txn(put("/app/a")).await.expect("granted").succeeded);
        let refused = known.txn(put("/other")).await;
        assert!(matches!(refused, Err(DcsError::Denied(_))), "{refused:?}");
    }
    let known = store(&mine, TIMEOUT);
    let prefix = ["/app/".to_string()];
    let at = known.read(&prefix).await.expect("granted").version;
    let refused = known.watch(&all(), at).await;
    assert!(matches!(refused, Err(DcsError::Denied(_))), "{refused:?}");
    let watch = known.watch(&prefix, at).await.expect("granted");
    drop(watch);
    let session = known.grant(Duration::from_secs(60)).await.expect("granted");
    assert_eq!(known.renew(session).await.expect("granted"), Renewal::Alive);
    // Tokens live in the server's memory: after a restart ours is worth nothing.
    server.stop();
    server.start_again();
    let end = Instant::now() + Duration::from_secs(20);
    while let Err(error) = known.txn(put("/app/b")).await {
        assert!(matches!(error, DcsError::Unreachable { .. }), "{error}");
        assert!(Instant::now() < end, "{error}");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    known.watch(&prefix, at).await.expect("granted");
    assert_eq!(known.renew(session).await.expect("granted"), Renewal::Alive);
}

/// etcd's simple tokens live in the server's memory and end with it.
#[tokio::test]
async fn known_bug_10_renewals_and_the_list_of_members_get_a_new_token() {
    let mut server = Server::start();
    answered(&store(&server.settings(), TIMEOUT)).await;
    turn_login_on(&server).await;
    let login = |name: &str| StoreSettings {
        username: Some(name.to_string()),
        password: Some(Secret("secret".to_string())),
        ..server.settings()
    };
    let (known, root) = (store(&login("app"), TIMEOUT), store(&login("root"), TIMEOUT));
    let session = known.grant(Duration::from_secs(60)).await.expect("granted");
    for round in 0..2 {
        answered(&root).await;
        assert_eq!(known.renew(session).await.expect("a token"), Renewal::Alive, "{round}");
        let mut client = root.connections.get().await.expect("a connection").client;
        let told = client.member_list().await.expect("a token");
        assert_eq!(told.members().len(), 1, "{round}");
        server.stop();
        server.start_again();
    }
}

#[tokio::test]
async fn known_bug_11_a_renewal_that_fails_oddly_is_tried_elsewhere() {
    let server = Server::start();
    let hosts = vec![server.address(), format!("localhost:{}", server.port())];
    let store = store(&StoreSettings { hosts, use_proxies: true, ..server.settings() }, TIMEOUT);
    answered(&store).await;
    let session = store.grant(Duration::from_secs(60)).await.expect("a lease");
    let before = store.connections.get().await.expect("a connection").name().to_string();
    let asked = std::sync::atomic::AtomicUsize::new(0);
    let renew = |client: Client| {
        let first = asked.fetch_add(1, std::sync::atomic::Ordering::SeqCst) == 0;
        async move {
            if first {
                let status = tonic::Status::unknown("etcdserver: not a primary lessor");
                return Err(etcd_client::Error::GRpcStatus(status));
            }
            client.lease_client().keep_alive(session.number()).await
        }
    };
    store.call(super::Repeat::Harmless, renew).await.expect("the other endpoint renews");
    assert_eq!(asked.into_inner(), 2);
    let after = store.connections.get().await.expect("a connection").name().to_string();
    assert_ne!(before, after, "the same endpoint was asked again");
}

/// The history that a watch would begin with is gone: the store cancels it, and the
/// connection lives on.
#[tokio::test]
async fn known_bug_13_a_watch_that_is_cancelled_on_a_living_connection_is_read_again() {
    let server = Server::start();
    let store = Arc::new(store(&server.settings(), TIMEOUT));
    let old = answered(&store).await.version;
    for key in ["/m/a", "/m/b", "/m/c"] {
        assert!(store.txn(put(key)).await.expect("a write").succeeded);
    }
    let before = store.connections.get().await.expect("a connection");
    let now = store.read(&all()).await.expect("a read").version;
    before.client.kv_client().compact(now.number(), None).await.expect("compacted");
    // It says so when the watch is asked for, or right after it.
    match store.watch(&all(), old).await {
        Err(DcsError::Compacted) => {}
        Ok(mut watch) => {
            let why = lost(&mut watch).await;
            assert!(why.contains("compacted"), "{why}");
        }
        Err(error) => panic!("{error}"),
    }
    // The same connection serves the read that follows, and the watch from there on.
    let read = store.read(&all()).await.expect("the connection lives");
    assert_eq!(read.entries.len(), 3);
    let after = store.connections.get().await.expect("a connection");
    assert_eq!(before.name(), after.name());
    let mut watch = store.watch(&all(), read.version).await.expect("a watch");
    assert!(store.txn(put("/m/d")).await.expect("a write").succeeded);
    let told = tokio::time::timeout(Duration::from_secs(5), watch.recv()).await;
    assert!(matches!(told, Ok(Some(WatchItem::Events(_)))), "{told:?}");
}

#[tokio::test]
async fn another_login_is_taken_while_it_runs() {
    let server = Server::start();
    let root = |password: &str| StoreSettings {
        username: Some("root".to_string()),
        password: Some(Secret(password.to_string())),
        ..server.settings()
    };
    let store = store(&root("secret"), TIMEOUT);
    answered(&store).await;
    turn_login_on(&server).await;
    assert!(store.txn(put("/a")).await.expect("granted").succeeded);
    store.set_login(&root("wrong"));
    let refused = store.txn(put("/b")).await;
    assert!(matches!(refused, Err(DcsError::Denied(_))), "{refused:?}");
    store.set_login(&root("secret"));
    assert!(store.txn(put("/b")).await.expect("granted").succeeded);
}

#[tokio::test]
async fn a_mirror_lives_through_a_restart() {
    let mut server = Server::start();
    let store = Arc::new(store(&server.settings(), TIMEOUT));
    answered(&store).await;
    let mirror = Mirror::spawn(store.clone(), vec!["/m/".to_string()]);
    let shows = |count| {
        let view = mirror.snapshot();
        view.is_some_and(|view| !view.lost && view.snapshot.entries.len() == count)
    };
    until(|| shows(0)).await;
    store.txn(put("/m/a")).await.expect("a write");
    until(|| shows(1)).await;
    server.stop();
    until(|| mirror.snapshot().is_some_and(|view| view.lost)).await;
    server.start_again();
    answered(&store).await;
    store.txn(put("/m/b")).await.expect("a write");
    until(|| shows(2)).await;
}

/// An authority, and one certificate for both ends of a connection.
fn make_certificates(dir: &Path) -> Vec<String> {
    let new = crate::tls::made::NEW;
    openssl(dir, &format!("{new} -subj /CN=authority -keyout ca.key -out ca.crt"));
    let end = "-addext subjectAltName=IP:127.0.0.1 -addext basicConstraints=critical,CA:FALSE";
    let signed = "-CA ca.crt -CAkey ca.key -keyout end.key -out end.crt";
    openssl(dir, &format!("{new} -subj /CN=end {end} {signed}"));
    let file = |name: &str| dir.join(name).display().to_string();
    options(&file("ca.crt"), &file("end.crt"), &file("end.key"))
}

fn options(authority: &str, cert: &str, key: &str) -> Vec<String> {
    vec![
        "--client-cert-auth".to_string(),
        format!("--trusted-ca-file={authority}"),
        format!("--cert-file={cert}"),
        format!("--key-file={key}"),
    ]
}

#[tokio::test]
async fn one_self_signed_certificate_is_enough() {
    let server = Server::start_with("https", |dir| {
        self_signed(dir, "all");
        let file = |name: &str| dir.join(name).display().to_string();
        options(&file("all.crt"), &file("all.crt"), &file("all.key"))
    });
    let file = |name: &str| Some(server.directory().join(name));
    let (cacert, cert, key) = (file("all.crt"), file("all.crt"), file("all.key"));
    let settings = StoreSettings { cacert, cert, key, ..server.settings() };
    answered(&store(&settings, TIMEOUT)).await;
    self_signed(server.directory(), "other");
    let stranger = StoreSettings { cacert: file("other.crt"), ..settings };
    let refused = store(&stranger, TIMEOUT).read(&all()).await.expect_err("not its certificate");
    assert!(refused.to_string().contains("UnknownIssuer"), "{refused}");
}

#[tokio::test]
async fn both_ends_show_certificates() {
    let server = Server::start_with("https", make_certificates);
    let file = |name: &str| Some(server.directory().join(name));
    let settings = StoreSettings {
        cacert: file("ca.crt"),
        cert: file("end.crt"),
        key: file("end.key"),
        ..server.settings()
    };
    answered(&store(&settings, TIMEOUT)).await;
    let stranger = StoreSettings { cert: None, key: None, ..settings.clone() };
    let refused = store(&stranger, TIMEOUT).read(&all()).await;
    assert!(matches!(refused, Err(DcsError::Unreachable { .. })), "{refused:?}");
    let missing = StoreSettings { cert: file("nowhere.crt"), ..settings };
    let wrong = EtcdStore::new(&missing, TIMEOUT).err().expect("no such file").to_string();
    assert!(wrong.contains("etcd3") && wrong.contains("nowhere.crt"), "{wrong}");
}
