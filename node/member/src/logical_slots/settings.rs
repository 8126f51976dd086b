//! Settings of the server that follow from logical slots.

use super::{LogicalMemory, Moment};
use crate::Member;
use crate::ha::Observation;
use standby::slots::{Kind, permanent};
use std::collections::BTreeMap;
use topology::id::slot_name;
use topology::{Dynamic, GroupView, MemberName};

impl LogicalMemory {
    /// Copies on a standby that PostgreSQL's own worker has made, and it alone removes: once
    /// the slot of the primary has gone.
    fn has_synced(&self, seen: &Observation) -> bool {
        let is_standby = seen.is_standby() && !seen.holds_lock();
        is_standby && self.is_native() && self.there.iter().any(|slot| slot.synced)
    }

    pub(super) fn note_used(&mut self, moment: &Moment) {
        let physical = moment.sight.slots.iter().filter(|slot| slot.is_physical());
        let there: BTreeMap<&str, bool> = physical.map(|s| (s.name.as_str(), s.active)).collect();
        self.used.retain(|name, _| there.contains_key(name.as_str()));
        let active = there.iter().filter(|(_, active)| **active);
        self.used.extend(active.map(|(name, _)| (name.to_string(), moment.now)));
    }
}

/// This member, or one that cascades from it, keeps copies of logical slots.
pub(super) fn keeps_feedback(seen: &Observation, view: &GroupView, dynamic: &Dynamic) -> bool {
    let read = permanent(&dynamic.slots);
    let is_defined = read.specifications.iter().any(|slot| slot.kind != Kind::Physical);
    let is_kept = |name: &MemberName| {
        let mut at = name.clone();
        for _ in 0..=view.members.len() {
            if at == seen.me.name {
                return true;
            }
            let Some(record) = view.member(&at) else { return false };
            match record.tags.replicatefrom() {
                Some(above) => at = MemberName::new(above),
                None => return false,
            }
        }
        false
    };
    let keeps = view.members.iter().filter(|(_, m)| {
        let tags = &m.value.tags;
        !tags.nofailover() && !tags.nostream()
    });
    is_defined && dynamic.use_slots && seen.may_own() && keeps.map(|(name, _)| name).any(is_kept)
}

impl Member {
    /// Without a store, what held when it was last seen.
    pub(crate) fn keeps_feedback(&self, seen: &Observation) -> bool {
        match seen.view() {
            Some(view) => {
                keeps_feedback(seen, view, &self.dynamic) || self.slots.logical.has_synced(seen)
            }
            None => self.slots.logical.feedback,
        }
    }

    pub(crate) fn syncs_natively(&self, seen: &Observation) -> bool {
        self.slots.logical.is_native() && self.keeps_feedback(seen)
    }

    /// The physical slots that logical readers wait for, so that none of them is ahead of a
    /// standby that may lead next: PostgreSQL 17 and newer, on a primary.
    pub(crate) fn awaited_slots(&self, seen: &Observation) -> Option<Vec<String>> {
        let logical = &self.slots.logical;
        let own = self.dynamic.raw.pointer("/postgresql/parameters/synchronized_standby_slots");
        let is_ours = own.is_none() && self.syncs_natively(seen);
        let view = seen.view().filter(|_| is_ours)?;
        let sync = view.sync.as_ref().map(|sync| &sync.value).filter(|sync| sync.is_active());
        let counts = |name: &MemberName| match sync {
            Some(sync) if seen.dynamic.is_synchronous => sync.is_standby(name),
            _ => true,
        };
        let may_lead = view.members.iter().filter(|(name, m)| {
            let tags = &m.value.tags;
            let cascades = tags.replicatefrom().is_some();
            **name != self.name
                && !tags.nofailover()
                && !tags.nostream()
                && !cascades
                && counts(name)
        });
        let slots = may_lead.map(|(name, _)| slot_name(name.as_str()));
        let is_used = |name: &String| {
            let used = logical.used.get(name);
            used.is_some_and(|at| seen.now.since(*at) < self.dynamic.ttl_ms)
        };
        Some(slots.filter(is_used).collect())
    }
}
