//! Which endpoint of an etcd cluster is in use.
//!
//! Endpoints are tried in order, starting with the one after the last that
//! failed, each a little after the one before so that a silent endpoint costs
//! little. An endpoint counts when it answers a linearizable read: one that is
//! cut off from the majority does not. It must belong to the cluster that
//! answered before (see `identity`).

use super::endpoint::Endpoint;
use super::endpoints::Endpoints;
use super::identity::{Identity, foreign};
use super::link::Timing;
use super::{link, translate};
use crate::dcs::DcsError;
use crate::dcs::settings::StoreSettings;
use etcd_client::{Client, ConnectOptions, GetOptions, KvClient};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::task::JoinSet;

/// A ping after this long without traffic. etcd's servers close connections
/// that ping more often than every 5 seconds.
const PING_INTERVAL: Duration = Duration::from_secs(6);
const PING_TIMEOUT: Duration = Duration::from_secs(4);
/// The head start of an endpoint before the next one.
const STAGGER: Duration = Duration::from_millis(250);
const CONNECT_MIN: Duration = Duration::from_secs(1);
/// Deadline of the request for the list of members; no caller waits for its answer.
const MEMBERS_WAIT_MAX: Duration = Duration::from_secs(3);
/// Largest answer that is accepted.
const ANSWER_BYTES_MAX: usize = 64 << 20;
/// Read when a connection is opened; it need not exist.
const PROBE_KEY: &str = "/matriarch-probe";

#[derive(Clone)]
pub(super) struct Connection {
    pub client: Client,
    endpoint: Endpoint,
    serial: u64,
}

impl Connection {
    pub(super) fn name(&self) -> &str {
        &self.endpoint.name
    }
}

pub(super) struct Connections {
    pub endpoints: Endpoints,
    pub identity: Arc<Identity>,
    timing: Timing,
    /// Certificates and login; only these change in a running process.
    settings: Mutex<StoreSettings>,
    slot: Mutex<Slot>,
    /// Held by the call that connects; the others wait for its success.
    connecting: tokio::sync::Mutex<()>,
}

#[derive(Default)]
struct Slot {
    current: Option<Connection>,
    /// The endpoint before the one that is tried first.
    failed: Option<Endpoint>,
    serial: u64,
}

/// What the race for an answer brought so far.
#[derive(Default)]
struct Race {
    failures: Vec<(String, DcsError)>,
    /// The first endpoint of another cluster than before.
    foreign: Option<(Endpoint, Client, u64)>,
    /// An endpoint may still belong to the cluster that was in use before.
    maybe_there: bool,
}

impl Connections {
    pub(super) fn new(
        settings: &StoreSettings,
        timeout: Duration,
    ) -> Result<Connections, DcsError> {
        let endpoints = Endpoints::new(settings)?;
        if settings.protocol == "https" {
            link::client_config(settings)?;
        }
        let timing = Timing {
            connect: (timeout / 2).max(CONNECT_MIN),
            ping_interval: PING_INTERVAL,
            ping_timeout: PING_TIMEOUT,
        };
        Ok(Connections {
            endpoints,
            identity: Arc::default(),
            timing,
            settings: Mutex::new(settings.clone()),
            slot: Mutex::default(),
            connecting: tokio::sync::Mutex::default(),
        })
    }

    #[cfg(test)]
    pub(super) fn set_keep_alive(&mut self, interval: Duration, timeout: Duration) {
        (self.timing.ping_interval, self.timing.ping_timeout) = (interval, timeout);
    }

    /// Takes another login; what runs goes on, the next call logs in anew.
    pub(super) fn set_login(&self, settings: &StoreSettings) {
        let mut own = self.settings();
        if (&own.username, &own.password) != (&settings.username, &settings.password) {
            own.username = settings.username.clone();
            own.password = settings.password.clone();
            self.slot().current = None;
        }
    }

