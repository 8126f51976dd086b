//! Ports: who listens where, and what becomes of a connection that comes in.
//!
//! Each address of `restapi.listen` has a server of `axum_server`, which gives each
//! connection (`connection.rs`) a task of its own, so that no caller holds up the next
//! one. All of them share one handle, also with servers whose port was left since.

use super::connection::{FarEnd, Handshake, Port, serve};
use super::look::Api;
use super::places::Places;
use super::tls::{self, ClientProof};
use crate::config::RestApi;
use crate::tls::{Own, TlsError};
use axum_server::Handle;
use axum_server::tls_rustls::{RustlsAcceptor, RustlsConfig};
use std::io;
use std::net::{Ipv6Addr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};
use std::time::Duration;
use tokio::net::{TcpListener, TcpSocket, lookup_host};
use tokio::task::JoinSet;

/// Connections that the kernel keeps for us until they are accepted, unless
/// `restapi.request_queue_size` asks for more: a waiting connection does no harm.
const WAITING_MIN: u32 = 1_024;
/// How long requests that run may take to end when the server stops.
const STOP_WAIT_MAX: Duration = Duration::from_secs(2);

#[derive(Debug, thiserror::Error)]
pub enum ListenError {
    #[error(
        "restapi.listen: {address} cannot be listened on: {reason}; \
         free the port or change restapi.listen"
    )]
    Bind { address: String, reason: io::Error },
    #[error("restapi.listen: `{host}` is no address of this machine: {reason}")]
    Resolve { host: String, reason: String },
    #[error(transparent)]
    Tls(#[from] TlsError),
    #[error("restapi.verify_client is `{0}`, but must be none, optional or required")]
    VerifyClient(String),
}

impl ListenError {
    fn is_in_use(&self) -> bool {
        matches!(self, ListenError::Bind { reason, .. }
            if reason.kind() == io::ErrorKind::AddrInUse)
    }
}

/// The open ports. They can move to other addresses, and show another
/// certificate, while connections that stand go on undisturbed. They close, and all
/// connections end, when this is dropped.
pub(crate) struct Listeners {
    service: Service,
    open: Mutex<Open>,
}

/// What `restapi.listen` said, and who listens there.
struct Open {
    host: String,
    port: u16,
    addresses: Vec<SocketAddr>,
    accepting: JoinSet<io::Result<()>>,
}

/// What clients must show, from the settings.
pub(crate) fn client_proof(settings: &RestApi) -> Result<ClientProof, ListenError> {
    ClientProof::parse(&settings.verify_client)
        .ok_or_else(|| ListenError::VerifyClient(settings.verify_client.clone()))
}

/// Addresses that can be had and certificates that can be read, before anything
/// is served.
pub(crate) struct Ports {
    acceptor: Option<RustlsAcceptor>,
    listeners: Vec<TcpListener>,
}

impl Ports {
    pub(crate) async fn open(settings: &RestApi) -> Result<Ports, ListenError> {
        Ok(Ports { acceptor: acceptor(settings)?, listeners: bind(settings).await? })
    }

    /// Serves what comes in.
    pub(crate) fn serve(self, api: Arc<Api>, places: Arc<Places>) -> Listeners {
        let acceptor = Arc::new(RwLock::new(self.acceptor));
        let settings = api.context.settings.clone();
        let service = Service { acceptor, places, api, handle: Handle::new() };
        let open = Mutex::new(service.open(&settings.restapi, self.listeners));
        Listeners { service, open }
    }
}

impl Listeners {
    fn lock(&self) -> MutexGuard<'_, Open> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn addresses(&self) -> Vec<SocketAddr> {
        self.lock().addresses.clone()
    }

    /// Listens and encrypts as the settings say from now on. Certificates are
    /// read again; what cannot be read or bound leaves everything as it was.
    pub(crate) async fn reopen(&self, settings: &RestApi) -> Result<(), ListenError> {
        let acceptor = acceptor(settings)?;
        let (host, port) = {
            let open = self.lock();
            (open.host.clone(), open.port)
        };
        if (&host, port) != (&settings.listen_host, settings.listen_port) {
            match bind(settings).await {
                Ok(listeners) => self.listen(settings, listeners),
                Err(error) if error.is_in_use() && port == settings.listen_port => {
                    self.replace(&host, settings).await?;
                }
                Err(error) => return Err(error),
            }
        }
        *self.service.acceptor.write().unwrap_or_else(PoisonError::into_inner) = acceptor;
        Ok(())
    }

    /// No connection is accepted any more; requests that run have a moment to end.
    pub(crate) async fn close(&self) {
        let mut accepting = std::mem::take(&mut self.lock().accepting);
        self.service.handle.graceful_shutdown(Some(STOP_WAIT_MAX));
        while accepting.join_next().await.is_some() {}
    }

    fn listen(&self, settings: &RestApi, listeners: Vec<TcpListener>) {
        // The old ones close as their tasks are dropped.
        *self.lock() = self.service.open(settings, listeners);
    }

    /// The same port on other addresses: the old ones may be in the way.
    async fn replace(&self, old_host: &str, settings: &RestApi) -> Result<(), ListenError> {
        let mut old = std::mem::take(&mut self.lock().accepting);
        old.shutdown().await;
        match bind(settings).await {
            Ok(listeners) => {
                self.listen(settings, listeners);
                Ok(())
            }
            Err(error) => {
                let back = RestApi { listen_host: old_host.to_string(), ..settings.clone() };
                match bind(&back).await {
                    Ok(listeners) => self.listen(&back, listeners),
                    Err(lost) => tracing::error!("the REST API listens nowhere now: {lost}"),
                }
                Err(error)
            }
        }
    }
}

