//! The settings that PostgreSQL is started with.
//!
//! Defaults, then `/config`, then the local file, then what the caller lays on
//! top. Settings that all members must agree on (the controlled ones) are taken
//! from `/config` alone and repeated on the command line, above `ALTER SYSTEM`.
//!
//! A bad value never stops a server: it is replaced by the default or left out,
//! and a warning names it.
//!
//! Absent on purpose: the server to stream from (`recovery.rs`), files (`files.rs`).

use super::catalogue::Catalogue;
use super::controldata::ControlData;
use super::controlled;
use super::spelling::scalar;
use crate::config::{Citus, Postgresql};
use member::role::Role;
use serde_json::{Map, Value};
use std::collections::BTreeMap;

/// Settings of recovery: they live in a block of their own.
pub(crate) const RECOVERY: [&str; 18] = [
    "archive_cleanup_command",
    "pause_at_recovery_target",
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
    "standby_mode",
    "trigger_file",
];

pub(crate) struct Sources<'a> {
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
    /// For postgresql.conf, above everything else: any other source overrides it.
    pub weakest: Vec<(&'static str, &'static str)>,
    /// For postgresql.conf.
    pub parameters: BTreeMap<String, String>,
    /// Recovery settings found among the parameters.
    pub recovery: BTreeMap<String, String>,
    /// What the control file demands instead of the configured value.
    pub raised: BTreeMap<String, Raised>,
    pub warnings: Vec<String>,
}

/// A standby has more than it is configured to have: a restart is pending.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Raised {
    pub configured: String,
    pub demanded: String,
}

/// Puts everything together. What PostgreSQL would refuse is still in it
/// (`Catalogue::sift`).
pub(crate) fn effective(sources: &Sources) -> Effective {
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
    all.command_line = controlled::command_line(&all.parameters);
    all
}

/// The section `postgresql` of `/config`.
fn section<'a>(dynamic: &'a Value, key: &str) -> Option<&'a Map<String, Value>> {
    dynamic.get("postgresql")?.get(key)?.as_object()
}

fn controlled(sources: &Sources, all: &mut Effective) {
    let given = section(sources.dynamic, "parameters");
    let given = |name: &str| given.and_then(|map| find(map, name));
    for (name, value) in controlled::values(given, &mut all.warnings) {
        all.parameters.insert(name.into(), value);
    }
    all.parameters.insert("listen_addresses".into(), sources.settings.listen_hosts.join(","));
    all.parameters.insert("port".into(), sources.settings.port.to_string());
    all.parameters.insert("cluster_name".into(), sources.scope.into());
}

/// Everything that a source may set freely; the later map wins.
fn free(sources: &Sources, all: &mut Effective) {
    let maps = [section(sources.dynamic, "parameters"), Some(&sources.settings.parameters)];
    for (name, value) in maps.into_iter().flatten().flatten() {
        set(sources, name, value, all);
    }
    let key = format!("parameters_{}", sources.role.word());
    let own = sources.settings.by_role.get(sources.role.word());
    let own = own.and_then(|settings| settings.parameters.as_ref());
    for (name, value) in own.or(section(sources.dynamic, &key)).into_iter().flatten() {
        if is_controlled(name) {
            all.warnings.push(format!("{key}: {name} is the same in every role: left out"));
        }
        set(sources, name, value, all);
    }
}

fn set(sources: &Sources, name: &str, value: &Value, all: &mut Effective) {
    let lower = name.to_lowercase();
    if is_controlled(&lower) {
        return;
    }
    if RECOVERY.contains(&lower.as_str()) {
        return put(&mut all.recovery, lower, value);
    }
    match sources.catalogue.spell(name) {
        name if name == "config_file" => {
            all.warnings.push("config_file is where this file is: left out".into());
        }
        name if is_file(&name) => put(&mut all.parameters, name, &absolute(sources, value)),
        name => put(&mut all.parameters, name, value),
    }
}

/// Not free to set: the value comes from `/config` alone, or from `listen` and `scope`.
pub(crate) fn is_controlled(name: &str) -> bool {
    controlled::is_one(&name.to_lowercase())
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

/// What a group of Citus has unless something else is said: a node that has gone without a
/// word is given up within seconds, also by Citus's own maintenance daemon.
pub(super) fn citus_defaults(citus: Option<&Citus>) -> &'static [(&'static str, &'static str)] {
    match citus {
        Some(citus) if !citus.stand_in => &CITUS_DEFAULTS,
        _ => &[],
    }
}

