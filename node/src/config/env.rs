//! The environment as a part of the configuration.
//!
//! The variables are an input: a map that is collected once at start. They
//! become a document that is laid over the one of the file.
//!
//! Invariant: empty variables are "not given".
//!
//! The process's own environment cannot be changed safely while threads run,
//! so the variables stay there; `hide_from` keeps them from every child.

use super::known_keys::nearest;
use super::settings;
use super::yaml;
use crate::dcs::settings::SECTIONS;
use crate::document::findings::Findings;
use crate::document::kind::{self, Kind};
use serde_json::{Map, Value};
use std::collections::BTreeMap;
use std::process::Command;
use topology::tags::parse_bool;

/// The daemon's working directory, in its environment.
pub(super) const WORKING_DIRECTORY: &str = "PWD";
pub type Environment = BTreeMap<String, String>;

/// Other names under which a path is known. The documented name wins.
const ALIASES: [(&str, &str); 5] = [
    ("PATRONI_LOGLEVEL", "log.level"),
    ("PATRONI_LOGFORMAT", "log.format"),
    ("PATRONI_LOG_DATEFMT", "log.dateformat"),
    ("PATRONI_POSTGRESQL_BIN_IS_READY", "postgresql.bin_name.pg_isready"),
    ("PATRONI_RETRIABLE_HTTP_CODES", "kubernetes.retriable_http_codes"),
];
/// Variables with another meaning than one setting.
const SPECIAL: [&str; 1] = ["PATRONI_CONFIGURATION"];

/// All `PATRONI_*` variables, the home directory as `HOME`, and the working
/// directory as `PWD`.
pub fn take_environment() -> Environment {
    let text = |(name, value): (std::ffi::OsString, std::ffi::OsString)| {
        (name.to_string_lossy().into_owned(), value.to_string_lossy().into_owned())
    };
    let mut taken: Environment =
        std::env::vars_os().map(text).filter(|(name, _)| name.starts_with("PATRONI_")).collect();
    if let Some(home) = std::env::home_dir() {
        taken.insert("HOME".into(), home.to_string_lossy().into_owned());
    }
    take_working_directory(&mut taken);
    taken
}

/// A shell may have left another one in the environment.
pub fn take_working_directory(env: &mut Environment) {
    match std::env::current_dir() {
        Ok(here) => env.insert(WORKING_DIRECTORY.into(), here.to_string_lossy().into_owned()),
        Err(_) => env.remove(WORKING_DIRECTORY),
    };
}

/// The settings of the variables as a document, for a configuration that is generated.
pub fn environment_document(env: &Environment) -> Value {
    overlay(env, &mut Findings::default())
}

/// Keeps what was meant for the daemon from a child.
pub fn hide_from(command: &mut Command) {
    for (name, _) in std::env::vars_os() {
        if is_for_the_daemon(&name.to_string_lossy()) {
            command.env_remove(&name);
        }
    }
}

pub fn is_for_the_daemon(name: &str) -> bool {
    name == "NOTIFY_SOCKET" || name.starts_with("PATRONI_")
}

/// What the variables say, as a document.
pub(super) fn overlay(env: &Environment, findings: &mut Findings) -> Value {
    let mut document = Value::Object(Map::new());
    let aliases = ALIASES.iter().map(|(name, path)| (name.to_string(), path.to_string()));
    let named = settings::all_paths().filter(|(_, row)| row.env).map(|(path, _)| path);
    let named: Vec<_> = named.map(|path| (settings::variable(&path), path)).collect();
    for (name, path) in aliases.chain(named.iter().cloned()) {
        if let Some(text) = given(env, &name) {
            put(&mut document, &path, read_variable(&path, text));
            findings.came_from(&path, &name);
        }
    }
    drop_lonely_credentials(&mut document);
    warn_of_misspelt(env, named.into_iter().map(|(name, _)| name).collect(), findings);
    document
}

/// The value of a variable that is set and not empty.
pub(super) fn given<'a>(env: &'a Environment, name: &str) -> Option<&'a str> {
    env.get(name).map(String::as_str).filter(|text| !text.is_empty())
}

fn kind_of(path: &str) -> Kind {
    settings::all_paths().find(|(known, _)| known == path).map_or(Kind::Text, |(_, row)| row.kind)
}

