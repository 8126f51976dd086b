//! Changing the document of `/config`: pure, from one value to another.

use anyhow::{Context, Result, bail};
use serde_json::{Map, Value};
use topology::document;

/// Below this path everything is one name: parameters may have dots.
const PARAMETERS: &str = "postgresql.parameters.";

/// What to do with the document, in this order.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Edits {
    pub replace: Option<Value>,
    pub apply: Option<Value>,
    /// `path=value` each.
    pub pairs: Vec<String>,
}

impl Edits {
    pub(crate) fn is_empty(&self) -> bool {
        self.replace.is_none() && self.apply.is_none() && self.pairs.is_empty()
    }

    pub(crate) fn over(&self, current: &Value) -> Result<Value> {
        let mut config = self.replace.clone().unwrap_or_else(|| current.clone());
        if let Some(patch) = &self.apply {
            document::patch(&mut config, patch);
        }
        for pair in &self.pairs {
            set(&mut config, pair)?;
        }
        Ok(config)
    }
}

/// The keys that differ from `current` in `wanted`, as a change that names them; what
/// was taken away is null.
pub(crate) fn changed(current: &Value, wanted: &Value) -> Map<String, Value> {
    let empty = Map::new();
    let of = |value: &'_ Value| value.as_object().cloned().unwrap_or_else(|| empty.clone());
    let (current, wanted) = (of(current), of(wanted));
    let mut changed = Map::new();
    for (key, value) in &wanted {
        match current.get(key) {
            Some(before) if before == value => {}
            Some(before) if before.is_object() && value.is_object() => {
                changed.insert(key.clone(), Value::Object(self::changed(before, value)));
            }
            _ => {
                changed.insert(key.clone(), value.clone());
            }
        }
    }
    let gone = current.keys().filter(|key| !wanted.contains_key(*key));
    changed.extend(gone.map(|key| (key.clone(), Value::Null)));
    changed
}

fn set(config: &mut Value, pair: &str) -> Result<()> {
    let Some((path, text)) = pair.split_once('=') else {
        bail!("Invalid parameter setting {pair}");
    };
    let value = yaml(text).with_context(|| format!("Invalid parameter setting {pair}"))?;
    put(config, &steps(path.trim()), value);
    Ok(())
}

fn steps(path: &str) -> Vec<&str> {
    match path.strip_prefix(PARAMETERS) {
        Some(parameter) => vec!["postgresql", "parameters", parameter],
        None => path.split('.').collect(),
    }
}

/// Null removes the key, and the maps that this empties.
fn put(config: &mut Value, steps: &[&str], value: Value) {
    let Some((first, rest)) = steps.split_first() else {
        return;
    };
    if !config.is_object() {
        if value.is_null() {
            return;
        }
        *config = Value::Object(Map::new());
    }
    let Some(map) = config.as_object_mut() else {
        return;
    };
    if !rest.is_empty() {
        if value.is_null() && !map.contains_key(*first) {
            return;
        }
        let inner = map.entry(*first).or_insert(Value::Null);
        let was_removal = value.is_null();
        put(inner, rest, value);
        if was_removal && inner.as_object().is_some_and(Map::is_empty) {
            map.shift_remove(*first);
        }
    } else if value.is_null() {
        map.shift_remove(*first);
    } else {
        map.insert(first.to_string(), value);
    }
}

/// A whole document; only a map is a configuration.
pub(crate) fn document(text: &str, source: &str) -> Result<Value> {
    let value = yaml(text).with_context(|| format!("{source} is no valid YAML"))?;
    if !value.is_object() {
        bail!("{source} must be a map with settings");
    }
    Ok(value)
}

/// Read as the daemon reads its files: an unquoted `on` is true.
fn yaml(text: &str) -> Result<Value> {
    Ok(node::config::parse_yaml(text)?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn after(current: Value, pairs: &[&str]) -> Value {
        let pairs = pairs.iter().map(|p| p.to_string()).collect();
        Edits { pairs, ..Edits::default() }.over(&current).unwrap()
    }

    #[test]
    fn pairs_set_replace_and_remove() {
        let current = json!({"ttl": 30, "postgresql": {"parameters": {"a.b": 1}}});
        let set =
            after(current.clone(), &["postgresql.parameters.c.d=5MB", "x.y=[1, z]", "ttl=20"]);
        let parameters = json!({"a.b": 1, "c.d": "5MB"});
        assert_eq!(
            set,
            json!({"ttl": 20, "postgresql": {"parameters": parameters}, "x": {"y": [1, "z"]}})
        );
        let gone = after(current.clone(), &["postgresql.parameters.a.b=null", "no.such=null"]);
        assert_eq!(gone, json!({"ttl": 30}));
        assert_eq!(after(current, &["ttl.x=1"])["ttl"], json!({"x": 1}));
    }

    #[test]
    fn only_what_differs_is_changed() {
        let current = json!({"ttl": 30, "a": 1, "postgresql": {"x": 1, "parameters": {"b": 1}}});
        let wanted = json!({"ttl": 30, "postgresql": {"x": 1, "parameters": {"b": 2}}, "c": {}});
        let found = Value::Object(changed(&current, &wanted));
        assert_eq!(found, json!({"postgresql": {"parameters": {"b": 2}}, "c": {}, "a": null}));
    }

    #[test]
    fn words_of_a_command_line_keep_their_meaning() {
        let set = after(json!({}), &["a=on", "b='on'", "c=1.5", "d=", "e=a=b", "f= NO "]);
        assert_eq!(set, json!({"a": true, "b": "on", "c": 1.5, "e": "a=b", "f": false}));
    }

    #[test]
    fn a_pair_without_a_value_is_named() {
        let edits = Edits { pairs: vec!["loop_wait".into()], ..Edits::default() };
        let error = edits.over(&json!({})).unwrap_err();
        assert_eq!(error.to_string(), "Invalid parameter setting loop_wait");
    }

    #[test]
    fn replace_comes_before_apply_and_apply_before_pairs() {
        let edits = Edits {
            replace: Some(json!({"a": 1, "b": 2, "c": 3})),
            apply: Some(json!({"b": null, "c": 4})),
            pairs: vec!["c=5".into()],
        };
        assert_eq!(edits.over(&json!({"old": true})).unwrap(), json!({"a": 1, "c": 5}));
    }

    #[test]
    fn documents_are_maps_with_merged_anchors() {
        let text = "a: &x {k: 1}\nb:\n  <<: *x\n  l: 2\n5: y\n";
        let read = document(text, "f").unwrap();
        assert_eq!(read, json!({"a": {"k": 1}, "b": {"l": 2, "k": 1}, "5": "y"}));
        assert!(document("[1]", "f").unwrap_err().to_string().contains("map"));
        assert!(document("a: [", "f").is_err());
    }
}
