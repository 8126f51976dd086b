//! The `postgresql` section of this member.
//!
//! Absent on purpose: the role-specific and cluster-wide settings, which are
//! laid together where PostgreSQL's files are written.

use super::document::Document;
use super::env::{self, Environment};
use super::options::{read_basebackup, read_rewind};
use super::{Login, Postgresql, RoleSettings};
use crate::document::address;
use crate::document::findings::Findings;
use crate::document::kind::{scalar, shown};
use serde_json::{Map, Value};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

const PORT: u16 = 5432;

pub(super) fn read(document: Document, env: &Environment, findings: &mut Findings) -> Postgresql {
    warn_of_methods_in_a_map(document, findings);
    read_basebackup(document.at("postgresql.basebackup"), "postgresql.basebackup", findings);
    let listen = document.text("postgresql.listen");
    let (listen_hosts, port) = listen
        .and_then(|text| address::parse_listen(&text, PORT))
        .unwrap_or_else(|| (Vec::new(), PORT));
    let (connect_host, connect_port) = connect_address(document, &listen_hosts, port, findings);
    let krbsrvname = document.text("postgresql.krbsrvname");
    let login = |role: &str| {
        let mut login = read_login(document, role)?;
        login.extra.extend(krbsrvname.clone().map(|name| ("krbsrvname".to_string(), name)));
        Some(login)
    };
    let superuser = login("superuser").unwrap_or_else(|| nameless_superuser(document));
    let data_dir = document.path("postgresql.data_dir").unwrap_or_default();
    let config_dir = document.path("postgresql.config_dir").unwrap_or_else(|| data_dir.clone());
    let flag = |name: &str| document.flag(&format!("postgresql.{name}"));
    Postgresql {
        listen_hosts,
        port,
        connect_host,
        connect_port,
        proxy_address: document.text("postgresql.proxy_address"),
        custom_conf: document.text("postgresql.custom_conf").map(|conf| within(&config_dir, conf)),
        config_dir,
        config_base_name: document.text_or_empty("postgresql.config_base_name"),
        data_dir,
        bin_dir: document.path("postgresql.bin_dir"),
        bin_name: texts_of(document.section("postgresql.bin_name")),
        database: document.text_or_empty("postgresql.database"),
        pgpass: password_file(document, env, findings),
        replication: login("replication").unwrap_or_default(),
        rewind: login("rewind").unwrap_or_else(|| superuser.clone()),
        superuser,
        parameters: own_parameters(document, findings),
        pg_hba: document.lines("postgresql.pg_hba"),
        pg_ident: document.lines("postgresql.pg_ident"),
        by_role: ROLES
            .iter()
            .map(|role| (role.to_string(), by_role(document, role, findings)))
            .collect(),
        recovery_conf: parameters(document, "postgresql.recovery_conf", findings),
        use_pg_rewind: document.maybe_flag("postgresql.use_pg_rewind"),
        remove_data_directory_on_rewind_failure: document
            .maybe_flag("postgresql.remove_data_directory_on_rewind_failure"),
        remove_data_directory_on_diverged_timelines: document
            .maybe_flag("postgresql.remove_data_directory_on_diverged_timelines"),
        rewind_options: document
            .at("postgresql.rewind")
            .map(|given| read_rewind(Some(given), "postgresql.rewind", findings)),
        use_unix_socket: flag("use_unix_socket"),
        socket_directories: document.text("postgresql.parameters.unix_socket_directories"),
        pg_ctl_timeout_s: document.count("postgresql.pg_ctl_timeout"),
        callbacks: texts_of(document.section("postgresql.callbacks")),
        pre_promote: document.text("postgresql.pre_promote"),
        before_stop: document.text("postgresql.before_stop"),
    }
}

/// A file that PostgreSQL includes, as it would find it: beside the one that names it.
fn within(config_dir: &Path, file: String) -> String {
    config_dir.join(file).display().to_string()
}