/// A text that cannot be read stays a text, for the check to find.
fn read_variable(path: &str, text: &str) -> Value {
    let plain = || Value::from(text);
    match kind_of(path) {
        Kind::Lines | Kind::Texts => list(text).unwrap_or_else(plain),
        Kind::Map => map(text).unwrap_or_else(plain),
        Kind::Switch => parse_bool(&plain()).map_or_else(plain, Value::from),
        Kind::Whole { .. } => kind::parse_whole(&plain()).map_or_else(plain, Value::from),
        Kind::Real => text.trim().parse::<f64>().map_or_else(|_| plain(), Value::from),
        Kind::Any => special(path, text).unwrap_or_else(plain),
        _ => plain(),
    }
}

/// Settings of several forms, by their path.
fn special(path: &str, text: &str) -> Option<Value> {
    match path {
        "citus.group" => kind::parse_whole(&text.into()).map(Value::from),
        "kubernetes.ports" => list(text),
        // Names of fields, as JSON lines have them, are a list.
        "log.format" if !has_pattern(text) => list(text),
        _ => None,
    }
}

/// `%(name)` somewhere, as a format of lines has it.
fn has_pattern(text: &str) -> bool {
    text.split("%(").skip(1).any(|rest| rest.find(')').is_some_and(|end| end > 0))
}

/// A YAML list, or the inside of one.
pub(super) fn list(text: &str) -> Option<Value> {
    let whole = yaml::parse(text).ok().filter(Value::is_array);
    whole.or_else(|| yaml::parse(&format!("[{text}]")).ok().filter(Value::is_array))
}

/// A YAML map, or the inside of one.
fn map(text: &str) -> Option<Value> {
    let whole = yaml::parse(text).ok().filter(Value::is_object);
    whole.or_else(|| yaml::parse(&format!("{{{text}}}")).ok().filter(Value::is_object))
}

fn put(document: &mut Value, path: &str, value: Value) {
    let nested = path
        .rsplit('.')
        .fold(value, |inner, key| Value::Object(Map::from_iter([(key.to_string(), inner)])));
    topology::document::patch(document, &nested);
}

/// User and password alone do not make a store section: they may be meant for
/// the section that the file has under the other name.
fn drop_lonely_credentials(document: &mut Value) {
    let Some(sections) = document.as_object_mut() else {
        return;
    };
    for name in SECTIONS {
        let only_login = |section: &Value| {
            let mut keys = section.as_object().into_iter().flat_map(Map::keys);
            keys.all(|key| key == "username" || key == "password")
        };
        if sections.get(name).is_some_and(only_login) {
            sections.shift_remove(name);
        }
    }
}

