//! The REST API of one member.
//!
//! Endpoints are rows; all requests take one path: find the row, let the gate
//! check a caller that wants to change something, answer. HTTP/1.1 with exact
//! paths. Reading never needs a password.
//!
//! Invariant *no write here*: this directory writes to the store only what an
//! operator asked for, and only on the version it read; PostgreSQL is touched
//! by the daemon alone.

pub(crate) mod answer;
pub(crate) mod auth;
mod body_cache;
mod call;
mod caller;
mod ciphers;
mod cluster;
mod commands;
mod configuration;
mod connection;
pub mod decisions;
pub mod dynamic;
pub mod endpoints;
pub(crate) mod failsafe;
mod formation;
pub(crate) mod health;
mod information;
pub(crate) mod listen;
mod look;
mod member_addresses;
pub(crate) mod metrics;
mod places;
pub(crate) mod published;
pub(crate) mod restart;
mod restart_request;
mod rounds;
mod router;
mod schedule;
mod scope_read;
pub mod slots;
pub(crate) mod status;
mod store_copy;
mod stream;
mod switchover;
#[cfg(test)]
pub(crate) mod tests;
pub(crate) mod tls;

pub use published::{ApiContext, Command, Fresh, Published};
pub use status::status_json;

use crate::config::Settings;
use crate::peers::{ClientError, Peers};
use auth::{BadAllowlist, Gate};
use axum::http::{HeaderName, HeaderValue, header};
use listen::{ListenError, Listeners, Ports, client_proof};
use look::{Api, Rules};
use std::net::SocketAddr;
use std::sync::{Arc, PoisonError};
use tokio::sync::Mutex;
use tokio::task::JoinHandle;

#[derive(Debug, thiserror::Error)]
pub enum ApiError {
    #[error(transparent)]
    Listen(#[from] ListenError),
    #[error(transparent)]
    Allowlist(#[from] BadAllowlist),
    #[error(transparent)]
    Client(#[from] ClientError),
    #[error("restapi.http_extra_headers: `{0}` is not a header that can be sent")]
    Header(String),
}

/// A running server. It ends with this value.
pub struct ServerHandle {
    pub addresses: Vec<SocketAddr>,
    api: Arc<Api>,
    listeners: Listeners,
    members: JoinHandle<()>,
}

/// Opens the ports of `restapi.listen` and answers until it is stopped.
pub async fn serve(context: ApiContext) -> Result<ServerHandle, ApiError> {
    let settings = context.settings.clone();
    let rules = std::sync::RwLock::new(Arc::new(rules(&settings).await?));
    let ports = Ports::open(&settings.restapi).await?;
    let api = Arc::new(Api {
        rounds: rounds::Rounds::spawn(context.fresh.clone()),
        context,
        rules,
        last_answer: Mutex::new(None),
        last_scope_read: Mutex::new(None),
        health_body: Default::default(),
        status_body: Default::default(),
        newest_shown: Default::default(),
    });
    let places = places::Places::new();
    let published = api.context.published.clone();
    let members = tokio::spawn(member_addresses::keep_known(places.clone(), published));
    let listeners = ports.serve(api.clone(), places);
    Ok(ServerHandle { addresses: listeners.addresses(), api, listeners, members })
}

async fn rules(settings: &Settings) -> Result<Rules, ApiError> {
    let proof = client_proof(&settings.restapi)?;
    Ok(Rules {
        gate: Gate::new(&settings.restapi, proof).await?,
        peers: Peers::new(settings)?,
        headers: response_headers(&settings.restapi)?,
    })
}

impl ServerHandle {
    /// Answers as these settings say from now on: address, certificates, who
    /// may change something, headers. On an error all of it stays as it was.
    pub async fn reload(&mut self, settings: &Settings) -> Result<(), ApiError> {
        let rules = rules(settings).await?;
        self.listeners.reopen(&settings.restapi).await?;
        *self.api.rules.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(rules);
        self.addresses = self.listeners.addresses();
        Ok(())
    }

    /// Closes the ports, then gives running requests a moment to end.
    pub async fn stop(self) {
        self.listeners.close().await;
    }
}

impl Drop for ServerHandle {
    fn drop(&mut self) {
        self.members.abort();
    }
}

fn response_headers(
    settings: &crate::config::RestApi,
) -> Result<Vec<(HeaderName, HeaderValue)>, ApiError> {
    let server = match settings.server_tokens.to_ascii_lowercase().as_str() {
        "productonly" => "Patroni".to_string(),
        "minimal" => format!("Patroni/{}", topology::member::PATRONI_VERSION),
        _ => format!("Matriarch/{}", env!("CARGO_PKG_VERSION")),
    };
    let named = |name: &str, value: &str| -> Result<(HeaderName, HeaderValue), ApiError> {
        let bad = || ApiError::Header(name.to_string());
        let name = HeaderName::from_bytes(name.as_bytes()).map_err(|_| bad())?;
        Ok((name, HeaderValue::from_str(value).map_err(|_| bad())?))
    };
    let mut headers = vec![named(header::SERVER.as_str(), &server)?];
    for (name, value) in &settings.http_extra_headers {
        headers.push(named(name, value)?);
    }
    Ok(headers)
}
