//! The cluster-wide configuration in `/config`, as far as rules need it.
//!
//! The raw document is kept as it is; this is the typed reading of it. Values
//! that break the timing rule are adjusted in memory, never written back.
//!
//! Invariant *no half reading*: a value that decides who may write (the times,
//! `pause`, `standby_cluster`) and makes no sense refuses the whole document, so
//! that the one before stays in force. Any other one counts as not given, and
//! `ignored` names it.

mod standby_cluster;

use crate::number::{Base, counted};
use crate::tags::parse_bool;
use serde_json::Value;
pub use standby_cluster::{LinkedCluster, StandbyCluster};

#[derive(Clone, Debug, PartialEq)]
pub struct Dynamic {
    pub ttl_ms: u64,
    pub loop_wait_ms: u64,
    pub retry_timeout_ms: u64,
    pub maximum_lag_on_failover: u64,
    pub primary_start_timeout_ms: u64,
    /// How long a stop may take in the synchronous modes; 0: as long as it takes.
    pub primary_stop_timeout_ms: u64,
    pub synchronous_mode: SyncMode,
    pub synchronous_mode_strict: bool,
    /// Wanted synchronous standbys.
    pub synchronous_node_count: u64,
    /// Bytes; `None`: any standby is near enough.
    pub maximum_lag_on_syncnode: Option<u64>,
    pub check_timeline: bool,
    pub pause: bool,
    pub max_timelines_history: usize,
    /// A leader whose store is away leads on while all members agree.
    pub failsafe_mode: bool,
    /// In that mode a majority of the members is enough.
    pub failsafe_majority: bool,
    /// How long a race may wait for standbys that still receive.
    pub primary_race_backoff_ms: u64,
    pub member_slots_ttl_ms: u64,
    /// A synchronous mode is asked for, or what is asked for cannot be read.
    pub is_synchronous: bool,
    /// The upstream of a plain standby cluster (no regions).
    pub standby_cluster: Option<StandbyCluster>,
    /// Clusters that follow this one, each through a slot that is kept here.
    pub standby_clusters: Vec<LinkedCluster>,
    /// Whether members stream through slots.
    pub use_slots: bool,
    /// Permanent slots by name; an empty specification is a physical slot.
    pub slots: serde_json::Map<String, Value>,
    /// Slots that are left alone: those that fit all keys of one of these.
    pub ignore_slots: Vec<serde_json::Map<String, Value>>,
    /// What made no sense; its default is used.
    pub ignored: Vec<BadDynamic>,
    /// The document this was read from.
    pub raw: Value,
}

/// Who has a commit before it is acknowledged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SyncMode {
    Off,
    /// Named standbys.
    On,
    /// Any `n` of the named standbys.
    Quorum,
}

impl SyncMode {
    /// `None`: the value is none.
    pub fn read(value: &Value) -> Option<SyncMode> {
        let quorum = value.as_str().is_some_and(|t| t.trim().eq_ignore_ascii_case("quorum"));
        match parse_bool(value) {
            Some(true) => Some(SyncMode::On),
            Some(false) => Some(SyncMode::Off),
            None => quorum.then_some(SyncMode::Quorum),
        }
    }
}

/// What `failsafe_mode` may be.
pub const FAILSAFE_MODES: &str = "true, false or majority";

/// `failsafe_mode: majority`.
pub fn is_majority(value: &Value) -> bool {
    value.as_str().is_some_and(|text| text.trim().eq_ignore_ascii_case("majority"))
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("/config: `{key}` is `{found}`, but must be {wanted}; correct it with `edit-config`")]
pub struct BadDynamic {
    pub key: String,
    pub found: String,
    pub wanted: &'static str,
}

/// Where a document defines permanent slots; the first one that is not empty counts.
pub const PERMANENT_SLOTS: [&str; 3] = ["permanent_replication_slots", "permanent_slots", "slots"];

