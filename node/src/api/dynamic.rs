//! Changing `/config`: what a new document must satisfy. Pure.
//!
//! Only the keys that a request touches are judged: a broken value that stands
//! there already must not keep an operator from pausing the cluster. Values
//! that are merely small are adjusted where they are used, never refused.
//!
//! `edit-config` asks the same, so it refuses in the same words. What stands below
//! `postgresql` is judged by `config/of_all_members.rs`, as in a file.

use crate::config::Findings;
use crate::config::of_all_members::{self, touched_part};
use serde_json::{Map, Value};
use standby::slots::specification;
use topology::Dynamic;
use topology::dynamic::{FAILSAFE_MODES, is_majority};
use topology::number::{Base, counted, whole};
use topology::tags::parse_bool;

/// All keys that mean something; others are kept and reported.
const KNOWN: [&str; 26] = [
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
    "standby_clusters",
    "postgresql",
    "citus",
];

type Test = fn(&Value) -> bool;

/// What `Dynamic::read` does not judge: key, test, what it must be.
const BOUNDS: [(&str, Test, &str); 9] = [
    ("synchronous_mode", is_sync_mode, "true, false or quorum"),
    ("synchronous_mode_strict", is_flag, "true or false"),
    ("failsafe_mode", |v| is_flag(v) || is_majority(v), FAILSAFE_MODES),
    ("synchronous_node_count", |v| whole(v).is_some_and(|n| n >= 1), "a whole number, 1 or more"),
    ("maximum_lag_on_syncnode", |v| counted(v, Base::Bytes).is_some(), "a whole number"),
    ("primary_race_backoff", |v| seconds(v).is_some_and(|n| n >= 0), "a whole number, 0 or more"),
    ("primary_stop_timeout", |v| seconds(v).is_some_and(|n| n >= 0), "a whole number, 0 or more"),
    ("master_stop_timeout", |v| seconds(v).is_some_and(|n| n >= 0), "a whole number, 0 or more"),
    ("ignore_slots", Value::is_array, "a list"),
];

/// PostgreSQL knows less than 400 settings; the rest is for extensions.
const PARAMETERS_MAX: usize = 1_000;
/// The first of them that is not empty counts.
const SLOT_KEYS: [&str; 3] = ["permanent_replication_slots", "permanent_slots", "slots"];

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
    if !document.is_object() {
        return Err("/config: the document must be a map".to_string());
    }
    let part = touched_part(document, touched);
    for (key, test, wanted) in &BOUNDS {
        if let Some(value) = part.get(*key).filter(|value| !test(value)) {
            return Err(bad(key, value, wanted));
        }
    }
    refuse_many(&part)?;
    refuse_slots(&part)?;
    let part = Value::Object(part);
    let mut findings = Findings::default();
    of_all_members::check(&part, "", &mut findings);
    if let Some(finding) = findings.iter().next() {
        let (path, wrong, remedy) = (&finding.path, &finding.wrong, &finding.remedy);
        return Err(format!("/config: `{path}`: {wrong}; {remedy}"));
    }
    let read = Dynamic::read(&part).map_err(|error| error.to_string())?;
    read.ignored.first().map_or(Ok(()), |bad| Err(bad.to_string()))
}

/// What is kept though it has no effect: unknown keys, and keys that stand in the
/// wrong place.
pub fn remarks(document: &Value, touched: &Map<String, Value>) -> Vec<String> {
    let part = Value::Object(touched_part(document, touched));
    let mut findings = Findings::default();
    of_all_members::check(&part, "", &mut findings);
    let mut remarks = findings.warnings().to_vec();
    for key in unknown_keys(touched) {
        if !remarks.iter().any(|told| told.starts_with(&format!("{key} "))) {
            remarks.push(format!("{key} is not known and has no effect"));
        }
    }
    remarks.extend(hidden_slots(document, touched));
    remarks
}

