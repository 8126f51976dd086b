//! Regions: the agent of each, and the driver of planned moves.
//!
//! The questions and answers are the real ones (`agent_step`, the table of the
//! switch, every transaction of `node::region::txn`); the actor around them is
//! modelled on `node::region::{agent, driver}`, which live on a real clock.
//!
//! Absent on purpose: the preflight's probes (leaders must be there, no more).

pub mod agent;
pub mod driver;

use super::World;
use super::member::Member;
use super::stores::ReadOnce;
use node::dcs::{Compare, Op, Snapshot, Txn};
use node::ha::Observation;
use node::member::StoreSight;
use node::region::facts::Progress;
use node::region::ownership::{Site, read};
use node::region::peers::Publisher;
use node::region::request::requested;
use node::region::txn::AgentKey;
use standby::switch::LocalTopology;
use standby::switch::local::Rewired;
use standby::switch::ownership::{Ownership, order, ownership};
use standby::switch::register::MarkMemory;
use standby::switch::table::Work;
use std::collections::BTreeMap;
use std::sync::Arc;
use topology::region::{Phase, Policy};
use topology::{Group, GroupView, MemberRole, Millis, RegionName, Seen};

/// What one daemon's region task knows.
#[derive(Debug, Default)]
pub struct Agent {
    pub marks: MarkMemory,
    pub vacant: Option<Millis>,
    pub key: Option<AgentKey>,
    pub copies: BTreeMap<usize, Copy>,
    pub asked: Option<BTreeMap<RegionName, Seen<LocalTopology>>>,
    pub asked_at: Option<Millis>,
    pub given: Option<Millis>,
    pub publisher: Publisher,
    pub drive: Drive,
}

/// The agent's copy of one region's store.
#[derive(Debug, Default)]
pub struct Copy {
    pub snapshot: Arc<Snapshot>,
    pub live: bool,
    missed: u64,
    read: ReadOnce,
}

/// What a driver has done for the move it knows.
#[derive(Debug, Default)]
pub struct Drive {
    pub id: String,
    pub progress: Progress,
    pub working: Option<Work>,
}

pub fn region_name(region: usize) -> RegionName {
    RegionName(char::from(b'a' + region as u8).to_string())
}

/// The first region has the highest priority.
pub fn policy(regions: usize, step_seconds: u64) -> Policy {
    let list: Vec<String> = (0..regions)
        .map(|r| {
            let (name, priority) = (region_name(r), regions - r);
            format!(r#"{{"name":"{name}","priority":{priority},"endpoints":["{name}:2379"]}}"#)
        })
        .collect();
    let text = format!(
        r#"{{"formation":"shop","step_seconds":{step_seconds},"regions":[{}]}}"#,
        list.join(",")
    );
    serde_json::from_str(&text).expect("a policy")
}

impl World {
    pub fn has_regions(&self) -> bool {
        self.stores.regions.len() > 1
    }

    /// Who owns the formation, by the daemon's own copy of its store.
    pub fn look_at_topology(&mut self, member: usize, seen: &mut StoreSight) {
        if !self.has_regions() {
            return;
        }
        let m = &mut self.members[member];
        let (group, me) = (m.place.group, region_name(m.place.region));
        let site = m.daemon.mirror.site(&m.keys);
        seen.ownership = ownership(&site.topology, &me, group, m.daemon.epoch);
        if let Ownership::Owner { epoch, .. } = &seen.ownership {
            m.daemon.epoch = m.daemon.epoch.max(Some(*epoch));
        }
        seen.order = order(&site.topology, &me, group);
        seen.closed_workers = closed(&site.groups, &seen.ownership);
    }

    /// The coordinator has rewritten its rows: the driver may go on.
    pub fn rewired_due(&mut self, member: usize, seen: &Observation) -> Option<Txn> {
        let m = &mut self.members[member];
        let opening = matches!(seen.ownership, Ownership::Owner { opening: true, .. });
        let may = opening && m.place.group.is_coordinator() && seen.is_primary();
        if !may || !seen.closed_workers.is_empty() {
            return None;
        }
        let site = m.daemon.mirror.site(&m.keys);
        let journal = site.topology.journal()?;
        let id = journal.id.clone();
        let told = site.topology.rewired.as_ref().is_some_and(|done| done.id == id);
        if told || !journal.phase.is_decided() || journal.phase.is_over() {
            return None;
        }
        let value = serde_json::to_string(&Rewired { id }).expect("plain values");
        let key = m.keys.topology("switch/rewired");
        let lease = m.daemon.machine.lease.id?;
        Some(Txn {
            when: vec![Compare::LeaseIs(m.keys.leader(), lease)],
            then: vec![Op::Put { key, value, lease: None }],
        })
    }

    /// An operator asks for a move away from the owner, if that is possible now.
    pub fn ask_for_move(&mut self) {
        for region in 0..self.stores.regions.len() {
            let keys = self.members[0].keys.clone();
            let site = Site::read(&keys, &self.stores.snapshot(region).entries);
            let to = region_name((region + 1) % self.stores.regions.len());
            let Ok(journal) = requested(&site, &region_name(region), &to, self.unix_ms()) else {
                continue;
            };
            let txn = node::region::txn::write_journal(&keys, &site.topology, &journal);
            let asked = self.stores.regions[region].txn_now(&txn);
            self.note(format!("move {} asked for: {asked:?}", journal.id));
            return;
        }
    }

    /// The phase of a move that is neither done nor aborted, in any store.
    pub fn unfinished_move(&self) -> Option<Phase> {
        let journals = (0..self.stores.regions.len()).filter_map(|region| {
            let local = read(&self.members[0].keys, &self.stores.snapshot(region).entries);
            local.journal().map(|j| j.phase)
        });
        journals.into_iter().find(|phase| !phase.is_over())
    }

    /// How the moves that are over ended.
    pub fn ended_moves(&self) -> Vec<Phase> {
        let local = read(&self.members[0].keys, &self.stores.snapshot(0).entries);
        let lines = local.history.map_or(Vec::new(), |h| h.value);
        lines.iter().map(|line| line.phase).collect()
    }

    pub fn unix_ms(&self) -> u64 {
        1_700_000_000_000 + self.now
    }
}

/// Worker groups whose leader is not open for writes yet.
fn closed(groups: &BTreeMap<Group, GroupView>, ownership: &Ownership) -> Vec<Group> {
    if !matches!(ownership, Ownership::Owner { opening: true, .. }) {
        return Vec::new();
    }
    let is_open = |view: &GroupView| {
        view.leader_record().is_some_and(|r| r.role == MemberRole::Primary && r.is_running())
    };
    let workers = groups.iter().filter(|(g, _)| g.0.is_some_and(|n| n > 0));
    workers.filter(|(_, view)| !is_open(view)).map(|(g, _)| *g).collect()
}

/// The member leads its group, or no member does: it may speak for the region.
pub fn speaks(m: &Member) -> bool {
    m.daemon.speaks
}
