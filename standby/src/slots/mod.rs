//! Which replication slots a member keeps, and the steps towards them.
//!
//! Every member keeps a slot for every other member, so that a promoted replica
//! still has the WAL the others need; what nothing streams from is advanced to what the
//! leader and the member's own record report. The primary region also keeps one slot
//! for every other region, named after the region, so that it survives any failover
//! there. `postgresql.use_slots: false` is about members and permanent slots alone.
//!
//! | file | what |
//! |---|---|
//! | wanted | the slots a member should have |
//! | permanent | `slots` of the cluster-wide configuration |
//! | spared | `ignore_slots`, and slots of a Citus shard move or of a subscription's table copy |
//! | unknown | since when a slot that is not wanted is there and unused |
//! | step | the steps from what is there to what is wanted |
//! | logical | the same for logical slots: made, moved, handed to the server's own worker |
//! | readiness | whether a copy of a logical slot can be resumed after a promotion |
//! | danger | when what a slot keeps is a danger to it or to the disk |
//! | readers | what readers of logical slots have confirmed; slots that would skip data |
//!
//! Invariants: an active slot is never dropped; in a pause no slot is dropped; without a
//! readable `/config`, which may define them, neither. The exception to all three, on a
//! primary, is a logical slot whose reader has confirmed more than the log of the group has
//! (`logical::skipping`): it would skip rows, and its reader is disconnected first.
//!
//! Absent on purpose: how a logical slot is copied (`node/src/postgres/slot_files.rs`).

pub mod danger;
pub mod logical;
mod permanent;
mod readers;
mod readiness;
mod spared;
pub mod step;
mod unknown;
mod wanted;

pub use logical::{Logical, NATIVE};
pub use permanent::{ClusterKind, Permanent, Specification, permanent, specification};
pub use readers::{Reader, Readers, are_unreadable};
pub use readiness::Readiness;
pub use step::{DropWhy, Scene, SlotStep};
pub use unknown::Unknown;
pub use wanted::{Plan, Wanted, Why, is_below_nostream, wanted};

use std::collections::BTreeMap;
use topology::id::slot_name;
use topology::{Dynamic, GroupView, Lsn, MemberName, RegionName};

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Kind {
    Physical,
    Logical { database: String, plugin: String },
}

/// A slot as PostgreSQL shows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Slot {
    pub name: String,
    pub kind: Kind,
    pub active: bool,
    /// `None`: it reserves no WAL.
    pub restart_lsn: Option<Lsn>,
    /// Of a logical slot: up to where its reader has confirmed.
    pub confirmed_flush: Option<Lsn>,
    /// It keeps dead rows from vacuum, as a standby with `hot_standby_feedback` asked.
    pub holds_rows: bool,
    /// From this transaction on it keeps dead rows of catalogues.
    pub catalog_xmin: Option<Xid>,
    /// PostgreSQL has invalidated it: the WAL it needs is gone.
    pub is_lost: bool,
    /// PostgreSQL 17: the server's own worker copies it to standbys.
    pub failover: bool,
    /// PostgreSQL 17: it is such a copy.
    pub synced: bool,
}

impl Slot {
    /// From where on its reader goes on.
    pub fn position(&self) -> Option<Lsn> {
        if self.is_physical() { self.restart_lsn } else { self.confirmed_flush }
    }

    pub fn is_physical(&self) -> bool {
        self.kind == Kind::Physical
    }

    /// A physical slot as it is made: it reserves WAL from `at` on.
    pub fn physical(name: &str, at: Lsn) -> Slot {
        Slot {
            name: name.to_string(),
            kind: Kind::Physical,
            active: false,
            restart_lsn: Some(at),
            confirmed_flush: None,
            holds_rows: false,
            catalog_xmin: None,
            is_lost: false,
            failover: false,
            synced: false,
        }
    }
}

/// A transaction id. There is no order of all: of two, one precedes within 2^31.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Xid(pub u32);

impl Xid {
    pub fn is_at_most(self, other: Xid) -> bool {
        (self.0.wrapping_sub(other.0) as i32) <= 0
    }
}

/// What the server of a member is to the group.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    Primary,
    /// The leader of a group that follows another region or cluster.
    StandbyLeader,
    Replica,
    /// A standby that holds the lock and is about to open.
    Promoting,
}

/// What the slots of a member depend on.
#[derive(Clone, Debug)]
pub struct Situation<'a> {
    pub me: &'a MemberName,
    /// The tag of this member.
    pub nofailover: bool,
    pub view: &'a GroupView,
    pub dynamic: &'a Dynamic,
    pub role: Role,
    /// Whether the group follows another region or cluster; `None`: that is not known.
    pub cluster: Option<ClusterKind>,
    /// A standby in a standby region whose servers copy no logical slots themselves: it keeps
    /// copies of the remote leader's.
    pub copies_region: bool,
    /// No slot moves past this: the end of a primary's log, what a standby has replayed.
    pub end: Lsn,
    /// The other regions, where this one owns the formation.
    pub regions: &'a [RegionName],
    /// Regions whose slots are neither made nor dropped: it is not known which region
    /// owns the formation.
    pub doubtful_regions: &'a [RegionName],
    /// Positions that members have told themselves.
    pub heard: &'a BTreeMap<MemberName, Lsn>,
    /// The databases of a Citus group.
    pub citus_databases: &'a [String],
}

/// The slot that a standby region's leader uses on the primary region.
pub fn region_slot(region: &RegionName) -> String {
    slot_name(&format!("region_{region}"))
}