    pub(super) fn count(&self) -> usize {
        self.endpoints.known().len().max(1)
    }

    pub(super) fn logs_in(&self) -> bool {
        self.settings().username.is_some()
    }

    pub(super) fn names(&self) -> String {
        let names: Vec<_> = self.endpoints.known().into_iter().map(|e| e.name).collect();
        names.join(", ")
    }

    /// The connection in use, or a new one. Its caller sets the deadline.
    pub(super) async fn get(self: &Arc<Self>) -> Result<Connection, DcsError> {
        let current = self.slot().current.clone();
        let connection = match current {
            Some(connection) => connection,
            None => self.open().await?,
        };
        if self.endpoints.take_turn() {
            tokio::spawn(learn(self.clone(), connection.client.clone()));
        }
        Ok(connection)
    }

    async fn open(&self) -> Result<Connection, DcsError> {
        let _turn = self.connecting.lock().await;
        if let Some(connection) = self.slot().current.clone() {
            return Ok(connection);
        }
        self.endpoints.resolve().await?;
        let raced = self.race().await;
        let (endpoint, client) = raced.inspect_err(|_| self.endpoints.distrust())?;
        let mut slot = self.slot();
        slot.serial += 1;
        let connection = Connection { client, endpoint, serial: slot.serial };
        slot.current = Some(connection.clone());
        // A member was left, so the members may be others now.
        self.endpoints.refresh();
        Ok(connection)
    }

    /// Leaves a connection that failed, unless another caller replaced it already.
    pub(super) fn leave(&self, failed: &Connection) {
        let mut slot = self.slot();
        if slot.current.as_ref().is_some_and(|current| current.serial == failed.serial) {
            slot.current = None;
            slot.failed = Some(failed.endpoint.clone());
        }
    }

    pub(super) fn leave_current(&self) {
        let current = self.slot().current.clone();
        if let Some(current) = current {
            self.leave(&current);
        }
    }

    fn slot(&self) -> MutexGuard<'_, Slot> {
        self.slot.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn settings(&self) -> MutexGuard<'_, StoreSettings> {
        self.settings.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// All endpoints, the one after the last that failed first.
    fn in_order(&self) -> Vec<Endpoint> {
        let mut all = self.endpoints.known();
        let failed = self.slot().failed.clone();
        if let Some(at) = all.iter().position(|endpoint| Some(endpoint) == failed.as_ref()) {
            all.rotate_left(at + 1);
        }
        all
    }

    /// The first endpoint that answers and is of our cluster.
    async fn race(&self) -> Result<(Endpoint, Client), DcsError> {
        let settings = Arc::new(self.settings().clone());
        let mut waiting = self.in_order().into_iter();
        let mut running = JoinSet::new();
        let mut race = Race::default();
        loop {
            let started = waiting.next().inspect(|endpoint| {
                let (endpoint, settings) = (endpoint.clone(), settings.clone());
                let timing = self.timing;
                running.spawn(async move {
                    let opened = open(&endpoint, &settings, &timing).await;
                    (endpoint, opened)
                });
            });
            let head_start = if started.is_some() { STAGGER } else { Duration::MAX };
            match tokio::time::timeout(head_start, running.join_next()).await {
                Err(_) => {}
                Ok(None) => return race.end(&self.identity),
                Ok(Some(Ok((endpoint, Ok((client, cluster)))))) => {
                    if self.identity.is_ours(cluster) {
                        self.identity.adopt(cluster);
                        return Ok((endpoint, client));
                    }
                    race.meet(endpoint, client, cluster);
                }
                Ok(Some(Ok((endpoint, Err(error))))) => race.fail(endpoint.name, error),
                Ok(Some(Err(stopped))) => {
                    race.fail("an endpoint".into(), translate::unreachable(stopped.to_string()));
                }
            }
        }
    }
}

