//! Regions: the agent of each, with the stores and servers that it works on.
//!
//! The agent and its mover are the daemon's own machine (`standby::switch::agent`).
//! Its effects are performed on the model (`agent`, `perform`), with the writes of
//! `standby::switch::write`; the agent alone decides.

mod agent;
mod operator;
pub mod perform;

use super::World;
use member::{StoreSight, closed_workers};
use node::dcs::Snapshot;
use node::region::ownership::read;
pub use standby::switch::effect::{Answer, Call, CallId};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use topology::acceptor::Position;
use topology::region::{Journal, Phase, Policy};
use topology::{RegionName, Session, Version};

/// What one daemon's region task has.
#[derive(Debug, Default)]
pub struct Agent {
    /// The daemon's own agent, as in `node::region`.
    machine: Option<Box<standby::switch::agent::Agent>>,
    /// The machine wants copies of all stores.
    is_open: bool,
    copies: BTreeMap<usize, Copy>,
    /// The own store after the last own write.
    own_write: Option<Arc<Snapshot>>,
    /// What the last sight showed, and how often that was something new.
    known: Known,
    changes: u64,
    /// Calls that hold distributed commits back, or are about to.
    holds: BTreeSet<CallId>,
    /// The earliest alarm that is set.
    alarm: Option<u64>,
}

/// Version of the own store's copy, lease, lock, versions of all copies, and what the disk knows.
type Known = (Option<Version>, Option<Session>, bool, Vec<Version>, Option<Position>);

/// The agent's copy of one region's store.
#[derive(Debug, Default)]
pub struct Copy {
    snapshot: Arc<Snapshot>,
    live: bool,
    /// When the store was last heard from, on the true clock.
    heard: u64,
    missed: u64,
}

impl Agent {
    /// This daemon speaks for its region.
    pub fn speaks(&self) -> bool {
        self.machine.as_ref().is_some_and(|machine| machine.speaks())
    }

    /// By this call, or it is under way.
    pub fn holds_by(&self, call: CallId) -> bool {
        self.holds.contains(&call)
    }

    /// Distributed commits are held back, or are about to be.
    pub fn holds(&self) -> bool {
        !self.holds.is_empty()
    }
}

/// The formation's name in every policy.
pub const FORMATION: &str = "shop";

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
        r#"{{"formation":"{FORMATION}","step_seconds":{step_seconds},"regions":[{}]}}"#,
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
        let disk_fails = self.disk_fails(member);
        let m = &mut self.members[member];
        let (group, me) = (m.place.group, region_name(m.place.region));
        let site = m.daemon.mirror.site(&m.keys);
        if self.plan.forgetful {
            m.daemon.machine.take_region_memory(Ok(None), FORMATION);
        }
        let new = m.daemon.machine.to_remember(&site.topology, FORMATION);
        if let Some(new) = new.filter(|_| !disk_fails) {
            m.kept_region = Some(new.clone());
            m.daemon.machine.remember(new);
        }
        (seen.ownership, seen.order) = m.daemon.machine.look_at_region(&site.topology, &me, group);
        seen.closed_workers = closed_workers(&site.groups, &seen.ownership);
    }

    /// The phase of a move that is neither done nor aborted, in the stores of its two
    /// regions. A third one keeps the journal as it was when it took the certificate.
    pub fn unfinished_move(&self) -> Option<Phase> {
        let journals = (0..self.stores.regions.len()).filter_map(|region| {
            let local = read(&self.members[0].keys, &self.stores.snapshot(region).entries);
            let takes_part = |j: &&Journal| [&j.from, &j.to].contains(&&region_name(region));
            local.journal().filter(takes_part).map(|j| j.phase)
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
