//! Recorded moments of a real cluster for tests: keys of the store and what
//! the field's tool printed for them, and a store that answers from them.

use crate::members::Groups;
use crate::prompt::recorded::{self, Screen};
use crate::rest::Rest;
use crate::world::World;
use node::config::CtlSettings;
use node::dcs::by_hand::Edit;
use node::dcs::memory::MemoryStore;
use node::dcs::{KeyValue, Session, Version};
use serde_json::Value;
use std::collections::BTreeMap;
use std::sync::Arc;
use topology::{Group, GroupView};

/// Recorded moments and the scope that was shown.
pub(crate) const GOLDEN: [(&str, &str); 12] = [
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
pub(crate) fn entries(name: &str) -> Vec<KeyValue> {
    let Value::Array(rows) = serde_json::from_str(&read(name, "json")).unwrap() else {
        panic!("{name} is no list");
    };
    let entry = |row: &Value| KeyValue {
        key: row["key"].as_str().unwrap().to_string(),
        value: row["value"].as_str().unwrap().to_string(),
        version: Version::of_store(row["mod_revision"].as_i64().unwrap()),
        created: Version::of_store(row["create_revision"].as_i64().unwrap()),
        session: row.get("lease").map(|_| Session::of_store(1)),
    };
    rows.iter().map(entry).collect()
}

/// The one group of a recorded moment.
pub(crate) fn golden(name: &str, scope: &str) -> Groups {
    let mut view = GroupView::default();
    for entry in entries(name) {
        if let Some(key) = entry.key.strip_prefix(&format!("/service/{scope}/")) {
            view.take(key, &entry.value, entry.version, entry.session);
        }
    }
    Groups::from([(Group::PLAIN, view)])
}

/// Commands of a recorded moment with what they printed.
pub(crate) fn transcript(name: &str) -> Vec<(String, String)> {
    let text = read(name, "txt");
    let parts = text.split("$ ").filter(|part| !part.is_empty());
    let pairs = parts.filter_map(|part| part.split_once('\n'));
    pairs.map(|(command, output)| (command.to_string(), output.to_string())).collect()
}

/// A world with the keys of a recorded moment and prepared answers.
pub(crate) fn world(name: &str, answers: &str) -> (World, Screen) {
    let store = MemoryStore::new();
    store.edit_now(entries(name).into_iter().map(|e| Edit::put(e.key, e.value))).unwrap();
    let (terminal, screen) = recorded::terminal(answers);
    let settings = settings();
    let rest = Rest::new(&settings.ctl, false).unwrap();
    (World { settings, store: Arc::new(store.clone()), memory: store, rest, terminal }, screen)
}

fn settings() -> CtlSettings {
    let env = BTreeMap::from([
        ("PATRONI_SCOPE".to_string(), "golden".to_string()),
        ("PATRONI_ETCD3_HOST".to_string(), "127.0.0.1:1".to_string()),
    ]);
    node::config::load_for_ctl(None, &env, None).unwrap()
}

/// Another client's write: nothing stands in its way.
pub(crate) fn put(world: &World, key: String, value: &str) {
    world.memory.edit_now([Edit::put(key, value)]).unwrap();
}

/// All members publish this address from now on.
pub(crate) async fn move_apis(world: &World, url: &str) {
    let snapshot = world.store.read(&["/service/".to_string()]).await.unwrap();
    for entry in snapshot.entries.into_iter().filter(|e| e.key.contains("/members/")) {
        let mut value: Value = serde_json::from_str(&entry.value).unwrap();
        value["api_url"] = url.into();
        put(world, entry.key, &value.to_string());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use topology::cluster::write_history;

    /// What a record says, with the order of its fields unless it has none.
    fn written(view: &GroupView, key: &str) -> Option<(String, bool)> {
        let text = match key {
            "status" => return Some((view.status.as_ref()?.value.write(), false)),
            "failover" => view.failover.as_ref()?.value.write(),
            "sync" => view.sync.as_ref()?.value.write(),
            "history" => write_history(&view.history.as_ref()?.value),
            "config" => view.config.as_ref()?.value.raw.to_string(),
            "initialize" => view.initialize.as_ref()?.value.as_ref()?.0.clone(),
            "leader" => view.leader_name()?.to_string(),
            "failsafe" => serde_json::to_string(&view.failsafe.as_ref()?.value).ok()?,
            member => {
                let name = member.strip_prefix("members/")?;
                view.member(&name.into())?.write()
            }
        };
        Some((text, true))
    }

    /// Maps of `status` are sorted here and in the order of slots there.
    #[test]
    fn every_recorded_key_is_written_as_it_was_read() {
        let mut kinds = std::collections::BTreeSet::new();
        for (name, scope) in GOLDEN {
            let view = golden(name, scope).remove(&Group::PLAIN).unwrap();
            let prefix = format!("/service/{scope}/");
            for entry in entries(name) {
                let Some(key) = entry.key.strip_prefix(&prefix) else { continue };
                let (text, ordered) = written(&view, key).unwrap_or_else(|| panic!("{name} {key}"));
                let json = |text: &str| serde_json::from_str::<Value>(text).ok();
                let same = text == entry.value || !ordered && json(&text) == json(&entry.value);
                assert!(same, "{name} {key}: {text} is not {}", entry.value);
                kinds.insert(key.split('/').next().unwrap().to_string());
            }
            assert_eq!(view.unreadable, [], "{name}");
        }
        let all = "config failover failsafe history initialize leader members status sync";
        assert_eq!(kinds.into_iter().collect::<Vec<_>>().join(" "), all);
    }
}
