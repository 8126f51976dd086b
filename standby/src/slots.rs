//! Which physical slots a member should have, and what to do about it.
//!
//! Every member keeps a slot for every other member, so that a promoted replica
//! still has the WAL the others need; replicas advance theirs to what the
//! leader reported. The primary region also keeps one slot for every other
//! region, named after the region, so that it survives any failover there.
//! `postgresql.use_slots: false` is about members and permanent slots alone.
//!
//! Absent on purpose: logical slots; slots this daemon did not make are never
//! dropped here.

use serde_json::{Map, Value};
use std::collections::{BTreeMap, BTreeSet};
use topology::id::slot_name;
use topology::tags::parse_bool;
use topology::{GroupView, Lsn, MemberName, RegionName};

/// A slot as PostgreSQL shows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Slot {
    pub name: String,
    pub physical: bool,
    pub active: bool,
    pub restart_lsn: Option<Lsn>,
    /// Of a logical slot: up to where its reader has confirmed.
    pub confirmed_flush: Option<Lsn>,
}

impl Slot {
    /// From where on its reader goes on.
    pub fn position(&self) -> Option<Lsn> {
        if self.physical { self.restart_lsn } else { self.confirmed_flush }
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SlotStep {
    Create(String),
    Drop(String),
    Advance(String, Lsn),
}

/// The slot that a standby region's leader uses on the primary region.
pub fn region_slot(region: &RegionName) -> String {
    slot_name(&format!("region_{region}"))
}

/// The physical slots this member should have, with the position each needs.
pub fn desired(
    me: &MemberName,
    view: &GroupView,
    regions: &[RegionName],
) -> BTreeMap<String, Option<Lsn>> {
    let reported = view.status.as_ref().map(|s| &s.value.slots);
    let position = |slot: &str| reported.and_then(|slots| slots.get(slot)).copied();
    let used = view.config.as_ref().is_none_or(|config| config.value.use_slots);
    let members = view.members.iter().filter(|(name, m)| *name != me && !m.value.tags.nostream());
    let names = members.filter(|_| used).map(|(name, _)| slot_name(name.as_str()));
    let retained = retained(me, view).filter(|_| used);
    let config = view.config.iter().filter(|_| used);
    let permanent = config.flat_map(|c| permanent(&c.value.slots));
    let permanent = permanent.filter(|(_, physical)| *physical).map(|(name, _)| name);
    names
        .chain(retained)
        .chain(regions.iter().map(region_slot))
        .chain(permanent)
        .filter(|slot| *slot != slot_name(me.as_str()))
        .map(|slot| (slot.clone(), position(&slot)))
        .collect()
}

/// Slots of members that have gone and may come back: the leader tells how long.
/// Who never leads keeps none for it.
fn retained<'a>(me: &MemberName, view: &'a GroupView) -> impl Iterator<Item = String> + 'a {
    let leads_never = view.member(me).is_some_and(|m| m.tags.nofailover());
    let status = view.status.as_ref().filter(|_| !leads_never);
    status.into_iter().flat_map(|status| status.value.retain_slots.iter().cloned())
}

/// Permanent slots by name; true: a physical one.
pub fn permanent(slots: &Map<String, Value>) -> BTreeMap<String, bool> {
    let is_physical = |spec: &Value| match spec {
        Value::Object(map) => {
            map.get("type").and_then(|t| t.as_str()) == Some("physical")
                || !map.contains_key("type") && !map.contains_key("plugin")
        }
        other => other.is_null() || parse_bool(other) == Some(false),
    };
    slots.iter().map(|(name, spec)| (slot_name(name), is_physical(spec))).collect()
}

/// The steps from what is there to what should be there.
///
/// `ours` are the slots made by this daemon's group in earlier views (members
/// that were known once); only those may be dropped. `leads` tells whether
/// positions come from streaming (then they advance by themselves). While an
/// operator is in charge (`paused`) none is dropped.
pub fn diff(
    desired: &BTreeMap<String, Option<Lsn>>,
    actual: &[Slot],
    ours: &BTreeSet<String>,
    leads: bool,
    paused: bool,
) -> Vec<SlotStep> {
    let mut steps = Vec::new();
    for name in desired.keys() {
        if !actual.iter().any(|slot| &slot.name == name) {
            steps.push(SlotStep::Create(name.clone()));
        }
    }
    for slot in actual.iter().filter(|slot| slot.physical && !slot.active) {
        match desired.get(&slot.name) {
            None if !paused && ours.contains(&slot.name) => {
                steps.push(SlotStep::Drop(slot.name.clone()));
            }
            Some(Some(to)) if !leads && slot.restart_lsn.is_some_and(|at| at < *to) => {
                steps.push(SlotStep::Advance(slot.name.clone(), *to));
            }
            _ => {}
        }
    }
    steps
}

