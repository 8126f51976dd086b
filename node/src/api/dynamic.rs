//! Changing `/config`: what a new document must satisfy. Pure.
//!
//! Only the keys that a request touches are judged: a broken value that stands
//! there already must not keep an operator from pausing the cluster. Values
//! that are merely small are adjusted where they are used, never refused.

use serde_json::{Map, Value};
use topology::Dynamic;
use topology::number::{Base, counted, whole};
use topology::tags::parse_bool;

/// All keys that mean something; others are kept and reported.
const KNOWN: [&str; 25] = [
    "ttl",
    "loop_wait",
    "retry_timeout",
    "primary_race_backoff",
    "maximum_lag_on_failover",
    "maximum_lag_on_syncnode",
    "max_timelines_history",
    "primary_start_timeout",
    "master_start_timeout",
    "primary_stop_timeout",
    "master_stop_timeout",
    "synchronous_mode",
    "synchronous_mode_strict",
    "synchronous_node_count",
    "failsafe_mode",
    "check_timeline",
    "pause",
    "member_slots_ttl",
    "slots",
    "permanent_slots",
    "permanent_replication_slots",
    "ignore_slots",
    "standby_cluster",
    "postgresql",
    "citus",
];

type Test = fn(&Value) -> bool;

/// What `Dynamic::read` does not judge: key, test, what it must be.
const BOUNDS: [(&str, Test, &str); 10] = [
    ("synchronous_mode", is_sync_mode, "true, false or quorum"),
    ("synchronous_mode_strict", is_flag, "true or false"),
    ("failsafe_mode", is_flag, "true or false"),
    ("synchronous_node_count", |v| whole(v).is_some_and(|n| n >= 1), "a whole number, 1 or more"),
    ("maximum_lag_on_syncnode", |v| counted(v, Base::Bytes).is_some(), "a whole number"),
    ("primary_race_backoff", |v| seconds(v).is_some_and(|n| n >= 0), "a whole number, 0 or more"),
    ("primary_stop_timeout", |v| seconds(v).is_some_and(|n| n >= 0), "a whole number, 0 or more"),
    ("master_stop_timeout", |v| seconds(v).is_some_and(|n| n >= 0), "a whole number, 0 or more"),
    ("ignore_slots", Value::is_array, "a list"),
    ("postgresql", Value::is_object, "a map"),
];

const SLOT_KEYS: [&str; 3] = ["slots", "permanent_slots", "permanent_replication_slots"];
const SLOT_NAME_CHARS_MAX: usize = 63;

fn is_flag(value: &Value) -> bool {
    parse_bool(value).is_some()
}

fn is_sync_mode(value: &Value) -> bool {
    is_flag(value) || value.as_str().is_some_and(|text| text.eq_ignore_ascii_case("quorum"))
}

fn seconds(value: &Value) -> Option<i64> {
    counted(value, Base::Seconds)
}

/// The first thing that is wrong with the touched keys of `document`.
pub fn refuse(document: &Value, touched: &Map<String, Value>) -> Result<(), String> {
    let Some(all) = document.as_object() else {
        return Err("/config: the document must be a map".to_string());
    };
    let part: Map<String, Value> = all
        .iter()
        .filter(|(key, value)| touched.contains_key(*key) && !value.is_null())
        .map(|(key, value)| (key.clone(), value.clone()))
        .collect();
    for (key, test, wanted) in &BOUNDS {
        if let Some(value) = part.get(*key).filter(|value| !test(value)) {
            return Err(bad(key, value, wanted));
        }
    }
    refuse_parameters(&part)?;
    refuse_slots(&part)?;
    let read = Dynamic::read(&Value::Object(part)).map_err(|error| error.to_string())?;
    read.ignored.first().map_or(Ok(()), |bad| Err(bad.to_string()))
}

fn refuse_parameters(part: &Map<String, Value>) -> Result<(), String> {
    let parameters = part.get("postgresql").and_then(|section| section.get("parameters"));
    let Some(parameters) = parameters.filter(|value| !value.is_null()) else {
        return Ok(());
    };
    let Some(map) = parameters.as_object() else {
        return Err(bad("postgresql.parameters", parameters, "a map"));
    };
    match map.iter().find(|(_, value)| value.is_object()) {
        Some((name, value)) => {
            Err(bad(&format!("postgresql.parameters.{name}"), value, "a plain value"))
        }
        None => Ok(()),
    }
}

