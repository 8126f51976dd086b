//! The agent's calls, performed on the model's stores and servers.
//!
//! A call reaches its receiver a little later and its answer comes a little after
//! that. What cannot be reached gives no answer within the deadline.

use super::region_name;
use crate::world::links::Wire;
use crate::world::logical;
use crate::world::postgres::Process;
use crate::world::{Event, World};

use standby::switch::effect::{Answer, Call, CallId};
use standby::switch::preflight::{Probe, STANDBY_SETTINGS};
use standby::switch::write;
use standby::switch::{HOLD_LOCK_MS, Replayed, Target};
use std::sync::Arc;
use topology::{Lsn, RegionName, Timeline, Write};

/// What every server of the model answers about itself.
const VERSION: u64 = 150_004;
const SETTING: u64 = 100;

/// A call of a member's agent on its way.
#[derive(Clone, Debug)]
pub struct AgentCall {
    /// The life of the daemon that sent it.
    pub life: u64,
    pub id: CallId,
    /// When, on the true clock.
    pub sent: u64,
    pub within_ms: u64,
    pub call: Call,
}

impl AgentCall {
    /// Does it change a store?
    pub fn writes(&self) -> bool {
        matches!(self.call, Call::Campaign { .. } | Call::Write(_))
    }
}

impl World {
    /// How long a call takes to its receiver.
    pub fn agent_latency(&mut self, member: usize, call: &Call) -> u64 {
        let region = match call {
            Call::Campaign { .. } => Some(self.members[member].place.region),
            Call::Read(region) => Some(self.region_of(region)),
            Call::Write(write) => Some(self.region_of(&write.region)),
            Call::Probe(_) | Call::Replayed(_) | Call::WakeReplay(_) => None,
            Call::Checkpoint(_) | Call::Hold { .. } => return self.rng.range(30, 800),
        };
        let slow = region.map_or(0, |region| self.links.slow[region]);
        let late = self.rng.range(1, 30);
        late + if slow > 0 { self.rng.range(0, slow) } else { 0 }
    }

    /// A write happens even if its sender is dead by now.
    pub fn on_agent_call(&mut self, member: usize, call: AgentCall) {
        if self.members[member].daemon.life != call.life && !call.writes() {
            return;
        }
        let AgentCall { life, id, sent, within_ms, call } = call;
        if self.waits_to_hold(member, &call, sent) {
            let call = Box::new(AgentCall { life, id, sent, within_ms, call });
            return self.after(50, Event::AgentCall { member, call });
        }
        let answer = match call {
            Call::Campaign { on, key, claim } => {
                let region = self.members[member].place.region;
                self.write_for(member, region, &write::campaign(&on.topology, &key, claim))
            }
            Call::Write(write) => match write::of_agent(&write) {
                Some(decided) => self.write_for(member, self.region_of(&write.region), &decided),
                None => Some(Answer::NothingToWrite),
            },
            Call::Read(region) => self.read_for(member, self.region_of(&region), sent),
            Call::Probe(target) => self.probe(member, &target),
            Call::Replayed(target) => self.replayed(member, &target),
            Call::Checkpoint(_) | Call::Hold { .. }
                if self.rng.percent(self.plan.job_fails / 3) =>
            {
                Some(Answer::Failed("it failed".to_string()))
            }
            Call::Checkpoint(_) => Some(Answer::Took(self.now - sent)),
            Call::Hold { targets, .. } => Some(self.hold_back(member, id, &targets)),
            Call::WakeReplay(_) => Some(Answer::Done),
        };
        let late = self.rng.range(1, if answer.is_some() { 20 } else { within_ms });
        let silence = || Answer::Failed("no answer within the deadline".to_string());
        let answer = Box::new(answer.unwrap_or_else(silence));
        self.after(late, Event::AgentReply { member, life, id, answer });
    }

    pub fn region_of(&self, name: &RegionName) -> usize {
        let mut regions = 0..self.stores.regions.len();
        regions.find(|region| region_name(*region) == *name).expect("a region of the world")
    }