fn warn_of_misspelt(env: &Environment, mut known: Vec<String>, findings: &mut Findings) {
    known.extend(ALIASES.iter().map(|(name, _)| name.to_string()));
    known.extend(SPECIAL.map(str::to_string));
    for name in env.keys().filter(|name| name.starts_with("PATRONI_") && !known.contains(name)) {
        if let Some(near) = nearest(name, &known) {
            findings.warn(format!("the variable {name} is not known; did you mean {near}?"));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn overlay_of(pairs: &[(&str, &str)]) -> (Value, Findings) {
        let env = pairs.iter().map(|(name, text)| (name.to_string(), text.to_string())).collect();
        let mut findings = Findings::default();
        let document = overlay(&env, &mut findings);
        (document, findings)
    }

    #[test]
    fn variables_reach_their_paths_in_their_kinds() {
        let (document, _) = overlay_of(&[
            ("PATRONI_SCOPE", "s"),
            ("PATRONI_ETCD3_HOSTS", "a:1,b:2"),
            ("PATRONI_RESTAPI_USERNAME", "u"),
            ("PATRONI_RESTAPI_HTTP_EXTRA_HEADERS", "A: b, C: d"),
            ("PATRONI_RESTAPI_ALLOWLIST_INCLUDE_MEMBERS", "on"),
            ("PATRONI_SUPERUSER_SSLMODE", "require"),
            ("PATRONI_POSTGRESQL_BIN_IS_READY", "ready"),
            ("PATRONI_LOG_FILE_SIZE", "100"),
            ("PATRONI_CITUS_GROUP", "1"),
            ("PATRONI_NAME", ""),
        ]);
        let wanted = json!({
            "postgresql": {"bin_name": {"pg_isready": "ready"},
                "authentication": {"superuser": {"sslmode": "require"}}},
            "scope": "s", "log": {"file_size": 100},
            "restapi": {"authentication": {"username": "u"}, "allowlist_include_members": true,
                "http_extra_headers": {"A": "b", "C": "d"}},
            "etcd3": {"hosts": ["a:1", "b:2"]},
            "citus": {"group": 1},
        });
        assert_eq!(document, wanted);
    }

    #[test]
    fn every_store_and_every_form_is_understood() {
        let (document, findings) = overlay_of(&[
            ("PATRONI_CONSUL_REGISTER_SERVICE", "on"),
            ("PATRONI_CONSUL_CHECKS", "a, b"),
            ("PATRONI_CONSUL_SCHEME", "https"),
            ("PATRONI_ZOOKEEPER_USE_SSL", "true"),
            ("PATRONI_ZOOKEEPER_SET_ACLS", "CN=a: [ALL]"),
            ("PATRONI_ZOOKEEPER_HOSTS", "'a:1','b:2'"),
            ("PATRONI_EXHIBITOR_PORT", "8181"),
            ("PATRONI_KUBERNETES_LABELS", "{app: x}"),
            ("PATRONI_KUBERNETES_PORTS", "{port: 5432, name: pg}"),
            ("PATRONI_RETRIABLE_HTTP_CODES", "504"),
            ("PATRONI_RAFT_MIN_TIMEOUT", "0.5"),
            ("PATRONI_RAFT_PARTNER_ADDRS", "'a:1'"),
            ("PATRONI_ETCD_USE_PROXIES", "yes"),
            ("PATRONI_LOG_LOGGERS", "http: WARNING"),
            ("PATRONI_LOG_FORMAT", "levelname, {message: msg}"),
            ("PATRONI_LOG_MODE", "0640"),
            ("PATRONI_RESTAPI_THREAD_POOL_SIZE", "7"),
        ]);
        let wanted = json!({
            "consul": {"register_service": true, "checks": ["a", "b"], "scheme": "https"},
            "zookeeper": {"use_ssl": true, "set_acls": {"CN=a": ["ALL"]},
                "hosts": ["a:1", "b:2"]},
            "exhibitor": {"port": 8181},
            "kubernetes": {"labels": {"app": "x"}, "ports": [{"port": 5432, "name": "pg"}],
                "retriable_http_codes": [504]},
            "raft": {"min_timeout": 0.5, "partner_addrs": ["a:1"]},
            "etcd": {"use_proxies": true},
            "log": {"loggers": {"http": "WARNING"}, "format": ["levelname", {"message": "msg"}],
                "mode": 0o640},
            "restapi": {"thread_pool_size": "7"},
        });
        assert_eq!(document, wanted);
        assert!(findings.is_empty() && findings.warnings().is_empty());
        let (document, _) = overlay_of(&[("PATRONI_LOG_FORMAT", "%(levelname)s, %(message)s")]);
        assert_eq!(document["log"]["format"], "%(levelname)s, %(message)s");
    }

    #[test]
    fn the_new_name_wins_over_the_old_one() {
        let (document, _) =
            overlay_of(&[("PATRONI_LOGLEVEL", "DEBUG"), ("PATRONI_LOG_LEVEL", "ERROR")]);
        assert_eq!(document, json!({"log": {"level": "ERROR"}}));
    }

    #[test]
    fn a_login_alone_is_no_store() {
        let login = [("PATRONI_ETCD3_USERNAME", "u"), ("PATRONI_ETCD3_PASSWORD", "p")];
        assert_eq!(overlay_of(&login).0, json!({}));
        let (document, _) = overlay_of(&[login[0], ("PATRONI_ETCD3_HOST", "h:1")]);
        assert_eq!(document, json!({"etcd3": {"host": "h:1", "username": "u"}}));
    }

    #[test]
    fn lists_may_be_yaml_or_commas() {
        for text in ["a,b", "[a, b]", "- a\n- b", "'a','b'"] {
            assert_eq!(list(text), Some(json!(["a", "b"])), "{text}");
        }
        assert_eq!(list("]"), None);
    }

    #[test]
    fn a_misspelt_variable_warns() {
        let (_, findings) = overlay_of(&[("PATRONI_SCOP", "s"), ("PATRONI_ZZZZZZ", "s")]);
        let text = "the variable PATRONI_SCOP is not known; did you mean PATRONI_SCOPE?";
        assert_eq!(findings.warnings(), [text]);
    }
}
