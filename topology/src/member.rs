//! The record a member keeps of itself in the store.
//!
//! Reading is lenient (other programs and older versions write here), writing
//! is exact: key order and presence are those that other tools expect.
//!
//! Invariant: a record reads back as it was written, every field and tag of it.
//! Whether to write it again is decided by comparing the two.

use crate::quote::percent_decoded;
use crate::{Lsn, Tags, Timeline};
use serde_json::{Map, Value};
use std::collections::BTreeMap;
use std::fmt;

/// The version that members publish. Tools compare it as Patroni's, so it
/// names the release whose interface this daemon speaks.
pub const PATRONI_VERSION: &str = "4.1.5";

/// What a member says its PostgreSQL is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MemberState {
    InitializingNewCluster,
    InitdbFailed,
    RunningCustomBootstrap,
    CustomBootstrapFailed,
    CreatingReplica,
    Running,
    Starting,
    StartingAfterCustomBootstrap,
    StartFailed,
    Restarting,
    RestartFailed,
    Stopping,
    Stopped,
    StopFailed,
    Crashed,
}

/// Text and metric number of every state.
pub const STATES: [(MemberState, &str, i64); 15] = [
    (MemberState::InitializingNewCluster, "initializing new cluster", 0),
    (MemberState::InitdbFailed, "initdb failed", 1),
    (MemberState::RunningCustomBootstrap, "running custom bootstrap script", 2),
    (MemberState::CustomBootstrapFailed, "custom bootstrap failed", 3),
    (MemberState::CreatingReplica, "creating replica", 4),
    (MemberState::Running, "running", 5),
    (MemberState::Starting, "starting", 6),
    (MemberState::StartingAfterCustomBootstrap, "starting after custom bootstrap", 7),
    (MemberState::StartFailed, "start failed", 8),
    (MemberState::Restarting, "restarting", 9),
    (MemberState::RestartFailed, "restart failed", 10),
    (MemberState::Stopping, "stopping", 11),
    (MemberState::Stopped, "stopped", 12),
    (MemberState::StopFailed, "stop failed", 13),
    (MemberState::Crashed, "crashed", 14),
];

impl MemberState {
    pub fn text(self) -> &'static str {
        STATES.iter().find(|row| row.0 == self).map_or("unknown", |row| row.1)
    }

    pub fn number(self) -> i64 {
        STATES.iter().find(|row| row.0 == self).map_or(-1, |row| row.2)
    }

    pub fn parse(text: &str) -> Option<MemberState> {
        STATES.iter().find(|row| row.1 == text).map(|row| row.0)
    }
}

impl fmt::Display for MemberState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.text())
    }
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum MemberRole {
    Primary,
    #[default]
    Replica,
    StandbyLeader,
    Demoted,
    Promoted,
    Uninitialized,
}

impl MemberRole {
    pub fn text(self) -> &'static str {
        match self {
            MemberRole::Primary => "primary",
            MemberRole::Replica => "replica",
            MemberRole::StandbyLeader => "standby_leader",
            MemberRole::Demoted => "demoted",
            MemberRole::Promoted => "promoted",
            MemberRole::Uninitialized => "uninitialized",
        }
    }

    pub fn parse(text: &str) -> Option<MemberRole> {
        Some(match text {
            "primary" | "master" => MemberRole::Primary,
            "replica" => MemberRole::Replica,
            "standby_leader" => MemberRole::StandbyLeader,
            "demoted" => MemberRole::Demoted,
            "promoted" => MemberRole::Promoted,
            "uninitialized" => MemberRole::Uninitialized,
            _ => return None,
        })
    }
}

impl fmt::Display for MemberRole {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.text())
    }
}

