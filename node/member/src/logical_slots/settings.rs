//! Settings of the server that follow from logical slots.

use super::{LogicalMemory, Moment};
use crate::Member;
use crate::ha::Observation;
use standby::slots::{Kind, NATIVE, permanent};
use standby::switch::ownership::Ownership;
use std::collections::BTreeMap;
use topology::id::slot_name;
use topology::{Dynamic, GroupView, MemberName, Tags};

impl LogicalMemory {
    /// Copies on a standby that PostgreSQL's own worker has made, and it alone removes: once
    /// the slot of the primary has gone.
    fn has_synced(&self, seen: &Observation) -> bool {
        let is_kept = seen.is_standby() && (!seen.holds_lock() || follows_another(seen));
        is_kept && self.is_native() && self.server.there.iter().any(|slot| slot.synced)
    }

    /// As far as the store and the region say it.
    pub(super) fn needs_feedback(
        &self,
        seen: &Observation,
        view: &GroupView,
        dynamic: &Dynamic,
    ) -> bool {
        keeps_feedback(seen, view, dynamic, self.server.major)
            || self.keeps_for_slots(seen, dynamic)
            || self.is_native() && copies_from_remote(seen, dynamic)
            || self.has_synced(seen)
    }

    /// A record ends with its lease; the slot of a member that is gone for good is dropped. Which
    /// slots are here is not known before the first look at them.
    fn keeps_for_slots(&self, seen: &Observation, dynamic: &Dynamic) -> bool {
        let may_keep = seen.may_own() || copies_region(seen, self.server.major);
        let keeps_below = !self.server.is_noted || self.server.keeps_below;
        may_keep && keeps_below && keeps_copies(dynamic)
    }

    /// What is no copy, on a standby: PostgreSQL's worker would fail for it, and then rest.
    fn has_broken(&self) -> bool {
        self.server.there.iter().any(|slot| slot.failover && !slot.synced)
    }

    pub(super) fn note_used(&mut self, moment: &Moment) {
        let physical = moment.sight.slots.iter().filter(|slot| slot.is_physical());
        let there: BTreeMap<&str, bool> = physical.map(|s| (s.name.as_str(), s.active)).collect();
        self.server.used.retain(|name, _| there.contains_key(name.as_str()));
        let active = there.iter().filter(|(_, active)| **active);
        self.server.used.extend(active.map(|(name, _)| (name.to_string(), moment.now)));
    }
}

/// The logical slots that `slots` defines.
pub(super) fn defined(dynamic: &Dynamic) -> impl Iterator<Item = String> {
    let all = permanent(&dynamic.slots).specifications.into_iter();
    all.filter(|slot| slot.kind != Kind::Physical).map(|slot| slot.name)
}

fn keeps_copies(dynamic: &Dynamic) -> bool {
    dynamic.use_slots && defined(dynamic).next().is_some()
}

/// This member, or one that cascades from it, keeps copies of logical slots, as far as records
/// tell.
pub(super) fn keeps_feedback(
    seen: &Observation,
    view: &GroupView,
    dynamic: &Dynamic,
    major: u32,
) -> bool {
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
    if !seen.may_own() && !copies_region(seen, major) {
        return false;
    }
    let may_lead = |tags: &Tags| !tags.nofailover() && !tags.nostream();
    // Its lease may have ended while the store was away; its copies are here all the same.
    let is_unlisted = view.member(&seen.me.name).is_none();
    let keeps_own = is_unlisted && may_lead(&seen.me.tags);
    let mut listed = view.members.iter().filter(|(_, m)| may_lead(&m.value.tags));
    keeps_copies(dynamic) && (keeps_own || listed.any(|(name, _)| is_kept(name)))
}

/// Members of a standby region copy the logical slots of the remote leader, all of them: any may
/// lead when the region opens. From PostgreSQL 17 on its leader's server does that.
pub(crate) fn copies_region(seen: &Observation, major: u32) -> bool {
    follows_region(seen) && (1..NATIVE).contains(&major)
}

/// The region certainly follows another one.
pub(super) fn follows_region(seen: &Observation) -> bool {
    matches!(seen.ownership, Ownership::Standby { .. })
}

/// PostgreSQL 17: the leader of a cluster that follows another one streams from its primary, by
/// a slot, and its server copies the logical slots from there.
pub(super) fn copies_from_remote(seen: &Observation, dynamic: &Dynamic) -> bool {
    let has_slot = seen.follows().is_some_and(|following| following.slot.is_some());
    let follows = follows_another(seen) && seen.holds_lock() && seen.is_standby();
    keeps_copies(dynamic) && follows && has_slot
}

/// Certainly, and not while that is in doubt.
pub(super) fn follows_another(seen: &Observation) -> bool {
    !seen.may_own() && !matches!(seen.ownership, Ownership::Doubtful(_))
}

impl Member {
    /// A standby leader's server copies slots itself, and needs feedback for that.
    pub(crate) fn copies_natively_from_remote(&self, seen: &Observation) -> bool {
        self.slots.logical.is_native() && copies_from_remote(seen, &self.dynamic)
    }

    /// Without a store, or in doubt which region owns, what held when that was known: rows that
    /// the primary removes meanwhile do not come back.
    pub(crate) fn keeps_feedback(&self, seen: &Observation) -> bool {
        let logical = &self.slots.logical;
        match seen.view() {
            Some(view) if !matches!(seen.ownership, Ownership::Doubtful(_)) => {
                logical.needs_feedback(seen, view, &self.dynamic)
            }
            _ => logical.server.feedback.unwrap_or_else(|| keeps_copies(&self.dynamic)),
        }
    }

    pub(crate) fn syncs_natively(&self, seen: &Observation) -> bool {
        self.slots.logical.is_native() && self.keeps_feedback(seen)
    }

    /// The running server takes `sync_replication_slots`. With another `wal_level` PostgreSQL 17
    /// shuts down because of it, and does not start again.
    pub(crate) fn may_sync_natively(&self) -> bool {
        self.slots.logical.server.decodes
    }

    /// Slots of a former primary go first (1185).
    pub(crate) fn has_broken_copies(&self) -> bool {
        self.slots.logical.has_broken()
    }

    /// The physical slots that logical readers wait for, so that none of them is ahead of a
    /// standby that may lead next: PostgreSQL 17 and newer, on a primary.
    pub(crate) fn awaited_slots(&self, seen: &Observation) -> Option<Vec<String>> {
        let logical = &self.slots.logical;
        let own = self.dynamic.raw.pointer("/postgresql/parameters/synchronized_standby_slots");
        let is_ours = own.is_none() && self.syncs_natively(seen);
        let view = seen.view().filter(|_| is_ours)?;
        let sync = view.sync.as_ref().map(|sync| &sync.value).filter(|sync| sync.is_active());
        let sync = sync.filter(|_| seen.dynamic.is_synchronous);
        let counts = |name: &MemberName| sync.is_none_or(|sync| sync.is_standby(name));
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
        // Commits wait for those of `/sync` in any case, until the leader takes them out.
        let is_used = |name: &String| {
            let used = logical.server.used.get(name);
            sync.is_some() || used.is_some_and(|at| seen.now.since(*at) < self.dynamic.ttl_ms)
        };
        Some(slots.filter(is_used).collect())
    }
}
