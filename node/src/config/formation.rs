//! The `topology` section: the formation, its regions and their stores.
//!
//! Every daemon of every region reads the same list of regions; the own
//! region's entry may leave its store out, then the daemon's own store counts.
//!
//! Invariant: no two regions share an endpoint. Two regions on one store would
//! be two votes from one voter.

use super::document::Document;
use super::known_keys::nearest;
use super::store::read_store;
use super::{StoreSettings, TopologySettings};
use crate::dcs::settings::{EXAMPLE, SECTION};
use crate::document::findings::Findings;
use crate::document::kind::{Kind, parse_whole, scalar, shown};
use serde_json::{Map, Value};
use std::collections::BTreeMap;
use topology::RegionName;
use topology::region::{Isolation, Mode, Policy, RegionPolicy};

const ENTRY_KEYS: [&str; 3] = ["name", "priority", SECTION];
const PRIORITY: Kind = Kind::Whole { min: i64::MIN, max: i64::MAX };

pub(super) fn read(
    document: Document,
    own_store: &StoreSettings,
    findings: &mut Findings,
) -> Option<TopologySettings> {
    document.section("topology")?;
    let formation = needed(document, "topology.formation", "write its name", findings);
    let region = needed(document, "topology.region", "write the region's name", findings);
    let region = RegionName::new(region);
    let mut stores = BTreeMap::new();
    let mut regions: Vec<RegionPolicy> = Vec::new();
    for (index, entry) in entries(document, findings).into_iter().enumerate() {
        let place = format!("topology.regions[{index}]");
        let Some(name) = entry_name(entry, &place, findings) else {
            continue;
        };
        let own = (name == region).then_some(own_store);
        let Some(store) = entry_store(entry, own, &place, findings) else {
            continue;
        };
        let priority = entry_priority(entry, &place, findings);
        regions.push(RegionPolicy { name: name.clone(), priority, endpoints: store.hosts.clone() });
        if own.is_none() {
            stores.insert(name, store);
        }
    }
    check_list(&region, &listed(document), findings);
    check_endpoints(&regions, findings);
    let step_seconds = document.count("topology.step_seconds");
    let (mode, isolation) = (Mode::Manual, Isolation::Continue);
    let policy = Policy { formation, regions, mode, isolation, step_seconds };
    Some(TopologySettings { region, policy, stores })
}

fn needed(document: Document, path: &str, remedy: &str, findings: &mut Findings) -> String {
    let text = document.text_or_empty(path);
    if document.at(path).is_none() {
        findings.add(path, "is missing", remedy);
    }
    text
}

fn entries<'a>(document: Document<'a>, findings: &mut Findings) -> Vec<&'a Map<String, Value>> {
    const PATH: &str = "topology.regions";
    let remedy = format!("write `- {{name: REGION, {EXAMPLE}}}` lines");
    let Some(value) = document.at(PATH) else {
        findings.add(PATH, "is missing", remedy);
        return Vec::new();
    };
    let Some(items) = value.as_array() else {
        findings.add(PATH, format!("{} is no list", shown(value)), remedy);
        return Vec::new();
    };
    for (index, item) in items.iter().enumerate().filter(|(_, item)| !item.is_object()) {
        findings.add(&format!("{PATH}[{index}]"), format!("{} is no map", shown(item)), &remedy);
    }
    items.iter().filter_map(Value::as_object).collect()
}

/// Names as they are listed, broken entries included.
fn listed(document: Document) -> Option<Vec<String>> {
    let items = document.at("topology.regions")?.as_array()?;
    Some(items.iter().filter_map(|item| scalar(item.get("name")?)).collect())
}

fn entry_name(
    entry: &Map<String, Value>,
    place: &str,
    findings: &mut Findings,
) -> Option<RegionName> {
    for key in entry.keys().filter(|key| !ENTRY_KEYS.contains(&key.as_str())) {
        let near = nearest(key, &ENTRY_KEYS.map(str::to_string)).map(str::to_string);
        let hint = near.map_or("; it has no effect".into(), |n| format!("; did you mean `{n}`?"));
        findings.warn(format!("{place}.{key} is not known{hint}"));
    }
    let name = entry.get("name").and_then(scalar).filter(|name| !name.is_empty());
    let Some(name) = name else {
        findings.add(&format!("{place}.name"), "is missing", "write the region's name");
        return None;
    };
    if name.contains('/') || name.chars().any(char::is_whitespace) {
        let what = format!("`{name}` is no name");
        findings.add(&format!("{place}.name"), what, "leave out slashes and blanks");
    }
    Some(RegionName::new(name))
}

