//! The REST API of one member.
//!
//! Endpoints are rows; a request goes through one door: find the row, let the
//! gate judge whoever wants to change something, answer. HTTP/1.1 with exact
//! paths. Reading never needs a password.
//!
//! Invariant *no write here*: this directory writes to the store only what an
//! operator asked for, and only on the version it read; PostgreSQL is touched
//! by the daemon alone.

pub mod answer;
pub mod auth;
pub mod client;
mod cluster;
mod configuration;
mod dynamic;
pub mod failsafe;
pub mod health;
pub mod listen;
mod look;
pub mod metrics;
pub mod published;
mod restart;
mod router;
mod schedule;
pub mod status;
mod switchover;
#[cfg(test)]
mod tests;
pub mod tls;

pub use published::{ApiContext, Command, Fresh, Published};
pub use status::status_json;

use auth::{BadAllowlist, Gate};
use axum::http::{HeaderName, HeaderValue, header};
use client::{ClientError, Peers};
use listen::{Caller, ListenError, Ports, client_proof};
use look::Api;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{Mutex, oneshot};
use tokio::task::JoinHandle;

/// How long requests that run may take to end when the server stops.
const STOP_WAIT_MAX: Duration = Duration::from_secs(2);

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
    stop: Option<oneshot::Sender<()>>,
    task: JoinHandle<()>,
}

/// Opens the ports of `restapi.listen` and answers until it is stopped.
pub async fn serve(context: ApiContext) -> Result<ServerHandle, ApiError> {
    let settings = context.settings.clone();
    let proof = client_proof(&settings.restapi)?;
    let gate = Gate::new(&settings.restapi, proof).await?;
    let peers = Peers::new(&settings)?;
    let headers = response_headers(&settings.restapi)?;
    let ports = Ports::open(&settings.restapi).await?;
    let addresses = ports.addresses.clone();
    let last_answer = Mutex::new(None);
    let api = Arc::new(Api { context, peers, gate, headers, last_answer });
    let service = router::router(api).into_make_service_with_connect_info::<Caller>();
    let (stop, stopped) = oneshot::channel();
    let task = tokio::spawn(async move {
        let until = async move {
            let _ = stopped.await;
        };
        // The listener never fails: it waits out what goes wrong.
        let _ = axum::serve(ports, service).with_graceful_shutdown(until).await;
    });
    Ok(ServerHandle { addresses, stop: Some(stop), task })
}

impl ServerHandle {
    /// Closes the ports, then gives running requests a moment to end.
    pub async fn stop(mut self) {
        drop(self.stop.take());
        let _ = tokio::time::timeout(STOP_WAIT_MAX, &mut self.task).await;
    }
}

impl Drop for ServerHandle {
    fn drop(&mut self) {
        self.task.abort();
    }
}

fn response_headers(
    settings: &crate::config::RestApi,
) -> Result<Vec<(HeaderName, HeaderValue)>, ApiError> {
    let server = match settings.server_tokens.to_ascii_lowercase().as_str() {
        "productonly" => "Patroni".to_string(),
        "minimal" => format!("Patroni/{}", crate::PATRONI_VERSION),
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
