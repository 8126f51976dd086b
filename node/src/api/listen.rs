//! Ports, connections and handshakes.
//!
//! All addresses of `restapi.listen` feed one bounded queue of connections
//! that are ready to be served; a TLS handshake runs beside the others and
//! never holds up the next caller. A connection has a place (there are only so
//! many) and an idle limit, so that silent callers cannot fill the room.

use super::tls::{self, ClientProof};
use crate::config::RestApi;
use crate::tls::{Own, TlsError};
use axum::extract::connect_info::Connected;
use axum::serve::{IncomingStream, Listener};
use axum_server::accept::Accept;
use axum_server::tls_rustls::{RustlsAcceptor, RustlsConfig};
use std::future::Future;
use std::io;
use std::net::{Ipv6Addr, SocketAddr};
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpSocket, TcpStream, lookup_host};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio::task::JoinSet;
use tokio::time::{Instant, Sleep};

/// Connections at the same time; more wait in the kernel's queue.
const CONNECTIONS_MAX: usize = 1_000;
/// Connections that the kernel keeps for us until they are accepted, unless
/// `restapi.request_queue_size` asks for more: whoever waits does not harm.
const WAITING_MIN: u32 = 1_024;
/// Connections that are ready and not yet served.
const READY_MAX: usize = 64;
/// A connection that has been silent for so long is closed. Longer than any
/// request may take.
const IDLE_MAX: Duration = Duration::from_secs(1_200);
/// A failing `accept` (too many open files) is tried again after this.
const ACCEPT_RETRY: Duration = Duration::from_millis(100);

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

/// Who is at the other end.
#[derive(Clone, Debug)]
pub struct Caller {
    pub address: SocketAddr,
    /// It showed a certificate that was verified in the handshake.
    pub has_certificate: bool,
}

/// Connections that came in, for the server. The doors close with it.
pub struct Ports {
    ready: mpsc::Receiver<(Connection, Caller)>,
    doors: Arc<Doors>,
}

/// The open ports. They can move to other addresses, and show another
/// certificate, while connections that stand go on undisturbed.
pub struct Doors {
    door: Door,
    open: Mutex<Open>,
}

/// What `restapi.listen` said, and who listens there.
struct Open {
    host: String,
    port: u16,
    addresses: Vec<SocketAddr>,
    accepting: JoinSet<()>,
}

/// What clients must show, from the settings.
pub fn client_proof(settings: &RestApi) -> Result<ClientProof, ListenError> {
    ClientProof::parse(&settings.verify_client)
        .ok_or_else(|| ListenError::VerifyClient(settings.verify_client.clone()))
}

impl Ports {
    pub async fn open(settings: &RestApi) -> Result<Ports, ListenError> {
        let acceptor = Arc::new(RwLock::new(acceptor(settings)?));
        let listeners = bind(settings).await?;
        let (sender, ready) = mpsc::channel(READY_MAX);
        let places = Arc::new(Semaphore::new(CONNECTIONS_MAX));
        let door = Door { acceptor, places, ready: sender };
        let open = Mutex::new(door.open(settings, listeners));
        Ok(Ports { ready, doors: Arc::new(Doors { door, open }) })
    }

    pub fn doors(&self) -> Arc<Doors> {
        self.doors.clone()
    }
}

impl Drop for Ports {
    fn drop(&mut self) {
        self.doors.lock().accepting.abort_all();
    }
}

