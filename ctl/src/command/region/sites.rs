//! The regions' stores, read for an operator.
//!
//! Every store is asked at once, with a deadline; one that cannot be read keeps
//! its place with the reason. Who owns the formation is what the highest epoch
//! says that was read.

use crate::world::World;
use anyhow::{Context, Result, anyhow, bail};
use node::config::CtlSettings;
use node::dcs::Store;
use node::dcs::keys::Keys;
use node::region::examine::examine;
use node::region::group_servers::{GroupServers, SqlGroupServers};
use node::region::ownership::read_site;
use node::region::{REMOTE_CALL, open_stores};
use standby::switch::Site;
use standby::switch::preflight::Finding;
use std::collections::BTreeMap;
use std::sync::Arc;
use tokio::task::JoinSet;
use topology::region::{Certificate, Policy};
use topology::schedule::{Limits, Schedule};
use topology::{Group, RegionName};

pub(super) struct Regions {
    pub formation: String,
    /// As configured; the stored one is in force.
    pub policy: Policy,
    pub keys: Keys,
    pub stores: BTreeMap<RegionName, Arc<dyn Store>>,
    /// `None`: the configuration names no superuser.
    pub servers: Option<Arc<dyn GroupServers>>,
}

impl Regions {
    /// The store of a region that a journal or a certificate names.
    pub(super) fn store(&self, region: &RegionName) -> Result<&Arc<dyn Store>> {
        let known = self.stores.get(region);
        known.with_context(|| {
            format!(
                "region {region} is not among the `regions` of `topology` in this configuration"
            )
        })
    }
}

/// What the stores said, or why they said nothing.
pub(super) struct Sites(pub BTreeMap<RegionName, Result<Site, String>>);

/// A move that may be asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Plan {
    pub from: RegionName,
    pub to: RegionName,
    pub epoch: u64,
}

impl Regions {
    pub(super) fn open(world: &World, scope: &str) -> Result<Regions> {
        let settings = &world.settings;
        let Some(topology) = &settings.topology else {
            bail!("region commands need a `topology` section in the configuration");
        };
        let mut stores = open_stores(topology).context("a region's store cannot be used")?;
        let own = node::dcs::open(&settings.store, REMOTE_CALL)?;
        stores.insert(topology.region.clone(), own);
        Ok(Regions {
            formation: topology.policy.formation.clone(),
            policy: topology.policy.clone(),
            keys: Keys::new(&settings.namespace, scope, Group::PLAIN),
            stores,
            servers: servers(settings)?,
        })
    }

    pub(super) async fn read(&self) -> Sites {
        let mut reading = JoinSet::new();
        for (name, store) in &self.stores {
            let (name, store, keys) = (name.clone(), store.clone(), self.keys.clone());
            reading.spawn(async move { (name, read(&*store, &keys).await) });
        }
        let mut sites = BTreeMap::new();
        while let Some(done) = reading.join_next().await {
            if let Ok((name, site)) = done {
                sites.insert(name, site);
            }
        }
        Sites(sites)
    }

    /// The preflight, with the servers asked.
    pub(super) async fn examine(
        &self,
        sites: &Sites,
        plan: &Plan,
        limits: &Limits,
    ) -> Result<Vec<Finding>> {
        let servers = self
            .servers
            .as_ref()
            .context("the servers cannot be asked: set postgresql.authentication.superuser")?;
        let (from, to) = (sites.read(&plan.from)?, sites.read(&plan.to)?);
        let running = from.topology.journal();
        Ok(examine(&**servers, [(&plan.from, from), (&plan.to, to)], limits, running).await)
    }
}

/// For questions to the servers; `None`: the configuration names no superuser.
pub(in crate::command) fn servers(settings: &CtlSettings) -> Result<Option<Arc<dyn GroupServers>>> {
    let (login, citus) = (settings.superuser.as_ref(), settings.citus.as_ref());
    let servers = login.map(|login| SqlGroupServers::for_probes(login, citus)).transpose()?;
    Ok(servers.map(|servers| Arc::new(servers) as Arc<dyn GroupServers>))
}

pub(super) async fn read(store: &dyn Store, keys: &Keys) -> Result<Site, String> {
    let prefixes = [keys.scope_prefix()];
    let read = tokio::time::timeout(REMOTE_CALL, store.read(&prefixes)).await;
    let read = read.map_err(|_| format!("no answer within {REMOTE_CALL:?}"))?;
    read.map(|read| read_site(keys, &read.entries)).map_err(|error| error.to_string())
}

impl Sites {
    pub(super) fn read(&self, region: &RegionName) -> Result<&Site> {
        match self.0.get(region) {
            Some(Ok(site)) => Ok(site),
            Some(Err(why)) => bail!("the store of region {region} cannot be read: {why}"),
            None => bail!(
                "there is no region {region}; the configuration names {}",
                self.0.keys().map(RegionName::as_str).collect::<Vec<_>>().join(", ")
            ),
        }
    }

    pub(super) fn known(&self) -> impl Iterator<Item = (&RegionName, &Site)> {
        self.0.iter().filter_map(|(name, site)| Some((name, site.as_ref().ok()?)))
    }

    /// The certificate of the highest epoch that any store holds.
    pub(super) fn newest(&self) -> Option<&Certificate> {
        let held = self.known().filter_map(|(_, site)| site.topology.accepted());
        held.max_by_key(|certificate| certificate.epoch)
    }

    /// Every schedule that any store holds, in its newest copy: between equals the owner's.
    pub(super) fn schedules(&self) -> BTreeMap<&str, &Schedule> {
        let owner = self.newest().map(|certificate| &certificate.owner);
        let mut newest: BTreeMap<&str, (u64, bool, &Schedule)> = BTreeMap::new();
        for (name, site) in self.known() {
            for schedule in site.topology.schedules.values() {
                let copy = (schedule.revision, Some(name) == owner, schedule);
                let known = newest.entry(&schedule.id).or_insert(copy);
                if (copy.0, copy.1) > (known.0, known.1) {
                    *known = copy;
                }
            }
        }
        newest.into_iter().map(|(id, (.., schedule))| (id, schedule)).collect()
    }

    /// From the owner to the region asked for, or to the only other one.
    pub(super) fn plan(&self, to: Option<&str>, regions: &Regions) -> Result<Plan> {
        let newest = self.newest().ok_or_else(|| {
            anyhow!("no region owns formation {} yet: see the agents' logs", regions.formation)
        })?;
        let from = newest.owner.clone();
        let others: Vec<_> = self.0.keys().filter(|name| **name != from).collect();
        let to = match (to, others.as_slice()) {
            (Some(to), _) => RegionName::new(to),
            (None, [only]) => (*only).clone(),
            (None, _) => bail!("several regions could take over: name one with --to"),
        };
        if to == from {
            bail!("region {to} owns the formation already, since epoch {}", newest.epoch);
        }
        self.read(&from)?;
        self.read(&to)?;
        Ok(Plan { from, to, epoch: newest.epoch })
    }
}
