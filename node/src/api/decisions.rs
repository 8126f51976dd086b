//! `GET /decisions`, for operators and for everybody else. Pure.
//!
//! What a program of PostgreSQL said when it failed may name paths, hosts and users:
//! callers that may not change anything learn when which rule decided, what in
//! general, and how it ended in one word.

use serde_json::{Value, json};

/// `all`: as the daemon keeps them.
pub fn shown(all: Value, may_change_something: bool) -> Value {
    match all {
        Value::Array(entries) if !may_change_something => entries.iter().map(in_general).collect(),
        all => all,
    }
}

fn in_general(entry: &Value) -> Value {
    let text = |key: &str| entry.get(key).and_then(Value::as_str);
    json!({
        "at": entry.get("at"),
        "rule": entry.get("rule"),
        "why": text("why").map(|why| before(why, ": ")),
        "outcome": text("outcome").map(|outcome| before(outcome, "(")),
    })
}

fn before<'a>(text: &'a str, mark: &str) -> &'a str {
    text.split_once(mark).map_or(text, |(start, _)| start)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn s7_what_tools_said_is_for_operators() {
        let all = json!([{"at": 7, "rule": 660, "why": "the data is damaged: pg_controldata: x",
            "step": "Do(Copy { from: \"10.0.0.1\" })", "outcome": "Failed(\"FATAL: user boss\")"}]);
        assert_eq!(shown(all.clone(), true), all);
        let general = json!([{"at": 7, "rule": 660, "why": "the data is damaged",
            "outcome": "Failed"}]);
        assert_eq!(shown(all, false), general);
    }
}