/// Some write the methods with their settings into the list.
fn warn_of_methods_in_a_map(document: Document, findings: &mut Findings) {
    for key in ["create_replica_methods", "create_replica_method"] {
        let path = format!("postgresql.{key}");
        let methods = document.section(&path).into_iter().flatten();
        let with_settings = methods.filter(|(_, value)| value.is_object() || value.is_array());
        for (name, _) in with_settings {
            let passed_over = format!("{path}.{name}: these settings are passed over");
            findings.warn(format!("{passed_over}; write them below postgresql.{name}"));
        }
    }
}

fn connect_address(
    document: Document,
    listen_hosts: &[String],
    port: u16,
    findings: &mut Findings,
) -> (String, u16) {
    const PATH: &str = "postgresql.connect_address";
    let given = document.text(PATH).and_then(|text| address::parse_address(&text, port));
    given.unwrap_or_else(|| {
        if document.at(PATH).is_none() && listen_hosts.iter().any(|host| is_wildcard(host)) {
            findings.warn(unreachable_by_others(PATH));
        }
        (reachable_host(listen_hosts), port)
    })
}

/// A host that others can reach before one that only this machine can.
fn reachable_host(hosts: &[String]) -> String {
    let far = hosts.iter().find(|host| !address::LOCAL_ONLY.contains(&host.as_str()));
    match far.or(hosts.first()) {
        Some(host) if !is_wildcard(host) => host.clone(),
        _ => "localhost".to_string(),
    }
}

pub(super) fn is_wildcard(host: &str) -> bool {
    ["*", "0.0.0.0", "::"].contains(&host)
}

/// What to tell an operator who let others find nothing but `localhost`.
pub(super) fn unreachable_by_others(path: &str) -> String {
    format!("{path} is missing; other members are told `localhost`: write HOST:PORT")
}

fn password_file(document: Document, env: &Environment, findings: &mut Findings) -> PathBuf {
    const PATH: &str = "postgresql.pgpass";
    let at_home = || env::given(env, "HOME").map(|home| PathBuf::from(home).join("pgpass"));
    document.path(PATH).or_else(at_home).unwrap_or_else(|| {
        findings.add(PATH, "is missing and there is no home directory", "write a file's path");
        PathBuf::new()
    })
}

/// A login of `postgresql.authentication`, if it names a user.
pub(super) fn read_login(document: Document, role: &str) -> Option<Login> {
    let section = document.section(&format!("postgresql.authentication.{role}"))?;
    let mut extra = texts_of(Some(section));
    let username = extra.remove("username").filter(|name| !name.is_empty())?;
    let password = extra.remove("password").map(super::Secret);
    extra.retain(|key, value| EXTRA_KEYS.contains(&key.as_str()) && !value.is_empty());
    Some(Login { username, password, extra })
}

/// A superuser who is not named is called as the user that runs PostgreSQL, as
/// its own programs have it.
fn nameless_superuser(document: Document) -> Login {
    let of = |key: &str| document.text(&format!("postgresql.authentication.superuser.{key}"));
    let user = nix::unistd::User::from_uid(nix::unistd::geteuid()).ok().flatten();
    let username = user.map(|user| user.name).unwrap_or_default();
    Login { username, password: of("password").map(super::Secret), ..Login::default() }
}

/// Parameters of libpq that a login may carry.
const EXTRA_KEYS: [&str; 10] = [
    "sslmode",
    "sslcert",
    "sslkey",
    "sslpassword",
    "sslrootcert",
    "sslcrl",
    "sslcrldir",
    "gssencmode",
    "channel_binding",
    "sslnegotiation",
];

fn texts_of(section: Option<&Map<String, Value>>) -> BTreeMap<String, String> {
    let pairs = section.into_iter().flatten();
    pairs.filter_map(|(key, value)| Some((key.clone(), scalar(value)?))).collect()
}

/// Roles that may have settings of their own.
const ROLES: [&str; 3] = ["primary", "replica", "standby_leader"];

fn by_role(document: Document, role: &str, findings: &mut Findings) -> RoleSettings {
    RoleSettings {
        parameters: parameters(document, &format!("postgresql.parameters_{role}"), findings),
        pg_hba: document.lines(&format!("postgresql.pg_hba_{role}")),
        pg_ident: document.lines(&format!("postgresql.pg_ident_{role}")),
    }
}