fn entry_store(
    entry: &Map<String, Value>,
    own: Option<&StoreSettings>,
    place: &str,
    findings: &mut Findings,
) -> Option<StoreSettings> {
    match (entry.get(SECTION).filter(|section| !section.is_null()), own) {
        (Some(section), _) => Some(read_store(section, &format!("{place}.{SECTION}"), findings)),
        (None, Some(own)) => Some(own.clone()),
        (None, None) => {
            let remedy = format!("write `{EXAMPLE}` of that region");
            findings.add(
                &format!("{place}.{SECTION}"),
                "is missing: the region has no store",
                remedy,
            );
            None
        }
    }
}

fn entry_priority(entry: &Map<String, Value>, place: &str, findings: &mut Findings) -> i64 {
    let Some(value) = entry.get("priority").filter(|value| !value.is_null()) else {
        return 0;
    };
    if let Some(wrong) = PRIORITY.check(value) {
        findings.add(&format!("{place}.priority"), wrong.what, wrong.remedy);
    }
    parse_whole(value).unwrap_or(0)
}

fn check_list(own: &RegionName, listed: &Option<Vec<String>>, findings: &mut Findings) {
    const PATH: &str = "topology.regions";
    let Some(names) = listed else { return };
    if names.len() < 2 {
        findings.add(PATH, "has fewer than two regions", "list every region of the formation");
    }
    if !own.as_str().is_empty() && !names.iter().any(|name| name == own.as_str()) {
        let what = format!("does not list `{own}`, the region of this daemon");
        findings.add(PATH, what, "list it, or correct topology.region");
    }
    for (index, name) in names.iter().enumerate().filter(|(i, n)| names[..*i].contains(n)) {
        let what = format!("`{name}` is named twice");
        findings.add(&format!("{PATH}[{index}].name"), what, "give each region its own name");
    }
}

fn check_endpoints(regions: &[RegionPolicy], findings: &mut Findings) {
    for (index, region) in regions.iter().enumerate() {
        for earlier in regions[..index].iter().filter(|r| r.name != region.name) {
            let same = |host: &&String| {
                earlier.endpoints.iter().any(|other| other.eq_ignore_ascii_case(host))
            };
            if let Some(shared) = region.endpoints.iter().find(same) {
                let (a, b) = (&earlier.name, &region.name);
                let what = format!("`{a}` and `{b}` have the same store {shared}");
                findings.add("topology.regions", what, "give each region its own store");
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::document::whole_of;
    use super::*;
    use serde_json::json;

    fn read_section(section: Value) -> (Option<TopologySettings>, Findings) {
        let raw = json!({"topology": section});
        let own = StoreSettings { hosts: vec!["own:1".into()], ..StoreSettings::default() };
        let mut findings = Findings::default();
        let settings = read(whole_of(&raw), &own, &mut findings);
        (settings, findings)
    }

    fn two_regions() -> Value {
        json!({"formation": "shop", "region": "a", "regions": [
            {"name": "a", "priority": "5"},
            {"name": "b", "etcd3": {"hosts": "b1,b2:7", "username": "u"}}]})
    }

    #[test]
    fn the_own_region_uses_the_own_store() {
        let (settings, findings) = read_section(two_regions());
        assert_eq!(findings.to_string(), "");
        let settings = settings.unwrap();
        assert_eq!(settings.policy.regions[0].endpoints, ["own:1"]);
        assert_eq!(settings.policy.regions[1].endpoints, ["b1:2379", "b2:7"]);
        assert_eq!(settings.policy.first_owner(), Some(&RegionName::new("a")));
        assert_eq!(settings.policy.step_seconds, 20);
        assert_eq!(settings.stores.keys().map(RegionName::as_str).collect::<Vec<_>>(), ["b"]);
    }

    #[test]
    fn each_mistake_is_found_by_name() {
        let cases: [(&str, Value, &str); 8] = [
            ("/formation", Value::Null, "topology.formation: is missing"),
            ("/region", json!("c"), "does not list `c`"),
            ("/regions/1/name", json!("a"), "topology.regions[1].name: `a` is named twice"),
            ("/regions/1/etcd3", Value::Null, "topology.regions[1].etcd3: is missing"),
            ("/regions/1/etcd3/hosts", json!("OWN:1"), "`a` and `b` have the same store"),
            ("/regions/0/priority", json!("high"), "topology.regions[0].priority: `high`"),
            ("/regions", json!([{"name": "a"}]), "has fewer than two regions"),
            ("/regions", json!({"a": 1}), "a map is no list"),
        ];
        for (place, value, wanted) in cases {
            let mut section = two_regions();
            *section.pointer_mut(place).unwrap() = value;
            let text = read_section(section).1.to_string();
            assert!(text.contains(wanted), "{place}: {text}");
        }
    }

    #[test]
    fn without_a_section_there_is_no_formation() {
        let (settings, findings) = read_section(Value::Null);
        assert!(settings.is_none() && findings.is_empty());
    }
}
