//! `slots` of the cluster-wide configuration: what each specification means.
//!
//! Invariant: a specification that makes no sense makes no slot, but keeps a slot of
//! its name from being dropped; what is wrong with it is said.

use super::Kind;
use serde_json::{Map, Value};
use std::collections::BTreeSet;
use topology::id::NAME_BYTES_MAX;
use topology::tags::parse_bool;

/// In which clusters a physical slot is kept (`cluster_type`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClusterKind {
    Primary,
    Standby,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Specification {
    pub name: String,
    pub kind: Kind,
    pub cluster: Option<ClusterKind>,
}

/// All specifications, read.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Permanent {
    pub specifications: Vec<Specification>,
    /// Names whose specification makes no sense.
    pub unclear: BTreeSet<String>,
    /// What is wrong with them.
    pub findings: Vec<String>,
}

impl Permanent {
    pub fn is_physical(&self, name: &str) -> bool {
        self.specifications.iter().any(|s| s.name == name && s.kind == Kind::Physical)
    }

    pub fn names(&self, name: &str) -> bool {
        self.specifications.iter().any(|s| s.name == name)
    }
}

pub fn permanent(slots: &Map<String, Value>) -> Permanent {
    let mut read = Permanent::default();
    for (name, value) in slots {
        match specification(name, value) {
            Ok(specification) => read.specifications.push(specification),
            Err(why) => {
                read.unclear.insert(name.clone());
                read.findings.push(format!("`slots.{name}` of /config makes no slot: {why}"));
            }
        }
    }
    read
}

/// What one entry of `slots` defines, or why it defines nothing.
pub fn specification(name: &str, value: &Value) -> Result<Specification, String> {
    if !is_slot_name(name) {
        return Err(format!("a name is at most {NAME_BYTES_MAX} of a-z, 0-9 and _"));
    }
    let empty = Map::new();
    let map = match value {
        Value::Object(map) => map,
        other if is_nothing(other) => &empty,
        other => return Err(format!("it is `{other}`, and must be a map or null")),
    };
    let kind = kind(map)?;
    let cluster = match word(map, "cluster_type").as_deref() {
        Some("primary") => Some(ClusterKind::Primary),
        Some("standby") => Some(ClusterKind::Standby),
        Some(other) => {
            return Err(format!("cluster_type is `{other}`, and must be primary or standby"));
        }
        None => None,
    };
    Ok(Specification { name: name.to_string(), kind, cluster })
}

fn kind(map: &Map<String, Value>) -> Result<Kind, String> {
    let (database, plugin) = (text(map, "database"), text(map, "plugin"));
    match (word(map, "type").as_deref(), database, plugin) {
        (Some("physical"), _, _) | (None, None, None) => Ok(Kind::Physical),
        (Some("logical") | None, Some(database), Some(plugin)) => {
            Ok(Kind::Logical { database, plugin })
        }
        (Some("logical") | None, _, _) => {
            Err("a logical slot needs database and plugin".to_string())
        }
        (Some(other), _, _) => Err(format!("type is `{other}`, and must be physical or logical")),
    }
}

/// A value that is given; one that is no text is shown as it is.
fn text(map: &Map<String, Value>, key: &str) -> Option<String> {
    let value = map.get(key).filter(|value| !is_nothing(value))?;
    Some(value.as_str().map_or_else(|| value.to_string(), str::to_string))
}

fn word(map: &Map<String, Value>, key: &str) -> Option<String> {
    text(map, key).map(|text| text.trim().to_ascii_lowercase())
}

/// What stands for "no more is said": null, 0, what is empty, a word for no.
fn is_nothing(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::String(text) if text.trim().is_empty() => true,
        Value::Array(items) => items.is_empty(),
        Value::Object(map) => map.is_empty(),
        Value::Number(number) => number.as_f64() == Some(0.0),
        other => parse_bool(other) == Some(false),
    }
}

/// PostgreSQL takes no other name.
fn is_slot_name(name: &str) -> bool {
    let is_known = |byte: u8| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'_');
    (1..=NAME_BYTES_MAX).contains(&name.len()) && name.bytes().all(is_known)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn read(value: Value) -> Permanent {
        permanent(json!({"a": value}).as_object().unwrap())
    }

    #[test]
    fn what_is_empty_is_a_physical_slot() {
        for nothing in [json!(null), json!(0), json!(false), json!(""), json!([]), json!({})] {
            let read = read(nothing.clone());
            assert!(read.is_physical("a") && read.findings.is_empty(), "{nothing}");
        }
        assert!(read(json!({"type": "physical", "database": "d"})).is_physical("a"));
        let kept = read(json!({"cluster_type": "standby"}));
        assert_eq!(kept.specifications[0].cluster, Some(ClusterKind::Standby));
    }

    #[test]
    fn database_and_plugin_are_a_logical_slot() {
        let kind = Kind::Logical { database: "d".into(), plugin: "p".into() };
        for value in [
            json!({"database": "d", "plugin": "p"}),
            json!({"type": "Logical", "database": "d", "plugin": "p"}),
        ] {
            assert_eq!(read(value).specifications[0].kind, kind);
        }
    }

    #[test]
    fn a_specification_that_makes_no_sense_is_named_and_makes_no_slot() {
        for (value, told) in [
            (json!({"type": "logical"}), "needs database and plugin"),
            (json!({"database": "d"}), "needs database and plugin"),
            (json!({"type": "bodily"}), "type is `bodily`"),
            (json!({"cluster_type": "both"}), "cluster_type is `both`"),
            (json!(true), "it is `true`"),
            (json!("x"), "must be a map"),
        ] {
            let read = read(value);
            assert!(read.specifications.is_empty() && read.unclear.contains("a"));
            assert!(read.findings[0].contains(told), "{:?}", read.findings);
        }
    }

    #[test]
    fn names_are_taken_as_they_are_or_not_at_all() {
        let slots = json!({"Bad-1": null, "good_1": null});
        let read = permanent(slots.as_object().unwrap());
        assert!(read.names("good_1") && !read.names("bad_1") && !read.names("Bad-1"));
        assert!(read.findings[0].contains("`slots.Bad-1`"), "{:?}", read.findings);
        let long = permanent(json!({"x".repeat(64): null}).as_object().unwrap());
        assert!(long.specifications.is_empty());
    }
}
