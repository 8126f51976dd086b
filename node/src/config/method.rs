//! The commands that an operator gave for making a data directory: a new
//! cluster's, or a replica's.
//!
//! A method is a section beside the setting that names it. Its `command` runs
//! with every other key of the section as `--key=value`, in their order.
//!
//! Methods of replicas are read anew for every copy: the local file wins key by
//! key over `/config`, and a standby cluster has its own list there.
//!
//! Absent on purpose: running them (`postgres/method.rs`).

use super::ToolOption;
use super::options::read_basebackup;
use crate::document::findings::Findings;
use serde_json::{Map, Value};
use topology::tags::parse_bool;

/// The built-in way to make a replica.
const STANDARD: &str = "basebackup";

/// How an operator's command makes a new cluster.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct BootstrapMethod {
    pub name: String,
    pub command: String,
    /// Without `--scope` and `--datadir`.
    pub no_params: bool,
    /// The command has written the settings of recovery itself.
    pub keep_existing_recovery_conf: bool,
    /// Settings of recovery for the first start.
    pub recovery_conf: Option<Map<String, Value>>,
    pub parameters: Vec<(String, String)>,
}

/// One way to make a replica.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ReplicaMethod {
    Basebackup,
    Custom(CustomMethod),
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CustomMethod {
    pub name: String,
    pub command: String,
    /// What is in the data directory is left for the command.
    pub keep_data: bool,
    /// Without scope, role, datadir and connstring.
    pub no_params: bool,
    /// Needs no member to copy from.
    pub no_leader: bool,
    pub parameters: Vec<(String, String)>,
}

/// How replicas are made now.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ReplicaMethods {
    /// In the order in which they are tried; never empty.
    pub methods: Vec<ReplicaMethod>,
    /// Options of pg_basebackup.
    pub basebackup: Vec<ToolOption>,
    /// What was left out, and why.
    pub warnings: Vec<String>,
}

impl BootstrapMethod {
    const RESERVED: [&str; 6] = [
        "command",
        "no_params",
        "keep_existing_recovery_conf",
        "recovery_conf",
        "scope",
        "datadir",
    ];

    /// `None`: the section has no command.
    pub fn read(name: &str, section: Option<&Value>) -> Option<BootstrapMethod> {
        let section = section?.as_object()?;
        Some(BootstrapMethod {
            name: name.to_string(),
            command: command(section)?,
            no_params: flag(section, "no_params"),
            keep_existing_recovery_conf: flag(section, "keep_existing_recovery_conf"),
            recovery_conf: section.get("recovery_conf").and_then(Value::as_object).cloned(),
            parameters: parameters(section, &Self::RESERVED),
        })
    }
}

impl ReplicaMethods {
    /// `local`: the merged document of file and environment; `dynamic`:
    /// `/config`.
    pub fn read(local: &Value, dynamic: &Value) -> ReplicaMethods {
        let lookup = |key: &str| {
            let of = |document: &'static str, root: &Value| -> Option<Value> {
                root.get(document)?.get(key).filter(|value| !value.is_null()).cloned()
            };
            of("postgresql", local).or_else(|| of("postgresql", dynamic))
        };
        let mut findings = Findings::default();
        let options = lookup("basebackup");
        let basebackup = read_basebackup(options.as_ref(), "postgresql.basebackup", &mut findings);
        let mut names = listed(standby_list(dynamic).as_ref());
        if names.is_empty() && !is_standby_cluster(dynamic) {
            let list = lookup("create_replica_methods").or_else(|| lookup("create_replica_method"));
            names = listed(list.as_ref());
        }
        if names.is_empty() {
            names.push(STANDARD.into());
        }
        let methods = names.iter().map(|name| ReplicaMethod::read(name, lookup(name).as_ref()));
        let methods = methods.collect();
        let mut warnings: Vec<String> = findings.iter().map(ToString::to_string).collect();
        warnings.extend(findings.warnings().iter().cloned());
        ReplicaMethods { methods, basebackup, warnings }
    }

    /// The methods that need no member to copy from.
    pub fn without_source(&self) -> Vec<ReplicaMethod> {
        let alone =
            |method: &&ReplicaMethod| matches!(method, ReplicaMethod::Custom(c) if c.no_leader);
        self.methods.iter().filter(alone).cloned().collect()
    }
}