fn refuse_slots(part: &Map<String, Value>) -> Result<(), String> {
    for key in SLOT_KEYS {
        let Some(slots) = part.get(key) else { continue };
        let Some(map) = slots.as_object() else {
            return Err(bad(key, slots, "a map of names and specifications"));
        };
        for (name, specification) in map {
            let path = format!("{key}.{name}");
            if !is_slot_name(name) {
                return Err(bad(&path, specification, "named with a-z, 0-9 and _ only"));
            }
            if is_half_logical(specification) {
                let wanted = "complete: a logical slot needs database and plugin";
                return Err(bad(&path, specification, wanted));
            }
        }
    }
    Ok(())
}

fn is_slot_name(name: &str) -> bool {
    let fits = (1..=SLOT_NAME_CHARS_MAX).contains(&name.len());
    fits && name.bytes().all(|b| matches!(b, b'a'..=b'z' | b'0'..=b'9' | b'_'))
}

fn is_half_logical(specification: &Value) -> bool {
    let has = |key: &str| specification.get(key).is_some_and(|v| !v.is_null());
    let logical = specification.get("type").and_then(Value::as_str) == Some("logical");
    logical && !(has("database") && has("plugin"))
}

fn bad(key: &str, found: &Value, wanted: &str) -> String {
    format!("/config: `{key}` is `{found}`, but must be {wanted}")
}

/// Keys of a request that mean nothing; they are kept.
pub fn unknown_keys(touched: &Map<String, Value>) -> Vec<&str> {
    touched.keys().map(String::as_str).filter(|key| !KNOWN.contains(key)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn judge(document: Value) -> Result<(), String> {
        let touched = document.as_object().unwrap().clone();
        refuse(&document, &touched)
    }

    #[test]
    fn impossible_values_are_named_with_their_path() {
        for (document, path) in [
            (json!({"ttl": "abc"}), "`ttl`"),
            (json!({"pause": 7}), "`pause`"),
            (json!({"maximum_lag_on_failover": "much"}), "`maximum_lag_on_failover`"),
            (
                json!({"standby_cluster": {"host": "a,b", "port": "1,2,3"}}),
                "`standby_cluster.port`",
            ),
            (json!({"synchronous_mode": "sometimes"}), "`synchronous_mode`"),
            (json!({"synchronous_node_count": 0}), "`synchronous_node_count`"),
            (json!({"postgresql": []}), "`postgresql`"),
            (json!({"postgresql": {"parameters": 1}}), "`postgresql.parameters`"),
            (json!({"slots": {"bad-name!": {}}}), "`slots.bad-name!`"),
            (json!({"slots": {"a": {"type": "logical"}}}), "`slots.a`"),
            (json!({"ignore_slots": {}}), "`ignore_slots`"),
        ] {
            let why = judge(document).unwrap_err();
            assert!(why.contains(path), "{why}");
        }
    }

    #[test]
    fn small_old_and_unknown_values_are_accepted() {
        for document in [
            json!({"ttl": 5}),
            json!({"postgresql": {"parameters": {"max_connections": "101", "x": null}}}),
            json!({"slots": {"a": 0, "b": null, "c": {}}}),
            json!({"no_such_key": 1}),
            json!({"member_slots_ttl": "30min", "primary_stop_timeout": "1min"}),
            json!({"standby_cluster": {"host": "a,b", "port": "5432,5433"}}),
            json!({"synchronous_mode": "quorum"}),
            json!({"standby_cluster": null, "pause": null}),
        ] {
            assert_eq!(judge(document), Ok(()));
        }
    }

    #[test]
    fn what_is_not_touched_is_not_judged() {
        let document = json!({"ttl": "abc", "pause": true});
        let touched = json!({"pause": true});
        assert_eq!(refuse(&document, touched.as_object().unwrap()), Ok(()));
        let fixed = json!({"ttl": 30, "x": 1});
        assert_eq!(unknown_keys(fixed.as_object().unwrap()), ["x"]);
    }
}
