//! One caller's connection, from the handshake to its end.
//!
//! Invariant *no wait without an end*: a handshake has ten seconds (the acceptor's
//! limit), the head of a request `HEAD_WAIT_MAX` from the end of the one before, a
//! body its own limit (`call.rs`), and an answer that is not taken is given up by
//! the kernel. Whatever a caller does wrong ends its connection without a trace in
//! the log.
//!
//! Absent on purpose: the server loop of `axum-server`. It ends connections all
//! together, not one of them for another caller's place (`places.rs`), and it pauses
//! after every failed accept, also one that is only the caller's fault. Its acceptor
//! of TLS is used.

use super::caller::Caller;
use super::look::Api;
use super::places::Place;
use super::router;
use axum::body::Body;
use axum::http::Request;
use axum_server::accept::Accept;
use axum_server::tls_rustls::RustlsAcceptor;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto::Builder;
use rustix::net::sockopt::set_tcp_user_timeout;
use std::convert::Infallible;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::sync::watch;

/// How long the head of a request may take, and how long a connection may be
/// silent between two requests.
pub(super) const HEAD_WAIT_MAX: Duration = Duration::from_secs(15);
const _: () = assert!(crate::peers::IDLE_MAX.as_secs() < HEAD_WAIT_MAX.as_secs());
/// How long bytes that were sent may stay without an acknowledgement.
const SENT_WAIT_MAX_MS: u32 = 30_000;
/// Longest head of a request.
const HEAD_BYTES_MAX: usize = 64 << 10;

/// A connection that was accepted, with all that its life needs.
pub(super) struct Accepted {
    pub stream: TcpStream,
    pub address: SocketAddr,
    pub place: Place,
    pub acceptor: Option<RustlsAcceptor>,
    pub api: Arc<Api>,
    /// True: end after the request that is being answered. Its sender is dropped:
    /// end at once.
    pub stopping: watch::Receiver<bool>,
}

impl Accepted {
    pub(super) async fn serve(self) {
        // Without it answers would wait for the caller's acknowledgement.
        let _ = self.stream.set_nodelay(true);
        let _ = set_tcp_user_timeout(&self.stream, SENT_WAIT_MAX_MS);
        let place = Arc::new(self.place);
        let caller = Caller { address: self.address, has_certificate: false, place: place.clone() };
        let (api, stopping) = (self.api, self.stopping);
        let served = async {
            let Some(acceptor) = self.acceptor else {
                return answer(self.stream, caller, api, stopping).await;
            };
            if let Ok((stream, ())) = acceptor.accept(self.stream, ()).await {
                let certificates = stream.get_ref().1.peer_certificates();
                let has_certificate = certificates.is_some_and(|c| !c.is_empty());
                answer(stream, Caller { has_certificate, ..caller }, api, stopping).await;
            }
        };
        tokio::select! {
            () = served => {}
            () = place.told_to_leave() => {}
        }
    }
}

/// Answers requests until the caller leaves, breaks the rules, or the server ends.
async fn answer(
    stream: impl AsyncRead + AsyncWrite + Unpin + 'static,
    caller: Caller,
    api: Arc<Api>,
    mut stopping: watch::Receiver<bool>,
) {
    let service = service_fn(move |request: Request<Incoming>| {
        let (api, caller) = (api.clone(), caller.clone());
        async move { Ok::<_, Infallible>(router::enter(api, caller, request.map(Body::new)).await) }
    });
    let mut builder = Builder::new(TokioExecutor::new()).http1_only();
    let mut http = builder.http1();
    http.timer(TokioTimer::new()).header_read_timeout(HEAD_WAIT_MAX).max_buf_size(HEAD_BYTES_MAX);
    let mut connection = pin!(builder.serve_connection(TokioIo::new(stream), service));
    let told_to_end = async { stopping.wait_for(|stopping| *stopping).await.is_ok() };
    tokio::select! {
        _ = connection.as_mut() => {}
        in_order = told_to_end => {
            if in_order {
                connection.as_mut().graceful_shutdown();
                let _ = connection.await;
            }
        }
    }
}
