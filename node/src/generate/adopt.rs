//! The configuration for a server that runs already. Pure: from its answers.
//!
//! Commands and places of files are this machine's own and stay in the local
//! part; every other setting that was changed is the cluster's.

use super::sample;
use super::server::Answers;
use crate::config::join;
use crate::postgres::parameters::RECOVERY;
use serde_json::{Map, Value, json};
use std::path::Path;

/// Of this machine.
const LOCAL: [&str; 8] = [
    "archive_command",
    "restore_command",
    "archive_cleanup_command",
    "recovery_end_command",
    "ssl_passphrase_command",
    "hba_file",
    "ident_file",
    "config_file",
];
/// Said elsewhere in the configuration.
const ELSEWHERE: [&str; 4] = ["listen_addresses", "port", "cluster_name", "data_directory"];

pub(super) fn lay_over(document: &mut Value, answers: &Answers) {
    let text = |name: &str| answers.all.get(name).cloned().unwrap_or_default();
    if !text("cluster_name").is_empty() {
        document["scope"] = text("cluster_name").into();
    }
    if let Some(bootstrap) = document["bootstrap"].as_object_mut() {
        bootstrap.shift_remove("initdb");
    }
    lay_over_dynamic(&mut document["bootstrap"]["dcs"]["postgresql"], answers);
    lay_over_local(&mut document["postgresql"], answers);
}

fn lay_over_dynamic(section: &mut Value, answers: &Answers) {
    let hints = answers.all.get("wal_log_hints").is_some_and(|value| value == "on");
    section["use_pg_rewind"] = (hints || answers.checksums).into();
    let shared = |name: &&String| {
        let name = name.as_str();
        !LOCAL.contains(&name) && !ELSEWHERE.contains(&name) && !RECOVERY.contains(&name)
    };
    section["parameters"] = Value::Object(chosen(answers, shared));
}

fn chosen(answers: &Answers, wanted: impl Fn(&&String) -> bool) -> Map<String, Value> {
    let names = answers.changed.iter().filter(wanted);
    names.filter_map(|name| Some((name.clone(), answers.all.get(name)?.clone().into()))).collect()
}

fn lay_over_local(section: &mut Value, answers: &Answers) {
    let text = |name: &str| answers.all.get(name).cloned().unwrap_or_default();
    let port: u16 = text("port").parse().unwrap_or(5432);
    let hosts = text("listen_addresses").replace(' ', "");
    if !hosts.is_empty() {
        section["listen"] = format!("{hosts}:{port}").into();
    }
    section["connect_address"] = with_port(&section["connect_address"], port);
    if hosts.is_empty() {
        section["listen"] = section["connect_address"].clone();
    }
    section["data_dir"] = text("data_directory").into();
    if let Some(dir) = &answers.bin_dir {
        section["bin_dir"] = dir.display().to_string().into();
    }
    place_of_config(section, answers);
    section["authentication"] = logins(answers);
    let own = |name: &&String| LOCAL.contains(&name.as_str()) && !is_usual(name, answers);
    section["parameters"] = Value::Object(chosen(answers, own));
    for (key, lines) in [("pg_hba", &answers.pg_hba), ("pg_ident", &answers.pg_ident)] {
        if let Some(section) = section.as_object_mut() {
            section.shift_remove(key);
            let lines = lines.as_ref().filter(|lines| !lines.is_empty());
            section.extend(lines.map(|lines| (key.to_string(), json!(lines))));
        }
    }
}

/// The address of the machine with the server's port.
fn with_port(address: &Value, port: u16) -> Value {
    let host = address.as_str().and_then(|text| text.rsplit_once(':')).map_or("", |(host, _)| host);
    let host = host.trim_matches(['[', ']']);
    join(if host.is_empty() { crate::config::MARK } else { host }, port).into()
}

