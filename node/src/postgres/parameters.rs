//! The settings that PostgreSQL is started with.
//!
//! Defaults, then `/config`, then the local file, then what the caller lays on
//! top. Settings that all members must agree on (the controlled ones) are taken
//! from `/config` alone and repeated on the command line, above `ALTER SYSTEM`.
//!
//! A bad value never stops a server: it is replaced by the default or left out,
//! and a warning names it.
//!
//! Absent on purpose: whom to stream from (`recovery.rs`), files (`files.rs`).

use super::catalogue::Catalogue;
use super::controldata::ControlData;
use crate::config::{Citus, Postgresql};
use serde_json::{Map, Value};
use std::collections::BTreeMap;

/// Which values of a controlled setting are accepted.
#[derive(Clone, Copy)]
enum Check {
    WalLevel,
    True,
    AtLeast(u64),
    Bool,
    /// A size of 16 MB or more.
    Segments,
}

/// The controlled settings, in the order of the command line.
const CONTROLLED: [(&str, &str, Check); 11] = [
    ("wal_level", "replica", Check::WalLevel),
    ("hot_standby", "on", Check::True),
    ("max_connections", "100", Check::AtLeast(25)),
    ("max_wal_senders", "10", Check::AtLeast(3)),
    ("max_prepared_transactions", "0", Check::AtLeast(0)),
    ("max_locks_per_transaction", "64", Check::AtLeast(32)),
    ("track_commit_timestamp", "off", Check::Bool),
    ("max_replication_slots", "10", Check::AtLeast(4)),
    ("max_worker_processes", "8", Check::AtLeast(2)),
    ("wal_log_hints", "on", Check::Bool),
    ("wal_keep_size", "128MB", Check::Segments),
];

/// Set from `listen` and `scope`, by nobody else.
const NEVER_SET: [&str; 3] = ["listen_addresses", "port", "cluster_name"];
/// Goes to the file only.
const NOT_ON_COMMAND_LINE: &str = "wal_keep_size";
const SEGMENT_MB: u64 = 16;
/// PostgreSQL refuses to start with more of anything.
const COUNT_MAX: f64 = 262_143.0;

/// Settings of recovery: they live in a block of their own.
pub const RECOVERY: [&str; 15] = [
    "archive_cleanup_command",
    "primary_conninfo",
    "primary_slot_name",
    "promote_trigger_file",
    "recovery_end_command",
    "recovery_min_apply_delay",
    "recovery_target",
    "recovery_target_action",
    "recovery_target_inclusive",
    "recovery_target_lsn",
    "recovery_target_name",
    "recovery_target_time",
    "recovery_target_timeline",
    "recovery_target_xid",
    "restore_command",
];

/// As what the server runs, for the settings that depend on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    Primary,
    Replica,
    StandbyLeader,
}

impl Role {
    /// Ending of `parameters_X`, `pg_hba_X` and `pg_ident_X`.
    pub fn word(self) -> &'static str {
        match self {
            Role::Primary => "primary",
            Role::Replica => "replica",
            Role::StandbyLeader => "standby_leader",
        }
    }
}

pub struct Sources<'a> {
    pub settings: &'a Postgresql,
    pub citus: Option<&'a Citus>,
    pub scope: &'a str,
    /// The whole document of `/config`.
    pub dynamic: &'a Value,
    pub role: Role,
    /// Of a data directory that is to start as a standby: it refuses to start
    /// with less than its primary had.
    pub at_least: Option<&'a ControlData>,
    pub overrides: &'a [(String, String)],
    pub catalogue: &'a Catalogue,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Effective {
    /// `--name=value`, in the fixed order.
    pub command_line: Vec<(String, String)>,
    /// For postgresql.conf.
    pub parameters: BTreeMap<String, String>,
    /// Recovery settings found among the parameters.
    pub recovery: BTreeMap<String, String>,
    /// Raised to what the control file demands: a restart is pending.
    pub raised: Vec<String>,
    pub warnings: Vec<String>,
}

