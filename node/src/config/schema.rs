//! What `--validate-config` asks beyond what a start needs: rules between
//! settings, ranges, addresses that others can use.
//!
//! A daemon starts with a file that breaks these rules, for it may have run with
//! it for years; an operator who asks for the check gets them as findings.
//!
//! Absent on purpose: what only the machine can tell (`machine.rs`).

use super::document::Document;
use super::settings;
use super::settings::default_port;
use crate::document::address::{LOCAL_ONLY, parse_address, parse_listen};
use crate::document::findings::Findings;
use crate::document::kind::{Kind, parse_whole, shown};
use serde_json::Value;
use topology::dynamic::{MINIMUM_TTL_S, SHORTEST_TTL_S};
use topology::number::{Base, counted};

/// Stands in generated files where a person must write something.
pub const MARK: &str = "#FIXME";

/// An operator needs these to run a cluster; a daemon starts without them.
const REQUIRED: [&str; 3] = [
    "restapi.connect_address",
    "postgresql.connect_address",
    "postgresql.authentication.superuser.username",
];
/// What a section needs when it is there.
const REQUIRED_WITHIN: [(&str, &str); 3] =
    [("bootstrap", "dcs"), ("citus", "database"), ("citus", "group")];
/// Other members must be able to use these.
const FOR_OTHERS: [&str; 4] = [
    "restapi.connect_address",
    "postgresql.connect_address",
    "postgresql.proxy_address",
    "raft.self_addr",
];

/// Ranges of the cluster-wide configuration.
const DYNAMIC: [(&str, Base, i64, i64); 12] = [
    // Or what `minimum_ttl` says.
    ("ttl", Base::Seconds, 20, i64::MAX),
    ("loop_wait", Base::Seconds, 1, i64::MAX),
    ("retry_timeout", Base::Seconds, 3, i64::MAX),
    ("maximum_lag_on_failover", Base::Bytes, 0, i64::MAX),
    ("maximum_lag_on_syncnode", Base::Bytes, -1, i64::MAX),
    ("member_slots_ttl", Base::Seconds, 0, i64::MAX),
    ("primary_start_timeout", Base::Seconds, 0, i64::MAX),
    ("primary_stop_timeout", Base::Seconds, 0, i64::MAX),
    ("master_start_timeout", Base::Seconds, 0, i64::MAX),
    ("master_stop_timeout", Base::Seconds, 0, i64::MAX),
    ("synchronous_node_count", Base::Plain, 1, i64::MAX),
    ("primary_race_backoff", Base::Seconds, 0, i64::MAX),
];
const COUNT_MAX: i64 = 262_143;
/// Ranges of `bootstrap.dcs.postgresql.parameters`.
const PARAMETERS: [(&str, i64, i64); 6] = [
    ("max_connections", 1, COUNT_MAX),
    ("max_locks_per_transaction", 10, i64::MAX),
    ("max_prepared_transactions", 0, COUNT_MAX),
    ("max_replication_slots", 0, COUNT_MAX),
    ("max_wal_senders", 0, COUNT_MAX),
    ("max_worker_processes", 0, COUNT_MAX),
];

pub(super) fn check(document: Document, findings: &mut Findings) {
    let shortest = (SHORTEST_TTL_S.cast_signed(), MINIMUM_TTL_S.cast_signed());
    check_range(document, "minimum_ttl", Base::Seconds, shortest, findings);
    require(document, findings);
    check_addresses(document, findings);
    check_dynamic(document, findings);
    check_lists(document, findings);
    check_tags(document, findings);
    find_unfinished(document.value, "", findings);
}

fn require(document: Document, findings: &mut Findings) {
    let within = REQUIRED_WITHIN.into_iter();
    let within = within.filter(|(section, _)| document.at(section).is_some_and(Value::is_object));
    let within = within.map(|(section, key)| format!("{section}.{key}"));
    for path in REQUIRED.into_iter().map(str::to_string).chain(within) {
        if document.at(&path).is_none() {
            let variable = settings::variable_of(&path);
            let or_set = variable.map(|name| format!(" or set {name}")).unwrap_or_default();
            findings.add(&path, "is missing", format!("write it{or_set}"));
        }
    }
}

