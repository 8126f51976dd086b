//! Tags of a member: what an operator said about it.
//!
//! The map is kept as it was written (other programs read it); the effective
//! values are derived here and nowhere else. Booleans and numbers may be
//! strings, as YAML made by other programs has them.

use serde_json::{Map, Value};

#[derive(Clone, Debug, Default, PartialEq)]
pub struct Tags(pub Map<String, Value>);

const BOOLEANS: [&str; 5] = ["clonefrom", "nofailover", "noloadbalance", "nosync", "nostream"];

impl Tags {
    pub fn nofailover(&self) -> bool {
        self.limited_by("nofailover", "failover_priority")
    }

    pub fn nosync(&self) -> bool {
        self.limited_by("nosync", "sync_priority")
    }

    /// 0 when the member may not lead; ties of equal LSN go to the higher one.
    pub fn failover_priority(&self) -> i64 {
        self.priority(self.nofailover(), "failover_priority")
    }

    /// 0: never synchronous; the higher one is taken first.
    pub fn sync_priority(&self) -> i64 {
        self.priority(self.nosync(), "sync_priority")
    }

    pub fn clonefrom(&self) -> bool {
        self.flag("clonefrom")
    }

    pub fn noloadbalance(&self) -> bool {
        self.flag("noloadbalance")
    }

    pub fn nostream(&self) -> bool {
        self.flag("nostream")
    }

    pub fn replicatefrom(&self) -> Option<&str> {
        self.0.get("replicatefrom").and_then(Value::as_str).filter(|name| !name.is_empty())
    }

    /// The tags of a member record: what is left out is not known to its readers.
    pub fn shown(&self) -> Tags {
        Tags(self.published())
    }

    /// What the member key and the REST API show: false defaults are left out.
    pub fn published(&self) -> Map<String, Value> {
        self.0.iter().filter(|(key, value)| self.is_shown(key, value)).map(clone_pair).collect()
    }

    fn is_shown(&self, key: &str, value: &Value) -> bool {
        let explained = (key == "nofailover" && self.0.contains_key("failover_priority"))
            || (key == "nosync" && self.0.contains_key("sync_priority"));
        explained || !BOOLEANS.contains(&key) || parse_bool(value) == Some(true)
    }

    fn limited_by(&self, flag: &str, priority: &str) -> bool {
        match self.0.get(flag) {
            Some(value) => parse_bool(value) == Some(true),
            None => self.number(priority).is_some_and(|n| n <= 0),
        }
    }

    /// The flag counts more than the number: `false` beside a priority of 0 leaves
    /// the priority that every member has.
    fn priority(&self, is_excluded: bool, key: &str) -> i64 {
        let given = self.number(key).filter(|priority| *priority > 0);
        if is_excluded { 0 } else { given.unwrap_or(1) }
    }

    fn flag(&self, key: &str) -> bool {
        self.0.get(key).and_then(parse_bool) == Some(true)
    }

    fn number(&self, key: &str) -> Option<i64> {
        match self.0.get(key)? {
            Value::Number(n) => n.as_i64(),
            Value::String(s) => s.trim().parse().ok(),
            _ => None,
        }
    }
}

fn clone_pair((key, value): (&String, &Value)) -> (String, Value) {
    (key.clone(), value.clone())
}

/// Reads a boolean as PostgreSQL and Patroni users write it.
pub fn parse_bool(value: &Value) -> Option<bool> {
    match value {
        Value::Bool(b) => Some(*b),
        Value::Number(n) => bool_of(&n.to_string()),
        Value::String(s) => bool_of(s),
        _ => None,
    }
}

/// A word for true or false, in any case.
pub fn bool_of(word: &str) -> Option<bool> {
    match word.to_ascii_lowercase().as_str() {
        "on" | "true" | "yes" | "1" => Some(true),
        "off" | "false" | "no" | "0" => Some(false),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn tags(value: Value) -> Tags {
        Tags(value.as_object().unwrap().clone())
    }

    #[test]
    fn strings_count_as_booleans_and_numbers() {
        assert!(tags(json!({"nofailover": "true"})).nofailover());
        assert!(tags(json!({"failover_priority": "0"})).nofailover());
        assert_eq!(tags(json!({"failover_priority": "3"})).failover_priority(), 3);
        assert_eq!(
            tags(json!({"nofailover": true, "failover_priority": 3})).failover_priority(),
            0
        );
        assert!(!tags(json!({"nofailover": false, "failover_priority": 0})).nofailover());
        assert_eq!(tags(json!({"sync_priority": "2"})).sync_priority(), 2);
        assert_eq!(tags(json!({"sync_priority": 2, "nosync": true})).sync_priority(), 0);
        assert_eq!(Tags::default().sync_priority(), 1);
    }

    #[test]
    fn b1_the_flag_counts_more_than_a_priority_of_zero() {
        for (flag, priority) in [("nosync", "sync_priority"), ("nofailover", "failover_priority")] {
            let of = |text: Value| {
                let tags = tags(text);
                match flag {
                    "nosync" => (tags.nosync(), tags.sync_priority()),
                    _ => (tags.nofailover(), tags.failover_priority()),
                }
            };
            assert_eq!(of(json!({flag: false, priority: 0})), (false, 1));
            assert_eq!(of(json!({flag: false, priority: -2})), (false, 1));
            assert_eq!(of(json!({flag: "false", priority: "0"})), (false, 1));
            assert_eq!(of(json!({flag: false, priority: 2})), (false, 2));
            assert_eq!(of(json!({flag: true, priority: 2})), (true, 0));
            assert_eq!(of(json!({priority: 0})), (true, 0));
            assert_eq!(of(json!({priority: -1})), (true, 0));
        }
    }

    #[test]
    fn false_defaults_are_not_published_but_the_rest_keeps_order_and_type() {
        let all = tags(json!({"nofailover": false, "noloadbalance": false, "clonefrom": true,
            "nosync": false, "sync_priority": 2, "foo": "bar"}));
        let shown = Value::Object(all.published());
        let text = r#"{"clonefrom":true,"nosync":false,"sync_priority":2,"foo":"bar"}"#;
        assert_eq!(shown.to_string(), text);
    }
}
