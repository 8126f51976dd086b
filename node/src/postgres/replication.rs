//! Questions over the replication protocol: what a server replays or writes, and
//! the histories of its timelines.
//!
//! The own server is asked what it replays, which no SQL function tells. A peer is
//! asked as the replication user, who must reach it anyhow: a superuser or the
//! user of pg_rewind may be refused there.
//!
//! With TLS or without: `sslmode.rs`.

mod stream;

use super::error::Error;
use super::sslmode::{self, Wire};
use super::target::Target;
use super::tls;
use std::io;
use stream::{Introduced, IntroducedTls, Kind};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UnixStream};
use tokio_postgres::config::SslMode;
use tokio_postgres::tls::MakeTlsConnect;
use tokio_postgres::{Client, NoTls, SimpleQueryMessage, SimpleQueryRow};
use topology::{History, Lsn, Timeline};

const SYSTEM: &str = "IDENTIFY_SYSTEM";
const HISTORY: &str = "TIMELINE_HISTORY";
/// PostgreSQL 15 and later.
const SLOT: &str = "READ_REPLICATION_SLOT";
const HOT_STANDBY: &str = "SHOW in_hot_standby";
const READ_ONLY: &str = "SHOW transaction_read_only";

/// What a peer says to a standby that would stream from it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PeerLog {
    pub history: History,
    /// `None`: it may also be a primary whose sessions are read-only by default, and its
    /// version (before 14) does not tell.
    pub in_recovery: Option<bool>,
    /// `None`: no slot was asked about, or that version cannot be asked.
    pub has_slot: Option<bool>,
}

/// The timeline that the own server replays, or writes, and how far. Without TLS.
pub(super) async fn identify(target: &Target) -> Result<(Timeline, Lsn), Error> {
    in_time(target, async {
        let client = plain(target, &target.host, target.port, Kind::Database).await?;
        system(&client).await
    })
    .await
}

/// The history of the timeline that a peer writes or replays.
pub(super) async fn history(target: &Target) -> Result<History, Error> {
    in_time(target, async { history_of(&physical(target).await?).await }).await
}

/// The same with all that decides whether to stream from that peer, and whether the slot
/// is there that would be used.
pub(super) async fn peer_log(target: &Target, slot: Option<&str>) -> Result<PeerLog, Error> {
    in_time(target, async {
        let client = physical(target).await?;
        let history = history_of(&client).await?;
        let in_recovery = is_in_recovery(&client).await?;
        let has_slot = match slot {
            Some(name) => has_slot(&client, name).await,
            None => None,
        };
        Ok(PeerLog { history, in_recovery, has_slot })
    })
    .await
}

/// `in_hot_standby` is known to PostgreSQL 14 and later.
async fn is_in_recovery(client: &Client) -> Result<Option<bool>, Error> {
    let is_on = |row: SimpleQueryRow| row.try_get(0).ok().flatten() == Some("on");
    if let Ok(row) = only_row(client, HOT_STANDBY, HOT_STANDBY).await {
        return Ok(Some(is_on(row)));
    }
    let read_only = is_on(only_row(client, READ_ONLY, READ_ONLY).await?);
    Ok((!read_only).then_some(false))
}

/// PostgreSQL 17: the server copies this logical slot to standbys. Names of slots need no
/// escape.
pub(super) async fn set_failover(target: &Target, slot: &str) -> Result<(), Error> {
    const WHAT: &str = "ALTER_REPLICATION_SLOT";
    in_time(target, async {
        let client = plain(target, &target.host, target.port, Kind::Database).await?;
        let command = format!("{WHAT} \"{slot}\" (FAILOVER true)");
        client.simple_query(&command).await.map_err(Error::sql(WHAT)).map(drop)
    })
    .await
}

async fn history_of(client: &Client) -> Result<History, Error> {
    let (timeline, _) = system(client).await?;
    if timeline.0 <= 1 {
        return Ok(History { current: timeline, forks: Vec::new() });
    }
    let row = only_row(client, HISTORY, &format!("{HISTORY} {timeline}")).await?;
    let text = row.try_get("content").ok().flatten();
    let text = text.ok_or(Error::Answer { what: HISTORY, field: "content" })?;
    Ok(History::parse(timeline, text)?)
}

/// A slot that is not there is a row of nulls. Normalised names need no escape.
async fn has_slot(client: &Client, name: &str) -> Option<bool> {
    let row = only_row(client, SLOT, &format!("{SLOT} \"{name}\"")).await.ok()?;
    Some(row.try_get("slot_type").ok()?.is_some())
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

/// A connection that pg_hba.conf judges as that of a standby.
async fn physical(target: &Target) -> Result<Client, Error> {
    sslmode::connect(target, |host, port, wire| one(target, host, port, wire)).await
}

async fn one(target: &Target, host: String, port: u16, wire: Wire) -> Result<Client, Error> {
    match wire {
        Wire::Plain => plain(target, &host, port, Kind::Physical).await,
        Wire::Encrypted => encrypted(target, &host, port).await,
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

async fn encrypted(target: &Target, host: &str, port: u16) -> Result<Client, Error> {
    let broken = |why: String| Error::Tls { address: target.address(), why };
    let mut connector = tls::connector(&target.login, sslmode::mode(target))
        .map_err(|why| broken(why.to_string()))?;
    let tls = MakeTlsConnect::<TcpStream>::make_tls_connect(&mut connector, host);
    let tls = IntroducedTls::new(tls.map_err(|why| broken(why.to_string()))?, Kind::Physical);
    let stream = reached(target, TcpStream::connect((host, port)).await)?;
    let config = target.config(SslMode::Require);
    let talk = config.connect_raw(stream, tls).await.map_err(refused(target))?;
    Ok(talking(talk))
}

fn reached<S>(target: &Target, stream: io::Result<S>) -> Result<S, Error> {
    stream.map_err(|source| Error::Unreached { address: target.address(), source })
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