impl Race {
    fn meet(&mut self, endpoint: Endpoint, client: Client, cluster: u64) {
        if self.foreign.is_none() {
            self.foreign = Some((endpoint, client, cluster));
        } else if self.foreign.as_ref().is_some_and(|(_, _, other)| *other != cluster) {
            // Two strangers: which of them is the store is not for us to say.
            self.maybe_there = true;
        }
    }

    fn fail(&mut self, name: String, error: DcsError) {
        self.maybe_there |= !translate::is_refused_connection(&error);
        self.failures.push((name, error));
    }

    fn end(mut self, identity: &Identity) -> Result<(Endpoint, Client), DcsError> {
        if let Some((endpoint, client, cluster)) = self.foreign.take() {
            if !self.maybe_there {
                identity.adopt(cluster);
                return Ok((endpoint, client));
            }
            self.failures.push((endpoint.name, foreign(cluster)));
        }
        Err(verdict(self.failures))
    }
}

/// What to tell when no endpoint answered well: a refusal is worth more than a
/// silence, because waiting does not end it.
fn verdict(failures: Vec<(String, DcsError)>) -> DcsError {
    let mut reasons = Vec::new();
    for (name, error) in failures {
        match error {
            DcsError::Unreachable { reason, .. } => reasons.push(format!("{name}: {reason}")),
            refusal => return refusal,
        }
    }
    translate::unreachable(reasons.join("; "))
}

/// A client and the cluster that answered it.
async fn open(
    endpoint: &Endpoint,
    settings: &StoreSettings,
    timing: &Timing,
) -> Result<(Client, u64), DcsError> {
    let channel = link::channel(endpoint, settings, timing)?;
    let options = ConnectOptions::new().with_require_leader(true).with_auto_token_refresh(true);
    let login = settings.username.clone().map(|username| {
        let password = settings.password.clone().unwrap_or_default().0;
        (username, password)
    });
    let with_login = match login {
        Some((name, password)) => options.clone().with_user(name, password),
        None => options.clone(),
    };
    let client = match Client::from_channel(channel.clone(), Some(with_login)).await {
        Err(error) if translate::is_auth_off(&error) => {
            Client::from_channel(channel, Some(options)).await
        }
        other => other,
    };
    let client = client.map_err(translate::error)?;
    let cluster = probe(&client).await?;
    Ok((client, cluster))
}

/// Does a majority stand behind this endpoint, and of which cluster?
async fn probe(client: &Client) -> Result<u64, DcsError> {
    let count = Some(GetOptions::new().with_count_only());
    match client.kv_client().get(PROBE_KEY, count).await {
        Ok(answer) => Ok(answer.header().map_or(0, |header| header.cluster_id())),
        // A member that refuses a user has asked the others about the user.
        Err(error) if translate::is_permission(&error) => {
            let told = client.clone().member_list().await.ok();
            Ok(told.as_ref().and_then(|told| told.header()).map_or(0, |h| h.cluster_id()))
        }
        Err(error) => Err(translate::error(error)),
    }
}

/// Reads the list of members. That it cannot be read says nothing about the
/// store: it takes a privilege since etcd 3.6.
async fn learn(connections: Arc<Connections>, mut client: Client) {
    let told = tokio::time::timeout(MEMBERS_WAIT_MAX, client.member_list()).await;
    if let Ok(Ok(told)) = told
        && connections.identity.check_watch(told.header()).is_ok()
    {
        let members = told.members().iter();
        let urls = members.flat_map(|m| m.client_urls().iter().map(|url| url.to_string()));
        connections.endpoints.learn(urls);
    }
}

/// The part of a client that reads and writes keys.
pub(super) fn kv(client: &Client) -> KvClient {
    client.kv_client().max_decoding_message_size(ANSWER_BYTES_MAX)
}

/// The part of a client that watches.
pub(super) fn watches(client: &Client) -> etcd_client::WatchClient {
    client.watch_client().max_decoding_message_size(ANSWER_BYTES_MAX)
}
