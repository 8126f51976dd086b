//! The known settings: one row each.
//!
//! The type check, the defaults, the search for misspelt keys, the `PATRONI_*`
//! names and the reference page are made from these rows and those of the store
//! (`dcs/settings/rows.rs`).
//!
//! Invariants, tested below: no path and no variable appears twice, and every
//! default is a value its own row accepts.

use crate::dcs;
use crate::document::kind::Kind::{self, *};
pub use crate::document::setting::{Effect, Setting};
use crate::document::setting::{default_among, row};
use topology::number::Base;

const LEVELS: &[&str] = &["DEBUG", "INFO", "WARN", "WARNING", "ERROR", "FATAL", "CRITICAL"];
const WATCHDOG: &[&str] = &["automatic", "auto", "required", "require", "disable", "disabled"];
const COUNT: Kind = Whole { min: 0, max: i64::MAX };
const AT_LEAST_ONE: Kind = Whole { min: 1, max: i64::MAX };
const SECONDS: Kind = Counted(Base::Seconds);
const BYTES: Kind = Counted(Base::Bytes);
const ANY_NUMBER: Kind = Whole { min: i64::MIN, max: i64::MAX };
const QUEUE: Kind = Whole { min: 0, max: 4096 };
const MODE: Kind = Whole { min: 0, max: 0o777 };

#[rustfmt::skip]
const FIRST: &[Setting] = &[
    row("scope", Text, "", "Name of the cluster in the store.").required().env(),
    row("name", Text, "", "Name of this member, unique in its group.").required().env(),
    row("namespace", Text, "/service", "Prefix of all keys in the store.").env(),
    row("minimum_ttl", SECONDS, "20", "Of this product: 5 to 20; a shorter ttl is raised to it."),
    row("thread_{pool|stack}_size", Any, "", "Not needed: there is no such pool.").idle().env(),

    row("log.level", Word(LEVELS), "INFO", "Least severe line that is written.").env(),
    row("log.type", Word(&["plain", "json"]), "plain", "Form of a line.").env(),
    row("log.dir", Path, "", "Directory of `patroni.log`; else standard error.").env(),
    row("log.file_size", AT_LEAST_ONE, "25000000", "Bytes of one log file.").env(),
    row("log.file_num", Whole { min: 0, max: 10_000 }, "4", "Rotated files that are kept.").env(),
    row("log.mode", MODE, "", "Permissions of the log file.").env(),
    row("log.format", Any, "", "Form of a plain line.").env(),
    row("log.dateformat", Text, "", "Form of the time.").env(),
    row("log.static_fields", Map, "", "Constant fields of JSON lines.").env(),
    row("log.loggers", Map, "", "Levels by module.").env(),
    row("log.traceback_level", Word(LEVELS), "ERROR",
        "DEBUG: stack traces of panics only in a log of that level.").env(),
    row("log.max_queue_size", COUNT, "1000", "Lines that may wait to be written.").env(),
    row("log.deduplicate_heartbeat_logs", Switch, "false", "Drop repeated lines.").env(),

    row("restapi.listen", Bind(8008), "", "Where the REST API listens.").required().env(),
    row("restapi.connect_address", Address(8008), "", "Where others reach it.").env(),
    row("restapi.authentication.username", Text, "", "Basic auth of unsafe methods.").env(),
    row("restapi.authentication.password", Secret, "", "Basic auth of unsafe methods.").env(),
    row("restapi.certfile", Path, "", "Certificate; switches HTTPS on.").env(),
    row("restapi.keyfile", Path, "", "Its key; default: in the certificate's file.").env(),
    row("restapi.keyfile_password", Secret, "", "Password of the key.").env(),
    row("restapi.cafile", Path, "", "Authorities that clients are verified with.").env(),
    row("restapi.ciphers", Text, "", "Allowed suites of TLS 1.2.").env(),
    row("restapi.verify_client", Word(&["none", "optional", "required"]), "none",
        "Whether clients need a certificate.").env(),
    row("restapi.allowlist", Texts, "", "Hosts that may use unsafe methods.").env(),
    row("restapi.allowlist_include_members", Switch, "false", "Allow the members too.").env(),
    row("restapi.http_extra_headers", Map, "", "Added to every answer.").env(),
    row("restapi.https_extra_headers", Map, "", "Added to every answer over TLS.").env(),
    row("restapi.server_tokens", Text, "original", "What the Server header tells.").env(),
    row("restapi.request_queue_size", QUEUE, "5",
        "Callers that may wait; never fewer than 1024.").env(),
    row("restapi.thread_pool_size", Any, "", "Not needed here.").idle().env(),

    row("ctl.authentication.username", Text, "", "Default: that of restapi.").env(),
    row("ctl.authentication.password", Secret, "", "Default: that of restapi.").env(),
    row("ctl.insecure", Switch, "false", "Do not verify server certificates.").env(),
    row("ctl.cacert", Path, "", "Authorities; default: restapi.cafile.").env(),
    row("ctl.certfile", Path, "", "Client certificate.").env(),
    row("ctl.keyfile", Path, "", "Its key; default: in the certificate's file.").env(),
    row("ctl.keyfile_password", Secret, "", "Password of the key.").env(),
];

