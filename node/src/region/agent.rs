//! The agent's life: election, votes and certificates, reports on other regions.
//!
//! Every daemon of a region runs this task. The leader of a group tries to
//! become the agent; the coordinator's (or the plain group's) leader first, as
//! it is the one whose loss the others notice anyway.
//!
//! Invariants:
//! - an agent acts on copies that were read after it was elected, and each of
//!   its writes carries the versions it was decided on;
//! - whatever cannot be done is logged once as an error and tried again.
//!
//! Absent on purpose: a copy of the highest epoch on local disk. A store that
//! lost its data together with its whole region is believed until another
//! region's register was read.

use super::driver::{self, DriverContext};
use super::hands::Hands;
use super::ownership::Site;
use super::peers::{Publisher, picture};
use super::txn::{self, AgentKey};
use super::{Changed, Outpost, REMOTE_CALL, all_of, date};
use crate::clock;
use crate::dcs::keys::Keys;
use crate::dcs::mirror::Mirror;
use crate::dcs::{DcsError, LeaseId, Store};
use standby::switch::LocalTopology;
use standby::switch::register::{
    AgentFacts, AgentStep, MarkMemory, agent_step, behind, policy_conflict,
};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;
use tokio::task::{JoinHandle, JoinSet};
use topology::region::{Certificate, Policy};
use topology::{Millis, RegionName, Seen};

/// Leaders of other groups wait this long for the preferred one to become the agent.
const YIELD: Duration = Duration::from_secs(2);
/// While the copies of the stores are being made.
const SOON: Duration = Duration::from_millis(20);
const YOUNG_MS: u64 = 1_000;
/// Between two reads of the other stores, and between two forwarded certificates.
const AGAIN: Duration = Duration::from_secs(1);
/// Steps in a row before others get their turn.
const ROUNDS_MAX: usize = 8;
/// A mark counts as alive for this long after it was seen: the least ttl that a
/// lease may have.
const MARK_TTL_MS: u64 = 20_000;

/// The longest sleeps of an agent and its driver: only clocks are noticed so.
#[derive(Clone, Copy)]
pub struct Pace {
    pub agent: Duration,
    pub driver: Duration,
}

impl Default for Pace {
    fn default() -> Pace {
        Pace { agent: Duration::from_secs(1), driver: Duration::from_millis(250) }
    }
}

pub struct AgentContext {
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
    pub hands: Arc<dyn Hands>,
    pub lease: watch::Receiver<Option<LeaseId>>,
    pub holds_lock: watch::Receiver<bool>,
    pub pace: Pace,
}