impl ReplicaMethod {
    fn read(name: &str, section: Option<&Value>) -> ReplicaMethod {
        if name == STANDARD {
            return ReplicaMethod::Basebackup;
        }
        let empty = Map::new();
        let section = section.and_then(Value::as_object).unwrap_or(&empty);
        let no_params = flag(section, "no_params");
        let ours: &[&str] = match no_params {
            true => &["command", "no_params", "no_leader", "keep_data"],
            false => &["command"],
        };
        ReplicaMethod::Custom(CustomMethod {
            name: name.to_string(),
            command: command(section).unwrap_or_else(|| name.to_string()),
            keep_data: flag(section, "keep_data"),
            no_params,
            no_leader: flag(section, "no_leader"),
            parameters: parameters(section, ours),
        })
    }

    pub fn name(&self) -> &str {
        match self {
            ReplicaMethod::Basebackup => STANDARD,
            ReplicaMethod::Custom(method) => &method.name,
        }
    }
}

/// Is there an upstream for the whole cluster?
pub(crate) fn is_standby_cluster(dynamic: &Value) -> bool {
    let section = dynamic.get("standby_cluster").and_then(Value::as_object);
    let given = |key: &str| {
        section.and_then(|s| s.get(key)).is_some_and(|v| !v.is_null() && v != "" && *v != 0)
    };
    ["host", "port", "restore_command"].into_iter().any(given)
}

fn standby_list(dynamic: &Value) -> Option<Value> {
    let section = dynamic.get("standby_cluster").filter(|_| is_standby_cluster(dynamic))?;
    section.get("create_replica_methods").cloned()
}

fn listed(value: Option<&Value>) -> Vec<String> {
    let items = match value {
        Some(Value::Array(items)) => items.iter().filter_map(Value::as_str).collect(),
        Some(Value::String(text)) => text.split(',').collect(),
        Some(Value::Object(map)) => map.keys().map(String::as_str).collect(),
        _ => Vec::new(),
    };
    let names = items.into_iter().map(|name| name.trim().to_string());
    names.filter(|name| !name.is_empty()).collect()
}

fn command(section: &Map<String, Value>) -> Option<String> {
    let text = section.get("command")?.as_str()?.trim();
    (!text.is_empty()).then(|| text.to_string())
}

fn flag(section: &Map<String, Value>, key: &str) -> bool {
    section.get(key).and_then(parse_bool) == Some(true)
}

fn parameters(section: &Map<String, Value>, ours: &[&str]) -> Vec<(String, String)> {
    let theirs = section.iter().filter(|(key, _)| !ours.contains(&key.as_str()));
    theirs.filter_map(|(key, value)| Some((key.clone(), argument(value)?))).collect()
}

