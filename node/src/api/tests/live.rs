//! The API as callers meet it: listeners, documents, and what a lost store leaves.

use super::member::{Member, WAIT_MAX, context, ok, pair, refused, said};
use super::*;
use crate::api::{Command, serve};
use crate::dcs::by_hand::Edit;
use crate::dcs::keys::Keys;
use crate::dcs::memory::MemoryStore;
use crate::dcs::{Answer, Renewal, Session, Snapshot, Store, Version, WatchItem, Write, Written};
use reqwest::{Method, StatusCode};
use std::sync::atomic::Ordering;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::mpsc;

#[tokio::test]
async fn changing_needs_the_password_and_reading_does_not() {
    let restapi = RestApi {
        authentication: Some(login()),
        server_tokens: "ProductOnly".to_string(),
        http_extra_headers: vec![("X-Extra".to_string(), "some".to_string())],
        ..RestApi::default()
    };
    let mut member = Member::start(published("n1"), primary(), restapi).await;
    let answer = member.ask(Method::POST, "/reload", None).await;
    let headers = answer.headers().clone();
    assert_eq!(headers["www-authenticate"], "Basic realm=\"Patroni\"");
    assert_eq!(
        (&headers["server"], &headers["x-extra"]),
        (&"Patroni".parse().unwrap(), &"some".parse().unwrap())
    );
    assert_eq!(headers["content-type"], "text/html");
    assert_eq!(said(answer).await, refused(401, "no auth header received"));

    let reload = || member.client.post(member.url("/reload"));
    let wrong = reload().basic_auth("u", Some("wrong")).send().await.unwrap();
    assert_eq!(said(wrong).await, refused(401, "not authenticated"));
    let right = reload().basic_auth("u", Some("p")).send().await.unwrap();
    assert_eq!(said(right).await, refused(202, "reload scheduled"));
    assert!(matches!(member.command().await, Command::Reload));

    for (method, path) in [
        (Method::PATCH, "/config"),
        (Method::PUT, "/config"),
        (Method::POST, "/switchover"),
        (Method::POST, "/failover"),
        (Method::DELETE, "/switchover"),
        (Method::POST, "/restart"),
        (Method::DELETE, "/restart"),
        (Method::POST, "/reinitialize"),
        (Method::POST, "/citus"),
        (Method::POST, "/mpp"),
        (Method::POST, "/failsafe"),
        (Method::POST, "/sigterm"),
    ] {
        let answer = member.ask(method.clone(), path, Some("{\"a\":1}")).await;
        assert_eq!(answer.status(), StatusCode::UNAUTHORIZED, "{method} {path}");
    }
    assert_eq!(member.get("/primary").await.0, 200);
    assert!(member.commands.try_recv().is_err());
    let general = r#"[{"at": null, "rule": 210, "why": null, "outcome": null}]"#;
    assert_eq!(member.get("/decisions").await, ok(general));
    let operator = member.client.get(member.url("/decisions")).basic_auth("u", Some("p"));
    assert_eq!(said(operator.send().await.unwrap()).await, ok(r#"[{"rule": 210}]"#));
}

#[tokio::test]
async fn only_listed_addresses_may_change_something() {
    let listed = |entry: &str| RestApi {
        allowlist: vec![entry.to_string()],
        authentication: Some(login()),
        ..RestApi::default()
    };
    let member = Member::start(published("n1"), primary(), listed("10.0.0.0/8")).await;
    assert_eq!(member.post("/reload", json!({})).await, refused(403, "Access is denied"));
    assert_eq!(member.get("/health").await.0, 200);
    let member = Member::start(published("n1"), primary(), listed("127.0.0.0/8")).await;
    assert_eq!(member.post("/reload", json!({})).await.0, 401);
    let members = RestApi { allowlist_include_members: true, ..RestApi::default() };
    let member = Member::start(published("n1"), primary(), members).await;
    assert_eq!(member.post("/reload", json!({})).await.0, 202);
}

#[tokio::test]
async fn unknown_paths_and_methods_are_refused() {
    let member = Member::leader().await;
    let propfind = || Method::from_bytes(b"PROPFIND").unwrap();
    for (method, path, code) in [
        (Method::GET, "/nonexistent", 404),
        (Method::GET, "/primaryx", 404),
        (Method::HEAD, "/nonexistent", 404),
        (Method::OPTIONS, "/nonexistent", 404),
        (Method::GET, "/switchover", 404),
        (Method::HEAD, "/config", 503),
        (Method::OPTIONS, "/patroni", 503),
        (Method::HEAD, "/", 200),
        (Method::OPTIONS, "/primary", 200),
        (Method::OPTIONS, "/replica", 503),
        (Method::GET, "/failsafe", 502),
        (Method::POST, "/failsafe", 502),
        (Method::POST, "/nonexistent", 501),
        (Method::PUT, "/nonexistent", 501),
        (Method::DELETE, "/config", 501),
        (propfind(), "/", 501),
    ] {
        let answer = member.ask(method.clone(), path, None).await;
        assert_eq!(answer.status().as_u16(), code, "{method} {path}");
        if [Method::HEAD, Method::OPTIONS].contains(&method) {
            assert_eq!(answer.text().await.unwrap(), "");
        }
    }
    let (_, page) = member.post("/nonexistent", json!({})).await;
    assert!(page.contains("Error code: 501") && page.contains("Unsupported method ('POST')"));
}

#[tokio::test]
async fn broken_bodies_are_refused() {
    let member = Member::leader().await;
    for path in ["/switchover", "/failover", "/citus", "/mpp"] {
        for body in ["{}", "nonsense", "[1]"] {
            let answer = member.ask(Method::POST, path, Some(body)).await;
            assert_eq!(answer.status(), StatusCode::BAD_REQUEST, "{path} {body}");
        }
    }
    let restart = member.ask(Method::POST, "/restart", Some("[1]")).await;
    assert_eq!(restart.status(), StatusCode::BAD_REQUEST);
    let huge = format!("{{\"a\":\"{}\"}}", "x".repeat(2 << 20));
    let huge = member.ask(Method::PATCH, "/config", Some(&huge)).await;
    assert_eq!(huge.status(), StatusCode::PAYLOAD_TOO_LARGE);

    assert!(raw(&member, "").await.starts_with("HTTP/1.1 411"));
    assert!(raw(&member, "Content-Length: 0\r\n").await.starts_with("HTTP/1.1 400"));
}

/// A PATCH without a body and with these headers, as bytes on the wire.
async fn raw(member: &Member, headers: &str) -> String {
    let mut wire = tokio::net::TcpStream::connect(member.handle.addresses[0]).await.unwrap();
    let start = "PATCH /config HTTP/1.1\r\nHost: x\r\nConnection: close\r\n";
    wire.write_all(format!("{start}{headers}\r\n").as_bytes()).await.unwrap();
    let mut answer = String::new();
    let read = tokio::time::timeout(WAIT_MAX, wire.read_to_string(&mut answer)).await;
    read.unwrap().unwrap();
    answer
}

#[tokio::test]
async fn the_configuration_is_read_merged_and_replaced() {
    let mut member = Member::leader().await;
    assert_eq!(member.get("/config").await.0, 502);
    assert_eq!(member.patch(json!({"ttl": 30})).await.0, 503);
    let put = |body: &'static str| member.ask(Method::PUT, "/config", Some(body));
    let whole = r#"{"ttl": 30, "loop_wait": 10}"#;
    assert_eq!(said(put(r#"{"ttl":30,"loop_wait":10}"#).await).await, ok(whole));
    assert_eq!(member.stored(&member.keys.config()).unwrap(), r#"{"ttl":30,"loop_wait":10}"#);
    assert_eq!(member.get("/config").await, ok(whole));

    let merged = r#"{"ttl": 30, "loop_wait": 2, "no_such_key": 1}"#;
    assert_eq!(member.patch(json!({"loop_wait": 2, "no_such_key": 1})).await, ok(merged));
    let revision = member.store.read_now(&["/".to_string()]).unwrap().version;
    assert_eq!(member.patch(json!({"loop_wait": "2", "gone": null})).await, ok(merged));
    assert_eq!(member.store.read_now(&["/".to_string()]).unwrap().version, revision);
    let (code, why) = member.patch(json!({"ttl": "abc"})).await;
    assert_eq!(code, 400);
    assert!(why.contains("`ttl`") && why.contains("abc"), "{why}");
    assert_eq!(said(put(r#"{"pause":"maybe"}"#).await).await.0, 400);
    assert_eq!(said(put("{}").await).await.0, 400);
    assert_eq!(member.patch(json!({"slots": {"a": 0, "b": null}})).await.0, 200);
    let stored = member.stored(&member.keys.config()).unwrap();
    assert!(stored.contains(r#""slots":{"a":0,"b":null}"#), "{stored}");
    assert!(matches!(member.command().await, Command::Wake));
}

#[tokio::test]
async fn while_the_store_is_away_nothing_can_be_changed() {
    let member = Member::leader().await;
    member.store.set_unreachable(true);
    assert_eq!(member.patch(json!({"ttl": 20})).await.0, 503);
    assert_eq!(member.post("/switchover", json!({"leader": "n1"})).await.0, 503);
    assert_eq!(member.get("/primary").await.0, 200);
    assert_eq!(member.get("/metrics/").await.0, 200);
}

#[tokio::test]
async fn what_is_stored_is_shown() {
    let member = Member::leader().await;
    assert_eq!(member.get("/history").await, ok("[]"));
    member.settle(&[("n1", "http://127.0.0.1:1/patroni".to_string())]);
    member.put(&member.keys.history(), r#"[[1,67438800,"x","2026-11-20T22:00:06+00:00","n2"]]"#);
    let line = r#"[[1, 67438800, "x", "2026-11-20T22:00:06+00:00", "n2"]]"#;
    assert_eq!(member.get("/history").await, ok(line));
    let (code, cluster) = member.get("/cluster?x=1").await;
    assert_eq!(code, 200);
    assert!(cluster.starts_with(r#"{"members": [{"name": "n1", "role": "leader""#), "{cluster}");
    assert_eq!(member.get("/decisions").await, ok(r#"[{"rule": 210}]"#));
}

#[tokio::test]
async fn health_checks_share_a_query_and_patroni_always_asks() {
    let member = Member::leader().await;
    let checks = (0..30).map(|_| member.get("/primary"));
    let mut answers = tokio::task::JoinSet::new();
    for url in checks.map(|_| member.url("/primary")) {
        let client = member.client.clone();
        answers.spawn(async move { client.get(url).send().await.unwrap().status() });
    }
    assert!(answers.join_all().await.iter().all(|status| *status == StatusCode::OK));
    assert_eq!(member.server.asked.load(Ordering::SeqCst), 1);
    member.get("/patroni").await;
    member.get("/patroni").await;
    assert_eq!(member.server.asked.load(Ordering::SeqCst), 3);
    let mut me = published("n1");
    (me.last_beat, me.monitor) = (NOW, Some(Arc::new(primary())));
    member.publish.send_replace(Arc::new(me));
    member.get("/primary").await;
    assert_eq!(member.server.asked.load(Ordering::SeqCst), 3);
}

#[tokio::test]
async fn peers_answer_each_other() {
    let (leader, replica) = pair().await;
    let peers = crate::peers::Peers::new(&settings(RestApi::default())).unwrap();
    let asked = [
        ("n3".into(), "http://127.0.0.1:1/patroni".to_string()),
        ("n2".into(), replica.url("/patroni")),
        ("n1".into(), leader.url("/patroni")),
    ];
    let answers = peers.statuses(&asked).await;
    assert_eq!(answers.iter().map(|a| a.name.as_str()).collect::<Vec<_>>(), ["n3", "n2", "n1"]);
    assert_eq!(answers[0].status, None);
    let standby = answers[1].status.as_ref().unwrap();
    assert!(standby.in_recovery && standby.lsn == Lsn(67108960));
    assert!(!answers[2].status.as_ref().unwrap().in_recovery);
}

#[tokio::test]
async fn p4_a_patch_and_a_put_are_refused_with_their_path() {
    let member = Member::leader().await;
    let config = || member.stored(&member.keys.config()).unwrap();
    member.put(&member.keys.config(), r#"{"ttl":30,"postgresql":{"pg_hba":"broken"}}"#);
    let before = config();
    let body = r#"{"postgresql":{"parameters":"max_connections = 100\nwork_mem = 4MB"}}"#;
    let why = "/config: `postgresql.parameters`: a text is no map; write `key: value` lines";
    for method in [Method::PATCH, Method::PUT] {
        let answer = said(member.ask(method, "/config", Some(body)).await).await;
        assert_eq!(answer, (400, why.to_string()));
        assert_eq!(config(), before);
    }
    assert_eq!(member.patch(json!({"postgresql": {"use_slots": true}})).await.0, 200);
    assert_eq!(member.patch(json!({"pause": true})).await.0, 200);
}

/// A store in which another client writes `/config` right after it was read.
struct Contested(MemoryStore);

impl Store for Contested {
    fn read<'a>(&'a self, prefixes: &'a [String]) -> Answer<'a, Snapshot> {
        let key = prefixes[0].clone();
        Box::pin(async move {
            let read = self.0.read(prefixes).await;
            self.0.edit_now([Edit::put(key, r#"{"ttl":77}"#)])?;
            read
        })
    }

    fn write<'a>(&'a self, keys: &'a Keys, write: &'a Write) -> Answer<'a, Written> {
        self.0.write(keys, write)
    }

    fn watch<'a>(
        &'a self,
        prefixes: &'a [String],
        version: Version,
    ) -> Answer<'a, mpsc::Receiver<WatchItem>> {
        self.0.watch(prefixes, version)
    }

    fn grant(&self, ttl: Duration) -> Answer<'_, Session> {
        self.0.grant(ttl)
    }

    fn renew(&self, session: Session) -> Answer<'_, Renewal> {
        self.0.renew(session)
    }
}

#[tokio::test]
async fn a_lost_race_for_the_configuration_is_a_conflict() {
    let member = Member::leader().await;
    member.put(&member.keys.config(), r#"{"ttl":30}"#);
    let settings = settings(RestApi::default());
    let (mut context, _publish, _commands) =
        context(settings, published("n1"), &member.store, &member.server);
    context.store = Arc::new(Contested(member.store.client()));
    let contested = serve(context).await.unwrap();
    let url = format!("http://{}/config", contested.addresses[0]);
    let patched = member.client.patch(&url).body(r#"{"ttl": 20}"#).send().await.unwrap();
    assert_eq!(patched.status(), StatusCode::CONFLICT);
    let replaced = member.client.put(&url).body(r#"{"ttl": 20}"#).send().await.unwrap();
    assert_eq!(replaced.status(), StatusCode::BAD_GATEWAY);
    assert_eq!(member.stored(&member.keys.config()).as_deref(), Some(r#"{"ttl":77}"#));
}

#[tokio::test]
async fn a_taken_port_is_named_and_a_stopped_server_frees_it() {
    let member = Member::leader().await;
    let port = member.handle.addresses[0].port();
    let again = || {
        let mut settings = settings(RestApi::default());
        settings.restapi.listen_port = port;
        context(settings, published("n1"), &member.store, &member.server).0
    };
    let error = serve(again()).await.err().unwrap().to_string();
    assert!(error.contains("restapi.listen") && error.contains(&port.to_string()), "{error}");
    let context = again();
    member.handle.stop().await;
    serve(context).await.unwrap().stop().await;
}
