//! What `/config` says about PostgreSQL, below what the member's own file says.
//!
//! A key of `postgresql` that the file gives counts as a whole; one that it does
//! not give is taken from the store. The file's own words stay in `raw`, so this
//! can be done anew whenever either side changes.
//!
//! Absent on purpose: parameters, access lines and recovery settings, which are
//! laid together line by line where PostgreSQL's files are written, and the ways
//! to make replicas, which are read where one is made.

use super::document::whole_of;
use super::env::Environment;
use super::of_all_members::OF_ONE_MEMBER;
use super::{Postgresql, Settings, of_all_members, postgresql};
use crate::document::findings::Findings;
use crate::document::kind::scalar;
use serde_json::{Map, Value};

/// Has rules of its own, by which both sides are laid together elsewhere.
const ELSEWHERE: [&str; 4] = ["parameters", "pg_hba", "pg_ident", "recovery_conf"];

impl Settings {
    /// The same for a daemon that begins: what a running one cannot change is
    /// taken from the store, too.
    pub fn with_cluster_wide_at_start(&self, dynamic: &Value) -> (Settings, Vec<String>) {
        let (read, warnings) = self.laid_on(dynamic);
        let (settings, _) = self.with_cluster_wide(dynamic);
        let postgresql = Postgresql {
            config_base_name: read.config_base_name,
            bin_dir: read.bin_dir,
            database: read.database,
            ..settings.postgresql
        };
        (Settings { postgresql, ..settings }, warnings)
    }

    /// These settings with what the file leaves open taken from `/config`, and
    /// what to tell about values there that make no sense.
    pub fn with_cluster_wide(&self, dynamic: &Value) -> (Settings, Vec<String>) {
        let (read, mut warnings) = self.laid_on(dynamic);
        let socket_directories = read.socket_directories.clone().or_else(|| sockets_of(dynamic));
        let own = &self.postgresql;
        warnings.extend(waiting(own, &read));
        let postgresql = Postgresql {
            socket_directories,
            // Changed by a restart only, or completed from the environment.
            data_dir: own.data_dir.clone(),
            config_dir: own.config_dir.clone(),
            config_base_name: own.config_base_name.clone(),
            database: own.database.clone(),
            bin_dir: own.bin_dir.clone(),
            pgpass: own.pgpass.clone(),
            ..read
        };
        (Settings { postgresql, ..self.clone() }, warnings)
    }

    fn laid_on(&self, dynamic: &Value) -> (Postgresql, Vec<String>) {
        let mut raw = self.raw.clone();
        let mut warnings = Vec::new();
        let given = dynamic.get("postgresql").and_then(Value::as_object);
        let given = given.into_iter().flatten().filter(|(_, value)| !value.is_null());
        if let Some(own) = raw.get_mut("postgresql").and_then(Value::as_object_mut) {
            for (key, value) in given {
                take(own, key, value, &mut warnings);
            }
        }
        // What the file itself lacks was told when it was read.
        let mut told = Findings::default();
        let (document, nothing) = (whole_of(&raw), Environment::new());
        (postgresql::read(document, &nothing, &mut told), warnings)
    }
}

/// What only the next start of the daemon takes over.
fn waiting(own: &Postgresql, read: &Postgresql) -> Vec<String> {
    let differs = [
        ("config_base_name", own.config_base_name != read.config_base_name),
        ("bin_dir", own.bin_dir != read.bin_dir),
        ("database", own.database != read.database),
    ];
    let names = differs.into_iter().filter(|(_, differs)| *differs).map(|(name, _)| name);
    let told =
        |name| format!("/config: postgresql.{name} counts from the next start of the daemon");
    names.map(told).collect()
}

fn sockets_of(dynamic: &Value) -> Option<String> {
    scalar(dynamic.get("postgresql")?.get("parameters")?.get("unix_socket_directories")?)
}

