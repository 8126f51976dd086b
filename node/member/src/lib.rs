//! One daemon as a machine without I/O.
//!
//! `wake` begins a beat and `answer` goes on with it; each gives the next effect: look
//! at the world, make one call, or rest. A performer does that one effect and brings
//! its answer. The daemon performs effects on a real server and store, the simulator on a
//! model of them; neither decides anything.
//!
//! A beat looks once, then asks the tables (`ha`) up to eight times and does one action
//! each time. So one effect is under way at any moment; long work runs in the
//! background slot, whose end is part of the next look.
//!
//! Invariant *pure*: no clock, no I/O, no async, no randomness. The moment comes with
//! each call.
//!
//! After a beat the machine keeps the member's record and a leader's documents true in
//! the store (`upkeep`), and what is on its own machine in order (`chores`, `slots`), one
//! call at a time.
//!
//! Absent on purpose: the guard thread and the watchdog device, which must work when
//! this machine does not.

pub mod act;
mod after_beat;
mod after_promotion;
mod beat;
pub mod callbacks;
mod chore_sight;
pub mod chores;
#[cfg(test)]
mod chores_tests;
mod disk_watch;
pub(crate) mod effect;
pub mod events;
mod failsafe;
mod farewell;
pub mod ha;
mod histories;
mod history;
pub mod job_terms;
mod limits;
pub mod lock;
mod logical_slots;
mod look;
#[cfg(test)]
#[path = "../../../topology/src/made_up.rs"]
mod made_up;
#[cfg(test)]
#[path = "../../../topology/src/made_up_move.rs"]
mod made_up_move;
mod next;
mod on_lease;
pub mod overrides;
pub mod planned_restart;
mod record;
mod region;
mod renewal;
pub mod requests;
pub mod role;
pub(crate) mod schedule;
mod server_files;
mod slot_sight;
pub mod slots;
mod start;
mod state;
pub mod stop;
#[cfg(test)]
mod tests;
pub mod upkeep;
mod wake;
pub mod write;

pub use after_beat::Stage;
pub use beat::Report;
pub use disk_watch::DiskProbe;
pub use effect::{
    Answer, Call, Effect, Level, Local, Look, NoEnd, Particulars, Reload, RemoteLog, RestartSight,
    Sight, StoreSight,
};
pub use farewell::Farewell;
pub use job_terms::{SlotCopies, SlotCopy, StartLimit};
pub use limits::STORE_CALL_MS;
pub use look::is_slow_stop;
pub use record::{reason, role_of};
pub use region::{closed_workers, keeps_rows, may_campaign};
pub use slot_sight::{SlotEnd, SlotFailure, SlotSight};
pub use start::{Configurations, KeptProof};

use crate::ha::failsafe::PeerSet;
use crate::ha::observation::Memory;
use crate::lock::OwnLease;
use beat::Beat;
use callbacks::Callbacks;
use chores::Chores;
use disk_watch::DiskWatch;
use planned_restart::Planned;
use region::{DiskMemory, MoveMemory};
use slots::SlotMemory;
use standby::report::Retention;
use std::collections::{BTreeMap, BTreeSet};
use topology::{Dynamic, HistoryEntry, Lsn, MemberName, MemberRole, Millis};
use upkeep::{Sent, Upkeep};

/// What one daemon knows from beat to beat, and the beat under way.
#[derive(Debug)]
pub struct Member {
    pub name: MemberName,
    /// Seconds: the shortest `ttl` that the member's own file allows.
    pub minimum_ttl: u64,
    pub memory: Memory,
    pub lease: OwnLease,
    /// This process held the lock when it last knew.
    held: bool,
    /// The cluster-wide configuration in force: the store's, or the last that was read.
    pub dynamic: Dynamic,
    /// The members that have to agree in failsafe mode.
    pub peer_set: PeerSet,
    /// All of them agreed that this member leads on until then.
    pub proof: Option<Millis>,
    /// When they were asked last.
    pub asked_all: Millis,
    /// The lease was renewed: the leader's position is due.
    pub status_due: bool,
    /// The members' addresses when the group last had a leader.
    pub seen_urls: BTreeMap<MemberName, String>,
    /// Milliseconds until a scheduled request is due.
    pub scheduled_in: Option<u64>,
    /// When the member record was last written.
    recorded_at: Millis,
    /// The role in which the server last ran.
    ran_as: Option<MemberRole>,
    /// `/history` as it was last read with a line.
    history: Vec<HistoryEntry>,
    /// Since when slots of members are kept, while this member leads.
    retention: Retention,
    /// Members that were told to be never synchronous, because of their names.
    never_synchronous: BTreeSet<MemberName>,
    slots: SlotMemory,
    /// Positions that members told in failsafe mode, until the store answers again.
    heard: BTreeMap<MemberName, Lsn>,
    /// `/failsafe` as the row has just made it.
    sending: Option<Sent>,
    /// The highest epoch this process has seen verified.
    epoch: Option<u64>,
    region_disk: DiskMemory,
    /// The watch of the store is down, as of the last look.
    store_lost: bool,
    /// Why `/config` cannot be read, as it was told last.
    broken_config: Option<String>,
    /// The last beat was in pause.
    was_paused: bool,
    pub disk: DiskWatch,
    /// The disk failed when it was last looked at.
    disk_failed: bool,
    /// When the server was started that the coordinator was told of last.
    told_running: Option<String>,
    planned: Planned,
    region_move: MoveMemory,
    chores: Chores,
    callbacks: Callbacks,
    beat: Option<Beat>,
    upkeep: Option<Upkeep>,
    local: Vec<Local>,
}

impl Member {
    pub fn new(name: MemberName, minimum_ttl: u64, started: Millis) -> Member {
        Member {
            name,
            minimum_ttl,
            memory: Memory { started, ..Memory::default() },
            lease: OwnLease::default(),
            held: false,
            dynamic: Dynamic::default(),
            peer_set: PeerSet::default(),
            proof: None,
            asked_all: Millis(0),
            status_due: false,
            seen_urls: BTreeMap::new(),
            scheduled_in: None,
            recorded_at: Millis(0),
            ran_as: None,
            history: Vec::new(),
            retention: Retention::default(),
            never_synchronous: BTreeSet::new(),
            slots: SlotMemory::default(),
            heard: BTreeMap::new(),
            sending: None,
            epoch: None,
            region_disk: DiskMemory::default(),
            store_lost: true,
            broken_config: None,
            was_paused: false,
            disk: DiskWatch::default(),
            disk_failed: false,
            told_running: None,
            planned: Planned::default(),
            region_move: MoveMemory::default(),
            chores: Chores::default(),
            callbacks: Callbacks::default(),
            beat: None,
            upkeep: None,
            local: Vec::new(),
        }
    }

    /// What the last step wants done at once, on this machine. None of it can fail.
    pub fn take_local(&mut self) -> Vec<Local> {
        std::mem::take(&mut self.local)
    }

    fn note(&mut self, level: Level, text: impl Into<String>) {
        self.local.push(Local::Note(level, text.into()));
    }
}