/// Runs until it is aborted.
pub async fn run(context: AgentContext) {
    let mut lease = context.lease.clone();
    let mut holds_lock = context.holds_lock.clone();
    let prefix = vec![context.keys.topology_prefix()];
    let mirror = Mirror::spawn(context.store.clone(), prefix);
    let mut changes = mirror.subscribe();
    let mut candidate = Candidate { context, mirror, marks: MarkMemory::default(), vacant: None };
    let mut session: Option<AgentSession> = None;
    loop {
        let now = clock::now();
        match candidate.campaign(now).await {
            None => session = None,
            Some(key) if session.as_ref().is_some_and(|open| open.agent_key == key) => {}
            Some(agent_key) => session = Some(AgentSession::open(&candidate.context, agent_key)),
        }
        if let Some(session) = &mut session {
            session.work(candidate.marks.alive(now, MARK_TTL_MS)).await;
        }
        let is_waiting = match &session {
            Some(session) => session.is_young(now),
            None => candidate.mirror.snapshot().is_none_or(|view| view.lost),
        };
        let pause = if is_waiting { SOON } else { candidate.context.pace.agent };
        let seen = async {
            match &mut session {
                Some(session) => session.changes.next().await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            () = seen => {}
            _ = changes.next() => {}
            Ok(()) = lease.changed() => {}
            Ok(()) = holds_lock.changed() => {}
            () = tokio::time::sleep(pause) => {}
        }
    }
}

/// A daemon that may become the agent.
struct Candidate {
    context: AgentContext,
    /// Only `topology/`: most daemons never become the agent.
    mirror: Mirror,
    marks: MarkMemory,
    /// Since when the region has no agent.
    vacant: Option<Millis>,
}

impl Candidate {
    /// The own agent key, if this daemon is the agent now.
    async fn campaign(&mut self, now: Millis) -> Option<AgentKey> {
        let view = self.mirror.snapshot().filter(|view| !view.lost)?;
        let local = super::ownership::read(&self.context.keys, &view.snapshot.entries);
        self.marks.look(&local, view.snapshot.revision, now, MARK_TTL_MS);
        let name = self.context.name.clone();
        let (lease, leads) = (*self.context.lease.borrow(), *self.context.holds_lock.borrow());
        let agent = local.agent.as_ref();
        let is_mine = agent.is_some_and(|agent| agent.value == name);
        let Some(lease) = lease.filter(|_| leads) else {
            if let Some(agent) = agent.filter(|_| is_mine) {
                let agent_key = AgentKey { name, lease: agent.lease };
                self.write(txn::resign(&self.context.keys, &agent_key)).await;
            }
            return None;
        };
        let agent_key = AgentKey { name, lease };
        if is_mine && agent.is_some_and(|agent| agent.lease == lease) {
            return Some(agent_key);
        }
        if !is_mine && !self.is_vacant(agent.is_none(), now) {
            return None;
        }
        let elected = self.write(txn::elect(&self.context.keys, &local, &agent_key)).await;
        elected.then_some(agent_key)
    }

    /// There is no agent, and this leader is the preferred one or has waited for it.
    fn is_vacant(&mut self, absent: bool, now: Millis) -> bool {
        if !absent {
            self.vacant = None;
            return false;
        }
        let since = *self.vacant.get_or_insert(now);
        self.context.is_preferred || now.since(since) >= YIELD.as_millis() as u64
    }

    async fn write(&self, txn: crate::dcs::Txn) -> bool {
        match self.mirror.write(txn).await {
            Ok(result) => result.succeeded,
            Err(error) => {
                tracing::warn!("the agent's key could not be written: {error}");
                false
            }
        }
    }
}

/// What an agent has at hand while it is one; dropping it ends its work.
struct AgentSession {
    region: RegionName,
    settings: Policy,
    agent_key: AgentKey,
    keys: Keys,
    own: Arc<Outpost>,
    others: Arc<BTreeMap<RegionName, Arc<Outpost>>>,
    changes: Changed,
    driver: JoinHandle<()>,
    publisher: Publisher,
    /// When reading the other stores did not help, and when certificates were forwarded last.
    asked: Option<Millis>,
    given: Option<Millis>,
    forwards: JoinSet<()>,
    opened: Millis,
    said: Option<String>,
}

impl Drop for AgentSession {
    fn drop(&mut self) {
        self.driver.abort();
    }
}

impl AgentSession {
    /// The copies begin with a read that comes after the election.
    fn open(context: &AgentContext, agent_key: AgentKey) -> AgentSession {
        tracing::info!("{} is the agent of region {}", agent_key.name, context.region);
        let open = |store: &Arc<dyn Store>| Arc::new(Outpost::open(store.clone(), &context.keys));
        let own = open(&context.store);
        let others: BTreeMap<_, _> =
            context.others.iter().map(|(name, store)| (name.clone(), open(store))).collect();
        let others = Arc::new(others);
        let driver = tokio::spawn(driver::run(DriverContext {
            me: context.region.clone(),
            name: agent_key.name.clone(),
            keys: context.keys.clone(),
            own: own.clone(),
            others: others.clone(),
            hands: context.hands.clone(),
            tick: context.pace.driver,
        }));
        AgentSession {
            region: context.region.clone(),
            settings: context.policy.clone(),
            agent_key,
            keys: context.keys.clone(),
            changes: Changed::of(std::iter::once(&own).chain(others.values())),
            own,
            others,
            driver,
            publisher: Publisher::default(),
            asked: None,
            given: None,
            forwards: JoinSet::new(),
            opened: clock::now(),
            said: None,
        }
    }

    /// Copies come alive without a change that would tell of it.
    fn is_young(&self, now: Millis) -> bool {
        self.own.live_site().is_none() || now.since(self.opened) < YOUNG_MS
    }

    /// Does what there is to do now.
    async fn work(&mut self, mark: Option<u64>) {
        self.publish().await;
        match self.settle(mark).await {
            Ok(None) => {}
            Ok(Some(why)) => self.say(why),
            Err(error) => self.say(error.to_string()),
        }
        self.give().await;
    }

    /// Votes and certificates, until nothing is left to do; gives what blocks.
    async fn settle(&mut self, mark: Option<u64>) -> Result<Option<String>, DcsError> {
        let mut asked = None;
        for _ in 0..ROUNDS_MAX {
            let Some(own) = self.own.live_site() else {
                return Ok(None);
            };
            let others = self.watched();
            let at = date();
            let step = agent_step(&AgentFacts {
                me: &self.region,
                settings: &self.settings,
                local: &own.topology,
                others: &others,
                asked: asked.as_ref(),
                mark,
                lease: self.agent_key.lease,
                at: &at,
            });
            match step {
                AgentStep::Settled => {
                    let stored = own.topology.policy.as_ref();
                    return Ok(stored.and_then(|p| policy_conflict(&self.settings, &p.value)));
                }
                AgentStep::Blocked(why) => {
                    self.asked = asked.is_some().then(clock::now);
                    return Ok(Some(why));
                }
                AgentStep::AskOthers if self.is_too_soon() => return Ok(self.said.clone()),
                AgentStep::AskOthers => asked = Some(self.ask().await),
                step => {
                    asked = None;
                    self.perform(&step, &own).await?;
                }
            }
        }
        Ok(None)
    }

    async fn perform(&self, step: &AgentStep, own: &Site) -> Result<(), DcsError> {
        let (keys, local) = (&self.keys, &own.topology);
        let txn = match step {
            AgentStep::WritePolicy => Some(txn::policy(keys, &self.settings)),
            AgentStep::SharePolicy(region) => return self.share_policy(region, local).await,
            AgentStep::CreateFirst(first) => txn::create_first(keys, local, first),
            AgentStep::Adopt(certificate) => self.adoption(local, certificate),
            AgentStep::Verify(epoch) => Some(txn::verify(keys, local, *epoch, &self.agent_key)),
            AgentStep::AskOthers | AgentStep::Blocked(_) | AgentStep::Settled => None,
        };
        if let Some(txn) = txn
            && !self.own.write(txn).await?
        {
            self.own.read().await?;
        }
        tracing::info!("region {}: {}", self.region, step_name(step));
        Ok(())
    }

    /// The journal of the move comes with its certificate: without it the
    /// coordinator could not tell when its quarantine ends.
    fn adoption(
        &self,
        local: &LocalTopology,
        certificate: &Certificate,
    ) -> Option<crate::dcs::Txn> {
        let sites: Vec<_> = self.others.values().filter_map(|o| o.site()).collect();
        let journals = sites.iter().filter_map(|site| site.topology.journal());
        let fits = |j: &&topology::region::Journal| {
            j.phase.is_decided() && j.epoch + 1 == certificate.epoch
        };
        let journal = journals.filter(fits).max_by_key(|j| j.phase);
        txn::adopt(&self.keys, local, certificate, journal)
    }

    async fn share_policy(
        &self,
        region: &RegionName,
        local: &LocalTopology,
    ) -> Result<(), DcsError> {
        let (Some(other), Some(policy)) = (self.others.get(region), &local.policy) else {
            return Ok(());
        };
        other.write(txn::policy(&self.keys, &policy.value)).await?;
        Ok(())
    }

    fn watched(&self) -> BTreeMap<RegionName, Seen<LocalTopology>> {
        let seen = |outpost: &Outpost| match outpost.live_site() {
            Some(site) => Seen::Known(site.topology),
            None => Seen::Unknown,
        };
        self.others.iter().map(|(name, outpost)| (name.clone(), seen(outpost))).collect()
    }

    fn is_too_soon(&self) -> bool {
        let since = self.asked.map(|at| clock::now().since(at));
        since.is_some_and(|since| since < AGAIN.as_millis() as u64)
    }

    /// Reads all other stores, at once and linearizably.
    async fn ask(&self) -> BTreeMap<RegionName, Seen<LocalTopology>> {
        let waits = self.others.iter().map(|(name, outpost)| {
            Box::pin(async move {
                let read = tokio::time::timeout(REMOTE_CALL, outpost.read()).await;
                let seen = match read {
                    Ok(Ok(site)) => Seen::Known(site.topology),
                    Ok(Err(_)) | Err(_) => Seen::Unknown,
                };
                (name.clone(), seen)
            })
        });
        all_of(waits.collect()).await.into_iter().collect()
    }

    /// Tells the own daemons what the other regions look like.
    async fn publish(&mut self) {
        let Some(own) = self.own.live_site() else {
            return;
        };
        let now = clock::now();
        for (name, outpost) in self.others.iter() {
            let Some(site) = outpost.live_site() else {
                continue;
            };
            let peer = picture(name, &site);
            if !self.publisher.is_due(&peer, own.topology.peers.get(name), now) {
                continue;
            }
            match self.own.write(txn::publish_peer(&self.keys, name, &peer, &self.agent_key)).await
            {
                Ok(_) => self.publisher.wrote(name, now),
                Err(error) => tracing::warn!("region {name} could not be published: {error}"),
            }
        }
    }

    /// Passes the certificate on to stores that are seen to lack it.
    async fn give(&mut self) {
        while self.forwards.try_join_next().is_some() {}
        let now = clock::now();
        let recent = self.given.is_some_and(|at| now.since(at) < AGAIN.as_millis() as u64);
        let Some(own) = self.own.live_site() else {
            return;
        };
        let (Some(certificate), false) = (own.topology.accepted().cloned(), recent) else {
            return;
        };
        let others = self.watched();
        let facts = AgentFacts {
            me: &self.region,
            settings: &self.settings,
            local: &own.topology,
            others: &others,
            asked: None,
            mark: None,
            lease: self.agent_key.lease,
            at: "",
        };
        for name in behind(&facts) {
            self.given = Some(now);
            let Some(outpost) = self.others.get(name).cloned() else {
                continue;
            };
            let (keys, certificate) = (self.keys.clone(), certificate.clone());
            let journal = own.topology.journal().cloned();
            self.forwards.spawn(async move {
                let Some(site) = outpost.live_site() else {
                    return;
                };
                let journal =
                    journal.filter(|j| j.phase.is_decided() && j.epoch + 1 == certificate.epoch);
                let forwarded = txn::adopt(&keys, &site.topology, &certificate, journal.as_ref());
                if let Some(forwarded) = forwarded
                    && let Err(error) = outpost.write(forwarded).await
                {
                    tracing::debug!("a certificate could not be passed on: {error}");
                }
            });
        }
    }

    /// An error that lasts is said once.
    fn say(&mut self, why: String) {
        if self.said.as_ref() != Some(&why) {
            tracing::error!("region {}: {why}", self.region);
            self.said = Some(why);
        }
    }
}

fn step_name(step: &AgentStep) -> String {
    match step {
        AgentStep::WritePolicy => "the policy of the settings is in the store now".to_string(),
        AgentStep::SharePolicy(region) => format!("the policy was given to region {region}"),
        AgentStep::CreateFirst(c) => format!("the first certificate names region {}", c.owner),
        AgentStep::Adopt(c) => {
            format!("certificate of epoch {} accepted, {} owns", c.epoch, c.owner)
        }
        AgentStep::Verify(epoch) => format!("epoch {epoch} is confirmed"),
        AgentStep::AskOthers | AgentStep::Blocked(_) | AgentStep::Settled => String::new(),
    }
}
