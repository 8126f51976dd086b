//! One caller's connection, as `axum_server` serves it: where it comes from, its
//! handshake, and what ends it.
//!
//! Invariant *no wait without an end*: a handshake has ten seconds (the acceptor's
//! limit), the head of a request `HEAD_WAIT_MAX` from the end of the one before, a
//! body its own limit (`call.rs`), and an answer that is not taken is given up by
//! the kernel. Whatever a caller does wrong ends its connection without a trace in
//! the log.
//!
//! The server ends all connections together, by its handle. That one of them makes
//! room for another caller (`places.rs`) is a matter of its stream: it breaks.

use super::caller::Caller;
use super::look::Api;
use super::places::{Place, Places};
use super::router;
use super::stream::{PlacedStream, RequestStream};
use axum::body::Body;
use axum::http::Request;
use axum_server::accept::Accept;
use axum_server::tls_rustls::RustlsAcceptor;
use axum_server::{AddrListener, Address, Handle, Server};
use hyper::body::Incoming;
use hyper_util::rt::TokioTimer;
use rustix::io::Errno;
use rustix::net::sockopt::set_tcp_user_timeout;
use std::convert::Infallible;
use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;
use tokio::net::TcpListener;
use tower::service_fn;

/// How long the head of a request may take, and how long a connection may be
/// silent between two requests.
pub(super) const HEAD_WAIT_MAX: Duration = Duration::from_secs(15);
const _: () = assert!(crate::peers::IDLE_MAX.as_secs() < HEAD_WAIT_MAX.as_secs());
/// How long bytes that were sent may stay without an acknowledgement.
const SENT_WAIT_MAX_MS: u32 = 30_000;
/// Longest head of a request.
const HEAD_BYTES_MAX: usize = 64 << 10;
/// An `accept` that fails for want of memory or descriptors is tried again after this.
const ACCEPT_RETRY: Duration = Duration::from_millis(100);

/// The far end of a connection that has a place.
#[derive(Clone)]
pub(super) struct FarEnd {
    address: SocketAddr,
    place: Arc<Place>,
    /// It showed a certificate that was verified in the handshake.
    has_certificate: Arc<AtomicBool>,
}

impl Address for FarEnd {
    type Stream = PlacedStream;
    type Listener = Port;
}

impl FarEnd {
    fn caller(&self) -> Caller {
        let has_certificate = self.has_certificate.load(Ordering::Relaxed);
        Caller { address: self.address, has_certificate, place: self.place.clone() }
    }
}

/// A port. A connection for which there is no place is closed: its caller learns at
/// once that it has to come again.
pub(super) struct Port {
    pub listener: TcpListener,
    pub places: Arc<Places>,
}

impl Port {
    /// `None`: the caller's connection was gone, or there is no place for it.
    async fn next(&self) -> io::Result<Option<(PlacedStream, FarEnd)>> {
        let (stream, address) = match self.listener.accept().await {
            Ok(accepted) => accepted,
            Err(error) if is_the_callers(&error) => return Ok(None),
            Err(error) => return Err(error),
        };
        let Some(place) = self.places.take(address.ip()) else { return Ok(None) };
        // Without it answers would wait for the caller's acknowledgement.
        let _ = stream.set_nodelay(true);
        let _ = set_tcp_user_timeout(&stream, SENT_WAIT_MAX_MS);
        let (place, has_certificate) = (Arc::new(place), Arc::default());
        let far_end = FarEnd { address, place, has_certificate };
        let (place, has_certificate) = (far_end.place.clone(), far_end.has_certificate.clone());
        Ok(Some((PlacedStream::new(stream, place, has_certificate), far_end)))
    }
}

impl AddrListener<PlacedStream, FarEnd> for Port {
    async fn bind_to(_: FarEnd) -> io::Result<Port> {
        Err(io::Error::new(io::ErrorKind::Unsupported, "a port is made with its places"))
    }

    /// Never fails: the server would pause for each failure.
    async fn accept_stream(&self) -> io::Result<(PlacedStream, FarEnd)> {
        let mut is_told = false;
        loop {
            match self.next().await {
                Ok(None) => is_told = false,
                Ok(Some(accepted)) => return Ok(accepted),
                Err(error) => {
                    if !std::mem::replace(&mut is_told, true) {
                        tracing::warn!(%error, "restapi: connections cannot be accepted");
                    }
                    tokio::time::sleep(ACCEPT_RETRY).await;
                }
            }
        }
    }

    fn get_local_addr(&self) -> io::Result<FarEnd> {
        Err(io::Error::new(io::ErrorKind::Unsupported, "no caller is at this end"))
    }
}

/// What went wrong on a connection before it was accepted, as Linux tells it.
fn is_the_callers(error: &io::Error) -> bool {
    let of_this_machine = [Errno::MFILE, Errno::NFILE, Errno::NOBUFS, Errno::NOMEM];
    Errno::from_io_error(error).is_some_and(|errno| !of_this_machine.contains(&errno))
}

/// What the next handshake uses; none without TLS.
pub(super) type Handshake = Arc<RwLock<Option<RustlsAcceptor>>>;

/// A connection's handshake runs in its own task: none waits for another one's.
#[derive(Clone)]
pub(super) struct Handshaker(pub Handshake);

impl<S: Send + 'static> Accept<PlacedStream, S> for Handshaker {
    type Stream = RequestStream;
    type Service = S;
    type Future = Pin<Box<dyn Future<Output = io::Result<(RequestStream, S)>> + Send>>;

    fn accept(&self, stream: PlacedStream, service: S) -> Self::Future {
        let acceptor = self.0.read().unwrap_or_else(PoisonError::into_inner).clone();
        Box::pin(async move {
            let Some(acceptor) = acceptor else {
                return Ok((RequestStream::Plain(stream), service));
            };
            let (stream, service) = acceptor.accept(stream, service).await?;
            let (placed, session) = stream.get_ref();
            placed.note_certificate(session.peer_certificates().is_some_and(|c| !c.is_empty()));
            Ok((RequestStream::Tls(Box::new(stream)), service))
        })
    }
}

/// Answers what comes in at this port until the handle ends it, or this is dropped;
/// connections that stand go on in tasks of their own.
pub(super) async fn serve(
    port: Port,
    handshake: Handshake,
    api: Arc<Api>,
    handle: Handle<FarEnd>,
) -> io::Result<()> {
    let handshaker = Handshaker(handshake);
    let mut server = Server::from_listener(port).acceptor(handshaker).http1_only().handle(handle);
    let mut http = server.http_builder().http1();
    http.timer(TokioTimer::new()).header_read_timeout(HEAD_WAIT_MAX).max_buf_size(HEAD_BYTES_MAX);
    let connections = service_fn(move |far_end: FarEnd| {
        let api = api.clone();
        let answers = service_fn(move |request: Request<Incoming>| {
            let (api, caller) = (api.clone(), far_end.caller());
            async move { Ok::<_, Infallible>(router::enter(api, caller, request.map(Body::new)).await) }
        });
        std::future::ready(Ok::<_, Infallible>(answers))
    });
    server.serve(connections).await
}