impl Drop for Listeners {
    fn drop(&mut self) {
        self.service.handle.shutdown();
    }
}

fn acceptor(settings: &RestApi) -> Result<Option<RustlsAcceptor>, ListenError> {
    let proof = client_proof(settings)?;
    let Some(certfile) = &settings.certfile else {
        return Ok(None);
    };
    let password = settings.keyfile_password.as_ref().map(|p| p.0.as_str());
    let own = Own { cert: certfile, key: settings.keyfile.as_deref(), password };
    let (cafile, ciphers) = (settings.cafile.as_deref(), settings.ciphers.as_deref());
    let config = tls::server_config(own, cafile, proof, ciphers)?;
    Ok(Some(RustlsAcceptor::new(RustlsConfig::from_config(Arc::new(config)))))
}

/// One listener for each address of the host; those this machine does not
/// have (IPv6 switched off) do not matter as long as one works.
async fn bind(settings: &RestApi) -> Result<Vec<TcpListener>, ListenError> {
    let (host, port) = (settings.listen_host.as_str(), settings.listen_port);
    let waiting = room_for_callers(settings);
    if matches!(host, "" | "*") {
        let dual = listener(SocketAddr::from((Ipv6Addr::UNSPECIFIED, port)), waiting);
        return match dual {
            Err(error) if error.kind() == io::ErrorKind::AddrInUse => {
                Err(refused(format!("*:{port}"), error))
            }
            Err(_) => Ok(vec![bind_one(SocketAddr::from(([0, 0, 0, 0], port)), waiting)?]),
            Ok(listener) => Ok(vec![listener]),
        };
    }
    let plain = host.trim_matches(['[', ']']);
    let unresolved = |reason: String| ListenError::Resolve { host: host.to_string(), reason };
    let mut addresses: Vec<SocketAddr> =
        lookup_host((plain, port)).await.map_err(|e| unresolved(e.to_string()))?.collect();
    addresses.sort();
    addresses.dedup();
    let mut listeners = Vec::new();
    let mut missing = None;
    for address in addresses {
        match bind_one(address, waiting) {
            Ok(listener) => listeners.push(listener),
            Err(ListenError::Bind { address, reason })
                if reason.kind() == io::ErrorKind::AddrNotAvailable =>
            {
                missing = Some(ListenError::Bind { address, reason });
            }
            Err(error) => return Err(error),
        }
    }
    match (listeners.is_empty(), missing) {
        (false, _) => Ok(listeners),
        (true, Some(error)) => Err(error),
        (true, None) => Err(unresolved("it has no address".to_string())),
    }
}

fn room_for_callers(settings: &RestApi) -> u32 {
    settings.request_queue_size.max(WAITING_MIN)
}

fn bind_one(address: SocketAddr, waiting: u32) -> Result<TcpListener, ListenError> {
    listener(address, waiting).map_err(|error| refused(address.to_string(), error))
}

/// A port that a server has just left may be used again at once.
fn listener(address: SocketAddr, waiting: u32) -> io::Result<TcpListener> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    socket.listen(waiting)
}

fn refused(address: String, reason: io::Error) -> ListenError {
    ListenError::Bind { address, reason }
}

struct Service {
    acceptor: Handshake,
    places: Arc<Places>,
    api: Arc<Api>,
    handle: Handle<FarEnd>,
}

impl Service {
    fn open(&self, settings: &RestApi, listeners: Vec<TcpListener>) -> Open {
        let addresses = listeners.iter().filter_map(|l| l.local_addr().ok()).collect();
        let mut accepting = JoinSet::new();
        for listener in listeners {
            let port = Port { listener, places: self.places.clone() };
            let (acceptor, api) = (self.acceptor.clone(), self.api.clone());
            accepting.spawn(serve(port, acceptor, api, self.handle.clone()));
        }
        let (host, port) = (settings.listen_host.clone(), settings.listen_port);
        Open { host, port, addresses, accepting }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::net::TcpStream;

    fn wanted(request_queue_size: u32) -> RestApi {
        RestApi { listen_host: "127.0.0.1".into(), request_queue_size, ..RestApi::default() }
    }

    /// How many of `callers` the kernel lets in: connections that no task accepts
    /// are established as long as its queue has room.
    async fn let_in(at: &TcpListener, callers: usize, patience: Duration) -> usize {
        let address = at.local_addr().unwrap();
        let mut waiting = Vec::new();
        for _ in 0..callers {
            match tokio::time::timeout(patience, TcpStream::connect(address)).await {
                Ok(stream) => waiting.push(stream.unwrap()),
                Err(_) => break,
            }
        }
        waiting.len()
    }

    #[tokio::test]
    async fn as_many_callers_wait_as_are_asked_for_and_never_few() {
        let local = SocketAddr::from(([127, 0, 0, 1], 0));
        for room in [2, 30] {
            let narrow = listener(local, room).unwrap();
            // The kernel lets one more in than it was told.
            let in_time = Duration::from_millis(300);
            let known = let_in(&narrow, 50, in_time).await;
            assert_eq!(known, room as usize + 1, "the room is the kernel's to keep");
        }
        let listeners = bind(&wanted(5)).await.unwrap();
        assert_eq!(let_in(&listeners[0], 200, Duration::from_secs(5)).await, 200);
        assert_eq!(room_for_callers(&wanted(4_096)), 4_096);
    }
}