/// Nothing is not a value: the store's stays.
fn own_parameters(document: Document, findings: &mut Findings) -> Map<String, Value> {
    let given = parameters(document, "postgresql.parameters", findings).unwrap_or_default();
    given.into_iter().filter(|(_, value)| !value.is_null()).collect()
}

/// A map of settings of PostgreSQL, each of which has one value. An empty map
/// is given: it hides what the store says.
fn parameters(
    document: Document,
    path: &str,
    findings: &mut Findings,
) -> Option<Map<String, Value>> {
    let given = document.section(path)?.clone();
    for (name, value) in given.iter().filter(|(_, value)| value.is_array() || value.is_object()) {
        let what = format!("{} is no single value", shown(value));
        findings.add(&format!("{path}.{name}"), what, "write one text");
    }
    Some(given)
}

#[cfg(test)]
mod tests {
    use super::super::document::whole_of;
    use super::*;
    use serde_json::json;

    fn read_section(section: Value) -> (Postgresql, Findings) {
        let raw = json!({"postgresql": section});
        let env = Environment::from([("HOME".to_string(), "/home/p".to_string())]);
        let mut findings = Findings::default();
        let postgresql = read(whole_of(&raw), &env, &mut findings);
        (postgresql, findings)
    }

    #[test]
    fn defaults_follow_the_given_values() {
        let (read, findings) = read_section(json!({"listen": "10.0.0.1:6000", "data_dir": "/d",
            "authentication": {"superuser": {"username": "s", "password": 5, "sslmode": "require",
                "wrong": 1}}}));
        assert!(findings.is_empty());
        assert_eq!((read.connect_host.as_str(), read.connect_port), ("10.0.0.1", 6000));
        assert_eq!(read.config_dir, PathBuf::from("/d"));
        assert_eq!(read.pgpass, PathBuf::from("/home/p/pgpass"));
        assert_eq!((read.database.as_str(), read.pg_ctl_timeout_s), ("postgres", 60));
        assert_eq!(read.rewind, read.superuser);
        assert_eq!(read.superuser.password.unwrap().0, "5");
        assert_eq!(read.superuser.extra.keys().collect::<Vec<_>>(), ["sslmode"]);
    }

    #[test]
    fn every_login_knows_the_kerberos_service() {
        let (read, _) = read_section(json!({"krbsrvname": "pg", "authentication":
            {"superuser": {"username": "s"}, "replication": {"username": "r"}}}));
        for login in [&read.superuser, &read.replication, &read.rewind] {
            assert_eq!(login.extra["krbsrvname"], "pg");
        }
    }

    #[test]
    fn others_are_told_a_host_they_can_reach() {
        let host = |listen: &str| read_section(json!({"listen": listen}));
        assert_eq!(host("127.0.0.1,10.0.0.1:1").0.connect_host, "10.0.0.1");
        assert_eq!(host("127.0.0.1:1").0.connect_host, "127.0.0.1");
        let (read, findings) = host("*:1");
        assert_eq!(read.connect_host, "localhost");
        assert_eq!(findings.warnings().len(), 1);
    }

    #[test]
    fn a_parameter_has_one_value() {
        let (read, findings) = read_section(
            json!({"parameters": {"a": [1], "b": null, "c": "on"}, "recovery_conf": {}}),
        );
        assert!(findings.to_string().starts_with("postgresql.parameters.a: a list is no"));
        assert!(!read.parameters.contains_key("b") && read.parameters.contains_key("c"));
        assert_eq!(read.recovery_conf.map(|map| map.len()), Some(0));
    }

    #[test]
    fn a_role_has_settings_of_its_own() {
        let (read, findings) = read_section(json!({"config_base_name": "pg",
            "pg_hba_replica": ["local all all trust"], "parameters_primary": {"work_mem": "1MB"}}));
        assert!(findings.is_empty() && findings.warnings().is_empty());
        assert_eq!(read.config_base_name, "pg");
        assert_eq!(read.by_role["replica"].pg_hba.as_ref().map(Vec::len), Some(1));
        assert!(read.by_role["primary"].parameters.is_some());
        assert_eq!(read.by_role["standby_leader"], RoleSettings::default());
    }
}
