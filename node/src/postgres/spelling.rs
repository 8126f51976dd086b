//! How values are written in PostgreSQL's configuration.

use serde_json::Value;
use topology::tags::bool_of;

/// A value as PostgreSQL reads it; lists are joined, `null` and maps are none.
pub(super) fn scalar(value: &Value) -> Option<String> {
    match value {
        Value::Bool(on) => Some(on_or_off(*on).into()),
        Value::Number(number) => Some(number.to_string()),
        Value::String(text) => Some(text.clone()),
        Value::Array(items) => {
            let words: Option<Vec<String>> = items.iter().map(scalar).collect();
            words.map(|words| words.join(", "))
        }
        Value::Null | Value::Object(_) => None,
    }
}

fn on_or_off(on: bool) -> &'static str {
    if on { "on" } else { "off" }
}

/// The spellings of a boolean that a configuration may have.
pub(super) fn boolean(text: &str) -> Option<&'static str> {
    bool_of(text.trim()).map(on_or_off)
}

pub(super) fn quoted(value: &str) -> String {
    value.replace('\\', "\\\\").replace('\'', "''").replace('\n', "\\n")
}