fn check_addresses(document: Document, findings: &mut Findings) {
    for path in FOR_OTHERS {
        let given = document.text(path).and_then(|text| parse_address(&text, default_port(path)));
        if let Some((host, _)) = given.filter(|(host, _)| LOCAL_ONLY.contains(&host.as_str())) {
            let what = format!("`{host}` means another machine to every other member");
            findings.add(path, what, "write a host that they reach");
        }
    }
    let listen = document.text("postgresql.listen").and_then(|text| parse_listen(&text, 5432));
    if let Some((hosts, _)) = listen
        && hosts.len() > 1
        && hosts.iter().any(|host| host == "*")
    {
        findings.add("postgresql.listen", "`*` stands beside other hosts", "write `*` alone");
    }
}

fn check_dynamic(document: Document, findings: &mut Findings) {
    let minimum_ttl = super::minimum_ttl(document.value).cast_signed();
    for (key, base, min, max) in DYNAMIC {
        let min = if key == "ttl" { minimum_ttl } else { min };
        check_range(document, &format!("bootstrap.dcs.{key}"), base, (min, max), findings);
    }
    for (key, min, max) in PARAMETERS {
        let path = format!("bootstrap.dcs.postgresql.parameters.{key}");
        check_range(document, &path, Base::Plain, (min, max), findings);
    }
    const STANDBY: &str = "bootstrap.dcs.standby_cluster";
    let sources = ["host", "port", "restore_command"];
    let names_none =
        |_: &&Value| sources.iter().all(|key| document.at(&format!("{STANDBY}.{key}")).is_none());
    if document.at(STANDBY).filter(|section| section.is_object()).filter(names_none).is_some() {
        let remedy = "write host, port or restore_command, or remove the section";
        findings.add(STANDBY, "names no source", remedy);
    }
}

fn check_range(
    document: Document,
    path: &str,
    base: Base,
    (min, max): (i64, i64),
    findings: &mut Findings,
) {
    let Some(value) = document.at(path) else { return };
    if counted(value, base).is_some_and(|number| (min..=max).contains(&number)) {
        return;
    }
    let wanted = match max {
        i64::MAX => format!("no number from {min}"),
        _ => format!("no number from {min} to {max}"),
    };
    findings.add(
        path,
        format!("{} is {wanted}", shown(value)),
        format!("write e.g. {}", min.max(1)),
    );
}

/// An empty list is a mistake: nothing would be allowed, or nothing listed.
fn check_lists(document: Document, findings: &mut Findings) {
    for (path, setting) in settings::all_paths() {
        let is_list = matches!(setting.kind, Kind::Lines | Kind::Texts | Kind::Names);
        let is_empty = |value: &&Value| value.as_array().is_some_and(Vec::is_empty);
        if is_list && document.at(&path).filter(is_empty).is_some() {
            findings.add(&path, "is an empty list", "write items, or remove it");
        }
    }
}

fn check_tags(document: Document, findings: &mut Findings) {
    let pairs = [("nofailover", "failover_priority"), ("nosync", "sync_priority")];
    for (flag, number) in pairs {
        let given = |key: &str| document.at(&format!("tags.{key}")).is_some();
        if given(flag) && given(number) {
            let what = format!("stands beside tags.{number}, which says the same");
            findings.add(&format!("tags.{flag}"), what, "keep one of them");
        }
    }
    for number in ["failover_priority", "sync_priority"] {
        let path = format!("tags.{number}");
        if document.at(&path).and_then(parse_whole).is_some_and(|number| number < 0) {
            findings.add(&path, "is below 0", "write 0 or more");
        }
    }
}