impl Doors {
    fn lock(&self) -> MutexGuard<'_, Open> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn addresses(&self) -> Vec<SocketAddr> {
        self.lock().addresses.clone()
    }

    /// Listens and encrypts as the settings say from now on. Certificates are
    /// read again; what cannot be read or bound leaves everything as it was.
    pub async fn reopen(&self, settings: &RestApi) -> Result<(), ListenError> {
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
        *self.door.acceptor.write().unwrap_or_else(PoisonError::into_inner) = acceptor;
        Ok(())
    }

    fn listen(&self, settings: &RestApi, listeners: Vec<TcpListener>) {
        // The old ones close as their tasks are dropped.
        *self.lock() = self.door.open(settings, listeners);
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

#[derive(Clone)]
struct Door {
    /// What the next handshake uses; none without TLS.
    acceptor: Arc<RwLock<Option<RustlsAcceptor>>>,
    places: Arc<Semaphore>,
    ready: mpsc::Sender<(Connection, Caller)>,
}

impl Door {
    fn open(&self, settings: &RestApi, listeners: Vec<TcpListener>) -> Open {
        let addresses = listeners.iter().filter_map(|l| l.local_addr().ok()).collect();
        let mut accepting = JoinSet::new();
        for listener in listeners {
            accepting.spawn(self.clone().keep_accepting(listener));
        }
        let (host, port) = (settings.listen_host.clone(), settings.listen_port);
        Open { host, port, addresses, accepting }
    }

    async fn keep_accepting(self, listener: TcpListener) {
        loop {
            let Ok(place) = self.places.clone().acquire_owned().await else {
                return;
            };
            match listener.accept().await {
                Ok((stream, address)) => self.welcome(stream, address, place).await,
                Err(error) => {
                    tracing::warn!(%error, "restapi: a connection could not be accepted");
                    tokio::time::sleep(ACCEPT_RETRY).await;
                }
            }
        }
    }

    async fn welcome(&self, stream: TcpStream, address: SocketAddr, place: OwnedSemaphorePermit) {
        // Without it answers would wait for the caller's acknowledgement.
        let _ = stream.set_nodelay(true);
        let acceptor = self.acceptor.read().unwrap_or_else(PoisonError::into_inner).clone();
        let Some(acceptor) = acceptor else {
            let caller = Caller { address, has_certificate: false };
            let _ = self.ready.send((Connection::new(stream, place), caller)).await;
            return;
        };
        let ready = self.ready.clone();
        // The acceptor ends a handshake that takes longer than ten seconds.
        tokio::spawn(async move {
            if let Ok((stream, ())) = acceptor.accept(stream, ()).await {
                let certificates = stream.get_ref().1.peer_certificates();
                let has_certificate = certificates.is_some_and(|c| !c.is_empty());
                let caller = Caller { address, has_certificate };
                let _ = ready.send((Connection::new(stream, place), caller)).await;
            }
        });
    }
}

impl Listener for Ports {
    type Io = Connection;
    type Addr = Caller;

    async fn accept(&mut self) -> (Connection, Caller) {
        match self.ready.recv().await {
            Some(next) => next,
            // Nobody accepts any more; the server is about to be dropped.
            None => std::future::pending().await,
        }
    }

    fn local_addr(&self) -> io::Result<Caller> {
        let address = self.doors.addresses().first().copied();
        let address = address.ok_or_else(|| io::Error::from(io::ErrorKind::NotConnected))?;
        Ok(Caller { address, has_certificate: false })
    }
}

impl Connected<IncomingStream<'_, Ports>> for Caller {
    fn connect_info(stream: IncomingStream<'_, Ports>) -> Caller {
        stream.remote_addr().clone()
    }
}

trait Duplex: AsyncRead + AsyncWrite + Send {}
impl<T: AsyncRead + AsyncWrite + Send> Duplex for T {}

/// One caller's connection, plain or encrypted.
pub struct Connection {
    wire: Pin<Box<dyn Duplex>>,
    heard: Instant,
    alarm: Pin<Box<Sleep>>,
    _place: OwnedSemaphorePermit,
}

impl Connection {
    fn new(
        wire: impl AsyncRead + AsyncWrite + Send + 'static,
        place: OwnedSemaphorePermit,
    ) -> Self {
        let heard = Instant::now();
        let alarm = Box::pin(tokio::time::sleep_until(heard + IDLE_MAX));
        Connection { wire: Box::pin(wire), heard, alarm, _place: place }
    }

    /// The alarm is only moved when it rings, not with every byte.
    fn is_idle(&mut self, context: &mut Context<'_>) -> bool {
        while self.alarm.as_mut().poll(context).is_ready() {
            let until = self.heard + IDLE_MAX;
            if until <= Instant::now() {
                return true;
            }
            self.alarm.as_mut().reset(until);
        }
        false
    }
}

impl AsyncRead for Connection {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match self.wire.as_mut().poll_read(context, buffer) {
            Poll::Pending if self.is_idle(context) => {
                Poll::Ready(Err(io::Error::from(io::ErrorKind::TimedOut)))
            }
            Poll::Pending => Poll::Pending,
            ready => {
                self.heard = Instant::now();
                ready
            }
        }
    }
}

impl AsyncWrite for Connection {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.wire.as_mut().poll_write(context, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.wire.as_mut().poll_write_vectored(context, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.wire.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.wire.as_mut().poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.wire.as_mut().poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wanted(request_queue_size: u32) -> RestApi {
        RestApi { listen_host: "127.0.0.1".into(), request_queue_size, ..RestApi::default() }
    }

    /// How many of `callers` the kernel lets in: connections that nobody accepts
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