/// A configuration that lies outside of the data directory, as Debian has it.
fn place_of_config(section: &mut Value, answers: &Answers) {
    let text = |name: &str| answers.all.get(name).cloned().unwrap_or_default();
    let config_file = text("config_file");
    let path = Path::new(&config_file);
    if let Some(dir) = path.parent().filter(|dir| *dir != Path::new(&text("data_directory"))) {
        section["config_dir"] = dir.display().to_string().into();
    }
    let base = path.file_stem().map(|stem| stem.to_string_lossy().into_owned());
    if let Some(base) = base.filter(|base| base != "postgresql") {
        section["config_base_name"] = base.into();
    }
}

/// A file at its usual place needs no setting; that of the configuration itself
/// is said by `config_dir`.
fn is_usual(name: &str, answers: &Answers) -> bool {
    match name {
        "hba_file" => answers.pg_hba.is_some(),
        "ident_file" => answers.pg_ident.is_some(),
        "config_file" => true,
        _ => false,
    }
}

fn logins(answers: &Answers) -> Value {
    let mut all = sample::logins(Some(answers.version / 10_000));
    all["superuser"]["username"] = answers.superuser.clone().into();
    if let Some(password) = &answers.password {
        all["superuser"]["password"] = password.0.clone().into();
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Secret;
    use crate::generate::host::Host;

    fn answers(pairs: &[(&str, &str)]) -> Answers {
        let usual = [
            ("data_directory", "/data"),
            ("config_file", "/data/postgresql.conf"),
            ("hba_file", "/data/pg_hba.conf"),
            ("listen_addresses", "*"),
            ("port", "5433"),
        ];
        let all = usual.iter().chain(pairs);
        let all = all.map(|(name, value)| (name.to_string(), value.to_string())).collect();
        Answers {
            version: 150_002,
            superuser: "postgres".into(),
            password: Some(Secret("word".into())),
            all,
            changed: pairs.iter().map(|(name, _)| name.to_string()).collect(),
            pg_hba: Some(vec!["local all all trust".into()]),
            pg_ident: Some(Vec::new()),
            ..Answers::default()
        }
    }

    fn adopted(answers: &Answers) -> Value {
        let host = Host { address: Some("10.0.0.1".into()), ..Host::default() };
        let mut document = sample::document(&host);
        lay_over(&mut document, answers);
        document
    }

    #[test]
    fn what_is_of_this_machine_stays_local_and_the_rest_is_the_clusters() {
        let document = adopted(&answers(&[
            ("cluster_name", "shop"),
            ("archive_command", "cp %p /a/%f"),
            ("restore_command", "cp /a/%f %p"),
            ("primary_conninfo", "host=x"),
            ("work_mem", "9MB"),
            ("max_connections", "20"),
        ]));
        assert_eq!(document["scope"], "shop");
        let dynamic = &document["bootstrap"]["dcs"]["postgresql"];
        assert_eq!(dynamic["parameters"], json!({"work_mem": "9MB", "max_connections": "20"}));
        assert_eq!(dynamic["use_pg_rewind"], false, "neither hints nor checksums");
        let local = &document["postgresql"];
        assert_eq!(
            local["parameters"],
            json!({"archive_command": "cp %p /a/%f", "restore_command": "cp /a/%f %p"})
        );
        assert_eq!(local["listen"], "*:5433");
        assert_eq!(local["connect_address"], "10.0.0.1:5433");
        assert_eq!(local["pg_hba"], json!(["local all all trust"]));
        assert!(local.get("pg_ident").is_none() && local.get("config_dir").is_none());
        assert_eq!(local["authentication"]["superuser"]["password"], "word");
        assert!(document["bootstrap"].get("initdb").is_none());
    }

    #[test]
    fn files_elsewhere_keep_their_places() {
        let mut answers = answers(&[("hba_file", "/etc/pg/access"), ("listen_addresses", "")]);
        answers.all.insert("config_file".into(), "/etc/pg/main.conf".into());
        answers.pg_hba = None;
        let local = adopted(&answers)["postgresql"].clone();
        assert_eq!(local["parameters"], json!({"hba_file": "/etc/pg/access"}));
        assert_eq!(local["config_dir"], "/etc/pg");
        assert_eq!(local["config_base_name"], "main");
        assert!(local.get("pg_hba").is_none());
        assert_eq!(local["listen"], "10.0.0.1:5433");
    }
}
