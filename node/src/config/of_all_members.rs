//! What the cluster-wide configuration says about PostgreSQL: kinds of values, and
//! keys that mean nothing where they stand.
//!
//! One reading for all who ask: `PATCH` and `PUT /config`, `edit-config`,
//! `--validate-config`, and the daemon that finds such a value in the store.
//!
//! Invariant: a finding names its path below the document, and never repeats more
//! than one plain value.

use super::known_keys::{children, nearest};
use super::settings::{self, Setting};
use super::{misplaced, options};
use crate::document::findings::Findings;
use crate::document::kind::{Kind, Wrong, scalar};
use serde_json::{Map, Value};

/// Each member's own: its addresses, places and logins.
pub(crate) const OF_ONE_MEMBER: [&str; 7] = [
    "listen",
    "connect_address",
    "proxy_address",
    "data_dir",
    "config_dir",
    "pgpass",
    "authentication",
];
const SECTION: &str = "postgresql";
const DCS: &str = "bootstrap.dcs";

/// Checks a document of `/config`, or that of `bootstrap.dcs`, which stands at
/// `place` (empty for the former).
pub(crate) fn check(document: &Value, place: &str, findings: &mut Findings) {
    let at = |key: &str| if place.is_empty() { key.into() } else { format!("{place}.{key}") };
    for key in document.as_object().into_iter().flatten().map(|(key, _)| key) {
        let misplaced = misplaced::remedy(DCS, key).filter(|_| !children(DCS).contains(key));
        let remedy = misplaced.map(|remedy| match remedy {
            misplaced::BELOW_POSTGRESQL => format!("write it below {}", at(SECTION)),
            other => other.to_string(),
        });
        if let Some(remedy) = remedy {
            findings.warn(format!("{} has no effect here; {remedy}", at(key)));
        }
    }
    let path = at(SECTION);
    match document.get(SECTION) {
        Some(Value::Object(section)) => check_section(section, &path, findings),
        Some(other) => add(&path, Kind::Map.check(other), findings),
        None => {}
    }
}

fn check_section(section: &Map<String, Value>, place: &str, findings: &mut Findings) {
    let known = children(SECTION);
    for (key, value) in section.iter().filter(|(_, value)| !value.is_null()) {
        let path = format!("{place}.{key}");
        if OF_ONE_MEMBER.contains(&key.as_str()) {
            let remedy = "write it into the file of each member";
            findings.warn(format!("{path} has no effect here; {remedy}"));
        } else if known.contains(key) {
            check_key(key, value, &path, findings);
        } else if let Some(remedy) = misplaced::remedy("bootstrap.dcs.postgresql", key) {
            findings.warn(format!("{path} has no effect here; {remedy}"));
        } else if let Some(near) = nearest(key, &known) {
            findings.warn(format!("{path} is not known; did you mean `{near}`?"));
        } else if !value.is_object() {
            // A map may be a method that a user named.
            let hint = "settings of PostgreSQL itself stand below `parameters`";
            findings.warn(format!("{path} is not known and has no effect; {hint}"));
        }
    }
}

/// Checks one known key of `postgresql`.
pub(crate) fn check_key(key: &str, value: &Value, path: &str, findings: &mut Findings) {
    let own = format!("{SECTION}.{key}");
    let below = format!("{own}.");
    let rows: Vec<(String, &Setting)> = settings::all_paths()
        .filter(|(known, _)| *known == own || known.starts_with(&below))
        .collect();
    let is_section = rows.iter().any(|(known, _)| *known != own);
    if is_section && !value.is_object() {
        return add(path, Kind::Map.check(value), findings);
    }
    for (known, row) in rows {
        let rest = known[own.len()..].trim_start_matches('.');
        let given = if rest.is_empty() { Some(value) } else { value.get(rest) };
        let place = if rest.is_empty() { path.to_string() } else { format!("{path}.{rest}") };
        let Some(given) = given else { continue };
        add(&place, row.kind.check(given).or_else(|| relative(row.kind, given)), findings);
        match row.kind {
            Kind::Map => check_values(given, &place, findings),
            Kind::Options => options::check(given, &place, findings),
            _ => {}
        }
    }
}

/// Members run in directories of their own.
fn relative(kind: Kind, value: &Value) -> Option<Wrong> {
    let text = value.as_str().filter(|_| kind == Kind::Path)?;
    let is_relative = !text.is_empty() && !text.starts_with('/');
    is_relative.then(|| Wrong {
        what: format!("`{text}` is relative"),
        remedy: "write a path from the root on".into(),
    })
}

/// Every setting of PostgreSQL has one value; null takes it away.
fn check_values(map: &Value, path: &str, findings: &mut Findings) {
    for (name, value) in map.as_object().into_iter().flatten() {
        if !value.is_null() && scalar(value).is_none() {
            add(&format!("{path}.{name}"), Kind::Text.check(value), findings);
        }
    }
}

fn add(path: &str, wrong: Option<Wrong>, findings: &mut Findings) {
    if let Some(wrong) = wrong {
        findings.add(path, wrong.what, wrong.remedy);
    }
}

/// The part of a document that a change touches: below `postgresql` only the keys
/// that the change names, elsewhere each named key as a whole. What is taken away
/// is not there.
pub(crate) fn touched_part(document: &Value, touched: &Map<String, Value>) -> Map<String, Value> {
    let named = touched.iter().filter_map(|(key, change)| {
        let value = document.get(key).filter(|value| !value.is_null())?;
        let part = if key == SECTION { narrowed(value, change) } else { value.clone() };
        Some((key.clone(), part))
    });
    named.collect()
}

fn narrowed(value: &Value, change: &Value) -> Value {
    let (Value::Object(map), Value::Object(change)) = (value, change) else {
        return value.clone();
    };
    let both = change.iter().filter_map(|(key, change)| Some((key, map.get(key)?, change)));
    Value::Object(both.map(|(key, value, change)| (key.clone(), narrowed(value, change))).collect())
}
