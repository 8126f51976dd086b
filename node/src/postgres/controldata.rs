//! The control file: what a data directory says about itself while no server
//! runs on it.
//!
//! It is read through `pg_controldata`, so its layout, which changes with every
//! major version, is PostgreSQL's business.

use super::error::Error;
use super::run::run;
use std::collections::HashMap;
use std::path::Path;
use std::time::Duration;
use tokio::process::Command;
use topology::{Lsn, SystemId, Timeline};

const LIMIT: Duration = Duration::from_secs(10);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ControlState {
    StartingUp,
    ShutDown,
    ShutDownInRecovery,
    ShuttingDown,
    InCrashRecovery,
    InArchiveRecovery,
    InProduction,
    /// A word that this version of the daemon does not know.
    Other,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ControlData {
    pub system_id: SystemId,
    pub state: ControlState,
    /// Where the latest checkpoint record begins.
    pub checkpoint: Lsn,
    pub redo: Lsn,
    pub timeline: Timeline,
    /// A standby must replay up to here to be consistent; 0/0 on a primary.
    pub min_recovery: Lsn,
    pub min_recovery_timeline: Timeline,
    /// No standby replays what was written with `wal_level = minimal`.
    pub minimal_log: bool,
    pub wal_log_hints: bool,
    pub checksums: bool,
    pub max_connections: u64,
    pub max_worker_processes: u64,
    pub max_wal_senders: u64,
    pub max_prepared_xacts: u64,
    pub max_locks: u64,
    pub wal_segment_bytes: u64,
}

/// Runs `tool` (pg_controldata) on `data_dir`.
pub(crate) async fn read(tool: &Path, data_dir: &Path) -> Result<ControlData, Error> {
    let mut command = Command::new(tool);
    command.arg(data_dir).env("LC_ALL", "C").env("LANG", "C");
    parse(&run(command, LIMIT).await?)
}

/// Reads the output of pg_controldata.
pub(crate) fn parse(text: &str) -> Result<ControlData, Error> {
    let fields: Fields = Fields(text.lines().filter_map(pair).collect());
    Ok(ControlData {
        system_id: SystemId(fields.text("Database system identifier")?.to_string()),
        state: state(fields.text("Database cluster state")?),
        checkpoint: fields.read("Latest checkpoint location")?,
        redo: fields.read("Latest checkpoint's REDO location")?,
        timeline: Timeline(fields.read("Latest checkpoint's TimeLineID")?),
        min_recovery: fields.read("Minimum recovery ending location")?,
        min_recovery_timeline: Timeline(fields.read("Min recovery ending loc's timeline")?),
        minimal_log: fields.text("wal_level setting")? == "minimal",
        wal_log_hints: fields.text("wal_log_hints setting")? == "on",
        checksums: fields.read::<u64>("Data page checksum version")? > 0,
        max_connections: fields.read("max_connections setting")?,
        max_worker_processes: fields.read("max_worker_processes setting")?,
        max_wal_senders: fields.read("max_wal_senders setting")?,
        max_prepared_xacts: fields.read("max_prepared_xacts setting")?,
        max_locks: fields.read("max_locks_per_xact setting")?,
        wal_segment_bytes: fields.read("Bytes per WAL segment")?,
    })
}

fn pair(line: &str) -> Option<(&str, &str)> {
    let (name, value) = line.split_once(':')?;
    Some((name.trim(), value.trim()))
}

fn state(word: &str) -> ControlState {
    match word {
        "starting up" => ControlState::StartingUp,
        "shut down" => ControlState::ShutDown,
        "shut down in recovery" => ControlState::ShutDownInRecovery,
        "shutting down" => ControlState::ShuttingDown,
        "in crash recovery" => ControlState::InCrashRecovery,
        "in archive recovery" => ControlState::InArchiveRecovery,
        "in production" => ControlState::InProduction,
        _ => ControlState::Other,
    }
}

struct Fields<'a>(HashMap<&'a str, &'a str>);

impl Fields<'_> {
    fn text(&self, name: &'static str) -> Result<&str, Error> {
        let unclear = || Error::ToolUnclear { tool: "pg_controldata".into(), missing: name };
        self.0.get(name).copied().ok_or_else(unclear)
    }

    fn read<T: std::str::FromStr>(&self, name: &'static str) -> Result<T, Error> {
        let unclear = |_| Error::ToolUnclear { tool: "pg_controldata".into(), missing: name };
        self.text(name)?.parse().map_err(unclear)
    }
}

#[cfg(test)]
pub(crate) const SAMPLE: &str = "\
pg_control version number:            1300
Database system identifier:           7710428522341793405
Database cluster state:               shut down in recovery
pg_control last modified:             Sat Nov 21 01:20:36 2026
Latest checkpoint location:           0/1511B00
Latest checkpoint's REDO location:    0/1511AC8
Latest checkpoint's REDO WAL file:    000000010000000000000001
Latest checkpoint's TimeLineID:       3
Minimum recovery ending location:     0/1600000
Min recovery ending loc's timeline:   3
wal_level setting:                    replica
wal_log_hints setting:                on
max_connections setting:              100
max_worker_processes setting:         8
max_wal_senders setting:              10
max_prepared_xacts setting:           0
max_locks_per_xact setting:           64
Bytes per WAL segment:                16777216
Data page checksum version:           1
";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_fields_are_read() {
        let data = parse(SAMPLE).unwrap();
        assert_eq!(data.state, ControlState::ShutDownInRecovery);
        assert_eq!((data.checkpoint, data.redo), (Lsn(0x1511B00), Lsn(0x1511AC8)));
        assert_eq!((data.timeline, data.min_recovery), (Timeline(3), Lsn(0x1600000)));
        assert!(data.wal_log_hints && data.checksums);
        assert_eq!((data.max_connections, data.max_locks), (100, 64));
    }

    #[test]
    fn a_missing_field_is_named_and_a_new_state_is_kept_apart() {
        let error = parse(&SAMPLE.replace("REDO location", "X")).unwrap_err();
        assert!(error.to_string().contains("REDO location"), "{error}");
        let strange = parse(&SAMPLE.replace("shut down in recovery", "asleep")).unwrap();
        assert_eq!(strange.state, ControlState::Other);
    }
}