    /// `None`: the agent gets no answer. The write may have happened.
    fn write_for(&mut self, member: usize, region: usize, write: &Write) -> Option<Answer> {
        if !self.links.to_store(member, region) {
            return None;
        }
        let written =
            self.stores.regions[region].write_now(&self.members[member].keys, write).ok()?;
        if self.rng.percent(self.links.lossy[region]) {
            return None;
        }
        if !written.succeeded {
            return Some(Answer::Conflict);
        }
        let snapshot = self.stores.snapshot(region);
        let m = &mut self.members[member];
        if region == m.place.region {
            m.daemon.agent.own_write = Some(snapshot.clone());
        }
        if let Some(copy) = m.daemon.agent.copies.get_mut(&region) {
            copy.take(&snapshot, self.now);
        }
        Some(Answer::Written)
    }

    fn read_for(&mut self, member: usize, region: usize, sent: u64) -> Option<Answer> {
        if !self.links.to_store(member, region) || self.rng.percent(self.links.lossy[region]) {
            return None;
        }
        let snapshot = self.stores.snapshot(region);
        let m = &mut self.members[member];
        if m.daemon.agent.is_open {
            let copy = m.daemon.agent.copies.entry(region).or_default();
            copy.refresh(&snapshot, sent);
        }
        let site = node::region::ownership::read_site(&m.keys, &snapshot.entries);
        Some(Answer::Read(logical::shown(self.plan.blind, Arc::new(site))))
    }

    /// The member at that address, if its server answers this member.
    fn server_at(&self, member: usize, target: &Target) -> Option<usize> {
        let other = self.members.iter().position(|m| m.host() == target.host)?;
        let peer = &self.members[other];
        let reached = other == member || self.links.between(Wire::Rest, member, other);
        let up = matches!(peer.server.process, Process::Up(_)) && !peer.server.mute;
        (reached && up).then_some(other)
    }

    /// A commit is being decided: the lock waits for it.
    fn waits_to_hold(&self, member: usize, call: &Call, sent: u64) -> bool {
        let Call::Hold { targets, .. } = call else { return false };
        let mut servers = targets.iter().filter_map(|target| self.server_at(member, target));
        self.citus.is_some()
            && self.now - sent < u64::from(HOLD_LOCK_MS)
            && servers.any(|server| self.is_deciding(server))
    }

    /// Without Citus there is nothing between groups.
    fn hold_back(&mut self, member: usize, call: CallId, targets: &[Target]) -> Answer {
        if self.citus.is_none() {
            return Answer::Done;
        }
        let servers = targets.iter().map(|target| self.server_at(member, target)).collect();
        self.hold(member, call, servers).map_or_else(Answer::Failed, |()| Answer::Done)
    }

    /// The member's daemon answers for its server.
    fn replayed(&self, member: usize, leader: &Target) -> Option<Answer> {
        let peer = &self.members[self.server_at(member, leader)?];
        peer.is_running().then(|| {
            Answer::Replayed(Replayed {
                system_id: peer.server.system.clone().expect("a server that runs has a system id"),
                timeline: Some(Timeline(peer.server.log.timeline())),
                lsn: Lsn(peer.server.log.end()),
            })
        })
    }

    fn probe(&self, member: usize, leader: &Target) -> Option<Answer> {
        let other = self.server_at(member, leader)?;
        let server = &self.members[other].server;
        let system = server.system.as_ref().expect("a server that runs has a system id");
        Some(Answer::Probed(Box::new(Probe {
            in_recovery: server.is_standby(),
            version: VERSION,
            system_id: system.to_string(),
            settings: STANDBY_SETTINGS.iter().map(|name| (name.to_string(), SETTING)).collect(),
            wal_log_hints: true,
            is_streaming: server.streams_from.is_some(),
            lsn: Lsn(server.log.end()),
            logical: self.probed_slots(other),
            wal_from: Some(Lsn(0)),
            ..Probe::default()
        })))
    }
}