#[cfg(test)]
mod tests {
    use super::*;

    fn view() -> GroupView {
        let mut view = GroupView::default();
        for name in ["n-1", "n2", "n3"] {
            view.take_sample(&format!("members/{name}"), "{}", 1, 1);
        }
        view.take_sample("members/quiet", r#"{"tags":{"nostream":true}}"#, 1, 1);
        view.take_sample("status", r#"{"optime":9,"slots":{"n2":7}}"#, 1, 0);
        view.take_sample("config", r#"{"slots":{"keep":0,"logical":{"type":"logical"}}}"#, 1, 0);
        view
    }

    fn slot(name: &str, at: u64, active: bool) -> Slot {
        let restart_lsn = Some(Lsn(at));
        Slot { name: name.into(), physical: true, active, restart_lsn, confirmed_flush: None }
    }

    #[test]
    fn members_regions_and_permanent_slots_are_wanted() {
        let wanted = desired(&"n3".into(), &view(), &[RegionName::new("B-1")]);
        let names: Vec<_> = wanted.keys().map(String::as_str).collect();
        assert_eq!(names, ["keep", "n2", "n_1", "region_b_1"]);
        assert_eq!(wanted["n2"], Some(Lsn(7)));
    }

    #[test]
    fn without_slots_only_regions_have_theirs() {
        let mut view = view();
        view.take_sample(
            "config",
            r#"{"postgresql":{"use_slots":"off"},"slots":{"keep":0}}"#,
            2,
            0,
        );
        let wanted = desired(&"n3".into(), &view, &[RegionName::new("B-1")]);
        assert_eq!(wanted.into_keys().collect::<Vec<_>>(), ["region_b_1"]);
    }

    #[test]
    fn the_slot_of_a_member_that_went_away_stays_as_long_as_the_leader_retains_it() {
        let mut view = view();
        let report = r#"{"optime":9,"slots":{"gone":5},"retain_slots":["gone","n2","n3"]}"#;
        view.take_sample("status", report, 2, 0);
        let ours = BTreeSet::from(["gone".to_string()]);
        let steps = |view: &GroupView, leads| {
            let wanted = desired(&"n3".into(), view, &[]);
            diff(&wanted, &[slot("gone", 3, false)], &ours, leads, false)
        };
        assert!(steps(&view, false).contains(&SlotStep::Advance("gone".into(), Lsn(5))));
        assert!(!steps(&view, true).contains(&SlotStep::Drop("gone".into())));
        let own = desired(&"n3".into(), &view, &[]);
        assert!(!own.contains_key("n3") && own.contains_key("n2"));
        // A member that never leads keeps no slots for absent members.
        let mut aside = view.clone();
        aside.take_sample("members/n3", r#"{"tags":{"nofailover":true}}"#, 2, 1);
        assert!(!desired(&"n3".into(), &aside, &[]).contains_key("gone"));
        // Its time is over: on the leader as everywhere.
        view.take_sample(
            "status",
            r#"{"optime":9,"slots":{"n2":7},"retain_slots":["n2","n3"]}"#,
            3,
            0,
        );
        for leads in [false, true] {
            assert!(steps(&view, leads).contains(&SlotStep::Drop("gone".into())), "{leads}");
        }
    }

    #[test]
    fn foreign_and_active_slots_are_left_alone() {
        let wanted = desired(&"n3".into(), &view(), &[]);
        let ours = BTreeSet::from(["old".to_string(), "busy".to_string()]);
        let actual = [
            slot("n2", 3, false),
            slot("old", 1, false),
            slot("busy", 1, true),
            slot("foreign", 1, false),
        ];
        let steps = diff(&wanted, &actual, &ours, false, false);
        assert!(steps.contains(&SlotStep::Drop("old".into())));
        assert!(steps.contains(&SlotStep::Advance("n2".into(), Lsn(7))));
        assert!(steps.contains(&SlotStep::Create("n_1".into())));
        let touches = |name: &str| steps.iter().any(|s| format!("{s:?}").contains(name));
        assert!(!touches("foreign") && !touches("busy"));
        let leading = diff(&wanted, &actual, &ours, true, false);
        assert!(!leading.iter().any(|s| matches!(s, SlotStep::Advance(..))));
        let paused = diff(&wanted, &actual, &ours, false, true);
        assert!(!paused.contains(&SlotStep::Drop("old".into())), "an operator is in charge");
        assert!(paused.contains(&SlotStep::Create("n_1".into())));
    }
}
