//! The operator's synchronous settings: what the seed begins with, how they
//! change on the way, and the tags of members.

use super::World;
use super::member::Place;
use super::rng::Rng;
use serde_json::{Map, Value, json};
use topology::SyncMode;

/// What `/config` says about synchronous replication.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Synchrony {
    pub mode: SyncMode,
    pub strict: bool,
    pub count: u64,
    /// `maximum_lag_on_syncnode`; 0: none.
    pub lag: u64,
}

impl Synchrony {
    pub const OFF: Synchrony = Synchrony { mode: SyncMode::Off, strict: false, count: 1, lag: 0 };

    pub fn chosen(rng: &mut Rng) -> Synchrony {
        Synchrony {
            mode: rng.pick(&[SyncMode::On, SyncMode::Quorum, SyncMode::On, SyncMode::Off]),
            strict: rng.percent(35),
            count: rng.pick(&[1, 1, 2]),
            lag: rng.pick(&[0, 0, 100_000]),
        }
    }

    /// What of it goes into the document.
    pub fn document(&self) -> Map<String, Value> {
        let mode = match self.mode {
            SyncMode::Off => return Map::new(),
            SyncMode::On => json!(true),
            SyncMode::Quorum => json!("quorum"),
        };
        let document = json!({
            "synchronous_mode": mode,
            "synchronous_mode_strict": self.strict,
            "synchronous_node_count": self.count,
            "maximum_lag_on_syncnode": if self.lag > 0 { self.lag as i64 } else { -1 },
        });
        document.as_object().cloned().unwrap_or_default()
    }
}

/// Tags that keep a member from its duty, or prefer it.
pub fn tags(place: &Place, rng: &mut Rng) -> Map<String, Value> {
    let mut tags = Map::new();
    if place.number > 0 && rng.percent(15) {
        tags.insert("nosync".into(), true.into());
    } else if rng.percent(25) {
        tags.insert("sync_priority".into(), rng.range(1, 3).into());
    }
    tags
}

impl World {
    /// The document as the operator wants it now.
    pub fn config(&self) -> String {
        let mut document = self.plan.document.clone();
        document.extend(self.plan.synchrony.document());
        if self.plan.paused {
            document.insert("pause".into(), true.into());
        }
        Value::Object(document).to_string()
    }

    /// Into a store that has one.
    pub fn write_config(&mut self, member: usize) {
        let region = self.members[member].place.region;
        let key = self.members[member].keys.config();
        if self.stores.get(region, &key).is_some() {
            let config = self.config();
            self.stores.put(region, key, config);
        }
    }

    /// The operator has changed his mind.
    pub fn change_mode(&mut self, member: usize) {
        self.plan.synchrony = Synchrony::chosen(&mut self.rng);
        let line = format!("the operator wants {:?}", self.plan.synchrony);
        self.note(line);
        self.write_config(member);
    }
}
