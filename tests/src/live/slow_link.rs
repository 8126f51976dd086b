//! A TCP proxy that delays what goes through it, or lets nothing through.
//!
//! Each piece is passed on a fixed time after it came, in both directions, so that a
//! delay costs time and no bandwidth. While the link is cut, connections stay open and
//! nothing passes, as in a network that drops packets.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::Instant;

/// Pieces under way in one direction.
const QUEUE_MAX: usize = 4_096;
const PIECE_BYTES: usize = 64 << 10;
/// How soon a healed link is noticed.
const LOOK: Duration = Duration::from_millis(20);

#[derive(Default)]
struct State {
    delay_ms: AtomicU64,
    cut: AtomicBool,
}

/// Ends with its connections when it is dropped.
pub struct SlowLink {
    pub port: u16,
    state: Arc<State>,
    accepts: JoinHandle<()>,
}

impl SlowLink {
    /// Listens on a free port of this machine, on all its addresses.
    pub fn to(target: SocketAddr) -> SlowLink {
        let listener = std::net::TcpListener::bind("0.0.0.0:0").expect("a free port");
        listener.set_nonblocking(true).expect("a socket");
        let listener = TcpListener::from_std(listener).expect("a runtime");
        let port = listener.local_addr().expect("it is bound").port();
        let state = Arc::new(State::default());
        let accepts = tokio::spawn(accept(listener, target, state.clone()));
        SlowLink { port, state, accepts }
    }

    pub fn delay(&self, delay: Duration) {
        self.state.delay_ms.store(delay.as_millis() as u64, Ordering::SeqCst);
    }

    pub fn cut(&self) {
        self.state.cut.store(true, Ordering::SeqCst);
    }

    pub fn heal(&self) {
        self.state.cut.store(false, Ordering::SeqCst);
    }
}

impl Drop for SlowLink {
    fn drop(&mut self) {
        self.accepts.abort();
    }
}

impl State {
    async fn passes(&self) {
        while self.cut.load(Ordering::SeqCst) {
            tokio::time::sleep(LOOK).await;
        }
    }

    fn delay(&self) -> Duration {
        Duration::from_millis(self.delay_ms.load(Ordering::SeqCst))
    }
}

async fn accept(listener: TcpListener, target: SocketAddr, state: Arc<State>) {
    let mut connections = tokio::task::JoinSet::new();
    while let Ok((client, _)) = listener.accept().await {
        connections.spawn(connect(client, target, state.clone()));
        while connections.try_join_next().is_some() {}
    }
}

async fn connect(client: TcpStream, target: SocketAddr, state: Arc<State>) {
    state.passes().await;
    let Ok(server) = TcpStream::connect(target).await else { return };
    let _ = (client.set_nodelay(true), server.set_nodelay(true));
    let (from_client, to_client) = client.into_split();
    let (from_server, to_server) = server.into_split();
    tokio::select! {
        () = pass(from_client, to_server, &state) => {}
        () = pass(from_server, to_client, &state) => {}
    }
}

/// Until one side ends.
async fn pass(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, state: &State) {
    let (queue, mut queued) = mpsc::channel::<(Instant, Vec<u8>)>(QUEUE_MAX);
    let read = async move {
        loop {
            let mut piece = vec![0; PIECE_BYTES];
            let count = from.read(&mut piece).await.unwrap_or(0);
            piece.truncate(count);
            let is_over = count == 0 || queue.send((Instant::now(), piece)).await.is_err();
            if is_over {
                return;
            }
        }
    };
    let write = async move {
        while let Some((came, piece)) = queued.recv().await {
            tokio::time::sleep_until(came + state.delay()).await;
            state.passes().await;
            if to.write_all(&piece).await.is_err() {
                return;
            }
        }
    };
    tokio::join!(read, write);
}
