//! The sample. Pure: from what is known of the machine.

use super::host::Host;
use crate::config::MARK;
use crate::dcs::settings::{self, OTHER_SECTIONS, SECTIONS};
use serde_json::{Map, Value, json};

/// The first versions that know scram-sha-256, let another user rewind than the
/// superuser, and count kept WAL by its size.
const SCRAM: u32 = 10;
const REWIND_USER: u32 = 11;
const KEEP_SIZE: u32 = 13;

pub(super) fn document(host: &Host) -> Value {
    let known = |text: &Option<String>| text.clone().unwrap_or_else(|| MARK.to_string());
    let at = |port: u16| match &host.address {
        Some(address) => crate::config::join(address, port),
        None => format!("{MARK}:{port}"),
    };
    let method = method(host.major);
    let bin_dir = host.bin_dir.as_ref().map(|dir| dir.display().to_string());
    json!({
        "scope": MARK,
        "name": known(&host.name),
        "restapi": {"listen": at(8008), "connect_address": at(8008)},
        "bootstrap": {
            "dcs": {
                "ttl": 30,
                "loop_wait": 10,
                "retry_timeout": 10,
                "maximum_lag_on_failover": 1_048_576,
                "postgresql": {
                    "use_pg_rewind": true,
                    "use_slots": true,
                    "parameters": parameters(host.major),
                },
            },
            "initdb": [{"encoding": "UTF8"}, "data-checksums"],
        },
        "postgresql": {
            "listen": at(5432),
            "connect_address": at(5432),
            "data_dir": MARK,
            "bin_dir": known(&bin_dir),
            "authentication": logins(host.major),
            "parameters": {"password_encryption": method},
            "pg_hba": [
                format!("local all all {method}"),
                format!("host all all all {method}"),
                format!("host replication replicator all {method}"),
            ],
        },
        "tags": {
            "failover_priority": 1,
            "sync_priority": 1,
            "noloadbalance": false,
            "clonefrom": true,
            "nostream": false,
        },
    })
}

/// An unknown version is taken for a new one. 9.6 is counted as 96.
fn is_at_least(major: Option<u32>, least: u32) -> bool {
    major.is_none_or(|major| (least..90).contains(&major))
}

fn method(major: Option<u32>) -> &'static str {
    if is_at_least(major, SCRAM) { "scram-sha-256" } else { "md5" }
}

/// Those that every member must agree on.
fn parameters(major: Option<u32>) -> Value {
    let keep = match is_at_least(major, KEEP_SIZE) {
        true => ("wal_keep_size", json!("128MB")),
        false => ("wal_keep_segments", json!(8)),
    };
    let mut all = json!({
        "wal_level": "replica",
        "hot_standby": "on",
        "max_connections": 100,
        "max_wal_senders": 10,
        "max_prepared_transactions": 0,
        "max_locks_per_transaction": 64,
        "track_commit_timestamp": "off",
        "max_replication_slots": 10,
        "max_worker_processes": 8,
        "wal_log_hints": "on",
    });
    all[keep.0] = keep.1;
    all
}

pub(super) fn logins(major: Option<u32>) -> Value {
    let login = |user: &str| json!({"username": user, "password": MARK});
    let mut all = json!({"superuser": login("postgres"), "replication": login("replicator")});
    if is_at_least(major, REWIND_USER) {
        all["rewind"] = login("rewind_user");
    }
    all
}

/// A store is needed; the user must name it, unless the environment did. Its
/// section stands before `bootstrap`, where users look for it.
pub(super) fn fill_in_store(document: &mut Value) {
    let Some(all) = document.as_object_mut() else { return };
    let mut sorted = Map::new();
    let mut stores = Map::new();
    for name in SECTIONS.into_iter().chain(OTHER_SECTIONS) {
        stores.extend(all.shift_remove(name).map(|section| (name.to_string(), section)));
    }
    if stores.is_empty() {
        let (name, section) = settings::sample(MARK);
        stores.insert(name.into(), section);
    }
    for (key, value) in std::mem::take(all) {
        if key == "bootstrap" {
            sorted.append(&mut stores);
        }
        sorted.insert(key, value);
    }
    sorted.append(&mut stores);
    *all = sorted;
}

#[cfg(test)]
mod tests {
    use super::*;

    fn host(major: u32) -> Host {
        Host {
            name: Some("pg1".into()),
            address: Some("10.0.0.1".into()),
            bin_dir: Some("/pg/bin".into()),
            major: Some(major),
        }
    }

    #[test]
    fn what_is_known_is_written_and_the_rest_is_marked() {
        let sample = document(&host(15));
        assert_eq!(sample["name"], "pg1");
        assert_eq!(sample["postgresql"]["listen"], "10.0.0.1:5432");
        assert_eq!(sample["restapi"]["connect_address"], "10.0.0.1:8008");
        assert_eq!(sample["scope"], MARK);
        let nothing = document(&Host::default());
        assert_eq!(nothing["postgresql"]["listen"], "#FIXME:5432");
        assert_eq!(nothing["postgresql"]["bin_dir"], MARK);
    }

    #[test]
    fn old_versions_get_what_they_know() {
        let old = document(&host(96));
        assert_eq!(old["postgresql"]["parameters"]["password_encryption"], "md5");
        assert!(old["postgresql"]["authentication"].get("rewind").is_none());
        let dynamic = &old["bootstrap"]["dcs"]["postgresql"]["parameters"];
        assert_eq!(dynamic["wal_keep_segments"], 8);
        let new = document(&host(15));
        assert_eq!(new["postgresql"]["pg_hba"][0], "local all all scram-sha-256");
        assert!(new["postgresql"]["authentication"]["rewind"].is_object());
        assert_eq!(document(&host(10))["postgresql"]["authentication"].get("rewind"), None);
    }

    #[test]
    fn a_store_of_the_environment_is_the_store() {
        let mut sample = document(&host(15));
        fill_in_store(&mut sample);
        assert_eq!(sample["etcd3"]["host"], "#FIXME:2379");
        let mut sample = document(&host(15));
        sample["etcd"] = json!({"host": "e:1"});
        fill_in_store(&mut sample);
        let keys: Vec<&String> = sample.as_object().unwrap().keys().collect();
        assert_eq!(keys, ["scope", "name", "restapi", "etcd", "bootstrap", "postgresql", "tags"]);
    }
}
