//! The recovery settings of a standby: which server it streams from, and how.
//!
//! Absent on purpose: choosing the upstream; that is a rule (`standby/`).

use super::conninfo::Conninfo;
use super::parameters::{Effective, RECOVERY};
use crate::config::Postgresql;
use serde_json::Value;
use std::collections::BTreeMap;

/// The server that a standby streams from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Upstream {
    pub host: String,
    pub port: u16,
    /// The slot to use over there; none without slots.
    pub slot: Option<String>,
    /// To be named in the connection; `None`: the own maintenance database.
    pub database: Option<String>,
    /// It belongs to another cluster: this member is a standby leader.
    pub remote: bool,
}

/// The latest timeline, unless a rule names another one.
pub(crate) const TARGET: &str = "recovery_target_timeline";

const EMPTY_TARGETS: [&str; 5] = [
    "recovery_target",
    "recovery_target_lsn",
    "recovery_target_name",
    "recovery_target_time",
    "recovery_target_xid",
];

/// Settings of recovery.conf that no version from 13 on knows.
const OLD: [&str; 3] = ["pause_at_recovery_target", "standby_mode", "trigger_file"];

/// The block of a standby. `None` as upstream: it only replays what it has
/// and what its archive gives.
pub(crate) fn settings(
    effective: &Effective,
    settings: &Postgresql,
    member: &str,
    upstream: Option<&Upstream>,
    dynamic: &Value,
    major: u32,
) -> BTreeMap<String, String> {
    let mut block = given(effective, settings, dynamic, major);
    for name in EMPTY_TARGETS {
        block.insert(name.into(), String::new());
    }
    block.insert(TARGET.into(), "latest".into());
    from_standby_cluster(dynamic, upstream.is_some_and(|up| up.remote), &mut block);
    if let Some(upstream) = upstream {
        let conninfo = primary_conninfo(settings, member, upstream, major);
        block.insert("primary_conninfo".into(), conninfo);
        if let Some(slot) = &upstream.slot {
            block.insert("primary_slot_name".into(), slot.clone());
        }
    }
    if major >= 16 {
        // Gone there, and of no use beside a daemon.
        block.remove("promote_trigger_file");
    }
    block
}

/// Whose value is not for an operator to set, nor for PostgreSQL to doubt.
pub(crate) fn is_ours(name: &str) -> bool {
    name.starts_with("recovery_target") || name.starts_with("primary_")
}

/// What the operator wishes beside the source and the target, which are ours.
/// Recovery settings among the parameters replace the section.
fn given(
    effective: &Effective,
    settings: &Postgresql,
    dynamic: &Value,
    major: u32,
) -> BTreeMap<String, String> {
    let mut wished = effective.recovery.clone();
    if wished.is_empty() {
        let stored = dynamic.get("postgresql").and_then(|p| p.get("recovery_conf"));
        let section = settings.recovery_conf.as_ref().or(stored.and_then(Value::as_object));
        for (name, value) in section.into_iter().flatten() {
            wished.insert(name.to_lowercase(), text(value));
        }
    }
    if let Some(file) = wished.remove("trigger_file").filter(|_| major < 16) {
        wished.entry("promote_trigger_file".into()).or_insert(file);
    }
    let known = |name: &str| RECOVERY.contains(&name) && !OLD.contains(&name);
    wished.retain(|name, _| known(name) && !is_ours(name));
    wished
}

/// What a standby here would ask the archive with.
pub(crate) fn restore_command(settings: &Postgresql, dynamic: &Value) -> Option<String> {
    let mut block = given(&Effective::default(), settings, dynamic, 0);
    from_standby_cluster(dynamic, false, &mut block);
    block.remove("restore_command").filter(|command| !command.is_empty())
}

fn from_standby_cluster(dynamic: &Value, leads: bool, block: &mut BTreeMap<String, String>) {
    let Some(section) = dynamic.get("standby_cluster").and_then(Value::as_object) else {
        return;
    };
    let delayed = leads.then_some("recovery_min_apply_delay");
    for name in ["restore_command", "archive_cleanup_command"].into_iter().chain(delayed) {
        let value = section.get(name).map(text).unwrap_or_default();
        if !value.is_empty() {
            block.insert(name.into(), value);
        }
    }
}

fn primary_conninfo(
    settings: &Postgresql,
    member: &str,
    upstream: &Upstream,
    major: u32,
) -> String {
    let several = upstream.remote && upstream.slot.is_some() && upstream.host.contains(',');
    let conninfo = Conninfo {
        login: &settings.replication,
        host: &upstream.host,
        port: upstream.port,
        database: Some(upstream.database.as_deref().unwrap_or(&settings.database)),
        passfile: Some(&settings.pgpass),
        application_name: Some(member),
        target_session_attrs: several.then_some("read-write"),
        major,
    };
    conninfo.render()
}

