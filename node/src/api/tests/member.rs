//! A member to call: a real port, a store in memory, a daemon that is played
//! by the test.

use super::*;
use crate::api::{ApiContext, Command, Fresh, ServerHandle, serve};
use crate::dcs::by_hand::Edit;
use crate::dcs::keys::Keys;
use crate::dcs::memory::MemoryStore;
use crate::dcs::mirror::Mirror;
use crate::tls::{Believed, Trust};
use reqwest::{Method, Response};
use std::future::Future;
use std::pin::Pin;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;
use tokio::sync::{mpsc, watch};

pub(super) const WAIT_MAX: Duration = Duration::from_secs(20);

/// A server that always answers the same, and counts.
#[derive(Default)]
pub(super) struct Server {
    answer: Mutex<Option<ServerStatus>>,
    pub asked: AtomicUsize,
}

impl Fresh for Server {
    fn status(&self) -> Pin<Box<dyn Future<Output = Option<ServerStatus>> + Send + '_>> {
        self.asked.fetch_add(1, Ordering::SeqCst);
        let answer = self.answer.lock().unwrap().clone();
        Box::pin(async move {
            tokio::time::sleep(Duration::from_millis(20)).await;
            answer
        })
    }
}

pub(super) struct Member {
    pub store: MemoryStore,
    pub keys: Keys,
    pub publish: watch::Sender<Arc<Published>>,
    pub commands: mpsc::Receiver<Command>,
    pub server: Arc<Server>,
    pub handle: ServerHandle,
    pub client: reqwest::Client,
    pub failsafe: crate::promises::SharedPromises,
    mirror: Arc<Mirror>,
}

pub(super) fn context(
    settings: Settings,
    me: Published,
    store: &MemoryStore,
    server: &Arc<Server>,
) -> (ApiContext, watch::Sender<Arc<Published>>, mpsc::Receiver<Command>) {
    let (publish, published) = watch::channel(Arc::new(me));
    let (sender, commands) = mpsc::channel(64);
    let keys = settings.keys();
    let context = ApiContext {
        settings: Arc::new(settings),
        store: Arc::new(store.clone()),
        mirror: Arc::new(Mirror::spawn(Arc::new(store.clone()), vec![keys.scope_prefix()])),
        keys,
        published,
        commands: sender,
        fresh: server.clone(),
        failsafe: Default::default(),
        decisions: Arc::new(|| json!([{"rule": 210}])),
        now: || NOW,
    };
    (context, publish, commands)
}

impl Member {
    pub(super) async fn start(me: Published, monitor: ServerStatus, restapi: RestApi) -> Member {
        Member::start_with(settings(restapi), me, monitor).await
    }

    pub(super) async fn start_with(
        settings: Settings,
        me: Published,
        monitor: ServerStatus,
    ) -> Member {
        Member::start_on(MemoryStore::new(), settings, me, monitor).await
    }

    pub(super) async fn start_on(
        store: MemoryStore,
        settings: Settings,
        me: Published,
        monitor: ServerStatus,
    ) -> Member {
        let server = Arc::new(Server::default());
        *server.answer.lock().unwrap() = Some(monitor);
        let keys = settings.keys();
        let (context, publish, commands) = context(settings, me, &store, &server);
        let (failsafe, mirror) = (context.failsafe.clone(), context.mirror.clone());
        let handle = serve(context).await.unwrap();
        let config = crate::tls::client_config(Believed::new(Trust::Anyone, None), None);
        let client = reqwest::Client::builder()
            .tls_backend_preconfigured(config.unwrap())
            .no_proxy()
            .timeout(WAIT_MAX)
            .build()
            .unwrap();
        Member { store, keys, publish, commands, server, handle, client, failsafe, mirror }
    }

    pub(super) async fn leader() -> Member {
        Member::start(published("n1"), primary(), RestApi::default()).await
    }

