//! The agent: election, votes and certificates, pictures of the others.

use super::region_name;
use crate::world::{Event, World};
use node::dcs::Txn;
use node::region::ownership::{Site, read};
use node::region::peers::picture;
use node::region::txn::{self, AgentKey};
use standby::switch::LocalTopology;
use standby::switch::register::{AgentFacts, AgentStep, agent_step, behind};
use std::collections::BTreeMap;
use std::sync::Arc;
use topology::region::{Certificate, Journal};
use topology::{RegionName, Seen};

const YIELD_MS: u64 = 2_000;
const AGAIN_MS: u64 = 1_000;
const MARK_TTL_MS: u64 = 20_000;

type Sites = BTreeMap<RegionName, Seen<LocalTopology>>;

impl World {
    pub fn on_agent(&mut self, member: usize) {
        let pause = self.rng.range(40, 250);
        self.after(pause, Event::Agent { member });
        if !self.members[member].is_running() {
            return;
        }
        let agent_key = self.campaign(member);
        let agent = &mut self.members[member].daemon.agent;
        if agent.key != agent_key {
            // The copies begin with a read that comes after the election.
            agent.copies.clear();
            agent.asked = None;
            agent.drive = Default::default();
            agent.key = agent_key;
        }
        if self.members[member].daemon.agent.key.is_some() {
            self.look_around(member);
            self.update_votes(member);
            self.publish_peers(member);
            self.give(member);
            self.drive(member);
        }
    }

    /// The own agent key, if this daemon is the agent now; else it tries to become it.
    fn campaign(&mut self, member: usize) -> Option<AgentKey> {
        let now = self.members[member].clock.read(self.now);
        let m = &mut self.members[member];
        if m.daemon.mirror.lost {
            return None;
        }
        let snapshot = m.daemon.mirror.snapshot.clone();
        let site = m.daemon.mirror.site(&m.keys);
        let local = &site.topology;
        m.daemon.agent.marks.look(local, snapshot.revision, now, MARK_TTL_MS);
        let name = format!("{}/{}", region_name(m.place.region), m.name);
        let agent = local.agent.as_ref();
        let mine = agent.filter(|agent| agent.value == name);
        let Some(lease) = m.daemon.machine.lease.id.filter(|_| super::speaks(m)) else {
            if let Some(mine) = mine {
                let agent_key = AgentKey { name, lease: mine.lease };
                let txn = txn::resign(&m.keys, &agent_key);
                let region = m.place.region;
                self.agent_writes(member, region, txn);
            }
            return None;
        };
        let agent_key = AgentKey { name, lease };
        if mine.is_some_and(|agent| agent.lease == lease) {
            return Some(agent_key);
        }
        let preferred = m.place.group.is_coordinator() || m.place.group.0.is_none();
        if mine.is_none() && agent.is_some() {
            m.daemon.agent.vacant = None;
            return None;
        }
        let since = *m.daemon.agent.vacant.get_or_insert(now);
        if mine.is_none() && !preferred && now.since(since) < YIELD_MS {
            return None;
        }
        let (txn, region) = (txn::elect(&m.keys, local, &agent_key), m.place.region);
        self.agent_writes(member, region, txn);
        None
    }

    /// Sends a write of the agent; what came of it, the copies will show.
    pub fn agent_writes(&mut self, member: usize, region: usize, txn: Txn) {
        let (life, late) = (self.members[member].daemon.life, self.rng.range(1, 30));
        let slow = self.links.slow[region];
        let late = late + if slow > 0 { self.rng.range(0, slow) } else { 0 };
        let txn = Box::new(txn);
        self.after(late, Event::AgentWrite { member, life, region, txn });
    }

