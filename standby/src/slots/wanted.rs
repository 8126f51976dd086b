//! The slots that a member should have, and how far each of them may move.
//!
//! A slot is expected to be active where its member streams from this one
//! (`source::upstream`). With `member_slots_ttl` every member that may lead keeps a slot
//! for every other member; without it, and on a member that never leads, only those
//! that stream from it have one.

use super::{ClusterKind, Kind, Role, Situation, permanent, region_slot};
use crate::source::upstream;
use std::collections::{BTreeMap, BTreeSet};
use topology::dynamic::slots_in_vain;
use topology::id::slot_name;
use topology::{GroupView, Lsn, MemberName, MemberRecord};

/// Which receiver a slot is kept for, in the order in which missing slots are made: with few
/// places left, the members come first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Why {
    Member,
    Region,
    /// A cluster that follows this one.
    Linked,
    Retained,
    Permanent,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wanted {
    pub kind: Kind,
    pub why: Why,
    /// Nothing before this is needed any more, as far as the store tells.
    pub to: Option<Lsn>,
    /// Whether a receiver streams from it here; `None`: that is not known.
    pub expected_active: Option<bool>,
}

/// All wanted slots by name.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Plan {
    pub wanted: BTreeMap<String, Wanted>,
    /// Neither made nor dropped.
    pub unclear: BTreeSet<String>,
    /// What an operator should correct.
    pub findings: Vec<String>,
}

pub fn wanted(s: &Situation) -> Plan {
    let mut plan = Plan::default();
    if s.dynamic.use_slots {
        members(s, &mut plan);
        retained(s, &mut plan);
        permanent_slots(s, &mut plan);
    }
    linked(s, &mut plan);
    for slot in s.regions.iter().map(region_slot) {
        // The other region follows the leader.
        let (to, expected_active) = (reported(s, &slot), Some(s.leads()));
        let (kind, why) = (Kind::Physical, Why::Region);
        plan.add(slot, Wanted { kind, why, to, expected_active });
    }
    plan.unclear.extend(s.doubtful_regions.iter().map(region_slot));
    plan
}

impl Plan {
    /// The first one to want a slot says how it is kept.
    fn add(&mut self, name: String, wanted: Wanted) {
        self.wanted.entry(name).or_insert(wanted);
    }
}

impl Situation<'_> {
    fn leads(&self) -> bool {
        matches!(self.role, Role::Primary | Role::StandbyLeader)
    }

    fn own_slot(&self) -> String {
        slot_name(self.me.as_str())
    }

    /// The leader's standbys, or the members that cascade from this replica.
    fn streams_from_me(&self, name: &MemberName, record: &MemberRecord) -> bool {
        let is_leader = self.view.leader_name() == Some(name);
        !is_leader && upstream(name, &record.tags, self.view) == Some(self.me)
    }

    /// A member that has to have a slot here, active or not.
    fn is_kept_for(&self, name: &MemberName, record: &MemberRecord) -> bool {
        let streams = self.streams_from_me(name, record);
        match (self.dynamic.member_slots_ttl_ms > 0, self.nofailover) {
            (true, false) => true,
            (true, true) => streams || record.tags.replicatefrom() == Some(self.me.as_str()),
            (false, _) => streams,
        }
    }
}

fn members(s: &Situation, plan: &mut Plan) {
    let mut users: BTreeMap<String, &MemberName> = BTreeMap::new();
    let streams = s.view.members.iter().filter(|(_, m)| !m.value.tags.nostream());
    for (name, record) in streams.map(|(name, member)| (name, &member.value)) {
        let slot = slot_name(name.as_str());
        if let Some(other) = users.insert(slot.clone(), name) {
            plan.findings.push(format!(
                "the members {other} and {name} share the slot `{slot}`: give one of them another \
                 name"
            ));
        }
        if slot == s.own_slot() || !s.is_kept_for(name, record) {
            continue;
        }
        let expected_active = Some(s.streams_from_me(name, record));
        let (to, why) = (position(s, name, record, &slot), Why::Member);
        let new = Wanted { kind: Kind::Physical, why, to, expected_active };
        match plan.wanted.get_mut(&slot) {
            Some(shared) => share(shared, &new),
            None => plan.add(slot, new),
        }
    }
}

/// A slot of two members moves for neither of them.
fn share(slot: &mut Wanted, other: &Wanted) {
    slot.to = None;
    slot.expected_active = slot.expected_active.max(other.expected_active);
}

fn reported(s: &Situation, slot: &str) -> Option<Lsn> {
    s.view.status.as_ref()?.value.slots.get(slot).copied()
}

/// The leader knows where a slot of its own standbys stands; where a member that
/// cascades stands, it tells itself.
fn position(s: &Situation, name: &MemberName, record: &MemberRecord, slot: &str) -> Option<Lsn> {
    let tells_itself = record.tags.replicatefrom().is_some() || tells_permanent_only(s);
    let own = record.xlog_location.filter(|_| tells_itself);
    reported(s, slot).max(own).max(s.heard.get(name).copied())
}

/// A leader of a release before 4.0 reports permanent slots only.
fn tells_permanent_only(s: &Situation) -> bool {
    let version = s.view.leader_record().map(|record| record.version.as_str());
    let major = version.and_then(|version| version.split('.').next()?.parse::<u32>().ok());
    major.is_some_and(|major| major < 4)
}

