//! etcd v3 as the store.
//!
//! Nothing connects before the first call, so a daemon starts while its store
//! is down. One endpoint is in use at a time; an endpoint that fails or keeps
//! silent is left for the next one.
//!
//! Invariant *sent once*: a transaction that may have reached the store is
//! never sent again by us. Reads, renewals, grants and watches do no harm twice
//! and move on to another endpoint within their deadline.
//!
//! Absent on purpose: renewing in the background (a daemon that hangs must lose
//! its lease), and re-opening a watch (its reader has to read first).

mod connection;
mod discovery;
mod endpoint;
mod endpoints;
mod identity;
mod link;
mod translate;
mod watch;

#[cfg(test)]
pub(crate) mod server;
#[cfg(test)]
mod tests;

use super::by_hand::ByHand;
use super::keys::Keys;
use super::kv::{KeyValueStore, Txn, lower};
use super::{
    Answer, DcsError, OPS_MAX, Renewal, Session, Snapshot, Store, Version, WatchItem, Write,
    Written, covering,
};
use crate::dcs::settings::StoreSettings;
use connection::{Connection, Connections};
use etcd_client::{
    Client, Error, LeaseGrantResponse, LeaseKeepAliveStream, LeaseKeeper, LeaseRevokeResponse,
    ResponseHeader, TxnResponse,
};
use std::future::Future;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::mpsc::Receiver;

/// One of several endpoints may use this much of a deadline at least.
const SHARE_MIN: Duration = Duration::from_secs(1);
/// A connection that broke in idle time says nothing about the store: a call
/// that does no harm twice is tried this often at least.
const ATTEMPTS_MIN: usize = 2;

pub(super) struct EtcdStore {
    connections: Arc<Connections>,
    timeout: Duration,
    /// Watches end when this goes away.
    alive: tokio::sync::watch::Sender<()>,
}

/// May a call that was perhaps executed be sent again?
#[derive(Clone, Copy, PartialEq, Eq)]
enum Repeat {
    Harmless,
    Never,
}

/// Every answer says which cluster gave it.
trait Headed {
    fn header(&self) -> Option<&ResponseHeader>;
}

macro_rules! headed {
    ($($answer:ty),*) => {
        $(impl Headed for $answer {
            fn header(&self) -> Option<&ResponseHeader> {
                self.header()
            }
        })*
    };
}
headed!(TxnResponse, LeaseGrantResponse, LeaseRevokeResponse);

/// A renewal's answer does not tell; another cluster would not know the lease,
/// and "gone" only takes ability away.
impl Headed for (LeaseKeeper, LeaseKeepAliveStream) {
    fn header(&self) -> Option<&ResponseHeader> {
        None
    }
}

/// The answers of a watch are looked at one by one.
impl Headed for watch::Opened {
    fn header(&self) -> Option<&ResponseHeader> {
        None
    }
}

impl EtcdStore {
    /// Fails only for settings that can never work; `timeout` is the deadline
    /// of every call.
    pub(super) fn new(settings: &StoreSettings, timeout: Duration) -> Result<EtcdStore, DcsError> {
        Ok(EtcdStore {
            connections: Arc::new(Connections::new(settings, timeout)?),
            timeout,
            alive: tokio::sync::watch::Sender::new(()),
        })
    }

    /// How soon a silent connection is noticed: a ping after `interval` without
    /// traffic, answered within `timeout`. etcd throws out clients that ping
    /// more often than every 5 seconds.
    #[cfg(test)]
    pub(super) fn with_keep_alive(mut self, interval: Duration, timeout: Duration) -> EtcdStore {
        if let Some(connections) = Arc::get_mut(&mut self.connections) {
            connections.set_keep_alive(interval, timeout);
        }
        self
    }

    async fn call<T, F, Fut>(&self, repeat: Repeat, request: F) -> Result<T, DcsError>
    where
        T: Headed,
        F: Fn(Client) -> Fut,
        Fut: Future<Output = Result<T, Error>>,
    {
        let began = Instant::now();
        let deadline = self.timeout;
        match tokio::time::timeout(deadline, self.attempts(repeat, deadline, request)).await {
            Ok(Ok(answer)) => Ok(answer),
            Ok(Err(DcsError::Unreachable { reason, .. })) => {
                Err(DcsError::Unreachable { waited: began.elapsed(), reason })
            }
            Ok(Err(other)) => Err(other),
            Err(_) => {
                let reason = format!("{} kept silent", self.connections.names());
                self.connections.leave_current();
                Err(DcsError::Unreachable { waited: deadline, reason })
            }
        }
    }