    pub fn on_agent_write(&mut self, member: usize, region: usize, txn: &Txn) {
        if !self.links.to_store(member, region) {
            return;
        }
        let written = self.stores.regions[region].txn_now(txn);
        if written.is_ok_and(|w| w.succeeded) && !self.rng.percent(self.links.lossy[region]) {
            self.stores.stir();
            let snapshot = self.stores.snapshot(region);
            let copies = &mut self.members[member].daemon.agent.copies;
            copies.entry(region).or_default().snapshot = snapshot;
        }
    }

    /// Brings the copies of all stores up to date, where they can be reached.
    fn look_around(&mut self, member: usize) {
        for region in 0..self.stores.regions.len() {
            let (heard, patience) = (self.rng.percent(80), self.rng.range(2, 12));
            let linked = self.links.to_store(member, region);
            let snapshot = self.stores.snapshot(region);
            let copy = self.members[member].daemon.agent.copies.entry(region).or_default();
            if linked {
                copy.missed = 0;
            } else {
                copy.missed += 1;
                copy.live &= copy.missed < patience;
            }
            if linked && (heard || !copy.live) {
                copy.snapshot = snapshot;
                copy.live = true;
            }
        }
    }

    /// A region as the agent sees it; `None` before the first look.
    pub fn copy_of(&mut self, member: usize, region: usize, live: bool) -> Option<Arc<Site>> {
        let m = &mut self.members[member];
        let copy = m.daemon.agent.copies.get_mut(&region)?;
        (copy.live || !live).then(|| copy.read.site(&m.keys, &copy.snapshot))
    }

    fn others(&self, member: usize) -> Vec<usize> {
        let own = self.members[member].place.region;
        (0..self.stores.regions.len()).filter(|region| *region != own).collect()
    }

    fn watched(&mut self, member: usize) -> Sites {
        let others = self.others(member).into_iter();
        others
            .map(|region| {
                let site = self.copy_of(member, region, true);
                let seen = site.map_or(Seen::Unknown, |site| Seen::Known(site.topology.clone()));
                (region_name(region), seen)
            })
            .collect()
    }

    /// Votes and certificates: one step in every look.
    fn update_votes(&mut self, member: usize) {
        let own_region = self.members[member].place.region;
        let Some(own) = self.copy_of(member, own_region, true) else { return };
        let others = self.watched(member);
        let m = &mut self.members[member];
        let now = m.clock.read(self.now);
        let asked = m.daemon.agent.asked.take();
        let agent_key = m.daemon.agent.key.clone().expect("only an agent settles");
        let me = region_name(own_region);
        let step = agent_step(&AgentFacts {
            me: &me,
            settings: &self.policy,
            local: &own.topology,
            others: &others,
            asked: asked.as_ref(),
            mark: m.daemon.agent.marks.alive(now, MARK_TTL_MS),
            lease: agent_key.lease,
            at: "then",
        });
        let (keys, local) = (m.keys.clone(), &own.topology);
        let own_txn = match step {
            AgentStep::WritePolicy => Some(txn::policy(&keys, &self.policy)),
            AgentStep::SharePolicy(region) => {
                let to = self.others(member).into_iter().find(|r| region_name(*r) == region);
                let shared = local.policy.as_ref().map(|p| txn::policy(&keys, &p.value));
                if let (Some(to), Some(txn)) = (to, shared) {
                    self.agent_writes(member, to, txn);
                }
                None
            }
            AgentStep::CreateFirst(first) => txn::create_first(&keys, local, &first),
            AgentStep::Adopt(certificate) => self.adoption(member, local, &certificate),
            AgentStep::Verify(epoch) => Some(txn::verify(&keys, local, epoch, &agent_key)),
            AgentStep::AskOthers => {
                self.ask_others(member);
                None
            }
            AgentStep::Blocked(_) | AgentStep::Settled => None,
        };
        if let Some(txn) = own_txn {
            self.agent_writes(member, own_region, txn);
        }
    }

