//! Warning in time of WAL that slots keep: once for each slot, then at most once a minute.
//!
//! What is a danger, and what helps, `api/slots.rs` says. Nothing is dropped here: a slot that
//! a reader needs is a person's to give up.

use super::Daemon;
use crate::api::slots::{KEPT_MIN, SlotReport, danger};
use crate::clock;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use tokio::task::JoinHandle;
use topology::Millis;

const AGAIN_MS: u64 = 60_000;

/// When each slot was last warned of.
#[derive(Default)]
pub(super) struct SlotWarning {
    told: BTreeMap<String, Millis>,
    room: Room,
}

/// Bytes left where the log lies. A disk may hang, so it is asked beside the beats, and what it
/// said last counts.
#[derive(Default)]
struct Room {
    asked: Option<JoinHandle<()>>,
    free: Arc<Mutex<Option<u64>>>,
}

impl Room {
    fn last_known(&mut self, wal: PathBuf) -> Option<u64> {
        if self.asked.as_ref().is_none_or(JoinHandle::is_finished) {
            let free = self.free.clone();
            let ask = move || {
                let answer = free_bytes(&wal);
                *free.lock().unwrap_or_else(PoisonError::into_inner) = answer;
            };
            self.asked = Some(tokio::task::spawn_blocking(ask));
        }
        *self.free.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Daemon {
    pub(super) fn warn_about_slots(&mut self, slots: &[SlotReport]) {
        let keeps = |slot: &SlotReport| slot.distance_bytes.is_some_and(|kept| kept >= KEPT_MIN);
        let free = match slots.iter().any(keeps) {
            true => {
                let wal = self.settings.postgresql.data_dir.join("pg_wal");
                self.slot_warning.room.last_known(wal)
            }
            false => None,
        };
        for line in self.slot_warning.due(slots, free, clock::now()) {
            tracing::warn!("{line}");
        }
    }
}

impl SlotWarning {
    fn due(&mut self, slots: &[SlotReport], free: Option<u64>, now: Millis) -> Vec<String> {
        let dangers: BTreeMap<&str, String> = slots
            .iter()
            .filter_map(|slot| Some((slot.name.as_str(), danger(slot, free)?)))
            .collect();
        self.told
            .retain(|name, at| dangers.contains_key(name.as_str()) || now.since(*at) < AGAIN_MS);
        let mut lines = Vec::new();
        for (name, line) in dangers {
            let told = self.told.get(name);
            if told.is_none_or(|at| now.since(*at) >= AGAIN_MS) {
                self.told.insert(name.to_string(), now);
                lines.push(line);
            }
        }
        lines
    }
}

/// `None`: the disk did not say.
fn free_bytes(wal: &Path) -> Option<u64> {
    let disk = nix::sys::statvfs::statvfs(wal).ok()?;
    Some(disk.blocks_available() * disk.fragment_size())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_danger_is_told_once_a_minute() {
        let slot = |distance| SlotReport {
            name: "n2".into(),
            distance_bytes: Some(distance),
            ..SlotReport::default()
        };
        let (full, fine) = ([slot(1 << 30)], [slot(0)]);
        let mut warning = SlotWarning::default();
        let mut told = |slots: &[SlotReport], now| warning.due(slots, Some(1 << 20), Millis(now));
        assert_eq!(told(&full, 1).len(), 1);
        assert_eq!(told(&full, 60_000).len(), 0);
        assert_eq!(told(&full, 60_001).len(), 1);
        assert_eq!(told(&fine, 70_000).len(), 0);
        assert_eq!(told(&full, 80_000).len(), 0, "it comes and goes");
        assert_eq!(told(&full, 120_001).len(), 1);
    }

    #[test]
    fn a_disk_says_how_much_room_it_has() {
        assert!(free_bytes(Path::new("/")).is_some());
        assert_eq!(free_bytes(Path::new("/nowhere/at/all")), None);
    }
}
