//! The settings that all members must agree on.
//!
//! They come from `/config` alone, are checked here, and stand on the command
//! line, above `ALTER SYSTEM`. An impossible value is never used: the default
//! is, and a warning names it.
//!
//! Absent on purpose: every other setting (`parameters.rs`).

use super::spelling::{boolean, scalar};
use serde_json::Value;
use std::collections::BTreeMap;
use topology::number::{Base, real, split_decimal};

/// Which values of a controlled setting are accepted.
#[derive(Clone, Copy)]
enum Check {
    WalLevel,
    True,
    AtLeast(u64),
    Bool,
    /// A size of 16 MB or more.
    Segments,
}

/// In the order of the command line.
const CONTROLLED: [(&str, &str, Check); 11] = [
    ("wal_level", "replica", Check::WalLevel),
    ("hot_standby", "on", Check::True),
    ("max_connections", "100", Check::AtLeast(25)),
    ("max_wal_senders", "10", Check::AtLeast(3)),
    ("max_prepared_transactions", "0", Check::AtLeast(0)),
    ("max_locks_per_transaction", "64", Check::AtLeast(32)),
    ("track_commit_timestamp", "off", Check::Bool),
    ("max_replication_slots", "10", Check::AtLeast(4)),
    ("max_worker_processes", "8", Check::AtLeast(2)),
    ("wal_log_hints", "on", Check::Bool),
    (WAL_KEEP_SIZE, "128MB", Check::Segments),
];

/// Set from `listen` and `scope` alone.
const NEVER_SET: [&str; 3] = ["listen_addresses", "port", "cluster_name"];
/// Goes to the file only.
const WAL_KEEP_SIZE: &str = "wal_keep_size";
/// What it was called, and counted in, before PostgreSQL 13.
const WAL_KEEP_SEGMENTS: &str = "wal_keep_segments";
const SEGMENT_MB: u64 = 16;
const MB: f64 = 1_048_576.0;
/// PostgreSQL refuses to start with more of anything.
const COUNT_MAX: f64 = 262_143.0;

/// By its lower-case name.
pub(super) fn is_one(name: &str) -> bool {
    name == WAL_KEEP_SEGMENTS
        || NEVER_SET.contains(&name)
        || CONTROLLED.iter().any(|(controlled, ..)| *controlled == name)
}

/// All of them, as `given` or by default.
pub(super) fn values<'a>(
    given: impl Fn(&str) -> Option<&'a Value>,
    warnings: &mut Vec<String>,
) -> Vec<(&'static str, String)> {
    let value = |&(name, default, check): &(&'static str, &str, Check)| {
        let segments = || given(WAL_KEEP_SEGMENTS).filter(|_| name == WAL_KEEP_SIZE);
        let (value, read) = match (given(name), segments()) {
            (Some(value), _) => (value, scalar(value).and_then(|text| accept(check, &text))),
            (None, Some(count)) => (count, scalar(count).and_then(|text| size_of(&text))),
            (None, None) => return (name, default.to_string()),
        };
        let read = read.unwrap_or_else(|| {
            warnings.push(format!("{name} = {value} is not possible; {default} is used"));
            default.to_string()
        });
        (name, read)
    };
    CONTROLLED.iter().map(value).collect()
}

/// `--name=value`, in the fixed order.
pub(super) fn command_line(parameters: &BTreeMap<String, String>) -> Vec<(String, String)> {
    let order = NEVER_SET.iter().copied().chain(CONTROLLED.iter().map(|(name, ..)| *name));
    let order = order.filter(|name| *name != WAL_KEEP_SIZE);
    order.filter_map(|name| Some((name.to_string(), parameters.get(name)?.clone()))).collect()
}

/// The value to use, or none if it is not acceptable.
fn accept(check: Check, text: &str) -> Option<String> {
    let text = text.trim();
    match check {
        // `hot_standby` is what it was called before PostgreSQL 9.6.
        Check::WalLevel => match text.to_lowercase().as_str() {
            "hot_standby" | "replica" => Some("replica".into()),
            "logical" => Some("logical".into()),
            _ => None,
        },
        Check::True => (boolean(text)? == "on").then(|| "on".into()),
        Check::Bool => boolean(text).map(str::to_string),
        Check::AtLeast(least) => {
            let number = real(text)?.round();
            (least as f64..=COUNT_MAX).contains(&number).then(|| format!("{number}"))
        }
        Check::Segments => (megabytes(text)? >= SEGMENT_MB).then(|| text.to_string()),
    }
}

/// A size in megabytes, PostgreSQL's base unit of wal_keep_size.
fn megabytes(text: &str) -> Option<u64> {
    let (digits, unit) = split_decimal(text);
    let number: u64 = digits.parse().ok()?;
    let unit = if unit.is_empty() { "MB" } else { unit };
    let bytes = Base::Bytes.factor(unit).filter(|_| unit != "B")?;
    let size = (number as f64 * bytes / MB).floor();
    (size <= i32::MAX.into()).then_some(size as u64)
}

/// The size of this many segments of 16 MB.
fn size_of(segments: &str) -> Option<String> {
    let count: u64 = segments.trim().parse().ok().filter(|count| *count >= 1)?;
    let size = format!("{}MB", count.checked_mul(SEGMENT_MB)?);
    megabytes(&size).map(|_| size)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn given(parameters: Value) -> (BTreeMap<&'static str, String>, Vec<String>) {
        let mut warnings = Vec::new();
        let all = values(|name| parameters.get(name), &mut warnings);
        (all.into_iter().collect(), warnings)
    }

    #[test]
    fn old_names_and_units_become_new_ones() {
        let (all, warnings) = given(json!({"wal_keep_segments": "10", "wal_level": "hot_standby",
            "track_commit_timestamp": "TRUE", "max_connections": "0x64"}));
        assert_eq!(all["wal_keep_size"], "160MB");
        assert_eq!(all["wal_level"], "replica");
        assert_eq!(all["track_commit_timestamp"], "on");
        assert_eq!(all["max_connections"], "100");
        assert!(warnings.is_empty(), "{warnings:?}");
        let (all, _) = given(json!({"wal_keep_segments": 10, "wal_keep_size": "1GB"}));
        assert_eq!(all["wal_keep_size"], "1GB", "the new name wins");
    }

    #[test]
    fn what_is_too_small_or_no_value_is_the_default() {
        let bad = json!({"max_connections": 24, "max_wal_senders": 2, "hot_standby": false,
            "max_locks_per_transaction": 31, "max_replication_slots": 3, "wal_log_hints": "2",
            "max_worker_processes": 1, "wal_keep_size": "15MB", "wal_level": "minimal",
            "max_prepared_transactions": -1, "track_commit_timestamp": "maybe"});
        let (all, warnings) = given(bad);
        assert_eq!(warnings.len(), CONTROLLED.len(), "{warnings:?}");
        for (name, default, _) in CONTROLLED {
            assert_eq!(all[name], default);
        }
        let (all, warnings) = given(json!({"wal_keep_segments": 0}));
        assert_eq!((all["wal_keep_size"].as_str(), warnings.len()), ("128MB", 1));
    }

    #[test]
    fn sizes_have_units() {
        for (text, wanted) in [("16", true), ("16384kB", true), ("1TB", true), ("9999999TB", false)]
        {
            assert_eq!(accept(Check::Segments, text).is_some(), wanted, "{text}");
        }
    }
}