/// Those after the sections of stores.
#[rustfmt::skip]
const REST: &[Setting] = &[
    row("bootstrap.dcs.ttl", SECONDS, "30", "Seconds a silent leader keeps its key."),
    row("bootstrap.dcs.loop_wait", SECONDS, "10", "Seconds between two heartbeats."),
    row("bootstrap.dcs.retry_timeout", SECONDS, "10", "Seconds one call is retried."),
    row("bootstrap.dcs.primary_race_backoff", SECONDS, "0", "Wait while WAL still arrives."),
    row("bootstrap.dcs.maximum_lag_on_failover", BYTES, "1048576", "Bytes a candidate may lack."),
    row("bootstrap.dcs.maximum_lag_on_syncnode", BYTES, "-1", "Bytes; 0 or less: off."),
    row("bootstrap.dcs.max_timelines_history", COUNT, "0", "Kept lines of history; 0: all."),
    row("bootstrap.dcs.{primary|master}_start_timeout", SECONDS, "300", "Seconds that crash recovery or a promotion may take."),
    row("bootstrap.dcs.{primary|master}_stop_timeout", SECONDS, "0", "Seconds a stop may take."),
    row("bootstrap.dcs.synchronous_mode", SwitchOr(&["quorum"]), "off", "Synchronous mode."),
    row("bootstrap.dcs.synchronous_mode_strict", Switch, "false", "Never without a standby."),
    row("bootstrap.dcs.synchronous_node_count", COUNT, "1", "Wanted synchronous standbys."),
    row("bootstrap.dcs.failsafe_mode", SwitchOr(&["majority"]), "false", "Keep leading while all members, or a majority of them, agree."),
    row("bootstrap.dcs.check_timeline", Switch, "false", "Candidates need the newest timeline."),
    row("bootstrap.dcs.pause", Switch, "false", "Maintenance mode."),
    row("bootstrap.dcs.member_slots_ttl", SECONDS, "1800", "Seconds a gone member's slot stays."),
    row("bootstrap.dcs.{slots|permanent_slots|permanent_replication_slots}", Map, "",
        "Permanent slots."),
    row("bootstrap.dcs.ignore_slots", Any, "", "Slots that are never dropped: a list of maps with name, type, database, plugin."),
    row("bootstrap.dcs.standby_cluster", Map, "", "The upstream of a standby cluster."),
    row("bootstrap.dcs.standby_clusters", Any, "",
        "Clusters that follow this one: name and slot of each."),
    row("bootstrap.dcs.postgresql", Map, "", "Settings of PostgreSQL on all members."),
    row("bootstrap.method", Text, "initdb", "How a new cluster is made."),
    row("bootstrap.initdb", Options, "", "Options of initdb."),
    row("bootstrap.pg_hba", Lines, "", "Lines for the generated pg_hba.conf."),
    row("bootstrap.{post_bootstrap|post_init}", Text, "", "Command run after it."),
    row("bootstrap.users", Any, "", "Users are not made; write a post_bootstrap script.").gone(),

    row("postgresql.name", Text, "", "Old place of `name`."),
    row("postgresql.listen", Listen(5432), "", "Where PostgreSQL listens.").required().env(),
    row("postgresql.connect_address", Address(5432), "", "Where others reach it.").env(),
    row("postgresql.proxy_address", Address(5432), "", "A proxy before it.").env(),
    row("postgresql.data_dir", Path, "", "The data directory.").required().env(),
    row("postgresql.config_dir", Path, "", "Default: the data directory.").env(),
    row("postgresql.config_base_name", Text, "postgresql", "Of the files."),
    row("postgresql.database", Text, "postgres", "The daemon connects to it."),
    row("postgresql.bin_dir", Path, "", "Directory of PostgreSQL's programs.").env(),
    row("postgresql.bin_name.{pg_ctl|initdb|pg_controldata|pg_basebackup|postgres|pg_isready\
        |pg_rewind}", Text, "", "Another name of a program.").env(),
    row("postgresql.pgpass", Path, "", "Password file; default $HOME/pgpass.").env(),
    row("postgresql.authentication.superuser.username", Text, "",
        "Default: the user that runs the daemon.").env(),
    row("postgresql.authentication.replication.username", Text, "",
        "A user of the database.").required().env(),
    row("postgresql.authentication.rewind.username", Text, "", "Default: the superuser.").env(),
    row("postgresql.authentication.{superuser|replication|rewind}.{password|sslpassword}",
        Secret, "", "Its password.").env(),
    row("postgresql.authentication.{superuser|replication|rewind}.{sslcert|sslkey|sslrootcert\
        |sslcrl|sslcrldir}", Path, "", "A parameter of libpq.").env(),
    row("postgresql.authentication.{superuser|replication|rewind}.{sslmode|gssencmode\
        |channel_binding|sslnegotiation}", Text, "", "A parameter of libpq.").env(),
    row("postgresql.krbsrvname", Text, "", "Kerberos service name."),
    row("postgresql.use_unix_socket", Switch, "false", "The daemon uses the socket."),
    row("postgresql.use_unix_socket_repl", Switch, "false",
        "Not needed: nothing here replicates from its own server.").idle(),
    row("postgresql.use_slots", Switch, "true", "Set it with edit-config.").idle(),
    row("postgresql.parameters", Map, "", "Settings of this PostgreSQL."),
    row("postgresql.parameters_{primary|replica|standby_leader}", Map, "", "By role."),
    row("postgresql.pg_hba", Lines, "", "All lines of pg_hba.conf."),
    row("postgresql.pg_hba_{primary|replica|standby_leader}", Lines, "", "By role."),
    row("postgresql.pg_ident", Lines, "", "All lines of pg_ident.conf."),
    row("postgresql.pg_ident_{primary|replica|standby_leader}", Lines, "", "By role."),
    row("postgresql.custom_conf", Text, "", "Included first."),
    row("postgresql.recovery_conf", Map, "", "Recovery settings."),
    row("postgresql.pg_ctl_timeout", AT_LEAST_ONE, "60", "Seconds a start may take."),
    row("postgresql.use_pg_rewind", Switch, "", "Rewind instead of copying anew."),
    row("postgresql.rewind", Options, "", "Options of pg_rewind."),
    row("postgresql.remove_data_directory_on_{rewind_failure|diverged_timelines}", Switch,
        "", "Allow the removal and a new copy."),
    row("postgresql.{create_replica_methods|create_replica_method}", Names, "basebackup",
        "How a replica is made."),
    row("postgresql.basebackup", Options, "", "Options of pg_basebackup."),
    row("postgresql.callbacks.{on_start|on_stop|on_restart|on_reload|on_role_change}", Text, "",
        "Command run on an event."),
    row("postgresql.pre_promote", Text, "", "A gate before promotion."),
    row("postgresql.before_stop", Text, "", "Command run before a stop."),

    row("tags.{nofailover|noloadbalance|clonefrom|nosync|nostream}", Switch, "false",
        "What a member does not do, or may serve for."),
    row("tags.{failover_priority|sync_priority}", ANY_NUMBER, "1", "0 or less: never."),
    row("tags.replicatefrom", Text, "", "Member to stream from."),

    row("watchdog.mode", SwitchOr(WATCHDOG), "automatic",
        "Resets a machine whose daemon hangs: off, automatic (where there is one), required."),
    row("watchdog.device", Path, "/dev/watchdog", "The device."),
    row("watchdog.driver", Text, "default",
        "default: the kernel's; testing: tells a FIFO what it would do."),
    row("watchdog.safety_margin", Whole { min: -1, max: i64::MAX }, "5",
        "Seconds before ttl at which it fires; -1: at half of ttl."),

    row("citus.group", Any, "", "0 is the coordinator.").env(),
    row("citus.database", Any, "", "The same on all groups.").env(),
    row("citus.databases", Any, "", "More databases, each with rows of its own; the same on all groups."),
    row("citus.poolers", Any, "", "`HOST:PORT` of a pooler by group: all nodes go through it."),
    row("citus.stand_in", Switch, "false", "Tests only: the SQL stand-in."),

    row("topology.formation", Text, "", "Name of the formation."),
    row("topology.region", Text, "", "The region of this daemon."),
    row("topology.regions", Any, "", "All regions: name, priority, section of the store."),
    row("topology.mode", Word(&["manual"]), "manual", "How a region move begins."),
    row("topology.isolation", Word(&["continue"]), "continue", "What an owner alone does."),
    row("topology.step_seconds", Whole { min: 1, max: 86_400 }, "20", "Longest step of a move."),
];

