//! What happens to hosts and stores from outside, carried out.

use super::World;
use super::fault::Fault;
use super::links::Wire;
use super::postgres::{Postgres, Role};
use super::{Event, job};
use member::ha::observation::End;
use node::dcs::memory::Saved;
use serde_json::Value;
use topology::Millis;

/// Leases of a store that has come back end within this.
const SWEEPS_S: u64 = 61;

impl World {
    pub fn on_mishap(&mut self, fault: Fault) {
        match fault {
            Fault::Save(region) => self.save_store(region),
            Fault::Restore(region) => {
                let saved = self.fate.saved[region].clone();
                saved.iter().for_each(|saved| self.restore_store(region, saved));
            }
            Fault::Replace(region) if self.may_wipe(region) => {
                self.restore_store(region, &Saved::default());
            }
            Fault::Prolong(region) => {
                self.stores.regions[region].prolong_leases();
                self.sweep_for_a_while();
            }
            Fault::SetClock(m, off) => {
                self.members[m].wall_off = off;
                self.wake_now(m);
            }
            Fault::LoseHost(m) => self.lose_host(m),
            Fault::NewHost(m) => self.new_host(m),
            Fault::StayDown(m, ms) => {
                self.members[m].down_until = self.now + ms;
                self.end_daemon(m);
            }
            Fault::StartByHand(m, as_primary) => self.start_by_hand(m, as_primary),
            Fault::Patch(m, patch) => self.patch_config(m, &patch),
            Fault::Rescue => self.rescue(),
            _ => {}
        }
    }

    pub fn save_store(&mut self, region: usize) {
        self.fate.saved[region] = Some(self.stores.regions[region].save_now());
    }

    fn sweep_for_a_while(&mut self) {
        (1..=SWEEPS_S).for_each(|s| self.after(s * 1_000, Event::Sweep));
    }

    /// Every connection to it breaks, and what was on its way is lost.
    fn restore_store(&mut self, region: usize, saved: &Saved) {
        self.fate.needs_operator = true;
        self.stores.restore(region, saved);
        let here: Vec<bool> = self.members.iter().map(|m| m.place.region == region).collect();
        let stays =
            move |event: &Event| !matches!(event, Event::Heard { member, .. } if here[*member]);
        for m in &mut self.members {
            m.daemon.deferred.retain(&stays);
            m.daemon.agent.lose_copy(region);
            if m.place.region == region {
                m.daemon.mirror.lost = true;
                m.daemon.agent.forget_own_write();
            }
        }
        self.keep_events(stays);
        self.sweep_for_a_while();
    }

    /// It is gone with all that is on it, unless the group would have no data any more.
    fn lose_host(&mut self, member: usize) {
        if !self.may_lose(member) {
            return;
        }
        self.fate.needs_operator = true;
        self.counts.hosts_lost += 1;
        self.end_daemon(member);
        let m = &mut self.members[member];
        m.is_gone = true;
        let plan = m.server.plan + 1;
        m.server = Postgres { plan, ..Postgres::empty() };
        m.forget_all();
        self.isolate(member, true);
    }

    fn may_lose(&self, member: usize) -> bool {
        let place = self.members[member].place;
        // An empty host cannot tell a store that was emptied from one that is new.
        if self.stores.get(place.region, &self.members[member].keys.initialize()).is_none() {
            return false;
        }
        let of_group = |m: &&super::member::Member| {
            m.place.client == place.client && m.place.region == place.region
        };
        let mut group = self.members.iter().filter(of_group);
        if group.clone().any(|m| m.is_gone) {
            return false;
        }
        let fills = |m: &super::member::Member| {
            m.daemon.job.as_ref().is_some_and(|work| job::replaces_data(&work.job))
        };
        let able = |m: &super::member::Member| {
            m.server.system.is_some() && !m.server.half && !m.tags.nofailover() && !fills(m)
        };
        group.any(|m| m.name != self.members[member].name && able(m))
    }

    /// An empty host takes the place and the name of the one that was lost.
    pub fn new_host(&mut self, member: usize) {
        if !std::mem::take(&mut self.members[member].is_gone) {
            return;
        }
        self.isolate(member, false);
        self.on_fault(Fault::StartDaemon(member));
    }

    /// No member reaches it, and it reaches no store.
    pub fn isolate(&mut self, member: usize, cut: bool) {
        for other in (0..self.members.len()).filter(|other| *other != member) {
            for wire in [Wire::Rest, Wire::Replication] {
                match cut {
                    true => self.links.cut(wire, member, other),
                    false => self.links.heal(wire, member, other),
                }
            }
        }
        for region in 0..self.stores.regions.len() {
            match cut {
                true => self.links.cut_store(member, region),
                false => self.links.heal_store(member, region),
            }
        }
    }

    /// Where no daemon cares for it, or the group is in pause. A server that was a
    /// standby is started as one: its data directory says so.
    pub fn start_by_hand(&mut self, member: usize, as_primary: bool) {
        let m = &self.members[member];
        let daemon = &m.daemon;
        let left_alone = !daemon.alive || daemon.machine.dynamic.pause;
        let idle = daemon.job.is_none() && daemon.ended.is_none() && !m.is_gone;
        let can_start = m.server.is_down() && m.server.system.is_some() && !m.server.half;
        if !(left_alone && idle && can_start) {
            return;
        }
        let was_primary = matches!(m.server.end, End::Crashed | End::Clean);
        let role = if was_primary && as_primary { Role::Primary } else { Role::Standby };
        // What is opened like this is the operator's, until a daemon looks at it.
        self.counts.by_hand += 1;
        let m = &mut self.members[member];
        (m.deadline, m.is_by_hand) = (Millis(0), true);
        self.start(member, role);
    }

    fn patch_config(&mut self, member: usize, patch: &str) {
        let patch: Value = serde_json::from_str(patch).expect("the operator writes JSON");
        let keys = patch.as_object().cloned().unwrap_or_default();
        self.plan.document.extend(keys);
        self.write_config(member);
    }

    /// A group in which no member may lead gets the most advanced one.
    fn rescue(&mut self) {
        for client in 0..self.clients.len() {
            for region in 0..self.stores.regions.len() {
                self.rescue_group(client, region);
            }
        }
    }

    fn rescue_group(&mut self, client: usize, region: usize) {
        let group = self.members.iter().enumerate();
        let group = group.filter(|(_, m)| m.place.client == client && m.place.region == region);
        let running = group.clone().filter(|(_, m)| m.server.is_standby() && !m.tags.nofailover());
        let best = running.max_by_key(|(_, m)| (m.server.log.timeline(), m.server.log.end()));
        let Some((best, m)) = best else { return };
        if self.stores.get(region, &m.keys.leader()).is_some() {
            return;
        }
        let (name, failsafe) = (m.name.0.clone(), m.keys.failsafe());
        self.note(format!("the operator says that {name} is to lead"));
        // A member that the map does not name may not lead, even when an operator asks for it.
        let map = self.stores.get(region, &failsafe).map(|map| map.value);
        if map.is_some_and(|map| !map.contains(&name)) {
            self.stores.delete(region, failsafe);
        }
        self.counts.rescues += 1;
        self.request_leader(best, None, Some(name));
    }
}