/// Of the three names of permanent slots one counts.
fn hidden_slots(document: &Value, touched: &Map<String, Value>) -> Vec<String> {
    let is_given = |key: &&str| document[*key].as_object().is_some_and(|map| !map.is_empty());
    let given: Vec<&str> = SLOT_KEYS.into_iter().filter(is_given).collect();
    let is_touched = given.iter().any(|key| touched.contains_key(*key));
    match given.split_first() {
        Some((counts, others)) if is_touched => {
            let hidden = |key: &&str| format!("{key} has no effect beside {counts}");
            others.iter().map(hidden).collect()
        }
        _ => Vec::new(),
    }
}

fn refuse_many(part: &Map<String, Value>) -> Result<(), String> {
    let parameters = part.get("postgresql").and_then(|section| section.get("parameters"));
    match parameters.and_then(Value::as_object).map_or(0, Map::len) {
        0..=PARAMETERS_MAX => Ok(()),
        count => Err(format!(
            "/config: postgresql.parameters has {count} settings, more than {PARAMETERS_MAX}"
        )),
    }
}

fn refuse_slots(part: &Map<String, Value>) -> Result<(), String> {
    for key in SLOT_KEYS {
        let Some(slots) = part.get(key) else { continue };
        let Some(map) = slots.as_object() else {
            return Err(bad(key, slots, "a map of names and specifications"));
        };
        for (name, value) in map {
            if let Err(why) = specification(name, value) {
                return Err(format!("/config: `{key}.{name}` makes no slot: {why}"));
            }
        }
    }
    Ok(())
}

fn bad(key: &str, found: &Value, wanted: &str) -> String {
    format!("/config: `{key}` is `{found}`, but must be {wanted}")
}