/// Finds what was left unfinished in a generated file.
fn find_unfinished(value: &Value, path: &str, findings: &mut Findings) {
    let below = |key: &str| if path.is_empty() { key.into() } else { format!("{path}.{key}") };
    match value {
        Value::Object(map) => {
            map.iter().for_each(|(key, value)| find_unfinished(value, &below(key), findings));
        }
        Value::Array(items) => {
            items.iter().for_each(|item| find_unfinished(item, path, findings));
        }
        Value::String(text) if text.contains(MARK) => {
            findings.add(path, format!("still says {MARK}"), "write the real value");
        }
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::super::document::whole_of;
    use super::*;
    use serde_json::json;

    fn found(raw: Value) -> Vec<String> {
        let mut findings = Findings::strict();
        check(whole_of(&raw), &mut findings);
        let others = findings.iter().filter(|finding| {
            finding.wrong != "is missing" || !REQUIRED.contains(&finding.path.as_str())
        });
        others.map(|finding| format!("{}: {}", finding.path, finding.wrong)).collect()
    }

    #[test]
    fn addresses_for_others_are_not_this_machine() {
        for host in ["127.0.0.1", "localhost", "*", "[::1]", "0.0.0.0"] {
            let raw = json!({"restapi": {"connect_address": format!("{host}:1")}});
            assert!(found(raw)[0].starts_with("restapi.connect_address: `"), "{host}");
        }
        let raw = json!({"postgresql": {"proxy_address": "localhost", "listen": "*,a:1"}});
        assert_eq!(found(raw).len(), 2);
        assert_eq!(found(json!({"postgresql": {"connect_address": "db1:5432"}})), [""; 0]);
    }

    #[test]
    fn ranges_of_the_cluster_wide_configuration() {
        let raw = json!({"bootstrap": {"dcs": {"ttl": 19, "loop_wait": "1", "retry_timeout": "2s",
            "maximum_lag_on_syncnode": -1, "synchronous_node_count": 0, "standby_cluster":
            {"primary_slot_name": "x"}, "postgresql": {"parameters": {"max_connections": 0,
            "max_locks_per_transaction": 10, "max_wal_senders": "300000"}}}}});
        let paths: Vec<String> =
            found(raw).iter().map(|line| line.split(':').next().unwrap().to_string()).collect();
        let dcs = [
            "ttl",
            "retry_timeout",
            "synchronous_node_count",
            "postgresql.parameters.max_connections",
            "postgresql.parameters.max_wal_senders",
            "standby_cluster",
        ];
        assert_eq!(paths, dcs.map(|key| format!("bootstrap.dcs.{key}")));
    }

    #[test]
    fn sections_lists_and_tags_are_whole() {
        let raw = json!({"bootstrap": {"method": "x"}, "citus": {"group": 1},
            "postgresql": {"pg_hba": []}, "tags": {"nofailover": false, "failover_priority": 1,
            "sync_priority": -1}});
        assert_eq!(
            found(raw),
            [
                "bootstrap.dcs: is missing",
                "citus.database: is missing",
                "postgresql.pg_hba: is an empty list",
                "tags.nofailover: stands beside tags.failover_priority, which says the same",
                "tags.sync_priority: is below 0",
            ]
        );
    }

    #[test]
    fn an_unfinished_file_is_found() {
        let raw = json!({"scope": "#FIXME", "etcd3": {"hosts": ["#FIXME:2379"]}});
        assert_eq!(found(raw), ["scope: still says #FIXME", "etcd3.hosts: still says #FIXME"]);
    }

    #[test]
    fn what_every_cluster_needs_is_asked_for() {
        let mut findings = Findings::strict();
        check(whole_of(&json!({})), &mut findings);
        assert_eq!(findings.iter().count(), REQUIRED.len());
        assert!(findings.to_string().contains("or set PATRONI_RESTAPI_CONNECT_ADDRESS"));
    }
}