/// Puts everything together.
pub fn effective(sources: &Sources) -> Effective {
    let mut all = Effective::default();
    controlled(sources, &mut all);
    free(sources, &mut all);
    if let Some(citus) = sources.citus {
        add_citus(citus, sources.settings, &mut all.parameters);
    }
    for (name, value) in sources.overrides {
        all.parameters.insert(name.clone(), value.clone());
    }
    if let Some(control) = sources.at_least {
        raise(control, &mut all);
    }
    all.command_line = command_line(&all.parameters);
    all
}

/// The section `postgresql` of `/config`.
fn section<'a>(dynamic: &'a Value, key: &str) -> Option<&'a Map<String, Value>> {
    dynamic.get("postgresql")?.get(key)?.as_object()
}

fn controlled(sources: &Sources, all: &mut Effective) {
    let given = section(sources.dynamic, "parameters");
    let given = |name: &str| given.and_then(|map| find(map, name));
    for (name, default, check) in CONTROLLED {
        let value = given(name).and_then(|value| {
            let read = scalar(value).and_then(|text| accept(check, &text));
            if read.is_none() {
                all.warnings.push(format!("{name} = {value} is not possible; {default} is used"));
            }
            read
        });
        all.parameters.insert(name.into(), value.unwrap_or_else(|| default.into()));
    }
    if given("wal_keep_size").is_none()
        && let Some(size) = given("wal_keep_segments").and_then(scalar).and_then(|s| segments(&s))
    {
        all.parameters.insert("wal_keep_size".into(), size);
    }
    all.parameters.insert("listen_addresses".into(), sources.settings.listen_hosts.join(","));
    all.parameters.insert("port".into(), sources.settings.port.to_string());
    all.parameters.insert("cluster_name".into(), sources.scope.into());
}

/// Everything that a source may set freely.
fn free(sources: &Sources, all: &mut Effective) {
    let by_role = format!("parameters_{}", sources.role.word());
    let maps = [
        section(sources.dynamic, "parameters"),
        Some(&sources.settings.parameters),
        section(sources.dynamic, &by_role),
    ];
    for (name, value) in maps.into_iter().flatten().flatten() {
        let lower = name.to_lowercase();
        if is_controlled(&lower) || (lower == "synchronous_standby_names" && is_sync(sources)) {
            continue;
        }
        if RECOVERY.contains(&lower.as_str()) {
            put(&mut all.recovery, lower, value);
            continue;
        }
        match sources.catalogue.spell(name) {
            Some(name) if is_file(&name) => {
                put(&mut all.parameters, name, &absolute(sources, value))
            }
            Some(name) => put(&mut all.parameters, name, value),
            None => all.warnings.push(format!("{name} is not a setting of PostgreSQL: left out")),
        }
    }
}

fn is_controlled(name: &str) -> bool {
    name == "wal_keep_segments"
        || NEVER_SET.contains(&name)
        || CONTROLLED.iter().any(|(controlled, ..)| *controlled == name)
}

/// In synchronous mode the names are the daemon's alone.
fn is_sync(sources: &Sources) -> bool {
    match sources.dynamic.get("synchronous_mode") {
        Some(Value::Bool(on)) => *on,
        Some(Value::String(word)) => {
            ["on", "true", "yes", "1", "quorum"].contains(&word.to_lowercase().as_str())
        }
        Some(Value::Number(number)) => number.as_i64() == Some(1),
        _ => false,
    }
}

fn is_file(name: &str) -> bool {
    name == "hba_file" || name == "ident_file"
}

fn absolute(sources: &Sources, value: &Value) -> Value {
    let path = value.as_str().map(|file| sources.settings.config_dir.join(file));
    path.map_or_else(|| value.clone(), |path| Value::String(path.display().to_string()))
}

fn put(map: &mut BTreeMap<String, String>, name: String, value: &Value) {
    match scalar(value) {
        Some(text) => map.insert(name, text),
        None => map.remove(&name),
    };
}

fn find<'a>(map: &'a Map<String, Value>, name: &str) -> Option<&'a Value> {
    let found = map.iter().find(|(key, _)| key.eq_ignore_ascii_case(name));
    found.map(|(_, value)| value).filter(|value| !value.is_null())
}

/// A value as PostgreSQL reads it; lists are joined, `null` and maps are none.
fn scalar(value: &Value) -> Option<String> {
    match value {
        Value::Bool(on) => Some(if *on { "on" } else { "off" }.into()),
        Value::Number(number) => Some(number.to_string()),
        Value::String(text) => Some(text.clone()),
        Value::Array(items) => {
            let words: Option<Vec<String>> = items.iter().map(scalar).collect();
            words.map(|words| words.join(", "))
        }
        Value::Null | Value::Object(_) => None,
    }
}