    pub(super) fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.handle.addresses[0])
    }

    pub(super) async fn ask(&self, method: Method, path: &str, body: Option<&str>) -> Response {
        let mut request = self.client.request(method, self.url(path));
        if let Some(body) = body {
            request = request.body(body.to_string());
        }
        request.send().await.unwrap()
    }

    /// Waits until the member's copy has what the test wrote into the store.
    async fn catch_up(&self) {
        let Ok(read) = self.store.read_now(&["/".to_string()]) else { return };
        self.mirror.ready(WAIT_MAX).await.expect("a copy of the store");
        let mut changes = self.mirror.subscribe();
        let behind = || self.mirror.snapshot().is_none_or(|v| v.snapshot.version < read.version);
        let caught_up = async { while behind() && changes.next().await.is_some() {} };
        tokio::time::timeout(WAIT_MAX, caught_up).await.expect("a copy of the store in time");
    }

    pub(super) async fn get(&self, path: &str) -> (u16, String) {
        self.catch_up().await;
        said(self.ask(Method::GET, path, None).await).await
    }

    pub(super) async fn post(&self, path: &str, body: Value) -> (u16, String) {
        said(self.ask(Method::POST, path, Some(&body.to_string())).await).await
    }

    pub(super) async fn patch(&self, body: Value) -> (u16, String) {
        said(self.ask(Method::PATCH, "/config", Some(&body.to_string())).await).await
    }

    pub(super) fn put(&self, key: &str, value: &str) {
        self.store.edit_now([Edit::put(key, value)]).unwrap();
    }

    pub(super) fn stored(&self, key: &str) -> Option<String> {
        let read = self.store.read_now(&[key.to_string()]).unwrap();
        read.entries.into_iter().find(|e| e.key == key).map(|e| e.value)
    }

    /// Writes the group of `view()` with the APIs' real addresses.
    pub(super) fn settle(&self, members: &[(&str, String)]) {
        self.put(&self.keys.config(), r#"{"ttl":30,"loop_wait":10}"#);
        self.put(&self.keys.leader(), "n1");
        self.put(&self.keys.status(), r#"{"optime":67108960}"#);
        for (name, api_url) in members {
            let record = json!({"api_url": api_url, "state": "running"});
            self.put(&self.keys.member(&(*name).into()), &record.to_string());
        }
    }

    pub(super) async fn command(&mut self) -> Command {
        let command = tokio::time::timeout(WAIT_MAX, self.commands.recv()).await;
        command.expect("a command in time").expect("a running API")
    }

    /// What a daemon does after a beat: it publishes what the store says now.
    pub(super) fn publish_store(&self) {
        let read = self.store.read_now(&[self.keys.group_prefix()]).unwrap();
        let mut groups = crate::dcs::keys::split_groups(&self.keys.scope_prefix(), &read.entries);
        let view = groups.remove(&self.keys.group).unwrap_or_default();
        let mut me = published("n1");
        me.view = Some(Arc::new(view));
        self.publish.send_replace(Arc::new(me));
    }
}

pub(super) async fn said(response: Response) -> (u16, String) {
    (response.status().as_u16(), response.text().await.unwrap())
}

pub(super) fn ok(text: &str) -> (u16, String) {
    (200, text.to_string())
}

pub(super) fn refused(code: u16, text: &str) -> (u16, String) {
    (code, text.to_string())
}

/// n1 leads, n2 is able, n3 does not answer.
pub(super) async fn pair() -> (Member, Member) {
    let leader = Member::leader().await;
    let store = leader.store.client();
    let replica =
        Member::start_on(store, settings(RestApi::default()), published("n2"), standby()).await;
    let silent = "http://127.0.0.1:1/patroni".to_string();
    leader.settle(&[
        ("n1", leader.url("/patroni")),
        ("n2", replica.url("/patroni")),
        ("n3", silent),
    ]);
    (leader, replica)
}