/// `sslmode` is what Citus has by itself. An idle session whose other end has gone without a word,
/// with what it has locked, ends before another leader of its group is elected. Citus itself looks for
/// no transactions in doubt: `citus/src/resolver.rs` says when that is safe.
const CITUS_DEFAULTS: [(&str, &str); 6] = [
    ("tcp_keepalives_idle", "5"),
    ("tcp_keepalives_interval", "2"),
    ("tcp_keepalives_count", "3"),
    ("citus.recover_2pc_interval", "-1"),
    ("citus.node_connection_timeout", "5s"),
    (
        "citus.node_conninfo",
        "sslmode=require keepalives_idle=5 keepalives_interval=2 keepalives_count=3 \
         tcp_user_timeout=5000",
    ),
];

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
        let own = all.parameters.get(name).cloned().unwrap_or_default();
        if own.parse::<u64>().is_ok_and(|own| own >= least) {
            continue;
        }
        let demanded = least.to_string();
        all.parameters.insert(name.into(), demanded.clone());
        all.raised.insert(name.into(), Raised { configured: own, demanded });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::RoleSettings;
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
    fn recovery_is_kept_apart_and_files_are_absolute() {
        let local = json!({"my.thing": true, "restore_command": "cp %f %p", "config_file": "x",
            "synchronous_standby_names": "x", "hba_file": "my_hba.conf"});
        let all = put_together(local, json!({"synchronous_mode": "quorum"}), None);
        assert_eq!(all.parameters["my.thing"], "on");
        assert_eq!(all.recovery["restore_command"], "cp %f %p");
        assert_eq!(all.parameters["hba_file"], "/golden/n2/my_hba.conf");
        // The mode is not acted on here: names that the operator sets stay as they are.
        assert_eq!(all.parameters["synchronous_standby_names"], "x");
        assert!(!all.parameters.contains_key("config_file"));
    }

    #[test]
    fn citus_is_preloaded_first() {
        let citus = Citus { database: "c".into(), ..Citus::default() };
        let local = json!({"shared_preload_libraries": "pg_stat_statements,citus"});
        let all = put_together(local, json!({}), Some(&citus));
        assert_eq!(all.parameters["shared_preload_libraries"], "citus,pg_stat_statements");
        assert_eq!(all.parameters["max_prepared_transactions"], "200");
        assert_eq!(all.parameters["wal_level"], "logical");
        assert_eq!(all.parameters["citus.local_hostname"], "127.0.0.1");
    }

    #[test]
    fn nodes_of_citus_give_a_silent_node_up_within_seconds() {
        let citus = Citus { database: "c".into(), group: 1, ..Citus::default() };
        let all = citus_defaults(Some(&citus));
        let conninfo = all.iter().find(|(name, _)| *name == "citus.node_conninfo").unwrap().1;
        assert!(conninfo.contains("tcp_user_timeout=5000 ") || conninfo.ends_with("=5000"));
        assert!(conninfo.starts_with("sslmode=require "), "Citus's own default stays");
        let of = |name: &str| all.iter().find(|(other, _)| *other == name).unwrap().1;
        let seconds = |name: &str| of(name).trim_end_matches('s').parse::<u64>().unwrap();
        let probes = seconds("tcp_keepalives_interval") * seconds("tcp_keepalives_count");
        // `loop_wait` before the shortest `ttl` is over.
        assert!(seconds("tcp_keepalives_idle") + probes < 15);
        // It would end clients that are there and read slowly, too.
        assert!(all.iter().all(|(name, _)| *name != "tcp_user_timeout"));
        let stand_in = Citus { stand_in: true, ..citus };
        assert!(citus_defaults(Some(&stand_in)).is_empty() && citus_defaults(None).is_empty());
    }

    #[test]
    fn role_variants_win_but_do_not_touch_controlled_settings() {
        let dynamic = json!({"postgresql": {"parameters": {"my.a": 1, "my.b": 1, "my.c": 1},
            "parameters_replica": {"my.a": 2, "my.b": null, "max_connections": 300},
            "parameters_primary": {"my.c": 3}}});
        let all = put_together(json!({"my.a": 9}), dynamic, None);
        assert_eq!(all.parameters["my.a"], "2");
        assert_eq!(all.parameters["my.c"], "1", "of another role");
        assert!(!all.parameters.contains_key("my.b"));
        assert_eq!(all.parameters["max_connections"], "100");
        assert!(all.warnings[0].contains("max_connections"), "{:?}", all.warnings);
    }

    #[test]
    fn the_own_variant_hides_that_of_the_store() {
        let dynamic = json!({"postgresql": {"parameters_replica": {"my.a": 2, "my.b": 2}}});
        let mut settings = settings(json!({}));
        let own = json!({"my.a": 3}).as_object().cloned();
        let of_role = RoleSettings { parameters: own, ..RoleSettings::default() };
        settings.by_role.insert("replica".into(), of_role);
        let all = effective(&Sources {
            settings: &settings,
            citus: None,
            scope: "golden",
            dynamic: &dynamic,
            role: Role::Replica,
            at_least: None,
            overrides: &[],
            catalogue: &Catalogue::new(15, ""),
        });
        assert_eq!(all.parameters["my.a"], "3");
        assert!(!all.parameters.contains_key("my.b"));
    }

    #[test]
    fn a_standby_gets_what_its_primary_had() {
        let mut all = put_together(json!({}), json!({}), None);
        raise(&control(90, 0), &mut all);
        assert!(all.raised.is_empty(), "100 is more than 90");
        raise(&control(120, 5), &mut all);
        let raised: Vec<&str> = all.raised.keys().map(String::as_str).collect();
        assert_eq!(raised, ["max_connections", "max_prepared_transactions"]);
        let of = &all.raised["max_connections"];
        assert_eq!((of.configured.as_str(), of.demanded.as_str()), ("100", "120"));
        assert_eq!(all.parameters["max_connections"], "120");
    }

    fn control(max_connections: u64, max_prepared_xacts: u64) -> ControlData {
        ControlData {
            max_connections,
            max_prepared_xacts,
            ..super::super::controldata::parse(super::super::controldata::SAMPLE).unwrap()
        }
    }
}