/// A value as commands of the field get it: booleans are `True` and `False`.
fn argument(value: &Value) -> Option<String> {
    match value {
        Value::Null => None,
        Value::Bool(true) => Some("True".into()),
        Value::Bool(false) => Some("False".into()),
        Value::String(text) => Some(text.clone()),
        other => Some(other.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn names(methods: &[ReplicaMethod]) -> Vec<&str> {
        methods.iter().map(ReplicaMethod::name).collect()
    }

    #[test]
    fn the_order_is_the_operators_and_the_standard_is_a_base_backup() {
        let local = json!({"postgresql": {"create_replica_methods": ["wal_e", "basebackup", "bare"],
            "wal_e": {"command": "restore -x", "no_leader": 1, "envdir": "/e", "threshold": 5}}});
        let read = ReplicaMethods::read(&local, &Value::Null);
        assert_eq!(names(&read.methods), ["wal_e", "basebackup", "bare"]);
        let ReplicaMethod::Custom(first) = &read.methods[0] else { panic!("a command") };
        let wanted = [("no_leader", "1"), ("envdir", "/e"), ("threshold", "5")];
        assert_eq!(first.parameters, wanted.map(|(k, v)| (k.to_string(), v.to_string())));
        let ReplicaMethod::Custom(bare) = &read.methods[2] else { panic!("a command") };
        assert_eq!(bare.command, "bare");
        assert_eq!(names(&read.without_source()), ["wal_e"]);
        let nothing = ReplicaMethods::read(&json!({}), &json!({"standby_cluster": null}));
        assert_eq!(names(&nothing.methods), ["basebackup"]);
    }

    #[test]
    fn p3_a_map_of_methods_is_the_list_of_its_keys() {
        let local = json!({"postgresql": {"create_replica_methods": {"pgbackrest": {"a": 1},
            "basebackup": null}, "pgbackrest": {"command": "restore"}}});
        let read = ReplicaMethods::read(&local, &Value::Null);
        assert_eq!(names(&read.methods), ["pgbackrest", "basebackup"]);
        let ReplicaMethod::Custom(method) = &read.methods[0] else { panic!("a command") };
        assert_eq!((method.command.as_str(), method.parameters.len()), ("restore", 0));
    }

    #[test]
    fn without_parameters_only_the_operators_own_are_left() {
        let local = json!({"postgresql": {"create_replica_method": ["back"], "back": {
            "command": "b", "no_params": true, "keep_data": "on", "no_leader": false, "x": true}}});
        let read = ReplicaMethods::read(&local, &Value::Null);
        let ReplicaMethod::Custom(method) = &read.methods[0] else { panic!("a command") };
        assert!(method.no_params && method.keep_data && !method.no_leader);
        assert_eq!(method.parameters, [("x".to_string(), "True".to_string())]);
    }

    #[test]
    fn the_local_file_wins_and_a_standby_cluster_has_its_own_list() {
        let local = json!({"postgresql": {"basebackup": [{"max-rate": "1M"}]}});
        let mut dynamic = json!({"postgresql": {"create_replica_methods": ["own"],
            "own": {"command": "o"}, "basebackup": ["verbose"]}});
        let read = ReplicaMethods::read(&local, &dynamic);
        assert_eq!(names(&read.methods), ["own"]);
        assert_eq!(read.basebackup[0].name, "max-rate");
        let list = json!({"host": "h", "create_replica_methods": ["far", "basebackup"]});
        dynamic["standby_cluster"] = list;
        assert_eq!(names(&ReplicaMethods::read(&local, &dynamic).methods), ["far", "basebackup"]);
        dynamic["standby_cluster"] = json!({"host": "", "create_replica_methods": ["far"]});
        assert_eq!(names(&ReplicaMethods::read(&local, &dynamic).methods), ["own"]);
        dynamic["standby_cluster"] = json!({"port": 5432});
        assert_eq!(names(&ReplicaMethods::read(&local, &dynamic).methods), ["basebackup"]);
    }

    #[test]
    fn a_bootstrap_method_needs_a_command_and_keeps_its_own_words_back() {
        let section = json!({"command": "/bin/restore --full", "no_params": false,
            "keep_existing_recovery_conf": true, "recovery_conf": {"recovery_target_time": "t"},
            "scope": "no", "stanza": "s"});
        let read = BootstrapMethod::read("pitr", Some(&section)).unwrap();
        assert_eq!(read.parameters, [("stanza".to_string(), "s".to_string())]);
        assert!(read.keep_existing_recovery_conf && read.recovery_conf.is_some());
        assert!(BootstrapMethod::read("pitr", Some(&json!({"command": ""}))).is_none());
        assert!(BootstrapMethod::read("pitr", None).is_none());
    }
}