/// The value to use, or none if it is not acceptable.
fn accept(check: Check, text: &str) -> Option<String> {
    let kept = || Some(text.trim().to_string());
    match check {
        Check::WalLevel => match text.trim().to_lowercase().as_str() {
            "hot_standby" | "replica" => Some("replica".into()),
            "logical" => Some("logical".into()),
            _ => None,
        },
        Check::True => (boolean(text)? == "on").then(|| "on".into()),
        Check::Bool => boolean(text).map(str::to_string),
        Check::AtLeast(least) => {
            let number = text.trim().parse::<f64>().ok().filter(|n| n.is_finite())?.round();
            let range = least as f64..=COUNT_MAX;
            range.contains(&number).then(|| format!("{number}"))
        }
        Check::Segments => (megabytes(text)? >= SEGMENT_MB).then(kept)?,
    }
}

fn boolean(text: &str) -> Option<&'static str> {
    match text.trim().to_lowercase().as_str() {
        "on" | "true" | "yes" | "1" => Some("on"),
        "off" | "false" | "no" | "0" => Some("off"),
        _ => None,
    }
}

/// A size in megabytes, PostgreSQL's base unit of wal_keep_size.
fn megabytes(text: &str) -> Option<u64> {
    let text = text.trim();
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let number: u64 = text[..digits].parse().ok()?;
    match text[digits..].trim() {
        "" | "MB" => Some(number),
        "kB" => Some(number / 1024),
        "GB" => number.checked_mul(1024),
        "TB" => number.checked_mul(1024 * 1024),
        _ => None,
    }
}

fn segments(text: &str) -> Option<String> {
    let count: u64 = text.trim().parse().ok().filter(|count| *count >= 1)?;
    Some(format!("{}MB", count.checked_mul(SEGMENT_MB)?))
}

fn add_citus(citus: &Citus, settings: &Postgresql, parameters: &mut BTreeMap<String, String>) {
    if !citus.stand_in {
        let given = parameters.remove("shared_preload_libraries").unwrap_or_default();
        let others = given.split(',').map(str::trim).filter(|l| !l.is_empty() && *l != "citus");
        let all: Vec<&str> = std::iter::once("citus").chain(others).collect();
        parameters.insert("shared_preload_libraries".into(), all.join(","));
    }
    let number = |name: &str| parameters.get(name).and_then(|value| value.parse::<u64>().ok());
    if number("max_prepared_transactions") == Some(0) {
        let double = number("max_connections").unwrap_or(100).saturating_mul(2);
        parameters.insert("max_prepared_transactions".into(), double.to_string());
    }
    parameters.insert("wal_level".into(), "logical".into());
    parameters.insert("citus.local_hostname".into(), settings.local_host().into());
}

/// A standby refuses to run with less than its primary.
fn raise(control: &ControlData, all: &mut Effective) {
    let demanded = [
        ("max_connections", control.max_connections),
        ("max_prepared_transactions", control.max_prepared_xacts),
        ("max_locks_per_transaction", control.max_locks),
        ("max_worker_processes", control.max_worker_processes),
        ("max_wal_senders", control.max_wal_senders),
    ];
    for (name, least) in demanded {
        let own = all.parameters.get(name).and_then(|value| value.parse::<u64>().ok());
        if own.is_none_or(|own| own < least) {
            all.parameters.insert(name.into(), least.to_string());
            all.raised.push(name.into());
        }
    }
}

