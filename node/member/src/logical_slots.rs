//! What a member remembers of its logical slots, and what follows from that.
//!
//! Work on them runs beside the beats; its ends come with a later `SlotSight`. A standby's
//! copies are judged by what the leader says of its own slots (`standby/src/slots/readiness.rs`),
//! and those that are missing make it restart, one member at a time: before PostgreSQL 17
//! a server takes a copy only when it starts.
//!
//! Invariants: a slot makes a server restart at most once in ten minutes; while the store
//! is silent none is copied. A copy of a standby region is proven anew whenever the remote
//! leader or its timeline is another one, also where the copy is a slot that this server had as
//! the primary.

mod copies;
mod judgement;
mod noting;
mod opening;
mod settings;
mod work;

pub(crate) use opening::BeforeOpening;
pub(crate) use settings::copies_region;

use super::Member;
use super::slot_sight::SlotSight;
use crate::ha::Observation;
use crate::ha::facts::Facts;
use copies::Copying;
use judgement::Judgement;
use settings::follows_region;
use standby::slots::{Kind, Logical, NATIVE, Plan, Reader, Readers, Role, Slot, SlotStep};
use standby::switch::ownership::Ownership;
use std::collections::{BTreeMap, BTreeSet};
use topology::{Dynamic, GroupView, Lsn, Millis};
use work::Work;

/// Between two restarts for copies of the same slot.
const RESTART_AGAIN_MS: u64 = 600_000;
/// The same after restarts that were in vain, each of which doubles it.
const RESTART_AGAIN_MAX_MS: u64 = 86_400_000;
/// Between two tries to read copies for a restart: a synchronous standby leaves its duty for each.
const READ_AGAIN_MS: u64 = 120_000;
/// An answer of the leader is good for this many loops.
const ANSWER_LOOPS: u64 = 3;

#[derive(Debug, Default)]
pub(super) struct LogicalMemory {
    server: OnServer,
    work: Work,
    own: OwnSlots,
    judgement: Judgement,
    remote: Remote,
    copying: Copying,
    readers: Readers,
    /// What the last promotion found not to be ready.
    pub(crate) promoted_with: Option<String>,
}

/// The own server when it was last looked at.
#[derive(Debug, Default)]
struct OnServer {
    /// This process has taken in what the server's slots are.
    is_noted: bool,
    major: u32,
    /// `wal_level` of the running server is logical, as far as it was looked at since its start.
    decodes: bool,
    /// When the server was started whose slots were looked at last.
    looked_at: Option<String>,
    /// Its logical slots.
    there: Vec<Slot>,
    /// A physical slot keeps catalogue rows: a standby below this one has copies, also if its
    /// record, or that of one further below, is gone for now.
    keeps_below: bool,
    /// This member or one below it keeps copies. `None`: that was never known here.
    feedback: Option<bool>,
    /// When each physical slot was last used, for `synchronized_standby_slots`.
    used: BTreeMap<String, Millis>,
}

/// Slots that are no copies.
#[derive(Debug, Default)]
struct OwnSlots {
    /// Those that were here while this server was the primary.
    owned: BTreeSet<String>,
    /// Failover slots that `slots` has defined while they were here.
    defined: BTreeSet<String>,
    /// Those that it must not resume: they begin behind their readers.
    late: BTreeSet<String>,
    /// This group follows another one, or did so until it opens.
    followed: bool,
}

/// In a standby region: what the remote leader said last.
#[derive(Debug, Default)]
struct Remote {
    /// Of readers.
    positions: BTreeMap<String, Lsn>,
    /// Copies whose slot it does not have.
    gone: BTreeSet<String>,
}

/// What the slots of a beat are judged by.
pub(super) struct Moment<'a> {
    pub now: Millis,
    pub seen: &'a Observation,
    pub view: &'a GroupView,
    pub role: Role,
    pub sight: &'a SlotSight,
}

