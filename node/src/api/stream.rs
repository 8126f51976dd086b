//! The bytes of a caller's connection, with and without TLS.
//!
//! Invariant: a connection whose place is wanted for another caller (`places.rs`) reads and
//! writes nothing more.

use super::places::Place;
use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio_rustls::server::TlsStream;

/// The bytes of a connection. They end with an error when its place is wanted for another one.
pub(super) struct PlacedStream {
    stream: TcpStream,
    leave: Pin<Box<dyn Future<Output = ()> + Send>>,
    has_certificate: Arc<AtomicBool>,
}

impl PlacedStream {
    pub(super) fn new(
        stream: TcpStream,
        place: Arc<Place>,
        has_certificate: Arc<AtomicBool>,
    ) -> PlacedStream {
        let leave = Box::pin(async move { place.told_to_leave().await });
        PlacedStream { stream, leave, has_certificate }
    }

    /// `shown`: the caller showed a certificate in its handshake.
    pub(super) fn note_certificate(&self, shown: bool) {
        self.has_certificate.store(shown, Ordering::Relaxed);
    }

    /// An error once the place is wanted for another connection.
    fn keep_place(&mut self, cx: &mut Context<'_>) -> io::Result<()> {
        match self.leave.as_mut().poll(cx) {
            Poll::Ready(()) => {
                // It is not asked again: the next answer is the same.
                self.leave = Box::pin(std::future::ready(()));
                Err(io::ErrorKind::ConnectionAborted.into())
            }
            Poll::Pending => Ok(()),
        }
    }
}

impl AsyncRead for PlacedStream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.keep_place(cx)?;
        Pin::new(&mut self.stream).poll_read(cx, buf)
    }
}

impl AsyncWrite for PlacedStream {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.keep_place(cx)?;
        Pin::new(&mut self.stream).poll_write(cx, buf)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.keep_place(cx)?;
        Pin::new(&mut self.stream).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

/// What requests come in on.
pub(super) enum RequestStream {
    Plain(PlacedStream),
    Tls(Box<TlsStream<PlacedStream>>),
}

impl AsyncRead for RequestStream {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match self.get_mut() {
            RequestStream::Plain(stream) => Pin::new(stream).poll_read(cx, buf),
            RequestStream::Tls(stream) => Pin::new(stream).poll_read(cx, buf),
        }
    }
}

impl AsyncWrite for RequestStream {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            RequestStream::Plain(stream) => Pin::new(stream).poll_write(cx, buf),
            RequestStream::Tls(stream) => Pin::new(stream).poll_write(cx, buf),
        }
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            RequestStream::Plain(stream) => Pin::new(stream).poll_write_vectored(cx, bufs),
            RequestStream::Tls(stream) => Pin::new(stream).poll_write_vectored(cx, bufs),
        }
    }

    fn is_write_vectored(&self) -> bool {
        match self {
            RequestStream::Plain(stream) => stream.is_write_vectored(),
            RequestStream::Tls(stream) => stream.is_write_vectored(),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            RequestStream::Plain(stream) => Pin::new(stream).poll_flush(cx),
            RequestStream::Tls(stream) => Pin::new(stream).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            RequestStream::Plain(stream) => Pin::new(stream).poll_shutdown(cx),
            RequestStream::Tls(stream) => Pin::new(stream).poll_shutdown(cx),
        }
    }
}