/// All rows; those of stores are the store's own.
pub fn all() -> impl Iterator<Item = &'static Setting> {
    FIRST.iter().chain(dcs::settings::ROWS).chain(REST)
}

/// Every path with its row.
pub fn all_paths() -> impl Iterator<Item = (String, &'static Setting)> {
    all().flat_map(|setting| setting.paths().into_iter().map(move |p| (p, setting)))
}

/// The default of a path, as text.
pub fn default_of(path: &str) -> Option<&'static str> {
    default_among(all(), path)
}

/// The `PATRONI_*` variable of a path.
pub fn variable(path: &str) -> String {
    let short = path
        .replace("postgresql.authentication.", "")
        .replace(".authentication.", ".")
        .replace("bin_name.", "bin_");
    format!("PATRONI_{}", short.replace('.', "_").to_uppercase())
}

/// The variable of a path, if it has one.
pub fn variable_of(path: &str) -> Option<String> {
    let (_, setting) = all_paths().find(|(known, _)| known == path)?;
    setting.env.then(|| variable(path))
}

/// The port of an address that is written without one.
pub fn default_port(path: &str) -> u16 {
    match all_paths().find(|(known, _)| known == path).map(|(_, setting)| setting.kind) {
        Some(Address(port) | Bind(port) | Listen(port)) => port,
        _ => 5432,
    }
}

