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
    /// Work beside the beats that has ended.
    pub ended: Vec<SlotEnd>,
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
