//! A cascade follows the leader while no WAL arrives through the member that its tag names.
//!
//! That member may not stream itself, or have no slot or no WAL for this one any more. While
//! the leader is followed the own record is without `replicatefrom`: all that goes by it (slots,
//! synchronous standbys, tables) is then as for any other standby.
//!
//! A member that leaves the leader, here or by new tags, leaves its synchronous duty before.
//!
//! Beyond Patroni, where a cascade follows its upstream for as long as that has a record.

use super::facts::Facts;
use super::observation::{Detour, Memory, Observation};
use standby::source;
use topology::{MemberName, MemberRecord};

impl Facts<'_> {
    /// A cascade that follows the leader meanwhile.
    pub fn is_on_detour(&self) -> bool {
        self.o.memory.detour.is_taken && named(self.o).is_some()
    }

    /// It streams from the leader, and its tags name another source, or none.
    pub fn leaves_leader(&self) -> bool {
        leaves_leader(self.o, &self.o.memory.detour)
    }

    pub fn why_leaving(&self) -> Option<String> {
        if self.o.me.tags.nostream() {
            return Some("the tag `nostream` is set".to_string());
        }
        let (name, _) = other_source(self.o)?;
        Some(match self.o.memory.detour.is_returning() {
            true => format!("{name} streams again, and has the WAL that this standby has"),
            false => format!("`replicatefrom` names {name}"),
        })
    }

    /// The member that the own tag names has no record now.
    pub fn is_upstream_away(&self) -> bool {
        is_upstream_away(self.o)
    }
}

impl Memory {
    /// Whether WAL arrives through the upstream, and since when.
    pub fn update_detour(&mut self, seen: &Observation) {
        self.detour.begin_look(seen.now, seen.dynamic.loop_wait_ms);
        let Some((upstream, record)) = named(seen) else {
            let has_leader = seen.view().is_some_and(|view| view.leader.is_some());
            if seen.holds_lock() || has_leader && !is_upstream_away(seen) {
                self.detour = Default::default();
            }
            return self.detour.interrupt(seen.now);
        };
        let is_known = seen.is_standby() && seen.job.is_none() && !seen.dynamic.pause;
        if !is_known || Facts::of(seen).leader_source().is_none() {
            return self.detour.interrupt(seen.now);
        }
        let comes = match self.detour.is_taken {
            true => self.could_come(seen, record),
            false => seen.is_streaming(),
        };
        let serves = comes && may_stream(record);
        self.detour.look(upstream, serves, seen.now, seen.dynamic.loop_wait_ms);
    }

    /// The upstream has the log of this member, as of some loops ago.
    fn could_come(&mut self, seen: &Observation, upstream: &MemberRecord) -> bool {
        let own = seen.server().map(|server| server.lsn);
        let (Some(own), Some(theirs)) = (own, upstream.xlog_location) else { return false };
        self.detour.is_caught_up(own, theirs, seen.now, seen.dynamic.loop_wait_ms)
    }
}

/// The standby that the own tag names. One that lives on an archive is meant to.
fn named(seen: &Observation) -> Option<(&MemberName, &MemberRecord)> {
    other_source(seen).filter(|(_, record)| !record.tags.nostream())
}

fn other_source(seen: &Observation) -> Option<(&MemberName, &MemberRecord)> {
    let view = seen.view().filter(|_| !seen.holds_lock())?;
    let leader = view.leader_name()?;
    let name = source::upstream(&seen.me.name, &seen.me.tags, view)?;
    let record = view.member(name)?;
    (name != leader).then_some((name, record))
}

fn is_upstream_away(seen: &Observation) -> bool {
    let name = seen.me.tags.replicatefrom().map(MemberName::new);
    name.zip(seen.view()).is_some_and(|(name, view)| view.member(&name).is_none())
}

pub(super) fn leaves_leader(seen: &Observation, detour: &Detour) -> bool {
    let Some(leader) = seen.view().and_then(|view| view.leader_name()) else { return false };
    let other = other_source(seen).filter(|(_, record)| record.address().is_some());
    let is_to_leave = seen.me.tags.nostream() || !detour.is_taken && other.is_some();
    is_to_leave && !seen.holds_lock() && seen.is_standby() && seen.follows_member(leader)
}

/// As far as its record tells that.
fn may_stream(record: &MemberRecord) -> bool {
    let is_streaming = match record.replication_state.as_deref() {
        Some(state) => state == "streaming",
        None => !record.tells_replication_state(),
    };
    record.is_running() && is_streaming
}

#[cfg(test)]
#[path = "cascading_tests.rs"]
mod tests;