/// Slots of members that have gone and may come back: the leader says for how long.
fn retained(s: &Situation, plan: &mut Plan) {
    let status = s.view.status.as_ref().filter(|_| !s.nofailover);
    let names = status.into_iter().flat_map(|status| status.value.retain_slots.clone());
    for name in names.filter(|name| *name != s.own_slot()) {
        let (to, why) = (reported(s, &name), Why::Retained);
        plan.add(name, Wanted { kind: Kind::Physical, why, to, expected_active: None });
    }
}

/// The clusters of `standby_clusters`: on every member that may lead, while this cluster
/// follows no other one. After a demotion such a slot would keep WAL that no server reads.
fn linked(s: &Situation, plan: &mut Plan) {
    if s.nofailover || s.cluster == Some(ClusterKind::Standby) {
        return;
    }
    let mut users: BTreeMap<&str, &str> = BTreeMap::new();
    for link in &s.dynamic.standby_clusters {
        let slot = link.slot.clone();
        if let Some(other) = users.get(slot.as_str()) {
            plan.findings.push(format!(
                "the standby clusters {other} and {} share the slot `{slot}`: give one of them \
                 another slot",
                link.name
            ));
            continue;
        }
        users.insert(&link.slot, &link.name);
        if s.cluster.is_none() {
            plan.unclear.insert(slot);
            continue;
        }
        let namesake = plan.wanted.get(&slot);
        if namesake.is_some_and(|w| w.why == Why::Permanent && w.kind == Kind::Physical) {
            continue;
        }
        if namesake.is_some() || slot == s.own_slot() {
            plan.findings.push(format!(
                "the slot `{slot}` of the standby cluster {} is one of this cluster's own: give it \
                 another name",
                link.name
            ));
            continue;
        }
        let (to, expected_active) = (reported(s, &slot), Some(s.leads()));
        let (kind, why) = (Kind::Physical, Why::Linked);
        plan.add(slot, Wanted { kind, why, to, expected_active });
    }
}

fn permanent_slots(s: &Situation, plan: &mut Plan) {
    let read = permanent(&s.dynamic.slots);
    plan.unclear.extend(read.unclear);
    plan.findings.extend(read.findings);
    plan.findings.extend(slots_in_vain(&s.dynamic.raw).map(|(used, others)| {
        let others = others.join("` and `");
        format!("`{used}` of /config is used: what `{others}` defines is ignored")
    }));
    if s.nofailover {
        return;
    }
    for slot in read.specifications {
        match &slot.kind {
            Kind::Physical if slot.cluster.is_none() => permanent_physical(s, plan, slot.name),
            Kind::Logical { .. } if whose_name(s, plan, &slot.name).is_some() => {
                taken(s, plan, slot.name);
            }
            // Which of them are wanted is not known now.
            _ if s.cluster.is_none() => {
                plan.unclear.insert(slot.name);
            }
            Kind::Physical if slot.cluster == s.cluster => permanent_physical(s, plan, slot.name),
            Kind::Logical { .. } if s.keeps_logical() => {
                let (to, why) = (reported(s, &slot.name), Why::Permanent);
                let wanted = Wanted { kind: slot.kind, why, to, expected_active: None };
                plan.add(slot.name, wanted);
            }
            Kind::Physical | Kind::Logical { .. } => {}
        }
    }
}

/// The physical slot that a logical one may not take the name of.
fn whose_name(s: &Situation, plan: &Plan, name: &str) -> Option<&'static str> {
    let mut regions = s.regions.iter().chain(s.doubtful_regions).map(region_slot);
    if name == s.own_slot() || plan.wanted.contains_key(name) {
        return Some("a member's slot");
    }
    regions.any(|slot| slot == name).then_some("a region's slot")
}

/// One that is there stays, where no other slot needs the name.
fn taken(s: &Situation, plan: &mut Plan, name: String) {
    let of = whose_name(s, plan, &name).unwrap_or("another slot");
    plan.findings.push(format!(
        "the permanent logical slot `{name}` has the name of {of}: give it another name"
    ));
    plan.unclear.insert(name);
}

/// It may have the name of a member, which then streams through it.
fn permanent_physical(s: &Situation, plan: &mut Plan, name: String) {
    if name == s.own_slot() {
        return;
    }
    let mut namesakes = s.view.members.iter().filter(|(m, _)| slot_name(m.as_str()) == name);
    let cascading = namesakes.find(|(_, m)| m.value.tags.replicatefrom().is_some());
    let own = cascading.and_then(|(_, member)| member.value.xlog_location);
    let to = reported(s, &name).max(own);
    let expected_active = (s.leads() && cascading.is_none()).then_some(true);
    plan.add(name, Wanted { kind: Kind::Physical, why: Why::Permanent, to, expected_active });
}

impl Situation<'_> {
    /// Logical slots need WAL that streams here, from a server that decodes it.
    fn keeps_logical(&self) -> bool {
        let keeps = self.cluster == Some(ClusterKind::Primary) || self.copies_region;
        keeps && !is_below_nostream(self.me, self.view)
    }
}

/// This member, or one that it cascades from, gets its WAL from an archive; or the
/// chain comes back to itself.
pub fn is_below_nostream(me: &MemberName, view: &GroupView) -> bool {
    let mut at = me.clone();
    for _ in 0..=view.members.len() {
        let Some(record) = view.member(&at) else { return false };
        if record.tags.nostream() {
            return true;
        }
        match record.tags.replicatefrom() {
            Some(next) if view.leader_name() != Some(&at) => at = MemberName::new(next),
            _ => return false,
        }
    }
    true
}

#[cfg(test)]
#[path = "wanted_tests.rs"]
mod tests;