/// `members/NAME`.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct MemberRecord {
    pub conn_url: Option<String>,
    pub api_url: Option<String>,
    /// The text as it was written; `MemberState::parse` reads it.
    pub state: String,
    pub role: MemberRole,
    pub version: String,
    pub proxy_url: Option<String>,
    /// As they are shown (`Tags::shown`): all of them are written.
    pub tags: Tags,
    pub checkpoint_after_promote: Option<bool>,
    pub pending_restart: bool,
    pub pending_restart_reason: Option<Value>,
    pub xlog_location: Option<Lsn>,
    pub replay_lsn: Option<Lsn>,
    pub receive_lsn: Option<Lsn>,
    pub replication_state: Option<String>,
    pub timeline: Option<Timeline>,
    pub scheduled_restart: Option<Value>,
    pub pause: bool,
    /// Why PostgreSQL does not run here, or does not stream from the remote side, where a
    /// person must do something.
    pub reason: Option<String>,
    /// Of a standby leader.
    pub remote: Option<RemoteEnd>,
    /// Of each permanent logical slot that this member keeps, whether a reader can go on here:
    /// `ready`, `pending` or `missing`.
    pub logical_slots: BTreeMap<String, String>,
}

/// What a standby leader knows of the log that it follows.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RemoteEnd {
    /// The end of that log, as it was last told; `None`: it does not stream.
    pub lsn: Option<Lsn>,
    /// When the last commit that is replayed here was made there.
    pub replayed_at: Option<String>,
}

impl RemoteEnd {
    fn read(value: &Value) -> RemoteEnd {
        RemoteEnd {
            lsn: value.get("lsn").and_then(Value::as_u64).map(Lsn),
            replayed_at: value.get("replayed_at").and_then(Value::as_str).map(str::to_string),
        }
    }

    fn write(&self) -> Value {
        let mut out = Map::new();
        if let Some(lsn) = self.lsn {
            out.insert("lsn".into(), lsn.0.into());
        }
        if let Some(at) = &self.replayed_at {
            out.insert("replayed_at".into(), at.clone().into());
        }
        Value::Object(out)
    }
}

impl MemberRecord {
    /// Reads a record that any program may have written; an unreadable one is empty.
    pub fn read(text: &str) -> MemberRecord {
        if text.starts_with("postgres") {
            return legacy(text);
        }
        match serde_json::from_str(text) {
            Ok(Value::Object(map)) => MemberRecord::from_map(&map),
            _ => MemberRecord::default(),
        }
    }

    fn from_map(map: &Map<String, Value>) -> MemberRecord {
        let text = |key: &str| map.get(key).and_then(Value::as_str).map(str::to_string);
        let lsn = |key: &str| map.get(key).and_then(Value::as_u64).map(Lsn);
        let flag = |key: &str| map.get(key).and_then(Value::as_bool);
        let timeline = map.get("timeline").and_then(Value::as_u64);
        MemberRecord {
            conn_url: text("conn_url"),
            api_url: text("api_url"),
            state: text("state").unwrap_or_default(),
            role: text("role").and_then(|r| MemberRole::parse(&r)).unwrap_or_default(),
            version: text("version").unwrap_or_default(),
            proxy_url: text("proxy_url"),
            tags: Tags(map.get("tags").and_then(Value::as_object).cloned().unwrap_or_default()),
            checkpoint_after_promote: flag("checkpoint_after_promote"),
            pending_restart: flag("pending_restart") == Some(true),
            pending_restart_reason: map.get("pending_restart_reason").cloned(),
            xlog_location: lsn("xlog_location"),
            replay_lsn: lsn("replay_lsn"),
            receive_lsn: lsn("receive_lsn"),
            replication_state: text("replication_state"),
            timeline: timeline.and_then(|t| u32::try_from(t).ok()).map(Timeline),
            scheduled_restart: map.get("scheduled_restart").cloned(),
            pause: flag("pause") == Some(true),
            reason: text("reason"),
            remote: map.get("remote").filter(|value| value.is_object()).map(RemoteEnd::read),
            logical_slots: words(map.get("logical_slots")),
        }
    }

