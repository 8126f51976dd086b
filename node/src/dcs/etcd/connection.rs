//! Which endpoint of an etcd cluster is in use.
//!
//! Endpoints are tried in order, starting with the one after the last that
//! failed, each a little after the one before so that a silent endpoint costs
//! little. An endpoint counts when it answers a linearizable read: one that is
//! cut off from the majority does not. A name's addresses are all tried by the
//! connector below (IPv6 and IPv4 at once).

use super::translate;
use crate::config::StoreSettings;
use crate::dcs::DcsError;
use etcd_client::{
    Certificate, Client, ConnectOptions, Error, GetOptions, Identity, KvClient, TlsOptions,
};
use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::task::JoinSet;

/// A ping after this long without traffic. etcd's servers close connections
/// that ping more often than every 5 seconds.
const PING_INTERVAL: Duration = Duration::from_secs(6);
const PING_TIMEOUT: Duration = Duration::from_secs(4);
/// The head start of an endpoint before the next one.
const STAGGER: Duration = Duration::from_millis(250);
const CONNECT_MIN: Duration = Duration::from_secs(1);
/// Largest answer that is accepted.
const ANSWER_BYTES_MAX: usize = 64 << 20;
/// Read when a connection is opened; it need not exist.
const PROBE_KEY: &str = "/matriarch-probe";
/// Where systems keep the authorities they trust.
const SYSTEM_AUTHORITIES: [&str; 3] =
    ["/etc/ssl/certs/ca-certificates.crt", "/etc/pki/tls/certs/ca-bundle.crt", "/etc/ssl/cert.pem"];

#[derive(Clone)]
pub struct Connection {
    pub client: Client,
    endpoint: usize,
    serial: u64,
}

pub struct Connections {
    endpoints: Vec<Endpoint>,
    options: ConnectOptions,
    login: Option<(String, String)>,
    slot: Mutex<Slot>,
    /// Held by the call that connects; the others wait for its success.
    connecting: tokio::sync::Mutex<()>,
}

#[derive(Clone)]
struct Endpoint {
    /// `host:port`, as configured.
    name: String,
    url: String,
}

#[derive(Default)]
struct Slot {
    current: Option<Connection>,
    /// The endpoint that is tried first.
    next: usize,
    serial: u64,
}

impl Connections {
    pub fn new(settings: &StoreSettings, timeout: Duration) -> Result<Connections, DcsError> {
        if settings.hosts.is_empty() {
            return Err(DcsError::Settings("no endpoints; set etcd3.hosts".to_string()));
        }
        let scheme = if settings.protocol == "https" { "https" } else { "http" };
        let endpoint = |host: &String| {
            let name = host.split_once("://").map_or(host.as_str(), |(_, rest)| rest);
            Endpoint { name: name.to_string(), url: format!("{scheme}://{name}") }
        };
        let mut options = ConnectOptions::new()
            .with_require_leader(true)
            .with_auto_token_refresh(true)
            // etcd takes pings without an open stream for an attack.
            .with_keep_alive_while_idle(false)
            .with_keep_alive(PING_INTERVAL, PING_TIMEOUT)
            .with_connect_timeout((timeout / 2).max(CONNECT_MIN));
        if scheme == "https" {
            options = options.with_tls(tls(settings)?);
        }
        let password = settings.password.clone().unwrap_or_default().0;
        Ok(Connections {
            endpoints: settings.hosts.iter().map(endpoint).collect(),
            options,
            login: settings.username.clone().map(|username| (username, password)),
            slot: Mutex::default(),
            connecting: tokio::sync::Mutex::default(),
        })
    }

    pub fn set_keep_alive(&mut self, interval: Duration, timeout: Duration) {
        self.options = self.options.clone().with_keep_alive(interval, timeout);
    }

    pub fn count(&self) -> usize {
        self.endpoints.len()
    }

    pub fn logs_in(&self) -> bool {
        self.login.is_some()
    }

    pub fn name(&self, connection: &Connection) -> &str {
        &self.endpoints[connection.endpoint].name
    }

    pub fn names(&self) -> String {
        let names: Vec<_> = self.endpoints.iter().map(|e| e.name.as_str()).collect();
        names.join(", ")
    }

