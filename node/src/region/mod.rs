//! The region's agent: the one daemon that speaks for a region.
//!
//! Every daemon runs one (`run`); the one that holds the region's agent key works.
//! The agent itself is a machine without I/O in `standby::switch::agent`: here its
//! effects are performed on the stores of all regions (`perform`, `region_store`) and on
//! the leaders' servers (`group_servers`).
//!
//! Invariant: the daemons of a group never wait for the agent. They read their
//! own store (`standby::switch::ownership`), which the agent only writes to.

mod context;
pub mod examine;
pub mod group_servers;
pub mod ownership;
mod perform;
mod region_store;
pub mod request;
pub(crate) mod run;
pub mod schedules;
mod sql;
#[cfg(test)]
mod tests;
#[cfg(test)]
mod write_tests;

use crate::config::{Settings, TopologySettings};
use crate::dcs::keys::Keys;
use crate::dcs::{self, DcsError, Session, Store};
use context::AgentContext;
use group_servers::SqlGroupServers;
use standby::switch::agent::Pace;
use standby::switch::campaign::is_preferred;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use topology::RegionName;
use topology::acceptor::Acceptor;

/// Deadline of one call to another region's store.
pub const REMOTE_CALL: Duration = Duration::from_secs(3);
const AFTER_A_PANIC: Duration = Duration::from_secs(1);

/// What the daemon gives its region task.
pub struct RegionContext {
    pub settings: Arc<Settings>,
    pub store: Arc<dyn Store>,
    pub keys: Keys,
    /// The daemon's own lease, which the agent's keys hang on.
    pub lease: watch::Receiver<Option<Session>>,
    /// The daemon's member may campaign: it leads its group, or no member does.
    pub holds_lock: watch::Receiver<bool>,
    /// What the host's disk knows of the own store.
    pub memory: watch::Receiver<Option<Arc<Acceptor>>>,
}

/// Starts the region task; without a `topology` section it ends at once.
pub fn spawn(context: RegionContext) -> JoinHandle<()> {
    tokio::spawn(async move {
        match AgentContext::of(context) {
            Ok(Some(context)) => run::supervised(AFTER_A_PANIC, || run::run(context.clone())).await,
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
        let servers = SqlGroupServers::new(&settings).map_err(|e| e.to_string())?;
        Ok(Some(AgentContext {
            region: topology.region.clone(),
            policy: topology.policy.clone(),
            name: format!("{}/{}", topology.region, settings.name),
            is_preferred: is_preferred(settings.group()),
            keys: context.keys,
            store: context.store,
            others: stores,
            servers: Arc::new(servers),
            lease: context.lease,
            holds_lock: context.holds_lock,
            memory: context.memory,
            pace: Pace::default(),
        }))
    }
}

/// The stores of the other regions, by region. Nothing connects yet.
pub fn open_stores(
    topology: &TopologySettings,
) -> Result<BTreeMap<RegionName, Arc<dyn Store>>, DcsError> {
    let others = topology.stores.iter().filter(|(name, _)| **name != topology.region);
    let opened = others.map(|(name, store)| Ok((name.clone(), dcs::open(store, REMOTE_CALL)?)));
    opened.collect()
}