    async fn attempts<T, F, Fut>(
        &self,
        repeat: Repeat,
        deadline: Duration,
        request: F,
    ) -> Result<T, DcsError>
    where
        T: Headed,
        F: Fn(Client) -> Fut,
        Fut: Future<Output = Result<T, Error>>,
    {
        let attempts_max = self.connections.count().max(ATTEMPTS_MIN);
        let mut attempt = 1;
        loop {
            let connection = self.connections.get().await?;
            let error = match self.once(&connection, deadline, &request).await {
                Ok(answer) => return Ok(answer),
                Err(error) => error,
            };
            let again = match error {
                DcsError::Unreachable { .. } => {
                    repeat == Repeat::Harmless && attempt < attempts_max
                }
                // Nothing was executed, and one new login may help.
                DcsError::Denied(_) => self.connections.logs_in() && attempt == 1,
                _ => return Err(error),
            };
            self.connections.leave(&connection);
            if !again {
                return Err(error);
            }
            attempt += 1;
        }
    }

    /// One request over one connection, with that endpoint's share of the time.
    async fn once<T, F, Fut>(
        &self,
        connection: &Connection,
        deadline: Duration,
        request: F,
    ) -> Result<T, DcsError>
    where
        T: Headed,
        F: Fn(Client) -> Fut,
        Fut: Future<Output = Result<T, Error>>,
    {
        let share = (deadline / self.connections.count() as u32).max(SHARE_MIN).min(deadline);
        match tokio::time::timeout(share, request(connection.client.clone())).await {
            Ok(answer) => {
                let answer = answer.map_err(translate::error)?;
                self.connections.identity.check(answer.header())?;
                Ok(answer)
            }
            Err(_) => Err(DcsError::Unreachable {
                waited: share,
                reason: format!("{} kept silent", connection.name()),
            }),
        }
    }
}

impl Store for EtcdStore {
    fn read<'a>(&'a self, prefixes: &'a [String]) -> Answer<'a, Snapshot> {
        Box::pin(async move {
            let request = translate::read(&covering(prefixes)?);
            let ask = |client: Client| {
                let request = request.clone();
                async move { connection::kv(&client).txn(request).await }
            };
            self.call(Repeat::Harmless, ask).await.map(|answer| translate::snapshot(&answer))
        })
    }

    fn write<'a>(&'a self, keys: &'a Keys, write: &'a Write) -> Answer<'a, Written> {
        self.txn(lower(keys, write))
    }

    fn watch<'a>(
        &'a self,
        prefixes: &'a [String],
        version: Version,
    ) -> Answer<'a, Receiver<WatchItem>> {
        Box::pin(async move {
            let prefixes = covering(prefixes)?;
            let ask = |client: Client| watch::open(client, prefixes.clone(), version.number() + 1);
            let opened = self.call(Repeat::Harmless, ask).await?;
            let watching =
                watch::start(opened, self.connections.identity.clone(), self.alive.subscribe());
            if matches!(watching, Err(DcsError::Denied(_) | DcsError::Unreachable { .. })) {
                // An old login is refused in the stream, not by the call; and so
                // is a member that is behind.
                self.connections.leave_current();
            }
            watching
        })
    }

    fn grant(&self, ttl: Duration) -> Answer<'_, Session> {
        Box::pin(async move {
            let seconds = ttl.as_millis().div_ceil(1000).clamp(1, i64::MAX as u128) as i64;
            let ask =
                |client: Client| async move { client.lease_client().grant(seconds, None).await };
            self.connections.endpoints.heard_ttl(ttl);
            self.call(Repeat::Harmless, ask).await.map(|granted| Session::of_store(granted.id()))
        })
    }

    fn renew(&self, session: Session) -> Answer<'_, Renewal> {
        Box::pin(async move {
            // A leader of etcd that has just lost its majority says "alive" for up to an
            // election's length. The next leader lets every lease begin anew, and longer by
            // such a length, so the deadline that counts from here still comes first.
            let ask = |client: Client| async move {
                client.lease_client().keep_alive(session.number()).await
            };
            match self.call(Repeat::Harmless, ask).await {
                Ok(_) => Ok(Renewal::Alive),
                Err(DcsError::LeaseGone) => Ok(Renewal::Gone),
                Err(error) => Err(error),
            }
        })
    }

    fn set_login(&self, settings: &StoreSettings) {
        self.connections.set_login(settings);
    }

    fn by_hand(&self) -> Option<&dyn ByHand> {
        Some(self)
    }
}

impl KeyValueStore for EtcdStore {
    fn txn(&self, txn: Txn) -> Answer<'_, Written> {
        Box::pin(async move {
            if txn.when.len() > OPS_MAX || txn.then.len() > OPS_MAX {
                return Err(DcsError::Refused(format!("more than {OPS_MAX} operations")));
            }
            let request = translate::txn(txn);
            let ask = |client: Client| {
                let request = request.clone();
                async move { connection::kv(&client).txn(request).await }
            };
            self.call(Repeat::Never, ask).await.map(|answer| translate::txn_result(&answer))
        })
    }

    fn revoke(&self, session: Session) -> Answer<'_, ()> {
        Box::pin(async move {
            let ask = |client: Client| async move {
                client.lease_client().revoke(session.number()).await
            };
            match self.call(Repeat::Harmless, ask).await {
                // It has ended already, which is all that was asked for.
                Err(DcsError::LeaseGone) => Ok(()),
                answer => answer.map(|_| ()),
            }
        })
    }
}
