//! The daemon's agent in the simulator: the real machine, shown the model's stores.
//!
//! A copy of a store is fed by a watch that may be late or break. What the machine
//! wants done is performed in `perform`; nothing is decided here.

use super::perform::AgentCall;
use super::region_name;
use crate::world::logical;
use crate::world::stores::site_of;
use crate::world::{Event, World};
use node::dcs::Snapshot;
use standby::switch::agent::{self, Pace};
use standby::switch::campaign::is_preferred;
use standby::switch::effect::Identity;
use standby::switch::effect::{
    Answer, Call, CallId, Effect, LocalCopy, Severity, Sight, StoreCopy,
};
use std::collections::BTreeMap;
use std::sync::Arc;
use topology::{RegionName, Version};

impl World {
    /// A watch may have brought something.
    pub fn on_agent(&mut self, member: usize) {
        let pause = self.rng.range(40, 250);
        self.after(pause, Event::Agent { member });
        if self.members[member].is_running() {
            self.look_around(member);
            self.wake_agent(member);
        }
    }

    /// The time that the machine asked for has come.
    pub fn on_agent_alarm(&mut self, member: usize, life: u64) {
        let m = &mut self.members[member];
        if m.daemon.life == life {
            m.daemon.agent.alarm = None;
            if m.is_running() {
                self.wake_agent(member);
            }
        }
    }

    fn wake_agent(&mut self, member: usize) {
        let sight = self.agent_sight(member);
        let effects = self.machine(member).wake(&sight);
        self.perform_effects(member, effects);
    }

    pub fn on_agent_reply(&mut self, member: usize, life: u64, id: CallId, answer: Answer) {
        let daemon = &mut self.members[member].daemon;
        if !daemon.alive || daemon.life != life {
            return;
        }
        if matches!(answer, Answer::Failed(_)) {
            daemon.agent.holds.remove(&id);
        }
        if daemon.frozen {
            let answer = Box::new(answer);
            daemon.deferred.push(Event::AgentReply { member, life, id, answer });
            return;
        }
        let sight = self.agent_sight(member);
        let effects = self.machine(member).answer(&sight, id, answer);
        self.perform_effects(member, effects);
    }

    fn machine(&mut self, member: usize) -> &mut agent::Agent {
        let regions = self.stores.regions.len();
        let m = &mut self.members[member];
        let own = m.place.region;
        let make = || {
            let others = (0..regions).filter(|region| *region != own).map(region_name).collect();
            let region = region_name(own);
            let identity = Identity {
                name: format!("{region}/{}", m.name),
                region,
                is_preferred: is_preferred(m.place.group),
                settings: self.policy.clone(),
                others,
            };
            Box::new(agent::Agent::new(identity, Pace::default()))
        };
        m.daemon.agent.machine.get_or_insert_with(make)
    }

    fn perform_effects(&mut self, member: usize, effects: Vec<Effect>) {
        for effect in effects {
            match effect {
                Effect::Call { id, within_ms, call } => {
                    self.begin_call(member, id, within_ms, call);
                }
                Effect::OpenCopies => {
                    let agent = &mut self.members[member].daemon.agent;
                    agent.copies.clear();
                    agent.is_open = true;
                }
                Effect::CloseCopies => {
                    let agent = &mut self.members[member].daemon.agent;
                    agent.copies.clear();
                    agent.holds.clear();
                    agent.is_open = false;
                }
                // What was sent may still happen; the machine ignores the answer.
                Effect::End(id) => {
                    self.members[member].daemon.agent.holds.remove(&id);
                }
                Effect::Log(Severity::Debug, _) => {}
                Effect::Log(_, text) => self.note_of(member, &text),
            }
        }
        self.set_agent_alarm(member);
    }

    fn set_agent_alarm(&mut self, member: usize) {
        let wake_at = self.machine(member).wake_at();
        let late = self.rng.range(0, 10);
        let m = &mut self.members[member];
        let at = m.clock.when(wake_at).max(self.now + 1) + late;
        if m.daemon.agent.alarm.is_none_or(|alarm| at < alarm) {
            m.daemon.agent.alarm = Some(at);
            let life = m.daemon.life;
            self.at(at, Event::AgentAlarm { member, life });
        }
    }