impl Moment<'_> {
    /// This member keeps copies of another region's slots.
    fn copies_region(&self) -> bool {
        let is_standby = matches!(self.role, Role::StandbyLeader | Role::Replica);
        is_standby && copies_region(self.seen, self.sight.major)
    }

    /// Whose slots are copied is not known.
    fn is_doubtful(&self) -> bool {
        matches!(self.seen.ownership, Ownership::Doubtful(_))
    }
}

impl LogicalMemory {
    /// What the rows go by.
    pub(crate) fn sight(&self, moment: &Moment, dynamic: &Dynamic) -> Logical {
        let Moment { now, seen, view, role, sight } = moment;
        let is_due = self
            .judgement
            .asked
            .as_ref()
            .is_none_or(|(at, _)| now.since(*at) >= dynamic.loop_wait_ms);
        let refused = match role {
            Role::Primary => self.refused(&sight.slots),
            _ => BTreeMap::new(),
        };
        Logical {
            major: self.server.major,
            decodes: self.server.decodes,
            busy: self
                .work
                .under_way
                .iter()
                .filter_map(SlotStep::beside)
                .map(str::to_string)
                .collect(),
            refused: refused.into_iter().map(|(name, reader)| (name, reader.at)).collect(),
            skipping: self.readers.ahead().into_keys().chain(self.own.late.clone()).collect(),
            knows_readers: view.status.is_some(),
            defined: self.own.defined.clone(),
            lacking: self.copying.lacking.clone(),
            asks_leader: is_due && Facts::of(seen).slots_source().is_some(),
            remote: self.remote.positions.clone(),
            gone: self.remote.gone.clone(),
        }
    }

    /// Slots that a primary does not make, or resume.
    pub(crate) fn refused(&self, there: &[Slot]) -> BTreeMap<String, Reader> {
        let resumed = there.iter().filter(|slot| !self.own.late.contains(&slot.name));
        self.readers.refused(&resumed.cloned().collect::<Vec<_>>(), &self.own.owned)
    }

    /// What the leader of a cluster that follows another one tells of slots that are not here.
    pub(crate) fn doubted_readers(
        &self,
        dynamic: &Dynamic,
        there: &[Slot],
        end: Lsn,
    ) -> BTreeMap<String, Reader> {
        self.readers.doubted(dynamic, there, end)
    }

    /// What readers have confirmed on the last primary.
    pub(crate) fn readers(&self) -> BTreeMap<String, Reader> {
        self.readers.all().clone()
    }

    /// The word for each slot, for the member record.
    pub(crate) fn words(&self) -> BTreeMap<String, String> {
        let words = self.judgement.readiness.iter();
        words.map(|(name, readiness)| (name.clone(), readiness.word().to_string())).collect()
    }

    pub(crate) fn is_native(&self) -> bool {
        self.server.major >= NATIVE
    }

    /// What the leader of a standby region tells of readers: `None` where its own slots tell.
    pub(crate) fn remote_readers(&self, seen: &Observation) -> Option<BTreeMap<String, Lsn>> {
        (follows_region(seen) && !self.is_native()).then(|| self.remote.positions.clone())
    }
}

fn logical_of(plan: &Plan) -> impl Iterator<Item = (&String, &Kind)> {
    let all = plan.wanted.iter().map(|(name, wanted)| (name, &wanted.kind));
    all.filter(|(_, kind)| **kind != Kind::Physical)
}

impl Member {
    /// The word for each permanent logical slot that is kept here.
    pub fn logical_slots(&self) -> BTreeMap<String, String> {
        self.slots.logical.words()
    }

    /// Settings of a server are written before its slots are looked at.
    pub(super) fn note_version(&mut self, version: i32) {
        self.slots.logical.server.major = u32::try_from(version / 10_000).unwrap_or_default();
    }

    /// What was seen of another server says nothing of the `wal_level` of this one.
    pub(super) fn note_start(&mut self, started: Option<&str>) {
        let server = &mut self.slots.logical.server;
        if started.is_some() && server.looked_at.as_deref() != started {
            server.decodes = false;
        }
    }
}

#[cfg(test)]
#[path = "logical_slots_tests.rs"]
mod tests;
