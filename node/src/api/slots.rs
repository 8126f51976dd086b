//! `GET /slots`: the replication slots of this member's server, who holds each, and how much WAL it
//! keeps. Pure.
//!
//! As of the last beat: a question about slots costs the server nothing. Temporary slots end with
//! their sessions and are left out.

use crate::postgres::monitor::{Monitor, Slot};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use standby::slots::danger::{Kept, danger};
use std::collections::BTreeMap;
use topology::id::slot_name;
use topology::{Dynamic, GroupView};

/// One slot, as it is shown.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SlotReport {
    pub name: String,
    /// `physical` or `logical`.
    pub kind: String,
    pub active: bool,
    /// The member, cluster or region that reads it, or `permanent`; `None`: not known.
    pub holder: Option<String>,
    pub database: Option<String>,
    pub plugin: Option<String>,
    /// Bytes of WAL that it keeps: from its `restart_lsn`, which in a logical slot lies before
    /// what its reader has confirmed, to the end of the log; `None`: it reserves none.
    pub distance_bytes: Option<u64>,
    /// PostgreSQL's word: `reserved`, `extended`, `unreserved` or `lost`.
    pub wal_status: Option<String>,
    /// Bytes that can be written before the slot may be lost; `None`: without a limit.
    pub safe_bytes: Option<i64>,
    /// From this transaction on it keeps dead rows.
    pub xmin: Option<String>,
    /// The same for catalogues.
    pub catalog_xmin: Option<String>,
    /// Of a permanent logical slot: whether a reader can go on here, in a word.
    pub ready: Option<String>,
}

impl SlotReport {
    /// `None`: it keeps no WAL.
    pub fn kept(&self) -> Option<Kept> {
        let (bytes, safe_bytes) = (self.distance_bytes?, self.safe_bytes);
        Some(Kept { bytes, safe_bytes, disk_bytes: None })
    }
}

/// What the cluster knows of its slots.
pub struct Known<'a> {
    pub view: Option<&'a GroupView>,
    pub dynamic: &'a Dynamic,
    /// Readiness of permanent logical slots, by name.
    pub ready: &'a BTreeMap<String, String>,
}

/// All slots of a server.
pub fn reports(monitor: &Monitor, known: &Known) -> Vec<SlotReport> {
    let slots = monitor.slots.iter().filter(|slot| !slot.temporary);
    slots.map(|slot| report(slot, monitor, known)).collect()
}

fn report(slot: &Slot, monitor: &Monitor, known: &Known) -> SlotReport {
    let end = monitor.written.or(monitor.status.position());
    let distance = slot.restart_lsn.zip(end).map(|(at, end)| at.behind(end));
    SlotReport {
        name: slot.name.clone(),
        kind: slot.slot_type.clone(),
        active: slot.active,
        holder: holder(slot, known),
        database: slot.database.clone(),
        plugin: slot.plugin.clone(),
        distance_bytes: distance,
        wal_status: slot.wal_status.clone(),
        safe_bytes: slot.safe_wal_size,
        xmin: slot.xmin.clone(),
        catalog_xmin: slot.catalog_xmin.clone(),
        ready: known.ready.get(&slot.name).cloned(),
    }
}

fn holder(slot: &Slot, known: &Known) -> Option<String> {
    let name = slot.name.as_str();
    let mut members = known.view.iter().flat_map(|view| view.members.keys());
    let member = members.find(|member| slot_name(member.as_str()) == name);
    let cluster = known.dynamic.standby_clusters.iter().find(|link| link.slot == name);
    let region = name.strip_prefix("region_").map(|region| format!("region {region}"));
    member
        .map(|member| member.to_string())
        .or(cluster.map(|link| format!("cluster {}", link.name)))
        .or(region)
        .or(known.dynamic.slots.contains_key(name).then(|| "permanent".to_string()))
}

pub(super) fn body(name: &str, role: &str, slots: &[SlotReport]) -> Value {
    json!({ "member": name, "role": role, "slots": slots })
}

/// Why WAL that this slot keeps is a danger now, and what helps. `disk_bytes`: left where
/// the log lies.
pub fn warning(slot: &SlotReport, disk_bytes: Option<u64>) -> Option<String> {
    let (_, threat) = danger(Kept { disk_bytes, ..slot.kept()? })?;
    let holder = slot.holder.as_deref().unwrap_or("not known");
    let state = if slot.active { "active" } else { "not active" };
    let distance = slot.distance_bytes?;
    Some(format!(
        "the slot {} (holder: {holder}, {state}) keeps {distance} bytes of WAL: {threat}; bring its \
         reader back, or drop the slot if nothing needs it",
        slot.name
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::made_up::TakeSample;

    fn slot(distance: u64, safe: Option<i64>) -> SlotReport {
        SlotReport {
            name: "n2".into(),
            kind: "physical".into(),
            holder: Some("n-2".into()),
            distance_bytes: Some(distance),
            safe_bytes: safe,
            ..SlotReport::default()
        }
    }

    #[test]
    fn a_warning_names_the_slot_its_holder_and_what_helps() {
        assert_eq!(warning(&slot(100 << 20, Some(100 << 20)), None), None);
        let why = warning(&slot(90 << 20, Some(10 << 20)), None).unwrap();
        let text = "the slot n2 (holder: n-2, not active) keeps 94371840 bytes of WAL: it is lost \
                    after 10485760 more bytes by max_slot_wal_keep_size, and its reader then needs \
                    a new copy; bring its reader back, or drop the slot if nothing needs it";
        assert_eq!(why, text);
        let why = warning(&slot(1 << 30, None), Some(1 << 30)).unwrap();
        assert!(why.contains("the disk of the log has 1073741824 bytes left"), "{why}");
        let none = SlotReport { distance_bytes: None, ..slot(0, Some(0)) };
        assert_eq!(warning(&none, Some(0)), None, "it keeps nothing");
    }

    #[test]
    fn the_holder_of_a_slot_is_known_by_its_name() {
        let mut view = GroupView::default();
        view.take_sample("members/n-2", "{}", 1, 7);
        let document = json!({"slots": {"readers": {"type": "physical"}},
            "standby_clusters": [{"name": "dr", "slot": "dr_slot"}]});
        let dynamic = Dynamic::read(&document).unwrap();
        let ready = BTreeMap::new();
        let known = Known { view: Some(&view), dynamic: &dynamic, ready: &ready };
        let of = |name: &str| {
            let text = json!({"slot_name": name, "slot_type": "physical", "active": true,
                "temporary": false, "restart_lsn": "0/10", "confirmed_flush_lsn": null,
                "xmin": null, "catalog_xmin": null, "database": null, "plugin": null,
                "wal_status": "reserved"});
            holder(&serde_json::from_value(text).unwrap(), &known)
        };
        assert_eq!(of("n_2").as_deref(), Some("n-2"));
        assert_eq!(of("dr_slot").as_deref(), Some("cluster dr"));
        assert_eq!(of("region_b").as_deref(), Some("region b"));
        assert_eq!(of("readers").as_deref(), Some("permanent"));
        assert_eq!(of("stranger"), None);
    }
}