fn command_line(parameters: &BTreeMap<String, String>) -> Vec<(String, String)> {
    let order = NEVER_SET.iter().copied().chain(CONTROLLED.iter().map(|(name, ..)| *name));
    let order = order.filter(|name| *name != NOT_ON_COMMAND_LINE);
    order.filter_map(|name| Some((name.to_string(), parameters.get(name)?.clone()))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn settings(parameters: Value) -> Postgresql {
        Postgresql {
            listen_hosts: vec!["127.0.0.1".into()],
            port: 5362,
            config_dir: "/golden/n2".into(),
            parameters: parameters.as_object().cloned().unwrap_or_default(),
            ..Postgresql::default()
        }
    }

    fn put_together(local: Value, dynamic: Value, citus: Option<&Citus>) -> Effective {
        let catalogue = Catalogue::new(15, "work_mem\nshared_preload_libraries\nTimeZone\n");
        let settings = settings(local);
        effective(&Sources {
            settings: &settings,
            citus,
            scope: "golden",
            dynamic: &dynamic,
            role: Role::Replica,
            at_least: None,
            overrides: &[("work_mem".into(), "9MB".into())],
            catalogue: &catalogue,
        })
    }

    #[test]
    fn the_command_line_is_patronis() {
        let all = put_together(json!({}), json!({}), None);
        let words: Vec<String> =
            all.command_line.iter().map(|(name, value)| format!("--{name}={value}")).collect();
        assert_eq!(
            words.join(" "),
            "--listen_addresses=127.0.0.1 --port=5362 --cluster_name=golden --wal_level=replica \
             --hot_standby=on --max_connections=100 --max_wal_senders=10 \
             --max_prepared_transactions=0 --max_locks_per_transaction=64 \
             --track_commit_timestamp=off --max_replication_slots=10 --max_worker_processes=8 \
             --wal_log_hints=on"
        );
        assert_eq!(all.parameters["wal_keep_size"], "128MB");
        assert_eq!(all.parameters["work_mem"], "9MB", "the caller's word is the last");
    }

    #[test]
    fn controlled_settings_come_from_the_store_alone() {
        let dynamic = json!({"postgresql": {"parameters": {
            "max_connections": "101", "max_wal_senders": 1e300, "wal_level": "minimal",
            "hot_standby": "off", "wal_keep_segments": 16, "port": 1}}});
        let local = json!({"max_connections": 500, "timezone": "UTC"});
        let all = put_together(local, dynamic, None);
        assert_eq!(all.parameters["max_connections"], "101");
        assert_eq!(all.parameters["max_wal_senders"], "10");
        assert_eq!(all.parameters["wal_level"], "replica");
        assert_eq!(all.parameters["hot_standby"], "on");
        assert_eq!(all.parameters["wal_keep_size"], "256MB");
        assert_eq!(all.parameters["port"], "5362");
        assert_eq!(all.parameters["TimeZone"], "UTC");
        assert_eq!(all.warnings.len(), 3, "{:?}", all.warnings);
    }

    #[test]
    fn unknown_names_are_left_out_and_recovery_is_kept_apart() {
        let local = json!({"work_men": 1, "my.thing": true, "restore_command": "cp %f %p",
            "synchronous_standby_names": "x", "hba_file": "my_hba.conf"});
        let all = put_together(local, json!({"synchronous_mode": "quorum"}), None);
        assert!(all.warnings[0].contains("work_men"));
        assert_eq!(all.parameters["my.thing"], "on");
        assert_eq!(all.recovery["restore_command"], "cp %f %p");
        assert_eq!(all.parameters["hba_file"], "/golden/n2/my_hba.conf");
        assert!(!all.parameters.contains_key("synchronous_standby_names"));
    }

    #[test]
    fn citus_is_preloaded_first() {
        let citus = Citus { database: "c".into(), group: 0, stand_in: false };
        let local = json!({"shared_preload_libraries": "pg_stat_statements,citus"});
        let all = put_together(local, json!({}), Some(&citus));
        assert_eq!(all.parameters["shared_preload_libraries"], "citus,pg_stat_statements");
        assert_eq!(all.parameters["max_prepared_transactions"], "200");
        assert_eq!(all.parameters["wal_level"], "logical");
        assert_eq!(all.parameters["citus.local_hostname"], "127.0.0.1");
    }

    #[test]
    fn role_variants_win_but_do_not_touch_controlled_settings() {
        let dynamic = json!({"postgresql": {"parameters": {"my.a": 1, "my.b": 1},
            "parameters_replica": {"my.a": 2, "my.b": null, "max_connections": 300}}});
        let all = put_together(json!({}), dynamic, None);
        assert_eq!(all.parameters["my.a"], "2");
        assert!(!all.parameters.contains_key("my.b"));
        assert_eq!(all.parameters["max_connections"], "100");
    }
}
