//! Warning in time of WAL that slots keep: asks the disk, and writes the log.
//!
//! What is a danger, and when it is told, `standby/src/slots/danger.rs` says.

use super::Daemon;
use crate::api::slots::{SlotReport, warning};
use crate::clock;
use standby::slots::danger::{Kept, Warnings};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use tokio::task::JoinHandle;

#[derive(Default)]
pub(super) struct SlotWarning {
    warnings: Warnings,
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
        let free = match slots.iter().filter_map(SlotReport::kept).any(Kept::concerns_the_disk) {
            true => {
                let wal = self.settings.postgresql.data_dir.join("pg_wal");
                self.slot_warning.room.last_known(wal)
            }
            false => None,
        };
        let dangers =
            slots.iter().filter_map(|slot| Some((slot.name.clone(), warning(slot, free)?)));
        for line in self.slot_warning.warnings.due(&dangers.collect(), clock::now()) {
            tracing::warn!("{line}");
        }
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
    fn a_disk_says_how_much_room_it_has() {
        assert!(free_bytes(Path::new("/")).is_some());
        assert_eq!(free_bytes(Path::new("/nowhere/at/all")), None);
    }
}
