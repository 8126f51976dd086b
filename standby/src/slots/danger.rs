//! When WAL that a slot keeps is a danger, and when it is told: once for each slot, then
//! at most once a minute.
//!
//! Nothing is dropped for it: a slot that a reader needs is a person's to give up.
//!
//! Absent on purpose: the words about the slot itself (`node/src/api/slots.rs`), and the
//! question to the disk.

use std::collections::BTreeMap;
use topology::Millis;

/// A slot with less room than this part of what it may keep is warned of.
const ROOM_PART: u64 = 5;
/// Slots that keep less are no danger to a disk.
const KEPT_MIN: u64 = 64 << 20;
const AGAIN_MS: u64 = 60_000;

/// What one slot keeps, and the room that is left.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Kept {
    pub bytes: u64,
    /// What can be written before the slot may be lost; `None`: without a limit.
    pub safe_bytes: Option<i64>,
    /// Left where the log lies; `None`: not known.
    pub disk_bytes: Option<u64>,
}

impl Kept {
    /// It keeps so much that the room on the disk matters.
    pub fn concerns_the_disk(self) -> bool {
        self.bytes >= KEPT_MIN
    }

    fn left_of_limit(self) -> Option<u64> {
        self.safe_bytes.map(|safe| u64::try_from(safe).unwrap_or(0))
    }
}

/// One danger. First match wins.
pub struct Danger {
    /// Shown on the page of rules; never reused.
    pub id: u16,
    when: fn(Kept) -> bool,
    /// For the log: with the bytes that are left.
    threat: fn(Kept) -> String,
    pub why: &'static str,
}

// Of two dangers the loss is told: it cannot be undone.
pub const SLOT_DANGERS: &[Danger] = &[
    Danger {
        id: 1850,
        when: |kept| {
            kept.left_of_limit().is_some_and(|left| left < (kept.bytes + left) / ROOM_PART)
        },
        threat: |kept| {
            format!(
                "it is lost after {} more bytes by max_slot_wal_keep_size, and its reader then \
                 needs a new copy",
                kept.left_of_limit().unwrap_or_default()
            )
        },
        why: "less than a fifth of what max_slot_wal_keep_size lets a slot keep is left: the log \
              warns that the slot will be lost",
    },
    Danger {
        id: 1860,
        when: |kept| {
            kept.concerns_the_disk() && kept.disk_bytes.is_some_and(|free| kept.bytes >= free)
        },
        threat: |kept| {
            format!(
                "the disk of the log has {} bytes left; max_slot_wal_keep_size would set a limit",
                kept.disk_bytes.unwrap_or_default()
            )
        },
        why: "a slot keeps at least 64 MB, and as much as the disk of the log has left: the log \
              warns that the disk may fill",
    },
];

/// Why what a slot keeps is a danger now: the row's number, and the words for the log.
pub fn danger(kept: Kept) -> Option<(u16, String)> {
    let row = SLOT_DANGERS.iter().find(|row| (row.when)(kept))?;
    Some((row.id, (row.threat)(kept)))
}

/// When each slot was last warned of.
#[derive(Debug, Default)]
pub struct Warnings {
    told: BTreeMap<String, Millis>,
}

impl Warnings {
    /// The lines that are told now, of all dangers by the slot's name. One that comes and
    /// goes is told once a minute, too.
    pub fn due(&mut self, dangers: &BTreeMap<String, String>, now: Millis) -> Vec<String> {
        self.told.retain(|name, at| dangers.contains_key(name) || now.since(*at) < AGAIN_MS);
        let mut lines = Vec::new();
        for (name, line) in dangers {
            if self.told.get(name).is_none_or(|at| now.since(*at) >= AGAIN_MS) {
                self.told.insert(name.clone(), now);
                lines.push(line.clone());
            }
        }
        lines
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fires(bytes: u64, safe_bytes: Option<i64>, disk_bytes: Option<u64>) -> Option<u16> {
        danger(Kept { bytes, safe_bytes, disk_bytes }).map(|(id, _)| id)
    }

    #[test]
    fn a_slot_is_warned_of_before_it_is_lost() {
        assert_eq!(fires(100 << 20, Some(100 << 20), None), None);
        assert_eq!(fires(90 << 20, Some(10 << 20), None), Some(1850));
        assert_eq!(fires(90 << 20, Some(-5), None), Some(1850), "its time is over");
        let kept = Kept { bytes: 90 << 20, safe_bytes: Some(10 << 20), disk_bytes: Some(0) };
        let (id, threat) = danger(kept).expect("two dangers");
        assert_eq!(id, 1850);
        assert!(threat.starts_with("it is lost after 10485760 more bytes"), "{threat}");
    }

    #[test]
    fn a_slot_is_warned_of_before_the_disk_is_full() {
        assert_eq!(fires(1 << 30, None, Some(2 << 30)), None);
        assert_eq!(fires(1 << 30, None, None), None, "the room is not known");
        assert_eq!(fires(1 << 30, None, Some(1 << 30)), Some(1860));
        assert_eq!(fires(1 << 20, None, Some(0)), None, "this one does not fill it");
    }

    #[test]
    fn numbers_rise() {
        assert!(SLOT_DANGERS.is_sorted_by(|a, b| a.id < b.id));
    }

    #[test]
    fn a_danger_is_told_once_a_minute() {
        let full = BTreeMap::from([("n2".to_string(), "n2 is close".to_string())]);
        let fine = BTreeMap::new();
        let mut warnings = Warnings::default();
        let mut told = |dangers, now| warnings.due(dangers, Millis(now)).len();
        assert_eq!(told(&full, 1), 1);
        assert_eq!(told(&full, 60_000), 0);
        assert_eq!(told(&full, 60_001), 1);
        assert_eq!(told(&fine, 70_000), 0);
        assert_eq!(told(&full, 80_000), 0, "it comes and goes");
        assert_eq!(told(&full, 120_001), 1);
    }
}