/// The section of permanent slots that counts, and those that define slots in vain beside it.
pub fn slots_in_vain(raw: &Value) -> Option<(&'static str, Vec<&'static str>)> {
    let is_given = |key: &&str| {
        raw.get(*key).and_then(Value::as_object).is_some_and(|slots| !slots.is_empty())
    };
    let mut given = PERMANENT_SLOTS.into_iter().filter(is_given);
    let used = given.next()?;
    let others: Vec<&str> = given.collect();
    (!others.is_empty()).then_some((used, others))
}

impl Default for Dynamic {
    fn default() -> Dynamic {
        Dynamic::read(&Value::Object(Default::default())).expect("an empty document is valid")
    }
}

impl Dynamic {
    /// One of these keys holds something that cannot be used.
    pub fn is_any_unreadable(&self, keys: &[&str]) -> bool {
        self.ignored.iter().any(|bad| keys.contains(&bad.key.as_str()))
    }

    pub fn read(raw: &Value) -> Result<Dynamic, BadDynamic> {
        let (loop_wait, retry_timeout, ttl) = times(raw, MINIMUM_TTL_S)?;
        let mut read = Reading { raw, ignored: Vec::new() };
        let start_timeout = ["primary_start_timeout", "master_start_timeout"];
        let stop_timeout = ["primary_stop_timeout", "master_stop_timeout"];
        let strict = read.flag("synchronous_mode_strict");
        let failsafe_majority = raw.get("failsafe_mode").is_some_and(is_majority);
        Ok(Dynamic {
            ttl_ms: ttl * 1000,
            loop_wait_ms: loop_wait * 1000,
            retry_timeout_ms: retry_timeout * 1000,
            maximum_lag_on_failover: read.number("maximum_lag_on_failover", Base::Bytes, 1 << 20),
            primary_start_timeout_ms: read.first(start_timeout, Base::Seconds, 300) * 1000,
            primary_stop_timeout_ms: read.first(stop_timeout, Base::Seconds, 0) * 1000,
            synchronous_mode: read.sync_mode(),
            synchronous_mode_strict: strict,
            synchronous_node_count: read
                .number("synchronous_node_count", Base::Plain, 1)
                .max(u64::from(strict)),
            maximum_lag_on_syncnode: read.lag("maximum_lag_on_syncnode"),
            check_timeline: read.flag("check_timeline"),
            pause: pause(raw)?,
            max_timelines_history: read.number("max_timelines_history", Base::Plain, 0) as usize,
            failsafe_mode: failsafe_majority || read.failsafe(),
            failsafe_majority,
            primary_race_backoff_ms: read.number("primary_race_backoff", Base::Seconds, 0) * 1000,
            member_slots_ttl_ms: read.number("member_slots_ttl", Base::Seconds, 1800) * 1000,
            is_synchronous: raw.get("synchronous_mode").is_some_and(|mode| !is_off(mode)),
            standby_cluster: standby_cluster::read(raw)?,
            standby_clusters: read.standby_clusters(),
            use_slots: read.use_slots(),
            slots: read.permanent_slots(),
            ignore_slots: read.ignore_slots(),
            ignored: read.ignored,
            raw: raw.clone(),
        })
    }

    /// The same where a shorter `ttl` is allowed than in general.
    pub fn with_minimum_ttl(&self, seconds: u64) -> Dynamic {
        let (loop_wait, retry_timeout, ttl) =
            times(&self.raw, seconds.clamp(SHORTEST_TTL_S, MINIMUM_TTL_S))
                .expect("the document was read before");
        Dynamic {
            ttl_ms: ttl * 1000,
            loop_wait_ms: loop_wait * 1000,
            retry_timeout_ms: retry_timeout * 1000,
            ..self.clone()
        }
    }

    /// How long before the lock's deadline a silent leader begins to stop. With a
    /// short `ttl` a quarter of it.
    pub fn fence_budget_ms(&self) -> u64 {
        (self.ttl_ms / 6).clamp((self.ttl_ms / 4).min(2_000), 5_000)
    }

    /// What is left of the time until then belongs to the next renewal: nothing else
    /// that a leader asks of its store may last into it.
    pub fn renewal_reserve_ms(&self) -> u64 {
        self.ttl_ms * 2 / 5
    }
}

/// Seconds; no `ttl` in force is shorter, unless a member's file allows it.
pub const MINIMUM_TTL_S: u64 = 20;
/// The shortest that a file may allow.
pub const SHORTEST_TTL_S: u64 = 5;

