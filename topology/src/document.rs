//! JSON as Patroni writes it.
//!
//! In the store it is compact; in REST bodies there is a blank after `,` and
//! `:`. Key order is that of insertion in both.

use serde_json::Value;

/// Without blanks, as values of keys are written.
pub fn compact(value: &Value) -> String {
    value.to_string()
}

/// With a blank after `,` and `:`, as REST bodies are written.
pub fn spaced(value: &Value) -> String {
    let mut text = String::new();
    write_spaced(value, &mut text);
    text
}

fn write_spaced(value: &Value, out: &mut String) {
    match value {
        Value::Array(items) => {
            out.push('[');
            for (index, item) in items.iter().enumerate() {
                separate(index, out);
                write_spaced(item, out);
            }
            out.push(']');
        }
        Value::Object(map) => {
            out.push('{');
            for (index, (key, item)) in map.iter().enumerate() {
                separate(index, out);
                out.push_str(&Value::from(key.as_str()).to_string());
                out.push_str(": ");
                write_spaced(item, out);
            }
            out.push('}');
        }
        plain => out.push_str(&plain.to_string()),
    }
}

fn separate(index: usize, out: &mut String) {
    if index > 0 {
        out.push_str(", ");
    }
}

/// Lays `patch` over `base`: null deletes a key, maps merge, the rest replaces.
///
/// A map laid over something that is no map is taken as it is, with its nulls.
/// Says whether anything changed.
pub fn patch(base: &mut Value, patch_with: &Value) -> bool {
    let (Value::Object(base), Value::Object(changes)) = (base, patch_with) else {
        return false;
    };
    let mut changed = false;
    for (key, change) in changes {
        match (base.get_mut(key), change) {
            (Some(_), Value::Null) => changed |= base.shift_remove(key).is_some(),
            (None, Value::Null) => {}
            (Some(old @ Value::Object(_)), Value::Object(_)) => changed |= patch(old, change),
            (Some(old), new) if same_text(old, new) => {}
            (_, new) => {
                base.insert(key.clone(), new.clone());
                changed = true;
            }
        }
    }
    changed
}

/// Equal by what a person would read: `"5"` and `5` are the same setting.
pub fn same_text(a: &Value, b: &Value) -> bool {
    fn text(value: &Value) -> String {
        match value {
            Value::String(s) => s.clone(),
            other => other.to_string(),
        }
    }
    a == b || (!a.is_object() && !b.is_object() && text(a) == text(b))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn blanks_follow_commas_and_colons_only_outside_strings() {
        let value = json!({"a": [1, {"b:,c": null}], "d": "x,y:z"});
        assert_eq!(spaced(&value), r#"{"a": [1, {"b:,c": null}], "d": "x,y:z"}"#);
        assert_eq!(compact(&value), r#"{"a":[1,{"b:,c":null}],"d":"x,y:z"}"#);
    }

    #[test]
    fn null_deletes_maps_merge_and_equal_text_is_no_change() {
        let mut base = json!({"ttl": 30, "postgresql": {"parameters": {"a": "1", "b": 2}}});
        let change = json!({"postgresql": {"parameters": {"a": null, "b": "2"}}, "loop_wait": 5});
        assert!(patch(&mut base, &change));
        assert_eq!(
            base,
            json!({"ttl": 30, "postgresql": {"parameters": {"b": 2}}, "loop_wait": 5})
        );
        assert!(!patch(&mut base, &json!({"ttl": "30", "gone": null})));
    }

    #[test]
    fn a_map_that_was_absent_keeps_its_nulls() {
        let mut base = json!({});
        patch(&mut base, &json!({"slots": {"a": null}}));
        assert_eq!(base, json!({"slots": {"a": null}}));
    }
}
