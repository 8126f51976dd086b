//! What the steps about slots go by, as the performer brings it.

use standby::slots::{Slot, SlotStep};
use topology::{Lsn, RegionName};

/// The slots of the server, and what is not part of an observation.
#[derive(Clone, Debug, Default)]
pub struct SlotSight {
    pub slots: Vec<Slot>,
    /// The end of a primary's log on disk; what a standby has replayed.
    pub end: Lsn,
    pub other_regions: Vec<RegionName>,
    /// Of a Citus group.
    pub citus_databases: Vec<String>,
    /// The major version of the server; 0: not known.
    pub major: u32,
    /// `wal_level` of the running server is logical.
    pub decodes: bool,
    /// When the server was started, in its own words.
    pub started: Option<String>,
    /// Where the WAL begins that this standby has, as it was listed once the slots had been read.
    /// `None`: not known.
    pub wal_from: Option<Lsn>,
    /// Work beside the beats that has ended.
    pub ended: Vec<SlotEnd>,
}

impl SlotSight {
    /// `before`: the listing of the last look. A slot may have moved on between its reading and the
    /// listing, and the WAL behind it been removed.
    pub(crate) fn take_listing(&mut self, before: &mut Option<Lsn>) {
        let listed = std::mem::replace(before, self.wal_from);
        self.wal_from = listed.zip(self.wal_from).map(|(listed, now)| listed.min(now));
    }

    /// The server has the WAL from there on, as far as that is known.
    pub(crate) fn has_wal(&self, from: Option<Lsn>) -> bool {
        self.wal_from.zip(from).is_none_or(|(first, from)| first <= from)
    }

    /// A copy that begins before the WAL of this server can be neither moved nor read here. When
    /// it was copied the server did not have that WAL, and PostgreSQL does not notice.
    pub(crate) fn find_lost(&mut self) {
        let is_copy = |slot: &Slot| !slot.is_physical() && !slot.synced;
        let lost = |slot: &Slot| is_copy(slot) && !self.has_wal(slot.restart_lsn);
        let lost: Vec<bool> = self.slots.iter().map(lost).collect();
        self.slots.iter_mut().zip(lost).for_each(|(slot, lost)| slot.is_lost |= lost);
    }
}

/// Work beside the beats that has ended.
#[derive(Clone, Debug)]
pub struct SlotEnd {
    pub step: SlotStep,
    /// The leader's slots, for `SlotStep::AskLeader`.
    pub result: Result<Vec<Slot>, SlotFailure>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SlotFailure {
    pub why: String,
    /// The files of the slot are of no use: it is copied again.
    pub copy_again: bool,
}