fn take(own: &mut Map<String, Value>, key: &str, value: &Value, warnings: &mut Vec<String>) {
    let is_elsewhere = |name: &&&str| key == **name || key.starts_with(&format!("{name}_"));
    let mut found = Findings::default();
    if ELSEWHERE.iter().find(is_elsewhere).is_some() {
        of_all_members::check_key(key, value, &format!("postgresql.{key}"), &mut found);
        return warnings.extend(found.iter().map(|finding| format!("/config: {finding}")));
    }
    if OF_ONE_MEMBER.contains(&key) {
        let remedy = "write it into the file of each member";
        return warnings.push(format!("/config: postgresql.{key} has no effect; {remedy}"));
    }
    if own.get(key).is_some_and(|own| !own.is_null()) {
        return;
    }
    of_all_members::check_key(key, value, &format!("postgresql.{key}"), &mut found);
    if found.is_empty() {
        own.insert(key.to_string(), value.clone());
    }
    warnings.extend(found.iter().map(|finding| format!("/config: ignored: {finding}")));
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn own(more: &str) -> Settings {
        let text = format!("{}\n{more}", include_str!("testdata/n1.yml"));
        let env = [("PATRONI_CONFIGURATION".to_string(), text)].into_iter().collect();
        super::super::load(None, &env).unwrap_or_else(|findings| panic!("{findings}")).settings
    }

    fn laid(own: &Settings, section: Value) -> (Postgresql, Vec<String>) {
        let (settings, warnings) = own.with_cluster_wide(&json!({"postgresql": section}));
        (settings.postgresql, warnings)
    }

    #[test]
    fn what_the_file_leaves_open_is_taken_from_the_store() {
        let (laid, warnings) = laid(
            &own(""),
            json!({"use_pg_rewind": "on", "pg_ctl_timeout": 90,
            "krbsrvname": "pg", "bin_name": {"postgres": "pg"}, "use_unix_socket": true,
            "parameters": {"unix_socket_directories": "/run/a", "work_mem": 1}}),
        );
        assert!(warnings.is_empty(), "{warnings:?}");
        assert_eq!((laid.use_pg_rewind, laid.pg_ctl_timeout_s), (Some(true), 90));
        assert!(laid.use_unix_socket && laid.superuser.extra["krbsrvname"] == "pg");
        assert!(laid.tool("postgres").ends_with("pg"));
        assert_eq!(laid.socket_directories.as_deref(), Some("/golden"), "the file says so");
        assert!(!laid.parameters.contains_key("work_mem"), "laid together elsewhere");
    }

    #[test]
    fn what_the_file_gives_counts_as_a_whole() {
        let text = "  pg_ctl_timeout: 30\n  callbacks: {on_start: own}\n  use_pg_rewind: null\n";
        let (laid, _) = laid(
            &own(text),
            json!({"pg_ctl_timeout": 90, "use_pg_rewind": true,
            "callbacks": {"on_start": "theirs", "on_stop": "theirs"}}),
        );
        assert_eq!((laid.pg_ctl_timeout_s, laid.use_pg_rewind), (30, Some(true)));
        assert_eq!(
            laid.callbacks.into_iter().collect::<Vec<_>>(),
            [("on_start".into(), "own".into())]
        );
    }

    #[test]
    fn what_is_one_members_own_and_what_makes_no_sense_is_told() {
        let own = own("");
        let (laid, warnings) = laid(
            &own,
            json!({"listen": "x:1", "data_dir": "/other",
            "authentication": {}, "pg_ctl_timeout": "soon", "callbacks": "x", "use_slots": true,
            "pg_hba_replica": ["a"], "mine": {"command": "x"}}),
        );
        assert_eq!(
            (laid.listen_hosts, laid.data_dir),
            (own.postgresql.listen_hosts, own.postgresql.data_dir)
        );
        assert_eq!(laid.pg_ctl_timeout_s, 60);
        assert_eq!(warnings.len(), 5, "{warnings:?}");
        let wanted = "/config: ignored: postgresql.pg_ctl_timeout: `soon` is no whole number";
        assert!(warnings[3].starts_with(wanted), "{warnings:?}");
    }

    #[test]
    fn p4_what_is_laid_together_elsewhere_is_told_when_it_makes_no_sense() {
        let (_, warnings) = laid(
            &own(""),
            json!({"pg_hba": "local all all trust", "parameters": "work_mem = 1MB",
                "pg_ident_replica": [{"a": "b"}], "recovery_conf": {"restore_command": ["cp"]},
                "bin_dir": "bin"}),
        );
        assert_eq!(
            warnings,
            [
                "/config: postgresql.pg_hba: a text is no list of texts; write `- item` lines",
                "/config: postgresql.parameters: a text is no map; write `key: value` lines",
                "/config: postgresql.pg_ident_replica: item 1 is a map, not a text; \
                 write one text in each item",
                "/config: postgresql.recovery_conf.restore_command: a list is no single value; \
                 write one text",
            ]
        );
    }

    #[test]
    fn what_a_running_daemon_cannot_change_is_taken_at_its_start() {
        let own = own("  bin_dir: null\n");
        let dynamic = json!({"postgresql": {"bin_dir": "/pg/bin", "database": "keeper",
            "config_base_name": "main", "data_dir": "/other"}});
        let (begun, warnings) = own.with_cluster_wide_at_start(&dynamic);
        let laid = &begun.postgresql;
        assert_eq!(laid.bin_dir.as_deref(), Some(std::path::Path::new("/pg/bin")));
        assert_eq!((laid.database.as_str(), laid.config_base_name.as_str()), ("keeper", "main"));
        assert_eq!((&laid.data_dir, warnings.len()), (&own.postgresql.data_dir, 1));
        let (goes_on, warnings) = begun.with_cluster_wide(&json!({}));
        assert_eq!(goes_on.postgresql.database, "keeper");
        assert_eq!(warnings.len(), 3, "{warnings:?}");
        assert!(
            warnings[2].ends_with("postgresql.database counts from the next start of the daemon")
        );
        let (same, warnings) = begun.with_cluster_wide(&dynamic);
        assert_eq!((same.postgresql, warnings.len()), (begun.postgresql, 1));
    }

    #[test]
    fn when_the_store_says_nothing_more_it_is_as_it_was() {
        let own = own("");
        let (once, _) = own.with_cluster_wide(&json!({"postgresql": {"use_pg_rewind": true}}));
        let (again, _) = once.with_cluster_wide(&json!({"ttl": 30}));
        assert_eq!(again.postgresql, own.postgresql);
    }
}
