//! A connection for replication, which tokio-postgres has no word for.
//!
//! It differs from others by one more pair in the first message: that pair is put
//! in on its way out, inside TLS where there is TLS.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio_postgres::tls::{ChannelBinding, TlsConnect, TlsStream};

/// Version 3.0, as the first message has it behind its length.
const STARTUP: [u8; 4] = [0, 3, 0, 0];

/// What kind of walsender is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// In a database; lines of pg_hba.conf for that database let it in.
    Database,
    /// Lines for `replication` let it in, as they do a standby.
    Physical,
}

impl Kind {
    fn pair(self) -> &'static [u8] {
        match self {
            Kind::Database => b"replication\0database\0",
            Kind::Physical => b"replication\0true\0",
        }
    }
}

/// A stream that says in its first message that it is for replication.
pub(super) struct Introduced<S> {
    stream: S,
    kind: Kind,
    is_first: bool,
    /// What is left of the changed message, and what its writer calls it.
    left: Vec<u8>,
    counts_as: usize,
}

impl<S> Introduced<S> {
    pub(super) fn new(stream: S, kind: Kind) -> Introduced<S> {
        Introduced { stream, kind, is_first: true, left: Vec::new(), counts_as: 0 }
    }
}

/// The first message with one more pair; anything else as it is.
fn introduce(message: &[u8], kind: Kind) -> Vec<u8> {
    if message.get(4..8) != Some(&STARTUP) || message.last() != Some(&0) {
        return message.to_vec();
    }
    let body = [&message[4..message.len() - 1], kind.pair(), &[0]].concat();
    let length = u32::try_from(body.len() + 4).unwrap_or(u32::MAX);
    [&length.to_be_bytes(), body.as_slice()].concat()
}

impl<S: AsyncRead + Unpin> AsyncRead for Introduced<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buffer)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Introduced<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let this = &mut *self;
        if std::mem::take(&mut this.is_first) {
            this.left = introduce(bytes, this.kind);
            this.counts_as = bytes.len();
        }
        while !this.left.is_empty() {
            let written = ready!(Pin::new(&mut this.stream).poll_write(cx, &this.left))?;
            this.left.drain(..written);
            if written == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
        }
        match std::mem::take(&mut this.counts_as) {
            0 => Pin::new(&mut this.stream).poll_write(cx, bytes),
            all => Poll::Ready(Ok(all)),
        }
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

impl<S: TlsStream + Unpin> TlsStream for Introduced<S> {
    fn channel_binding(&self) -> ChannelBinding {
        self.stream.channel_binding()
    }
}

/// Makes TLS, and introduces itself inside of it.
pub(super) struct IntroducedTls<T> {
    tls: T,
    kind: Kind,
}

impl<T> IntroducedTls<T> {
    pub(super) fn new(tls: T, kind: Kind) -> IntroducedTls<T> {
        IntroducedTls { tls, kind }
    }
}

impl<S, T> TlsConnect<S> for IntroducedTls<T>
where
    T: TlsConnect<S>,
    T::Future: Send + 'static,
{
    type Stream = Introduced<T::Stream>;
    type Error = T::Error;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Stream, T::Error>> + Send>>;

    fn connect(self, stream: S) -> Self::Future {
        let (made, kind) = (self.tls.connect(stream), self.kind);
        Box::pin(async move { Ok(Introduced::new(made.await?, kind)) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    fn startup(pairs: &[u8]) -> Vec<u8> {
        let length = (pairs.len() + 9) as u32;
        [&length.to_be_bytes(), STARTUP.as_slice(), pairs, &[0]].concat()
    }

    #[test]
    fn only_the_first_message_of_a_session_gets_the_pair() {
        let plain = startup(b"user\0me\0");
        assert_eq!(
            introduce(&plain, Kind::Database),
            startup(b"user\0me\0replication\0database\0")
        );
        let physical = introduce(&plain, Kind::Physical);
        assert_eq!(physical, startup(b"user\0me\0replication\0true\0"));
        let request = [0, 0, 0, 8, 4, 210, 22, 47];
        assert_eq!(introduce(&request, Kind::Database), request);
    }

    #[tokio::test]
    async fn what_follows_goes_out_as_it_is() {
        let (near, mut far) = tokio::io::duplex(7);
        let mut stream = Introduced::new(near, Kind::Database);
        let writer = async {
            stream.write_all(&startup(b"user\0me\0")).await.unwrap();
            stream.write_all(b"next").await.unwrap();
            drop(stream);
        };
        let mut sent = Vec::new();
        let (_, read) = tokio::join!(writer, far.read_to_end(&mut sent));
        read.unwrap();
        let wanted = [&startup(b"user\0me\0replication\0database\0"), b"next".as_slice()].concat();
        assert_eq!(sent, wanted);
    }
}
