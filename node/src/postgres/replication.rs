//! Questions over the replication protocol: what a server replays or writes, and
//! the histories of its timelines.
//!
//! The own server is asked what it replays, which no SQL function tells. A peer is
//! asked as the replication user, who must reach it anyhow: a superuser or the
//! user of pg_rewind may be refused there.
//!
//! A connection that is tried without TLS after one with TLS was refused, or the
//! other way round, follows the rules of libpq's `sslmode`.

mod stream;

use super::conninfo;
use super::error::Error;
use super::session::Target;
use super::tls;
use std::io;
use stream::{Introduced, IntroducedTls, Kind};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UnixStream};
use tokio_postgres::config::SslMode;
use tokio_postgres::error::SqlState;
use tokio_postgres::tls::MakeTlsConnect;
use tokio_postgres::{Client, NoTls, SimpleQueryMessage, SimpleQueryRow};
use topology::{History, Lsn, Timeline};

const SYSTEM: &str = "IDENTIFY_SYSTEM";
const HISTORY: &str = "TIMELINE_HISTORY";

/// The timeline that the own server replays, or writes, and how far. Without TLS.
pub async fn identify(target: &Target) -> Result<(Timeline, Lsn), Error> {
    in_time(target, async {
        let client = plain(target, &target.host, target.port, Kind::Database).await?;
        system(&client).await
    })
    .await
}

/// The history of the timeline that a peer writes or replays.
pub async fn history(target: &Target) -> Result<History, Error> {
    in_time(target, async {
        let client = physical(target).await?;
        let (timeline, _) = system(&client).await?;
        if timeline.0 <= 1 {
            return Ok(History { current: timeline, forks: Vec::new() });
        }
        let row = only_row(&client, HISTORY, &format!("{HISTORY} {timeline}")).await?;
        let text = row.try_get("content").ok().flatten();
        let text = text.ok_or(Error::Answer { what: HISTORY, field: "content" })?;
        Ok(History::parse(timeline, text)?)
    })
    .await
}

async fn in_time<T>(
    target: &Target,
    asked: impl Future<Output = Result<T, Error>>,
) -> Result<T, Error> {
    let waited = target.connect_limit;
    let silent = |_| Error::Silent { address: target.address(), waited };
    tokio::time::timeout(waited, asked).await.map_err(silent)?
}

async fn system(client: &Client) -> Result<(Timeline, Lsn), Error> {
    let row = only_row(client, SYSTEM, SYSTEM).await?;
    Ok((Timeline(read(&row, "timeline")?), read(&row, "xlogpos")?))
}

async fn only_row(
    client: &Client,
    what: &'static str,
    command: &str,
) -> Result<SimpleQueryRow, Error> {
    let answer = client.simple_query(command).await.map_err(Error::sql(what))?;
    let row = answer.into_iter().find_map(|message| match message {
        SimpleQueryMessage::Row(row) => Some(row),
        _ => None,
    });
    row.ok_or(Error::Answer { what, field: "row" })
}

fn read<T: std::str::FromStr>(row: &SimpleQueryRow, field: &'static str) -> Result<T, Error> {
    let text = row.try_get(field).ok().flatten();
    text.and_then(|text| text.parse().ok()).ok_or(Error::Answer { what: SYSTEM, field })
}

/// The first of the named servers that takes a physical replication connection.
async fn physical(target: &Target) -> Result<Client, Error> {
    let mut last = None;
    for (host, port) in conninfo::servers(&target.host, target.port) {
        match by_mode(target, &host, port).await {
            Ok(client) => return Ok(client),
            Err(error) => last = Some(error),
        }
    }
    Err(last.expect("a list of hosts has one"))
}

async fn by_mode(target: &Target, host: &str, port: u16) -> Result<Client, Error> {
    let mode = target.login.extra.get("sslmode").map_or("prefer", String::as_str);
    let plain = || plain(target, host, port, Kind::Physical);
    match mode {
        _ if host.starts_with('/') => plain().await,
        "disable" => plain().await,
        "prefer" => match encrypted(target, host, port, mode).await {
            Err(error) if is_about_tls(&error) => plain().await,
            answer => answer,
        },
        "allow" => match plain().await {
            Err(error) if is_about_tls(&error) => encrypted(target, host, port, mode).await,
            answer => answer,
        },
        _ => encrypted(target, host, port, mode).await,
    }
}

/// There is no TLS on the other side, or pg_hba.conf has no line for this kind of
/// connection. A password that was refused is not sent again in another way.
fn is_about_tls(error: &Error) -> bool {
    match error {
        Error::Refused { source, .. } => {
            source.code().is_none_or(|code| *code == SqlState::INVALID_AUTHORIZATION_SPECIFICATION)
        }
        Error::Tls { .. } => true,
        _ => false,
    }
}

async fn plain(target: &Target, host: &str, port: u16, kind: Kind) -> Result<Client, Error> {
    let config = target.config(SslMode::Disable);
    if host.starts_with('/') {
        let stream = UnixStream::connect(format!("{host}/.s.PGSQL.{port}")).await;
        let stream = Introduced::new(reached(target, stream)?, kind);
        let talk = config.connect_raw(stream, NoTls).await.map_err(refused(target))?;
        return Ok(talking(talk));
    }
    let stream = Introduced::new(reached(target, TcpStream::connect((host, port)).await)?, kind);
    let talk = config.connect_raw(stream, NoTls).await.map_err(refused(target))?;
    Ok(talking(talk))
}

async fn encrypted(target: &Target, host: &str, port: u16, mode: &str) -> Result<Client, Error> {
    let broken = |why: String| Error::Tls { address: target.address(), why };
    let mut connector =
        tls::connector(&target.login, mode).map_err(|why| broken(why.to_string()))?;
    let tls = MakeTlsConnect::<TcpStream>::make_tls_connect(&mut connector, host);
    let tls = IntroducedTls::new(tls.map_err(|why| broken(why.to_string()))?, Kind::Physical);
    let stream = reached(target, TcpStream::connect((host, port)).await)?;
    let config = target.config(SslMode::Require);
    let talk = config.connect_raw(stream, tls).await.map_err(refused(target))?;
    Ok(talking(talk))
}

fn reached<S>(target: &Target, stream: io::Result<S>) -> Result<S, Error> {
    let place = std::path::PathBuf::from(target.address());
    stream.map_err(Error::file("connect to", &place))
}

fn refused(target: &Target) -> impl FnOnce(tokio_postgres::Error) -> Error {
    let address = target.address();
    move |source| Error::Refused { address, source }
}

/// The connection ends with its client.
fn talking<S, T>((client, connection): (Client, tokio_postgres::Connection<S, T>)) -> Client
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    T: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    tokio::spawn(connection);
    client
}
