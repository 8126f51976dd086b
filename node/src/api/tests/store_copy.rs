//! `/cluster`, `/config`, `/history` and `/topology` come from the member's copy of the store.

use super::member::{Member, context};
use super::*;
use crate::api::serve;
use crate::dcs::keys::Keys;
use crate::dcs::memory::MemoryStore;
use crate::dcs::{Answer, Renewal, Session, Snapshot, Store, Version, WatchItem, Write, Written};
use reqwest::Method;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;
use tokio::sync::mpsc;

const PATHS: [&str; 4] = ["/cluster", "/config", "/history", "/topology"];

/// A store that counts how often it is read.
pub(super) struct Counted {
    pub store: MemoryStore,
    pub reads: AtomicUsize,
}

impl Store for Counted {
    fn read<'a>(&'a self, prefixes: &'a [String]) -> Answer<'a, Snapshot> {
        self.reads.fetch_add(1, Ordering::SeqCst);
        self.store.read(prefixes)
    }

    fn write<'a>(&'a self, keys: &'a Keys, write: &'a Write) -> Answer<'a, Written> {
        self.store.write(keys, write)
    }

    fn watch<'a>(
        &'a self,
        prefixes: &'a [String],
        version: Version,
    ) -> Answer<'a, mpsc::Receiver<WatchItem>> {
        self.store.watch(prefixes, version)
    }

    fn grant(&self, ttl: Duration) -> Answer<'_, Session> {
        self.store.grant(ttl)
    }

    fn renew(&self, session: Session) -> Answer<'_, Renewal> {
        self.store.renew(session)
    }
}

#[tokio::test]
async fn s6_documents_cost_the_store_nothing_and_say_how_old_they_are() {
    let member = Member::leader().await;
    member.settle(&[("n1", "http://127.0.0.1:1/patroni".to_string())]);
    let (mut context, _publish, _commands) =
        context(settings(RestApi::default()), published("n1"), &member.store, &member.server);
    let store = Arc::new(Counted { store: member.store.client(), reads: AtomicUsize::new(0) });
    context.store = store.clone();
    context.mirror.ready(super::member::WAIT_MAX).await.expect("a copy");
    let handle = serve(context).await.unwrap();
    for _ in 0..20 {
        for path in PATHS {
            let url = format!("http://{}{path}", handle.addresses[0]);
            let answer = member.client.get(url).send().await.unwrap();
            assert_eq!(answer.status(), 200, "{path}");
            let age = answer.headers()["age"].to_str().unwrap().parse::<u64>();
            assert!(age.unwrap() < 60, "{path}");
        }
    }
    assert_eq!(store.reads.load(Ordering::SeqCst), 0);
}

#[tokio::test]
async fn s6_what_was_changed_here_is_shown_at_once() {
    let member = Member::leader().await;
    member.settle(&[("n1", "http://127.0.0.1:1/patroni".to_string())]);
    for loop_wait in 1..50 {
        let text = format!(r#"{{"ttl": 30, "loop_wait": {loop_wait}}}"#);
        let put = member.ask(Method::PUT, "/config", Some(&text)).await;
        assert_eq!(put.status(), 200);
        let shown = member.ask(Method::GET, "/config", None).await;
        assert_eq!(shown.text().await.unwrap(), text);
    }
}

#[tokio::test]
async fn s6_a_lost_store_is_shown_for_one_ttl() {
    let mut me = published("n1");
    me.ttl_ms = 1_500;
    let member = Member::start(me, primary(), RestApi::default()).await;
    member.settle(&[("n1", "http://127.0.0.1:1/patroni".to_string())]);
    assert_eq!(member.get("/cluster").await.0, 200);
    member.store.set_unreachable(true);
    member.store.break_watches();
    assert_eq!(member.get("/cluster").await.0, 200);
    let end = std::time::Instant::now() + super::member::WAIT_MAX;
    let (code, sentence) = loop {
        match member.get("/config").await {
            (200, _) if std::time::Instant::now() < end => {
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
            answer => break answer,
        }
    };
    assert_eq!(code, 503, "{sentence}");
    assert!(sentence.starts_with("the configuration store cannot be used: its last"), "{sentence}");
}