    fn begin_call(&mut self, member: usize, id: CallId, within_ms: u64, call: Call) {
        let late = self.agent_latency(member, &call);
        let daemon = &mut self.members[member].daemon;
        if matches!(call, Call::Hold { .. }) {
            daemon.agent.holds.insert(id);
        }
        let (life, sent) = (daemon.life, self.now);
        let call = Box::new(AgentCall { life, id, sent, within_ms, call });
        self.after(late, Event::AgentCall { member, call });
    }

    /// Follows all stores, where they can be reached.
    fn look_around(&mut self, member: usize) {
        if !self.members[member].daemon.agent.is_open {
            return;
        }
        for region in 0..self.stores.regions.len() {
            let (heard, patience) = (self.rng.percent(80), self.rng.range(2, 12));
            let snapshot = self.stores.snapshot(region);
            let copies = &mut self.members[member].daemon.agent.copies;
            if self.links.to_store(member, region) {
                let copy = copies.entry(region).or_default();
                copy.missed = 0;
                if !copy.live {
                    copy.refresh(&snapshot, self.now);
                    copy.live = true;
                } else if heard {
                    copy.take(&snapshot, self.now);
                }
            } else if let Some(copy) = copies.get_mut(&region) {
                copy.missed += 1;
                copy.live &= copy.missed < patience;
            }
        }
    }

    fn agent_sight(&mut self, member: usize) -> Sight {
        let now = self.now;
        let unix_ms = self.members[member].wall(self.unix_ms());
        let m = &mut self.members[member];
        let (session, holds_lock) = (m.daemon.machine.lease.id, m.daemon.speaks);
        let blind = self.plan.blind;
        let mirror = &m.daemon.mirror;
        let local = (!mirror.lost).then(|| {
            let snapshot = m.daemon.agent.newest(&mirror.snapshot);
            let site = site_of(&m.keys, &snapshot);
            LocalCopy { site, version: snapshot.version }
        });
        let mut copies: BTreeMap<RegionName, StoreCopy> = BTreeMap::new();
        for (region, copy) in &mut m.daemon.agent.copies {
            let site = site_of(&m.keys, &copy.snapshot);
            let site = logical::shown(blind, site);
            let heard = m.clock.read(copy.heard);
            copies.insert(region_name(*region), StoreCopy { site, is_live: copy.live, heard });
        }
        let memory = m.daemon.machine.region_memory().cloned();
        let at = memory.as_ref().map(|memory| memory.position());
        let versions = m.daemon.agent.copies.values().map(|copy| copy.snapshot.version);
        let known =
            (local.as_ref().map(|l| l.version), session, holds_lock, versions.collect(), at);
        if m.daemon.agent.known != known {
            m.daemon.agent.known = known;
            m.daemon.agent.changes += 1;
        }
        let (now, changes) = (m.clock.read(now), m.daemon.agent.changes);
        let date = "then".to_string();
        Sight { now, unix_ms, date, session, holds_lock, memory, local, copies, changes }
    }
}

impl super::Agent {
    /// The mirror's snapshot, or that of an own write which it does not show yet.
    fn newest(&self, mirror: &Arc<Snapshot>) -> Arc<Snapshot> {
        let newer = self.own_write.as_ref().filter(|own| own.version > mirror.version);
        newer.unwrap_or(mirror).clone()
    }
}

impl super::Agent {
    /// The connection to a store broke.
    pub fn lose_copy(&mut self, region: usize) {
        if let Some(copy) = self.copies.get_mut(&region) {
            copy.live = false;
        }
    }

    /// The own store went back in time: its versions say nothing any more.
    pub fn forget_own_write(&mut self) {
        self.own_write = None;
    }
}

impl super::Copy {
    /// A whole read is what the store holds, also one that went back in time.
    pub fn refresh(&mut self, snapshot: &Arc<Snapshot>, heard: u64) {
        self.snapshot = snapshot.clone();
        self.heard = self.heard.max(heard);
    }

    /// What a watch, a read or an own write brought, from a moment on the true clock.
    pub fn take(&mut self, snapshot: &Arc<Snapshot>, heard: u64) {
        let is_first = self.snapshot.version == Version::default();
        if is_first || snapshot.version > self.snapshot.version {
            self.snapshot = snapshot.clone();
            self.heard = self.heard.max(heard);
        }
    }
}