/// The reference page: every setting as a row of a table.
pub fn reference() -> String {
    let mut page = String::from("| setting | default | variable | meaning |\n|---|---|---|---|\n");
    for (path, setting) in all_paths() {
        let name = if setting.env { variable(&path) } else { String::new() };
        let note = match setting.effect {
            Effect::Gone => " (no longer supported)",
            Effect::Foreign => " (a store that is not supported yet)",
            Effect::Full | Effect::Idle => "",
        };
        let (default, help) = (setting.default, setting.help);
        page.push_str(&format!("| {path} | {default} | {name} | {help}{note} |\n"));
    }
    page
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn no_path_and_no_variable_appears_twice() {
        let paths: Vec<String> = all_paths().map(|(path, _)| path).collect();
        let variables: Vec<String> =
            all_paths().filter(|(_, row)| row.env).map(|(path, _)| variable(&path)).collect();
        for names in [&paths, &variables] {
            let distinct: BTreeSet<&String> = names.iter().collect();
            assert_eq!(distinct.len(), names.len());
        }
    }

    #[test]
    fn a_default_passes_the_check_of_its_own_row() {
        for row in all() {
            assert!(row.kind.check(&row.default.into()).is_none(), "{}", row.path);
        }
    }

    #[test]
    fn patterns_stand_for_each_of_their_words() {
        let all: Vec<String> = all_paths().map(|(path, _)| path).collect();
        for path in [
            "postgresql.authentication.rewind.channel_binding",
            "postgresql.pg_hba_standby_leader",
            "postgresql.bin_name.pg_rewind",
            "etcd.host",
            "bootstrap.dcs.master_stop_timeout",
        ] {
            assert!(all.iter().any(|known| known == path), "{path}");
        }
        assert!(all.iter().all(|path| !path.contains(['{', '|', ' '])));
    }

    #[test]
    fn variables_have_the_documented_names() {
        let cases = [
            ("scope", "PATRONI_SCOPE"),
            ("restapi.authentication.password", "PATRONI_RESTAPI_PASSWORD"),
            ("restapi.connect_address", "PATRONI_RESTAPI_CONNECT_ADDRESS"),
            ("postgresql.bin_name.pg_ctl", "PATRONI_POSTGRESQL_BIN_PG_CTL"),
            ("postgresql.authentication.superuser.sslmode", "PATRONI_SUPERUSER_SSLMODE"),
            ("etcd3.use_proxies", "PATRONI_ETCD3_USE_PROXIES"),
        ];
        for (path, name) in cases {
            assert_eq!(variable(path), name);
        }
        assert!(reference().contains("| PATRONI_CITUS_GROUP |"));
    }
}