fn text(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Null => String::new(),
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn block(dynamic: Value, remote: bool) -> BTreeMap<String, String> {
        let slot = Some("s".into());
        let upstream = Upstream { host: "a,b".into(), port: 1, slot, database: None, remote };
        let own = Postgresql { database: "postgres".into(), ..Postgresql::default() };
        settings(&Effective::default(), &own, "n1", Some(&upstream), &dynamic, 15)
    }

    #[test]
    fn the_database_is_the_one_that_the_member_names_else_the_own() {
        let own = Postgresql { database: "maintenance".into(), ..Postgresql::default() };
        let named = |database: Option<&str>| {
            let database = database.map(str::to_string);
            let upstream =
                Upstream { host: "h".into(), port: 7, slot: None, database, remote: false };
            primary_conninfo(&own, "n1", &upstream, 15)
        };
        assert!(named(Some("theirs")).starts_with("dbname=theirs "));
        assert!(named(None).starts_with("dbname=maintenance "));
    }

    #[test]
    fn the_delay_is_for_the_standby_leader() {
        let dynamic = json!({"standby_cluster":
            {"host": "a", "restore_command": "cp", "recovery_min_apply_delay": "5min"}});
        let leader = block(dynamic.clone(), true);
        assert_eq!(leader["recovery_min_apply_delay"], "5min");
        assert!(leader["primary_conninfo"].contains("target_session_attrs=read-write"));
        let replica = block(dynamic, false);
        assert!(!replica.contains_key("recovery_min_apply_delay"));
        assert_eq!(replica["restore_command"], "cp");
        assert!(!replica["primary_conninfo"].contains("target_session_attrs"));
    }

    #[test]
    fn wishes_cannot_move_the_source_or_the_target() {
        let dynamic = json!({"postgresql": {"recovery_conf": {"restore_command": "x",
            "recovery_target_timeline": "current", "primary_slot_name": "other", "junk": 1}}});
        let block = block(dynamic, false);
        assert_eq!(block["recovery_target_timeline"], "latest");
        assert_eq!(block["primary_slot_name"], "s");
        assert_eq!(block["restore_command"], "x");
        assert!(!block.contains_key("junk"));
    }

    #[test]
    fn a_primary_knows_how_its_standby_would_ask_the_archive() {
        let stored = json!({"postgresql": {"recovery_conf": {"restore_command": "stored"}}});
        let own = json!({"restore_command": "own"}).as_object().cloned();
        let own = Postgresql { recovery_conf: own, ..Postgresql::default() };
        let none = Postgresql::default();
        assert_eq!(restore_command(&none, &stored).as_deref(), Some("stored"));
        assert_eq!(restore_command(&own, &stored).as_deref(), Some("own"));
        assert_eq!(restore_command(&none, &json!({})), None);
    }

    #[test]
    fn without_an_upstream_only_the_archive_is_named() {
        let dynamic = json!({"standby_cluster": {"host": "a", "restore_command": "cp",
            "archive_cleanup_command": "rm", "recovery_min_apply_delay": "5min"}});
        let own = Postgresql::default();
        let block = settings(&Effective::default(), &own, "n1", None, &dynamic, 15);
        assert_eq!(
            (block["restore_command"].as_str(), block["recovery_target"].as_str()),
            ("cp", "")
        );
        assert_eq!(block["archive_cleanup_command"], "rm");
        assert_eq!(block["recovery_target_timeline"], "latest");
        for name in ["primary_conninfo", "primary_slot_name", "recovery_min_apply_delay"] {
            assert!(!block.contains_key(name), "{name}");
        }
    }

    #[test]
    fn several_remote_hosts_are_searched_for_the_one_that_writes() {
        let info = |remote: bool| block(json!({}), remote).remove("primary_conninfo").unwrap();
        assert!(info(true).contains(" target_session_attrs=read-write"));
        assert!(!info(false).contains("target_session_attrs"));
    }

    fn given_by(own: Option<Value>, parameters: &[(&str, &str)], major: u32) -> Vec<String> {
        let dynamic = json!({"postgresql": {"recovery_conf": {"restore_command": "stored"}}});
        let own = own.and_then(|own| own.as_object().cloned());
        let own = Postgresql { recovery_conf: own, ..Postgresql::default() };
        let mut effective = Effective::default();
        let recovery = parameters.iter().map(|(name, value)| (name.to_string(), value.to_string()));
        effective.recovery = recovery.collect();
        let block = given(&effective, &own, &dynamic, major);
        block.into_iter().map(|(name, value)| format!("{name}={value}")).collect()
    }

    #[test]
    fn parameters_replace_the_own_section_and_that_the_one_of_the_store() {
        assert_eq!(given_by(None, &[], 15), ["restore_command=stored"]);
        assert!(given_by(Some(json!({})), &[], 15).is_empty());
        let own = Some(json!({"restore_command": "own", "recovery_end_command": "e"}));
        assert_eq!(
            given_by(own.clone(), &[], 15),
            ["recovery_end_command=e", "restore_command=own"]
        );
        assert_eq!(given_by(own, &[("restore_command", "p")], 15), ["restore_command=p"]);
    }

    #[test]
    fn names_of_old_versions_are_renamed_or_dropped() {
        let old = [("trigger_file", "/t"), ("standby_mode", "on")];
        assert_eq!(given_by(None, &old, 15), ["promote_trigger_file=/t"]);
        assert!(given_by(None, &old, 16).is_empty());
    }
}
