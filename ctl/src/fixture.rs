//! Recorded moments of a real cluster for tests: keys of the store and what
//! the field's tool printed for them, and a store that answers from them.

use crate::members::Groups;
use node::dcs::KeyValue;
use serde_json::Value;
use topology::{Group, GroupView};

/// Recorded moments and the scope that was shown.
pub const GOLDEN: [(&str, &str); 12] = [
    ("02-three-nodes-default", "golden"),
    ("04-pending-restart", "golden"),
    ("06-synchronous-mode", "golden"),
    ("07-quorum", "golden"),
    ("09-scheduled-switchover-and-restart", "golden"),
    ("11-paused", "golden"),
    ("12-paused-one-replica-stopped", "golden"),
    ("16-after-switchover", "golden"),
    ("17-replica-cannot-start", "golden"),
    ("18-standby-cluster", "golden-dr"),
    ("19-standby-cluster-promoted", "golden-dr"),
    ("21-standby-cluster-all-stopped", "golden-dr"),
];

fn read(name: &str, ending: &str) -> String {
    let path = format!("{}/src/testdata/{name}.{ending}", env!("CARGO_MANIFEST_DIR"));
    std::fs::read_to_string(&path).unwrap_or_else(|e| panic!("{path}: {e}"))
}

/// Every recorded key of a moment.
pub fn entries(name: &str) -> Vec<KeyValue> {
    let Value::Array(rows) = serde_json::from_str(&read(name, "json")).unwrap() else {
        panic!("{name} is no list");
    };
    let entry = |row: &Value| KeyValue {
        key: row["key"].as_str().unwrap().to_string(),
        value: row["value"].as_str().unwrap().to_string(),
        mod_revision: row["mod_revision"].as_i64().unwrap(),
        create_revision: row["create_revision"].as_i64().unwrap(),
        lease: i64::from(row.get("lease").is_some()),
    };
    rows.iter().map(entry).collect()
}

/// The one group of a recorded moment.
pub fn golden(name: &str, scope: &str) -> Groups {
    let mut view = GroupView::default();
    for entry in entries(name) {
        if let Some(key) = entry.key.strip_prefix(&format!("/service/{scope}/")) {
            view.take(key, &entry.value, entry.mod_revision, entry.lease);
        }
    }
    Groups::from([(Group::PLAIN, view)])
}

/// Commands of a recorded moment with what they printed.
pub fn transcript(name: &str) -> Vec<(String, String)> {
    let text = read(name, "txt");
    let parts = text.split("$ ").filter(|part| !part.is_empty());
    let pairs = parts.filter_map(|part| part.split_once('\n'));
    pairs.map(|(command, output)| (command.to_string(), output.to_string())).collect()
}
