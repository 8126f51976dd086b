//! One question over the replication protocol: which timeline a standby replays.
//!
//! No SQL function tells. tokio-postgres has no word for a replication
//! connection, which differs from others by one more pair in the first message:
//! that pair is put in on its way out.
//!
//! Absent on purpose: TLS. Only the own server is asked, and who cannot reach
//! it without falls back to what the statistics say.

use super::error::Error;
use super::session::Target;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpStream, UnixStream};
use tokio_postgres::config::SslMode;
use tokio_postgres::{NoTls, SimpleQueryMessage, SimpleQueryRow};
use topology::{Lsn, Timeline};

const WHAT: &str = "IDENTIFY_SYSTEM";
/// Version 3.0, as the first message has it behind its length.
const STARTUP: [u8; 4] = [0, 3, 0, 0];
const PAIR: &[u8] = b"replication\0database\0";

/// The timeline that is replayed, or written, and how far.
pub async fn identify(target: &Target) -> Result<(Timeline, Lsn), Error> {
    let waited = target.connect_limit;
    let silent = |_| Error::Silent { address: target.address(), waited };
    let asked = async {
        if target.host.starts_with('/') {
            let path = format!("{}/.s.PGSQL.{}", target.host, target.port);
            ask(target, UnixStream::connect(path).await).await
        } else {
            ask(target, TcpStream::connect((target.host.as_str(), target.port)).await).await
        }
    };
    tokio::time::timeout(waited, asked).await.map_err(silent)?
}

async fn ask<S>(target: &Target, stream: io::Result<S>) -> Result<(Timeline, Lsn), Error>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let place = std::path::PathBuf::from(target.address());
    let stream = Introduced::new(stream.map_err(Error::file("connect to", &place))?);
    let refused = |source| Error::Refused { address: target.address(), source };
    let config = target.config(SslMode::Disable);
    let (client, connection) = config.connect_raw(stream, NoTls).await.map_err(refused)?;
    let talk = tokio::spawn(connection);
    let answer = client.simple_query(WHAT).await.map_err(Error::sql(WHAT));
    talk.abort();
    let answer = answer?;
    let row = answer.iter().find_map(|message| match message {
        SimpleQueryMessage::Row(row) => Some(row),
        _ => None,
    });
    let row = row.ok_or(Error::Answer { what: WHAT, field: "row" })?;
    Ok((Timeline(read(row, "timeline")?), read(row, "xlogpos")?))
}

fn read<T: std::str::FromStr>(row: &SimpleQueryRow, field: &'static str) -> Result<T, Error> {
    let text = row.try_get(field).ok().flatten();
    text.and_then(|text| text.parse().ok()).ok_or(Error::Answer { what: WHAT, field })
}

/// A stream that says in its first message that it is for replication.
struct Introduced<S> {
    stream: S,
    is_first: bool,
    /// What is left of the changed message, and what its writer calls it.
    left: Vec<u8>,
    counts_as: usize,
}

impl<S> Introduced<S> {
    fn new(stream: S) -> Introduced<S> {
        Introduced { stream, is_first: true, left: Vec::new(), counts_as: 0 }
    }
}

/// The first message with one more pair; anything else as it is.
fn introduce(message: &[u8]) -> Vec<u8> {
    if message.get(4..8) != Some(&STARTUP) || message.last() != Some(&0) {
        return message.to_vec();
    }
    let body = [&message[4..message.len() - 1], PAIR, &[0]].concat();
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
            this.left = introduce(bytes);
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
        assert_eq!(introduce(&plain), startup(b"user\0me\0replication\0database\0"));
        let request = [0, 0, 0, 8, 4, 210, 22, 47];
        assert_eq!(introduce(&request), request);
    }

    #[tokio::test]
    async fn what_follows_goes_out_as_it_is() {
        let (near, mut far) = tokio::io::duplex(7);
        let mut stream = Introduced::new(near);
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