    /// The value as it is written, compact and in the order tools expect.
    pub fn write(&self) -> String {
        let mut out = Map::new();
        let mut put = |key: &str, value: Option<Value>| {
            if let Some(value) = value {
                out.insert(key.to_string(), value);
            }
        };
        put("conn_url", self.conn_url.clone().map(Value::from));
        put("api_url", self.api_url.clone().map(Value::from));
        put("state", Some(self.state.clone().into()));
        put("role", Some(self.role.text().into()));
        put("version", Some(self.version.clone().into()));
        put("proxy_url", self.proxy_url.clone().map(Value::from));
        let tags = &self.tags.0;
        put("tags", (!tags.is_empty()).then(|| Value::Object(tags.clone())));
        put("checkpoint_after_promote", self.checkpoint_after_promote.map(Value::from));
        put("pending_restart", self.pending_restart.then_some(true.into()));
        put("pending_restart_reason", self.pending_restart_reason.clone());
        put("xlog_location", self.xlog_location.map(|l| l.0.into()));
        put("replay_lsn", self.replay_lsn.map(|l| l.0.into()));
        put("receive_lsn", self.receive_lsn.map(|l| l.0.into()));
        put("replication_state", self.replication_state.clone().map(Value::from));
        put("timeline", self.timeline.map(|t| t.0.into()));
        put("scheduled_restart", self.scheduled_restart.clone());
        put("pause", self.pause.then_some(true.into()));
        put("reason", self.reason.clone().map(Value::from));
        put("remote", self.remote.as_ref().map(RemoteEnd::write));
        let slots = self.logical_slots.iter().map(|(k, v)| (k.clone(), Value::from(v.as_str())));
        let has_slots = !self.logical_slots.is_empty();
        put("logical_slots", has_slots.then(|| Value::Object(slots.collect())));
        Value::Object(out).to_string()
    }

    pub fn is_running(&self) -> bool {
        self.state == MemberState::Running.text()
    }

    /// Whether a standby streams is part of its record: releases of Patroni before 3.0.4 do not
    /// say it.
    pub fn tells_replication_state(&self) -> bool {
        let numbers = self.version.split('.').map(|part| part.parse::<u32>().unwrap_or_default());
        numbers.collect::<Vec<_>>() >= vec![3, 0, 4]
    }

    /// Host and port of `conn_url`, or of any such URL.
    pub fn address(&self) -> Option<(String, u16)> {
        split_url(self.conn_url.as_deref()?)
    }

    /// The database that `conn_url` names.
    pub fn database(&self) -> Option<String> {
        let (_, rest) = self.conn_url.as_deref()?.split_once("://")?;
        let (_, path) = rest.split('?').next()?.split_once('/')?;
        percent_decoded(path).filter(|name| !name.is_empty())
    }
}

fn words(value: Option<&Value>) -> BTreeMap<String, String> {
    let map = value.and_then(Value::as_object).into_iter().flatten();
    map.filter_map(|(key, word)| Some((key.clone(), word.as_str()?.to_string()))).collect()
}

/// `host:port` with the brackets that an IPv6 host needs.
pub fn join_host(host: &str, port: u16) -> String {
    if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") }
}

/// `scheme://host:port/...` to host and port; 5432 when there is none.
pub fn split_url(url: &str) -> Option<(String, u16)> {
    let rest = url.split_once("://")?.1;
    let authority = rest.split(['/', '?']).next()?;
    let authority = authority.rsplit_once('@').map_or(authority, |(_, host)| host);
    let (host, port) = match authority.rsplit_once(':') {
        Some((host, port)) if !port.contains(']') => (host, port.parse().ok()?),
        _ => (authority, 5432),
    };
    let host = host.trim_start_matches('[').trim_end_matches(']');
    (!host.is_empty()).then(|| (host.to_string(), port))
}

/// Old members wrote a bare connection URL with the API's URL inside it.
fn legacy(text: &str) -> MemberRecord {
    let (conn_url, query) = text.split_once('?').unwrap_or((text, ""));
    let api_url = query
        .split('&')
        .find_map(|pair| pair.strip_prefix("application_name="))
        .map(|url| url.replace("%3A", ":").replace("%2F", "/"));
    MemberRecord { conn_url: Some(conn_url.to_string()), api_url, ..MemberRecord::default() }
}

#[cfg(test)]
mod tests {
    use super::*;