    fn adoption(&mut self, member: usize, local: &LocalTopology, c: &Certificate) -> Option<Txn> {
        let sites = self.others(member).into_iter().filter_map(|r| self.copy_of(member, r, false));
        let journals: Vec<Journal> =
            sites.filter_map(|site| site.topology.journal().cloned()).collect();
        let fits = |j: &&Journal| j.phase.is_decided() && j.epoch + 1 == c.epoch;
        let journal = journals.iter().filter(fits).max_by_key(|j| j.phase);
        txn::adopt(&self.members[member].keys, local, c, journal)
    }

    fn ask_others(&mut self, member: usize) {
        let m = &mut self.members[member];
        let now = m.clock.read(self.now);
        let recent = m.daemon.agent.asked_at.is_some_and(|at| now.since(at) < AGAIN_MS);
        if recent {
            return;
        }
        m.daemon.agent.asked_at = Some(now);
        let life = m.daemon.life;
        let late = self.rng.range(1, 40);
        self.after(late, Event::AgentAsk { member, life });
    }

    /// The reads happen now; their answers reach the agent a little later.
    pub fn on_agent_ask(&mut self, member: usize, life: u64) {
        let keys = self.members[member].keys.clone();
        let answers: Sites = self
            .others(member)
            .into_iter()
            .map(|region| {
                let seen = match self.links.to_store(member, region) {
                    true => Seen::Known(read(&keys, &self.stores.snapshot(region).entries)),
                    false => Seen::Unknown,
                };
                (region_name(region), seen)
            })
            .collect();
        let late = self.rng.range(1, 40);
        let answers = Box::new(answers);
        self.after(late, Event::AgentAnswer { member, life, answers });
    }

    fn publish_peers(&mut self, member: usize) {
        let own_region = self.members[member].place.region;
        let Some(own) = self.copy_of(member, own_region, true) else { return };
        for region in self.others(member) {
            let Some(site) = self.copy_of(member, region, true) else { continue };
            let name = region_name(region);
            let peer = picture(&name, &site);
            let m = &mut self.members[member];
            let (now, agent) = (m.clock.read(self.now), &mut m.daemon.agent);
            let stored = own.topology.peers.get(&name);
            if !agent.publisher.is_due(&peer, stored, now) {
                continue;
            }
            let agent_key = agent.key.as_ref().expect("only an agent publishes");
            let txn = txn::publish_peer(&m.keys, &name, &peer, agent_key);
            agent.publisher.wrote(&name, now);
            self.agent_writes(member, own_region, txn);
        }
    }

    /// Passes the certificate on to stores that are seen to lack it.
    fn give(&mut self, member: usize) {
        let own_region = self.members[member].place.region;
        let Some(own) = self.copy_of(member, own_region, true) else { return };
        let now = self.members[member].clock.read(self.now);
        let agent = &self.members[member].daemon.agent;
        let recent = agent.given.is_some_and(|at| now.since(at) < AGAIN_MS);
        let (Some(certificate), false) = (own.topology.accepted(), recent) else { return };
        let lease = agent.key.as_ref().map_or(0, |agent_key| agent_key.lease);
        let others = self.watched(member);
        let me = region_name(own_region);
        let facts = AgentFacts {
            me: &me,
            settings: &self.policy,
            local: &own.topology,
            others: &others,
            asked: None,
            mark: None,
            lease,
            at: "",
        };
        let lacking: Vec<RegionName> = behind(&facts).into_iter().cloned().collect();
        let fits = |j: &&Journal| j.phase.is_decided() && j.epoch + 1 == certificate.epoch;
        let journal = own.topology.journal().filter(fits);
        for region in self.others(member) {
            if !lacking.contains(&region_name(region)) {
                continue;
            }
            self.members[member].daemon.agent.given = Some(now);
            let Some(site) = self.copy_of(member, region, true) else { continue };
            let keys = &self.members[member].keys;
            if let Some(txn) = txn::adopt(keys, &site.topology, certificate, journal) {
                self.agent_writes(member, region, txn);
            }
        }
    }
}