    /// The connection in use, or a new one. Its caller sets the deadline.
    pub async fn get(&self) -> Result<Connection, DcsError> {
        if let Some(connection) = self.slot().current.clone() {
            return Ok(connection);
        }
        let _turn = self.connecting.lock().await;
        if let Some(connection) = self.slot().current.clone() {
            return Ok(connection);
        }
        let first = self.slot().next;
        let (endpoint, client) = self.race(first).await?;
        let mut slot = self.slot();
        slot.serial += 1;
        let connection = Connection { client, endpoint, serial: slot.serial };
        slot.current = Some(connection.clone());
        Ok(connection)
    }

    /// Leaves a connection that failed, unless somebody replaced it already.
    pub fn leave(&self, failed: &Connection) {
        let mut slot = self.slot();
        if slot.current.as_ref().is_some_and(|current| current.serial == failed.serial) {
            slot.current = None;
            slot.next = (failed.endpoint + 1) % self.endpoints.len();
        }
    }

    pub fn leave_current(&self) {
        let current = self.slot().current.clone();
        if let Some(current) = current {
            self.leave(&current);
        }
    }

    fn slot(&self) -> MutexGuard<'_, Slot> {
        self.slot.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The first endpoint that answers, tried from `first` on in a circle.
    async fn race(&self, first: usize) -> Result<(usize, Client), DcsError> {
        let count = self.endpoints.len();
        let mut waiting = (0..count).map(|i| (first + i) % count);
        let mut running = JoinSet::new();
        let mut failures = Vec::new();
        loop {
            let started = waiting.next().inspect(|&i| {
                let (endpoint, options) = (self.endpoints[i].clone(), self.options.clone());
                let login = self.login.clone();
                running.spawn(async move { (i, open(&endpoint.url, options, login).await) });
            });
            let head_start = if started.is_some() { STAGGER } else { Duration::MAX };
            match tokio::time::timeout(head_start, running.join_next()).await {
                Err(_) => {}
                Ok(None) => return Err(verdict(failures)),
                Ok(Some(Ok((i, Ok(client))))) => return Ok((i, client)),
                Ok(Some(Ok((i, Err(error))))) => {
                    failures.push((self.endpoints[i].name.clone(), translate::error(error)));
                }
                Ok(Some(Err(stopped))) => {
                    let failure = translate::unreachable(stopped.to_string());
                    failures.push(("an endpoint".to_string(), failure));
                }
            }
        }
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

async fn open(
    url: &str,
    options: ConnectOptions,
    login: Option<(String, String)>,
) -> Result<Client, Error> {
    let with_login = match login {
        Some((name, password)) => options.clone().with_user(name, password),
        None => options.clone(),
    };
    let client = match Client::connect([url], Some(with_login)).await {
        Err(error) if translate::is_auth_off(&error) => Client::connect([url], Some(options)).await,
        other => other,
    }?;
    let probe = Some(GetOptions::new().with_count_only());
    match client.kv_client().get(PROBE_KEY, probe).await {
        Err(error) if !translate::is_permission(&error) => Err(error),
        _ => Ok(client),
    }
}

/// The part of a client that reads and writes keys.
pub fn kv(client: &Client) -> KvClient {
    client.kv_client().max_decoding_message_size(ANSWER_BYTES_MAX)
}

/// The part of a client that watches.
pub fn watches(client: &Client) -> etcd_client::WatchClient {
    client.watch_client().max_decoding_message_size(ANSWER_BYTES_MAX)
}

fn tls(settings: &StoreSettings) -> Result<TlsOptions, DcsError> {
    let authorities = match &settings.cacert {
        Some(path) => read(path, "etcd3.cacert")?,
        None => system_authorities()?,
    };
    let options = TlsOptions::new().ca_certificate(Certificate::from_pem(authorities));
    let Some(cert) = &settings.cert else {
        return Ok(options);
    };
    // A certificate file may hold its key, too.
    let key = read(settings.key.as_ref().unwrap_or(cert), "etcd3.key")?;
    Ok(options.identity(Identity::from_pem(read(cert, "etcd3.cert")?, key)))
}

fn system_authorities() -> Result<Vec<u8>, DcsError> {
    let found = SYSTEM_AUTHORITIES.iter().find_map(|path| std::fs::read(path).ok());
    let remedy = "no certificate authorities on this system; set etcd3.cacert";
    found.ok_or_else(|| DcsError::Settings(remedy.to_string()))
}

fn read(path: &Path, setting: &str) -> Result<Vec<u8>, DcsError> {
    let told = |e| DcsError::Settings(format!("{setting}: {} is unreadable: {e}", path.display()));
    std::fs::read(path).map_err(told)
}