fn times(raw: &Value, minimum_ttl: u64) -> Result<(u64, u64, u64), BadDynamic> {
    let (loop_wait, retry_timeout) = (time(raw, "loop_wait", 10)?, time(raw, "retry_timeout", 10)?);
    Ok(timing(loop_wait, retry_timeout, time(raw, "ttl", 30)?.max(minimum_ttl)))
}

/// The rule `loop_wait + 2 * retry_timeout <= ttl` and the minimums.
fn timing(loop_wait: u64, retry_timeout: u64, ttl: u64) -> (u64, u64, u64) {
    let (loop_wait, retry_timeout) = (loop_wait.max(1), retry_timeout.max(3));
    if 1 + 2 * retry_timeout > ttl {
        return (1, (ttl - 1) / 2, ttl);
    }
    (loop_wait.min(ttl - 2 * retry_timeout), retry_timeout, ttl)
}

/// A time that the lock is built on, in seconds. What is too small is raised.
fn time(raw: &Value, key: &str, default: u64) -> Result<u64, BadDynamic> {
    match raw.get(key) {
        None | Some(Value::Null) => Ok(default),
        Some(value) => match counted(value, Base::Seconds) {
            Some(seconds) if seconds <= SECONDS_MAX => Ok(seconds.max(0) as u64),
            _ => Err(bad(key, value, "a number of seconds")),
        },
    }
}

/// So that milliseconds still fit.
const SECONDS_MAX: i64 = i32::MAX as i64;

/// Reads what may be wrong without harm.
struct Reading<'a> {
    raw: &'a Value,
    ignored: Vec<BadDynamic>,
}

impl Reading<'_> {
    fn number(&mut self, key: &str, base: Base, default: u64) -> u64 {
        let Some(value) = self.raw.get(key).filter(|value| !value.is_null()) else {
            return default;
        };
        let limit = if base == Base::Seconds { SECONDS_MAX } else { i64::MAX };
        match counted(value, base).filter(|number| (0..=limit).contains(number)) {
            Some(number) => number as u64,
            None => {
                self.ignored.push(bad(key, value, "a whole number, 0 or more"));
                default
            }
        }
    }

    /// The newer name before the older one.
    fn first(&mut self, keys: [&str; 2], base: Base, default: u64) -> u64 {
        let given = |key: &&str| self.raw.get(*key).is_some_and(|value| !value.is_null());
        let key = keys.into_iter().find(given).unwrap_or(keys[0]);
        self.number(key, base, default)
    }

    fn flag(&mut self, key: &str) -> bool {
        self.flag_or(key, "true or false")
    }

    fn failsafe(&mut self) -> bool {
        self.flag_or("failsafe_mode", FAILSAFE_MODES)
    }

    fn flag_or(&mut self, key: &str, wanted: &'static str) -> bool {
        let Some(value) = self.raw.get(key).filter(|value| !value.is_null()) else {
            return false;
        };
        parse_bool(value).unwrap_or_else(|| {
            self.ignored.push(bad(key, value, wanted));
            false
        })
    }

    /// 0 and less mean that there is no limit.
    fn lag(&mut self, key: &str) -> Option<u64> {
        let value = self.raw.get(key).filter(|value| !value.is_null())?;
        let number = counted(value, Base::Bytes);
        if number.is_none() {
            self.ignored.push(bad(key, value, "a whole number of bytes"));
        }
        number.and_then(|bytes| u64::try_from(bytes).ok()).filter(|bytes| *bytes > 0)
    }

    fn sync_mode(&mut self) -> SyncMode {
        const KEY: &str = "synchronous_mode";
        let Some(value) = self.raw.get(KEY).filter(|value| !value.is_null()) else {
            return SyncMode::Off;
        };
        SyncMode::read(value).unwrap_or_else(|| {
            self.ignored.push(bad(KEY, value, "true, false or quorum"));
            SyncMode::Off
        })
    }

    fn use_slots(&mut self) -> bool {
        let given = self.raw.get("postgresql").and_then(|section| section.get("use_slots"));
        let Some(value) = given.filter(|value| !value.is_null()) else {
            return true;
        };
        parse_bool(value).unwrap_or_else(|| {
            self.ignored.push(bad("postgresql.use_slots", value, "true or false"));
            true
        })
    }

    /// The first of the three names that is not empty.
    fn permanent_slots(&mut self) -> serde_json::Map<String, Value> {
        let mut first = None;
        for key in PERMANENT_SLOTS {
            let Some(value) = self.raw.get(key).filter(|value| !is_nothing(value)) else {
                continue;
            };
            match value.as_object() {
                Some(map) => first = first.or(Some(map)),
                None => self.ignored.push(bad(key, value, "a map of slots by name")),
            }
        }
        first.cloned().unwrap_or_default()
    }

    fn standby_clusters(&mut self) -> Vec<LinkedCluster> {
        const KEY: &str = "standby_clusters";
        let Some(value) = self.raw.get(KEY).filter(|value| !is_nothing(value)) else {
            return Vec::new();
        };
        let items = value.as_array().map(Vec::as_slice).unwrap_or_default();
        let links: Vec<_> = items.iter().filter_map(LinkedCluster::read).collect();
        if !value.is_array() || links.len() < items.len() {
            let wanted = "a list of maps with name and slot (a-z, 0-9 and _)";
            self.ignored.push(bad(KEY, value, wanted));
        }
        links
    }

    fn ignore_slots(&mut self) -> Vec<serde_json::Map<String, Value>> {
        const KEY: &str = "ignore_slots";
        let Some(value) = self.raw.get(KEY).filter(|value| !is_nothing(value)) else {
            return Vec::new();
        };
        let items = value.as_array().map(Vec::as_slice).unwrap_or_default();
        let maps: Vec<_> = items.iter().filter_map(|item| item.as_object().cloned()).collect();
        if !value.is_array() || maps.len() < items.len() {
            self.ignored.push(bad(KEY, value, "a list of maps"));
        }
        maps
    }
}