/// Keys of a request that mean nothing; they are kept.
fn unknown_keys(touched: &Map<String, Value>) -> Vec<&str> {
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
            (json!({"postgresql": {"pg_hba": "local all all trust"}}), "`postgresql.pg_hba`"),
            (json!({"slots": {"bad-name!": {}}}), "`slots.bad-name!`"),
            (json!({"slots": {"a": {"type": "logical"}}}), "`slots.a`"),
            (json!({"slots": {"a": {"type": "bodily"}}}), "type is `bodily`"),
            (json!({"slots": {"a": {"cluster_type": "any"}}}), "cluster_type is `any`"),
            (json!({"permanent_slots": {"a": true}}), "`permanent_slots.a`"),
            (json!({"ignore_slots": {}}), "`ignore_slots`"),
            (json!({"standby_clusters": [{"slot": "dr"}]}), "`standby_clusters`"),
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

    /// What Patroni takes and then drops or writes as nonsense.
    #[test]
    fn p4_everything_below_postgresql_has_a_kind() {
        let of = |section: Value| judge(json!({"postgresql": section})).unwrap_err();
        let lines = "max_connections = 100\nwork_mem = 4MB\n";
        assert_eq!(
            of(json!({"parameters": lines})),
            "/config: `postgresql.parameters`: a text is no map; write `key: value` lines"
        );
        assert_eq!(
            of(json!({"parameters": {"shared_preload_libraries": ["a", "b"]}})),
            "/config: `postgresql.parameters.shared_preload_libraries`: a list is no single value; \
             write one text"
        );
        assert_eq!(
            of(json!({"pg_hba": "local all all trust\nhost all all all md5\n"})),
            "/config: `postgresql.pg_hba`: a text is no list of texts; write `- item` lines"
        );
        assert_eq!(
            of(json!({"pg_hba": ["local all all trust", {"type": "host"}]})),
            "/config: `postgresql.pg_hba`: item 2 is a map, not a text; write one text in each item"
        );
        for (section, path) in [
            (json!({"parameters_replica": []}), "parameters_replica"),
            (json!({"parameters_primary": {"work_mem": {}}}), "parameters_primary.work_mem"),
            (json!({"pg_ident": {"a": 1}}), "pg_ident"),
            (json!({"pg_hba_standby_leader": 1}), "pg_hba_standby_leader"),
            (json!({"recovery_conf": "restore_command = cp"}), "recovery_conf"),
            (json!({"use_slots": "perhaps"}), "use_slots"),
            (json!({"use_pg_rewind": "perhaps"}), "use_pg_rewind"),
            (json!({"pg_ctl_timeout": "soon"}), "pg_ctl_timeout"),
            (json!({"callbacks": "x"}), "callbacks"),
            (json!({"callbacks": {"on_start": ["x"]}}), "callbacks.on_start"),
            (json!({"basebackup": "fast"}), "basebackup"),
            (json!({"rewind": [{"debug": []}]}), "rewind"),
            (json!({"create_replica_methods": [{"wal_e": {}}]}), "create_replica_methods"),
            (json!({"bin_dir": "pg/bin"}), "bin_dir"),
        ] {
            let why = of(section);
            assert!(why.starts_with(&format!("/config: `postgresql.{path}`: ")), "{why}");
        }
    }

    #[test]
    fn p4_what_a_patch_does_not_name_below_postgresql_is_not_judged() {
        let document = json!({"postgresql": {"pg_hba": "broken", "use_slots": true,
            "parameters": {"work_mem": [], "max_connections": 100}}});
        for touched in [
            json!({"postgresql": {"use_slots": true}}),
            json!({"postgresql": {"parameters": {"max_connections": 100}}}),
            json!({"pause": true}),
        ] {
            assert_eq!(refuse(&document, touched.as_object().unwrap()), Ok(()), "{touched}");
        }
        for touched in [
            json!({"postgresql": {"parameters": {"work_mem": []}}}),
            json!({"postgresql": {"pg_hba": "broken"}}),
        ] {
            assert!(refuse(&document, touched.as_object().unwrap()).is_err(), "{touched}");
        }
    }

    #[test]
    fn p4_what_stands_in_the_wrong_place_is_told_its_right_one() {
        let document = json!({"pg_hba": [], "ttl": 30, "x": 1, "restapi": {}, "postgresql":
            {"listen": "a:1", "ttl": 1, "use_slot": true, "max_connections": 5, "wal_e": {}}});
        assert_eq!(
            remarks(&document, document.as_object().unwrap()),
            [
                "pg_hba has no effect here; write it below postgresql",
                "restapi has no effect here; write it into the file of each member",
                "postgresql.listen has no effect here; write it into the file of each member",
                "postgresql.ttl has no effect here; write it beside postgresql, one level higher",
                "postgresql.use_slot is not known; did you mean `use_slots`?",
                "postgresql.max_connections is not known and has no effect; settings of PostgreSQL \
                 itself stand below `parameters`",
                "x is not known and has no effect",
            ]
        );
    }

    #[test]
    fn of_the_names_of_permanent_slots_one_counts() {
        let document = json!({"slots": {"a": null}, "permanent_slots": {"b": null}, "ttl": 30,
            "permanent_replication_slots": {}});
        let told = |touched: Value| remarks(&document, touched.as_object().unwrap());
        assert_eq!(told(json!({"slots": {}})), ["slots has no effect beside permanent_slots"]);
        assert!(told(json!({"ttl": 30})).is_empty(), "it was said before");
    }

    #[test]
    fn n14_more_settings_than_any_server_knows_are_refused() {
        let settings = |count: usize| {
            let all = (0..count).map(|n| (format!("x{n}"), Value::from(1)));
            let all: Map<String, Value> = all.collect();
            judge(serde_json::json!({"postgresql": {"parameters": all}}))
        };
        assert_eq!(settings(PARAMETERS_MAX), Ok(()));
        let why = settings(PARAMETERS_MAX + 1).unwrap_err();
        assert!(why.contains("1001 settings, more than 1000"), "{why}");
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
