//! What a region's agent works with: its stores, the servers of its groups, and what its
//! daemon tells it.

use super::group_servers::GroupServers;
use crate::dcs::keys::Keys;
use crate::dcs::{Session, Store};
use standby::switch::agent::Pace;
use standby::switch::effect::Identity;
use std::collections::BTreeMap;
use std::sync::Arc;
use tokio::sync::watch;
use topology::RegionName;
use topology::acceptor::Acceptor;
use topology::region::Policy;

#[derive(Clone)]
pub(crate) struct AgentContext {
    pub region: RegionName,
    /// The policy of the daemon's settings.
    pub policy: Policy,
    /// `region/member`.
    pub name: String,
    /// Leads the plain or the coordinator group, when it leads.
    pub is_preferred: bool,
    pub keys: Keys,
    pub store: Arc<dyn Store>,
    pub others: BTreeMap<RegionName, Arc<dyn Store>>,
    pub servers: Arc<dyn GroupServers>,
    pub lease: watch::Receiver<Option<Session>>,
    pub holds_lock: watch::Receiver<bool>,
    pub memory: watch::Receiver<Option<Arc<Acceptor>>>,
    pub pace: Pace,
}

impl AgentContext {
    pub(crate) fn identity(&self) -> Identity {
        Identity {
            region: self.region.clone(),
            name: self.name.clone(),
            is_preferred: self.is_preferred,
            settings: self.policy.clone(),
            others: self.others.keys().cloned().collect(),
        }
    }
}