fn is_off(mode: &Value) -> bool {
    mode.is_null() || parse_bool(mode) == Some(false)
}

fn pause(raw: &Value) -> Result<bool, BadDynamic> {
    match raw.get("pause") {
        None | Some(Value::Null) => Ok(false),
        Some(value) => parse_bool(value).ok_or_else(|| bad("pause", value, "true or false")),
    }
}

/// Null, false, 0 and what is empty: not given.
fn is_nothing(value: &Value) -> bool {
    match value {
        Value::Null | Value::Bool(false) => true,
        Value::String(text) => text.trim().is_empty(),
        Value::Number(number) => number.as_f64() == Some(0.0),
        Value::Array(items) => items.is_empty(),
        Value::Object(map) => map.is_empty(),
        Value::Bool(true) => false,
    }
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
    fn a_synchronous_mode_is_off_only_when_it_says_so() {
        for off in [
            json!({}),
            json!({"synchronous_mode": null}),
            json!({"synchronous_mode": false}),
            json!({"synchronous_mode": "off"}),
        ] {
            assert!(!Dynamic::read(&off).unwrap().is_synchronous, "{off}");
        }
        for on in [json!(true), json!("on"), json!("quorum"), json!("nonsense"), json!({})] {
            let on = json!({"synchronous_mode": on});
            assert!(Dynamic::read(&on).unwrap().is_synchronous, "{on}");
        }
    }

    #[test]
    fn a_shorter_ttl_counts_only_where_it_is_allowed() {
        let read = Dynamic::read(&json!({"ttl": 5, "loop_wait": 1, "retry_timeout": 3})).unwrap();
        assert_eq!((read.ttl_ms, read.fence_budget_ms()), (20_000, 3_333));
        let fast = read.with_minimum_ttl(5);
        let times = (fast.loop_wait_ms, fast.retry_timeout_ms, fast.ttl_ms);
        assert_eq!((times, fast.fence_budget_ms()), ((1_000, 2_000, 5_000), 1_250));
        assert_eq!(fast.raw, read.raw);
        assert_eq!(read.with_minimum_ttl(10).ttl_ms, 10_000);
        assert_eq!(read.with_minimum_ttl(1).ttl_ms, 5_000);
        assert_eq!(read.with_minimum_ttl(99), read);
        let usual = Dynamic::default();
        assert_eq!((usual.with_minimum_ttl(5), usual.fence_budget_ms()), (usual.clone(), 5_000));
    }

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

    #[test]
    fn a_harmless_value_that_makes_no_sense_is_named_and_not_used() {
        let read = Dynamic::read(&json!({"maximum_lag_on_failover": "much", "check_timeline": 7,
            "member_slots_ttl": "-1min"}))
        .unwrap();
        assert_eq!((read.maximum_lag_on_failover, read.check_timeline), (1 << 20, false));
        let named: Vec<&str> = read.ignored.iter().map(|bad| bad.key.as_str()).collect();
        assert_eq!(named, ["maximum_lag_on_failover", "check_timeline", "member_slots_ttl"]);
    }

    #[test]
    fn numbers_may_have_units_be_texts_and_have_their_old_names() {
        let read = Dynamic::read(&json!({"member_slots_ttl": "30min", "ttl": "40",
            "loop_wait": -5, "maximum_lag_on_failover": "16MB", "master_start_timeout": "2min"}))
        .unwrap();
        assert_eq!((read.member_slots_ttl_ms, read.ttl_ms), (1_800_000, 40_000));
        assert_eq!((read.loop_wait_ms, read.maximum_lag_on_failover), (1000, 16 << 20));
        assert_eq!(read.primary_start_timeout_ms, 120_000);
        assert!(read.ignored.is_empty());
    }

    #[test]
    fn what_is_not_given_has_its_default() {
        let read = Dynamic::default();
        let times = [read.ttl_ms, read.loop_wait_ms, read.retry_timeout_ms];
        assert_eq!(times, [30_000, 10_000, 10_000]);
        let times = [read.primary_race_backoff_ms, read.primary_start_timeout_ms];
        assert_eq!(times, [0, 300_000]);
        assert_eq!((read.primary_stop_timeout_ms, read.member_slots_ttl_ms), (0, 1_800_000));
        assert_eq!((read.maximum_lag_on_failover, read.max_timelines_history), (1 << 20, 0));
        assert_eq!((read.synchronous_mode, read.synchronous_node_count), (SyncMode::Off, 1));
        assert_eq!(read.maximum_lag_on_syncnode, None);
        let off = [read.synchronous_mode_strict, read.failsafe_mode, read.check_timeline];
        assert_eq!((off, read.pause), ([false; 3], false));
        assert!(read.use_slots && read.standby_cluster.is_none());
        assert!(read.slots.is_empty() && read.ignore_slots.is_empty());
        let nulls = json!({"ttl": null, "synchronous_mode": null, "synchronous_node_count": null,
            "maximum_lag_on_syncnode": null, "ignore_slots": null, "pause": null, "slots": null,
            "standby_cluster": null, "postgresql": {"use_slots": null}});
        let nulls = Dynamic::read(&nulls).unwrap();
        assert_eq!(Dynamic { raw: read.raw.clone(), ..nulls }, read);
    }

    #[test]
    fn failsafe_mode_asks_all_or_a_majority() {
        let mode = |value: Value| {
            let read = Dynamic::read(&json!({"failsafe_mode": value})).unwrap();
            (read.failsafe_mode, read.failsafe_majority, read.ignored)
        };
        assert_eq!(mode(json!(true)), (true, false, vec![]));
        assert_eq!(mode(json!("off")), (false, false, vec![]));
        assert_eq!(mode(json!("Majority")), (true, true, vec![]));
        let (is_on, _, ignored) = mode(json!("most"));
        assert!(!is_on);
        let text = "/config: `failsafe_mode` is `\"most\"`, but must be true, false or majority; \
                    correct it with `edit-config`";
        assert_eq!(ignored[0].to_string(), text);
    }

    #[test]
    fn synchronous_modes_have_words_and_counts() {
        let read = |raw: Value| Dynamic::read(&raw).unwrap();
        let mode = |value: Value| read(json!({"synchronous_mode": value})).synchronous_mode;
        assert_eq!((mode(json!("on")), mode(json!(true))), (SyncMode::On, SyncMode::On));
        assert_eq!((mode(json!("Quorum")), mode(json!("no"))), (SyncMode::Quorum, SyncMode::Off));
        let count = |strict: bool| {
            let raw = json!({"synchronous_node_count": 0, "synchronous_mode_strict": strict});
            read(raw).synchronous_node_count
        };
        assert_eq!((count(false), count(true)), (0, 1));
        let lag = |value: Value| read(json!({"maximum_lag_on_syncnode": value}));
        assert_eq!(lag(json!("16MB")).maximum_lag_on_syncnode, Some(16 << 20));
        assert_eq!(lag(json!(0)).maximum_lag_on_syncnode, None);
        assert_eq!(read(json!({"master_stop_timeout": "1min"})).primary_stop_timeout_ms, 60_000);
    }

    #[test]
    fn every_harmless_key_has_a_range() {
        let wrong = [
            ("maximum_lag_on_failover", json!(-1)),
            ("maximum_lag_on_syncnode", json!("near")),
            ("max_timelines_history", json!(-1)),
            ("primary_race_backoff", json!(-1)),
            ("primary_start_timeout", json!("soon")),
            ("primary_stop_timeout", json!(-1)),
            ("member_slots_ttl", json!(1e12)),
            ("synchronous_mode", json!("perhaps")),
            ("synchronous_mode_strict", json!(2)),
            ("synchronous_node_count", json!(-1)),
            ("failsafe_mode", json!("perhaps")),
            ("check_timeline", json!([])),
            ("ignore_slots", json!(["a"])),
            ("slots", json!(["a"])),
            ("slots", json!("a")),
            ("permanent_slots", json!(5)),
        ];
        for (key, value) in wrong {
            let read = Dynamic::read(&json!({key: value})).unwrap();
            assert_eq!(read.ignored.len(), 1, "{key}");
            assert_eq!(read.ignored[0].key, key);
            let plain = Dynamic::default();
            let (raw, ignored) = (plain.raw.clone(), Vec::new());
            // What cannot be read may be a mode: `/sync` stays.
            let read = Dynamic { raw, ignored, is_synchronous: false, ..read };
            assert_eq!(read, plain, "{key}");
        }
        let read = Dynamic::read(&json!({"postgresql": {"use_slots": "perhaps"}})).unwrap();
        assert!(read.use_slots && read.ignored[0].key == "postgresql.use_slots");
        let read = Dynamic::read(&json!({"postgresql": {"use_slots": "off"},
            "ignore_slots": [{"name": "mine"}]}));
        assert!(read.is_ok_and(|read| !read.use_slots && read.ignore_slots.len() == 1));
    }

    #[test]
    fn the_first_name_of_permanent_slots_that_is_not_empty_counts() {
        let read = Dynamic::read(&json!({"slots": {"a": null}, "permanent_slots": {}})).unwrap();
        assert!(read.slots.contains_key("a"));
        let read = Dynamic::read(&json!({"slots": {"a": 0}, "permanent_slots": {"b": 0}})).unwrap();
        assert!(read.slots.contains_key("b") && read.slots.len() == 1);
    }

    #[test]
    fn sections_of_permanent_slots_that_do_not_count_are_known() {
        let found = |raw: Value| slots_in_vain(&raw);
        assert_eq!(found(json!({"slots": {"a": 0}})), None);
        assert_eq!(found(json!({"slots": {"a": 0}, "permanent_slots": {}})), None);
        let both = json!({"slots": {"a": 0}, "permanent_slots": {"b": 0}});
        assert_eq!(found(both), Some(("permanent_slots", vec!["slots"])));
    }

    proptest! {
        #[test]
        fn the_sum_rule_always_holds(l in 0u64..500, r in 0u64..500, t in 0u64..500) {
            for (minimum, least_retry) in [(20, 3), (SHORTEST_TTL_S, 2)] {
                let (l, r, t) = timing(l, r, t.max(minimum));
                prop_assert!(l + 2 * r <= t && l >= 1 && r >= least_retry && t >= minimum);
            }
        }
    }
}
