//! The region's agent: the one daemon that speaks for a region.
//!
//! Every daemon runs the task of `agent`; the one that holds the region's agent
//! key works. It reads the other regions' stores, publishes what it sees, keeps
//! the vote and the certificate in order, and drives planned moves (`driver`).
//! What comes next is decided by `standby::switch`; here are eyes and hands.
//!
//! Invariant: the daemons of a group never wait for the agent. They read their
//! own store (`standby::switch::ownership`), which the agent only writes to.

pub mod agent;
pub mod driver;
pub mod facts;
pub mod hands;
pub mod ownership;
pub mod peers;
pub mod request;
mod sql;
#[cfg(test)]
mod tests;
pub mod txn;

use crate::config::{Settings, TopologySettings};
use crate::dcs::etcd::EtcdStore;
use crate::dcs::keys::Keys;
use crate::dcs::mirror::{Changes, Mirror};
use crate::dcs::{DcsError, LeaseId, Store, Txn};
use agent::{AgentContext, Pace};
use hands::ServerHands;
use ownership::Site;
use std::collections::BTreeMap;
use std::pin::Pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::{Duration, Instant};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use topology::{Group, RegionName};

/// Deadline of one call to another region's store.
pub const REMOTE_CALL: Duration = Duration::from_secs(3);

/// What the daemon gives its region task.
pub struct RegionContext {
    pub settings: Arc<Settings>,
    pub store: Arc<dyn Store>,
    pub keys: Keys,
    /// The daemon's own lease, which the agent's keys hang on.
    pub lease: watch::Receiver<Option<LeaseId>>,
    /// The daemon's member leads its group.
    pub holds_lock: watch::Receiver<bool>,
}

/// Starts the region task; without a `topology` section it ends at once.
pub fn spawn(context: RegionContext) -> JoinHandle<()> {
    tokio::spawn(async move {
        match AgentContext::of(context) {
            Ok(Some(context)) => agent::run(context).await,
            Ok(None) => {}
            Err(why) => tracing::error!("the region agent cannot start: {why}"),
        }
    })
}

impl AgentContext {
    fn of(context: RegionContext) -> Result<Option<AgentContext>, String> {
        let settings = context.settings;
        let Some(topology) = &settings.topology else {
            return Ok(None);
        };
        let stores = open_stores(topology).map_err(|e| e.to_string())?;
        let hands = ServerHands::new(&settings).map_err(|e| e.to_string())?;
        Ok(Some(AgentContext {
            region: topology.region.clone(),
            policy: topology.policy.clone(),
            name: format!("{}/{}", topology.region, settings.name),
            is_preferred: matches!(settings.group(), Group::PLAIN | Group::COORDINATOR),
            keys: context.keys,
            store: context.store,
            others: stores,
            hands: Arc::new(hands),
            lease: context.lease,
            holds_lock: context.holds_lock,
            pace: Pace::default(),
        }))
    }
}

/// The stores of the other regions, by region. Nothing connects yet.
pub fn open_stores(
    topology: &TopologySettings,
) -> Result<BTreeMap<RegionName, Arc<dyn Store>>, DcsError> {
    let others = topology.stores.iter().filter(|(name, _)| **name != topology.region);
    let opened = others.map(|(name, store)| {
        let store: Arc<dyn Store> = Arc::new(EtcdStore::new(store, REMOTE_CALL)?);
        Ok((name.clone(), store))
    });
    opened.collect()
}

/// One region's store with a copy of it.
pub struct Outpost {
    pub store: Arc<dyn Store>,
    pub mirror: Mirror,
    keys: Keys,
}

impl Outpost {
    pub fn open(store: Arc<dyn Store>, keys: &Keys) -> Outpost {
        let mirror = Mirror::spawn(store.clone(), vec![keys.scope_prefix()]);
        Outpost { store, mirror, keys: keys.clone() }
    }

    /// The copy, however old; `None` before the first read.
    pub fn site(&self) -> Option<Site> {
        let view = self.mirror.snapshot()?;
        Some(Site::read(&self.keys, &view.snapshot.entries))
    }

    /// The copy, if the watch that feeds it is alive.
    pub fn live_site(&self) -> Option<Site> {
        let view = self.mirror.snapshot().filter(|view| !view.lost)?;
        Some(Site::read(&self.keys, &view.snapshot.entries))
    }

    /// When the store last told us anything.
    pub fn heard(&self) -> Option<Instant> {
        self.mirror.snapshot().map(|view| view.confirmed)
    }

    /// Reads the store now, linearizably.
    pub async fn read(&self) -> Result<Site, DcsError> {
        let read = self.mirror.refresh().await?;
        Ok(Site::read(&self.keys, &read.entries))
    }

    /// Writes, and shows the write in the copy at once. False: a condition did
    /// not hold, look again.
    pub async fn write(&self, txn: Txn) -> Result<bool, DcsError> {
        Ok(self.mirror.write(txn).await?.succeeded)
    }
}

/// Any change in any of these stores.
struct Changed {
    feeds: Vec<Changes>,
}

impl Changed {
    fn of<'a>(outposts: impl Iterator<Item = &'a Arc<Outpost>>) -> Changed {
        Changed { feeds: outposts.map(|outpost| outpost.mirror.subscribe()).collect() }
    }

    /// Cancelling loses nothing.
    async fn next(&mut self) {
        first_of(self.feeds.iter_mut().map(|feed| Box::pin(changed(feed))).collect()).await;
    }
}

/// A copy that ended tells of nothing any more.
async fn changed(feed: &mut Changes) {
    if feed.next().await.is_none() {
        std::future::pending::<()>().await;
    }
}

/// The first answer; the others are dropped. Without any, there is none.
async fn first_of<F: Future>(mut waits: Vec<Pin<Box<F>>>) -> F::Output {
    std::future::poll_fn(move |cx| {
        let answers = waits.iter_mut().map(|wait| wait.as_mut().poll(cx));
        answers.into_iter().find(Poll::is_ready).unwrap_or(Poll::Pending)
    })
    .await
}

/// All answers, in the order of the questions, asked at once.
async fn all_of<F: Future>(mut waits: Vec<Pin<Box<F>>>) -> Vec<F::Output> {
    let mut answers: Vec<Option<F::Output>> = waits.iter().map(|_| None).collect();
    std::future::poll_fn(|cx| {
        for (wait, answer) in waits.iter_mut().zip(&mut answers) {
            if answer.is_none()
                && let Poll::Ready(ready) = wait.as_mut().poll(cx)
            {
                *answer = Some(ready);
            }
        }
        if answers.iter().all(Option::is_some) { Poll::Ready(()) } else { Poll::Pending }
    })
    .await;
    answers.into_iter().flatten().collect()
}

/// The date as it stands in certificates; for people, never compared.
fn date() -> String {
    jiff::ZonedDateTime::now().strftime("%Y-%m-%dT%H:%M:%S%.6f%:z").to_string()
}