    const REPLICA: &str = r#"{"conn_url":"postgres://127.0.0.1:5363/postgres","api_url":"http://127.0.0.1:8010/patroni","state":"running","role":"replica","version":"4.1.5","tags":{"clonefrom":true,"nosync":false,"sync_priority":2,"foo":"bar"},"xlog_location":67108960,"replay_lsn":67108960,"receive_lsn":67108960,"replication_state":"streaming","timeline":1}"#;

    #[test]
    fn a_real_record_is_written_as_it_was_read() {
        assert_eq!(MemberRecord::read(REPLICA).write(), REPLICA);
    }

    #[test]
    fn a_reason_is_read_as_it_was_written() {
        let reason = Some("there is no global/pg_control".to_string());
        let record = MemberRecord { reason, state: "stopped".into(), ..MemberRecord::default() };
        assert_eq!(MemberRecord::read(&record.write()), record);
    }

    #[test]
    fn words_of_logical_slots_are_read_as_they_were_written() {
        let logical_slots = [("a".to_string(), "ready".to_string())].into();
        let record = MemberRecord { logical_slots, ..MemberRecord::default() };
        assert!(record.write().ends_with(r#","logical_slots":{"a":"ready"}}"#));
        assert_eq!(MemberRecord::read(&record.write()), record);
        assert!(MemberRecord::read(r#"{"logical_slots":[1]}"#).logical_slots.is_empty());
    }

    #[test]
    fn a_remote_end_is_read_as_it_was_written() {
        let whole =
            RemoteEnd { lsn: Some(Lsn(9)), replayed_at: Some("2026-11-20 21:58:24+00:00".into()) };
        for remote in [RemoteEnd::default(), whole] {
            let record = MemberRecord { remote: Some(remote), ..MemberRecord::default() };
            assert_eq!(MemberRecord::read(&record.write()), record);
        }
    }

    #[test]
    fn old_forms_are_understood() {
        let old = MemberRecord::read("postgres://h:1/postgres?application_name=http%3A%2F%2Fh:8/x");
        assert_eq!(old.api_url.as_deref(), Some("http://h:8/x"));
        assert_eq!(old.address(), Some(("h".into(), 1)));
        assert_eq!(MemberRecord::read(r#"{"role":"master"}"#).role, MemberRole::Primary);
        assert_eq!(MemberRecord::read("garbage"), MemberRecord::default());
    }

    #[test]
    fn the_version_says_whether_a_record_tells_that_a_standby_streams() {
        let tells = |version: &str| {
            let version = version.to_string();
            MemberRecord { version, ..MemberRecord::default() }.tells_replication_state()
        };
        assert!(["3.0.4", "3.1.0", "4.0", PATRONI_VERSION].into_iter().all(tells));
        assert!(!["3.0.3", "3.0", "2.1.9", "", "unknown"].into_iter().any(tells));
    }

    #[test]
    fn addresses_of_all_kinds_are_split() {
        assert_eq!(split_url("postgres://[::1]:5/x"), Some(("::1".into(), 5)));
        assert_eq!(split_url("postgres://h/x"), Some(("h".into(), 5432)));
        assert_eq!(split_url("postgres://u@h:7"), Some(("h".into(), 7)));
        assert_eq!(split_url("nonsense"), None);
    }

    #[test]
    fn an_address_may_name_its_database() {
        for (url, database) in [
            ("postgres://h:7/postgres", Some("postgres")),
            ("postgres://[::1]:5/my%20db%C3%A9?x=/y", Some("my dbé")),
            ("postgres://h:7/", None),
            ("postgres://h:7", None),
            ("postgres://h:7?a=/b", None),
            ("postgres://h:7/bad%2", None),
            ("postgres://h:7/bad%zz", None),
        ] {
            let conn_url = Some(url.to_string());
            let record = MemberRecord { conn_url, ..MemberRecord::default() };
            assert_eq!(record.database().as_deref(), database, "{url}");
        }
    }

    #[test]
    fn every_state_has_its_own_text_and_number() {
        for (index, (state, text, number)) in STATES.iter().enumerate() {
            assert_eq!(*number, index as i64);
            assert_eq!(MemberState::parse(text), Some(*state));
        }
    }
}
