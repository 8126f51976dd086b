//! The cluster-wide configuration in `/config`, as far as rules need it.
//!
//! The raw document is kept as it is; this is the typed reading of it. Values
//! that break the timing rule are adjusted in memory, never written back.

use crate::tags::parse_bool;
use serde_json::Value;

#[derive(Clone, Debug, PartialEq)]
pub struct Dynamic {
    pub ttl_ms: u64,
    pub loop_wait_ms: u64,
    pub retry_timeout_ms: u64,
    pub maximum_lag_on_failover: u64,
    pub primary_start_timeout_ms: u64,
    pub check_timeline: bool,
    pub pause: bool,
    pub max_timelines_history: usize,
    pub member_slots_ttl_ms: u64,
    /// The upstream of a plain standby cluster (no regions).
    pub standby_cluster: Option<StandbyCluster>,
    /// Permanent slots by name; an empty specification is a physical slot.
    pub slots: serde_json::Map<String, Value>,
    /// The document this was read from.
    pub raw: Value,
}

#[derive(Clone, Debug, PartialEq)]
pub struct StandbyCluster {
    pub host: String,
    pub port: u16,
    pub primary_slot_name: Option<String>,
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("/config: `{key}` is `{found}`, but must be {wanted}; correct it with `edit-config`")]
pub struct BadDynamic {
    pub key: String,
    pub found: String,
    pub wanted: &'static str,
}

impl Default for Dynamic {
    fn default() -> Dynamic {
        Dynamic::read(&Value::Object(Default::default())).expect("an empty document is valid")
    }
}

impl Dynamic {
    pub fn read(raw: &Value) -> Result<Dynamic, BadDynamic> {
        let (loop_wait, retry_timeout, ttl) = timing(
            number(raw, &["loop_wait"], 10)?,
            number(raw, &["retry_timeout"], 10)?,
            number(raw, &["ttl"], 30)?,
        );
        let start_timeout = number(raw, &["primary_start_timeout", "master_start_timeout"], 300)?;
        Ok(Dynamic {
            ttl_ms: ttl * 1000,
            loop_wait_ms: loop_wait * 1000,
            retry_timeout_ms: retry_timeout * 1000,
            maximum_lag_on_failover: number(raw, &["maximum_lag_on_failover"], 1 << 20)?,
            primary_start_timeout_ms: start_timeout * 1000,
            check_timeline: flag(raw, "check_timeline")?,
            pause: flag(raw, "pause")?,
            max_timelines_history: number(raw, &["max_timelines_history"], 0)? as usize,
            member_slots_ttl_ms: number(raw, &["member_slots_ttl"], 1800)? * 1000,
            standby_cluster: standby_cluster(raw)?,
            slots: permanent_slots(raw),
            raw: raw.clone(),
        })
    }

    /// How long before the lock's deadline a silent leader begins to stop.
    pub fn fence_budget_ms(&self) -> u64 {
        (self.ttl_ms / 6).clamp(2_000, 5_000)
    }
}

/// The rule `loop_wait + 2 * retry_timeout <= ttl` and the minimums.
fn timing(loop_wait: u64, retry_timeout: u64, ttl: u64) -> (u64, u64, u64) {
    let (loop_wait, retry_timeout, ttl) = (loop_wait.max(1), retry_timeout.max(3), ttl.max(20));
    if 1 + 2 * retry_timeout > ttl {
        return (1, (ttl - 1) / 2, ttl);
    }
    (loop_wait.min(ttl - 2 * retry_timeout), retry_timeout, ttl)
}

fn number(raw: &Value, keys: &[&str], default: u64) -> Result<u64, BadDynamic> {
    let Some((key, value)) = keys.iter().find_map(|key| Some((*key, raw.get(*key)?))) else {
        return Ok(default);
    };
    let read = match value {
        Value::Null => Some(default),
        Value::Number(n) => {
            n.as_u64().or_else(|| n.as_f64().filter(|f| *f >= 0.0).map(|f| f as u64))
        }
        Value::String(s) => s.trim().parse().ok(),
        _ => None,
    };
    read.ok_or_else(|| bad(key, value, "a whole number, 0 or more"))
}

fn flag(raw: &Value, key: &str) -> Result<bool, BadDynamic> {
    match raw.get(key) {
        None | Some(Value::Null) => Ok(false),
        Some(value) => parse_bool(value).ok_or_else(|| bad(key, value, "true or false")),
    }
}

fn standby_cluster(raw: &Value) -> Result<Option<StandbyCluster>, BadDynamic> {
    let Some(section) = raw.get("standby_cluster").filter(|v| !v.is_null()) else {
        return Ok(None);
    };
    if !section.is_object() {
        return Err(bad("standby_cluster", section, "a map with host and port"));
    }
    let text = |key: &str| section.get(key).map(plain).filter(|s| !s.is_empty());
    let Some(host) = text("host") else {
        return Ok(None);
    };
    let port = text("port").unwrap_or_else(|| "5432".into());
    let port = port.parse().map_err(|_| bad("standby_cluster.port", section, "a port"))?;
    Ok(Some(StandbyCluster { host, port, primary_slot_name: text("primary_slot_name") }))
}

fn permanent_slots(raw: &Value) -> serde_json::Map<String, Value> {
    ["permanent_replication_slots", "permanent_slots", "slots"]
        .iter()
        .filter_map(|key| raw.get(*key)?.as_object())
        .find(|map| !map.is_empty())
        .cloned()
        .unwrap_or_default()
}

fn plain(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_string)
}

fn bad(key: &str, found: &Value, wanted: &'static str) -> BadDynamic {
    BadDynamic { key: key.to_string(), found: found.to_string(), wanted }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::json;

    #[test]
    fn the_sum_rule_adjusts_in_memory() {
        let read = Dynamic::read(&json!({"ttl": 20, "loop_wait": 2, "retry_timeout": 10})).unwrap();
        assert_eq!((read.loop_wait_ms, read.retry_timeout_ms, read.ttl_ms), (1000, 9000, 20000));
    }

    #[test]
    fn an_impossible_value_is_named() {
        let error = Dynamic::read(&json!({"ttl": "soon"})).unwrap_err();
        assert!(error.to_string().contains("`ttl`"));
        assert!(Dynamic::read(&json!({"pause": "maybe"})).is_err());
        assert!(Dynamic::read(&json!({"standby_cluster": 5})).is_err());
    }

    proptest! {
        #[test]
        fn the_sum_rule_always_holds(l in 0u64..500, r in 0u64..500, t in 0u64..500) {
            let (l, r, t) = timing(l, r, t);
            prop_assert!(l + 2 * r <= t && l >= 1 && r >= 3 && t >= 20);
        }
    }
}
