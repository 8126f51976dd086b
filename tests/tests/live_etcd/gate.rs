//! A relay that can swallow everything: connections stay open and no answer
//! comes, as behind a firewall that has forgotten them.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

pub(crate) struct Gate {
    pub address: SocketAddr,
    swallows: Arc<AtomicBool>,
    task: JoinHandle<()>,
}

impl Gate {
    pub(crate) async fn before(target: String) -> Gate {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("a bound socket");
        let swallows = Arc::new(AtomicBool::new(false));
        let flag = swallows.clone();
        let task = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(relay(stream, target.clone(), flag.clone()));
            }
        });
        Gate { address, swallows, task }
    }

    /// Connections that lost something stay dead.
    pub(crate) fn swallow(&self, on: bool) {
        self.swallows.store(on, Ordering::SeqCst);
    }
}

impl Drop for Gate {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn relay(stream: TcpStream, target: String, swallows: Arc<AtomicBool>) {
    let Ok(other) = TcpStream::connect(target).await else { return };
    let (from, to) = stream.into_split();
    let (back_from, back_to) = other.into_split();
    let lost = Arc::new(AtomicBool::new(false));
    let out = copy(from, back_to, swallows.clone(), lost.clone());
    let back = copy(back_from, to, swallows, lost);
    tokio::join!(out, back);
}

async fn copy(
    mut from: OwnedReadHalf,
    mut to: OwnedWriteHalf,
    swallows: Arc<AtomicBool>,
    lost: Arc<AtomicBool>,
) {
    let mut buffer = [0; 16 << 10];
    while let Ok(count @ 1..) = from.read(&mut buffer).await {
        if swallows.load(Ordering::SeqCst) {
            lost.store(true, Ordering::SeqCst);
        }
        if !lost.load(Ordering::SeqCst) && to.write_all(&buffer[..count]).await.is_err() {
            return;
        }
    }
    // The end of a swallowed connection is swallowed, too.
    if lost.load(Ordering::SeqCst) {
        std::future::pending::<()>().await;
    }
}
