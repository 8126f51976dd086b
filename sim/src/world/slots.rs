//! Replication slots, and the WAL that a server keeps for them.
//!
//! A standby streams only from a server that has its slot and still has the WAL behind the
//! standby's end. Each server writes a checkpoint now and then, and removes what no slot
//! needs. Which slots are made, moved and dropped the machine decides
//! (`member::slots`). All of it draws from a source of its own, so that a kind of worlds
//! without slots keeps its story; there all WAL is kept.
//!
//! Absent on purpose: logical slots (`readers.rs`), archives, and what PostgreSQL 17 copies by itself.

use super::logical::{LogicalModel, xid};
use super::rng::Rng;
use super::{Event, World};
use crate::check;
use member::Answer;
use standby::slots::{Slot, SlotStep};
use std::collections::{BTreeMap, VecDeque};
use topology::Lsn;

/// Small, for the records of this world are.
pub const SEGMENT: u64 = 4_096;
/// What a checkpoint leaves in any case: what is written in some seconds.
pub const KEPT: u64 = 128 * SEGMENT;
/// Bytes of a large record: enough is written that WAL is removed.
const RECORD_MAX: u64 = 8_000;
/// Between two checkpoints of a server.
const CHECKPOINT_MS: (u64, u64) = (800, 6_000);
/// For how long it is remembered where logs ended.
const REMEMBERED_MS: u64 = 120_000;

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SlotModel {
    /// Where the WAL begins that it needs.
    pub restart: u64,
    /// The same when it was made.
    pub made_at: u64,
    /// Dead rows are kept for the standby that streamed from it last.
    pub holds_rows: bool,
    /// Removed WAL that it needed.
    pub is_lost: bool,
    /// Catalogues are kept from here on, as the standby's feedback asked.
    pub catalog: Option<u64>,
}

/// Slots of a server and the WAL that it has.
#[derive(Clone, Debug, Default)]
pub struct Wal {
    pub slots: BTreeMap<String, SlotModel>,
    pub logical: BTreeMap<String, LogicalModel>,
    /// The first byte that is still there.
    pub kept_from: u64,
    /// Where the last checkpoint began.
    redo: u64,
    /// Its data were copied at this end: nothing before was ever here.
    pub born_at: u64,
}

/// The settings of one world's slots.
#[derive(Clone, Debug)]
pub struct Slots {
    rng: Rng,
    /// `max_replication_slots`.
    pub places: usize,
    /// `max_slot_wal_keep_size`; `None`: no limit.
    pub limit: Option<u64>,
    /// Percent of changes that fail.
    pub fails: u64,
    /// No WAL is removed: what this world is about are logical slots.
    pub keeps_wal: bool,
    /// Where the log of each group's primary ended, by the moment.
    ends: Vec<VecDeque<(u64, u64)>>,
}

impl Slots {
    pub fn new(seed: u64, groups: usize, members: usize) -> Slots {
        let mut rng = Rng::new(seed ^ 0x736c_6f74_7300);
        Slots {
            places: rng.pick(&[10, 10, 10, members - 1]),
            limit: rng.pick(&[None, None, None, Some(600 * SEGMENT)]),
            fails: rng.pick(&[0, 0, 10]),
            keeps_wal: false,
            ends: vec![VecDeque::new(); groups],
            rng,
        }
    }

    /// Nothing fails by itself, and checkpoints come in the middle of their time.
    pub fn calm(places: usize) -> Slots {
        let ends = vec![VecDeque::new()];
        Slots { rng: Rng::calm(), places, limit: None, fails: 0, keeps_wal: false, ends }
    }
}

impl Wal {
    /// Of a base backup that ends there: slots stay behind, and only new WAL comes.
    pub fn copied(end: u64) -> Wal {
        let kept_from = end / SEGMENT * SEGMENT;
        Wal { kept_from, redo: end, born_at: kept_from, ..Wal::default() }
    }

    /// Of a rewind: slots are gone, and the WAL of the source comes along.
    pub fn rewound(source: &Wal) -> Wal {
        Wal { slots: BTreeMap::new(), logical: BTreeMap::new(), ..source.clone() }
    }
}

impl World {
    /// Members of a world with slots may stream from another one than the leader, and
    /// send their feedback.
    pub fn begin_slots(&mut self) {
        if self.readers.is_some() {
            return self.begin_readers();
        }
        let Some(slots) = &mut self.slots else { return };
        let ttl = slots.rng.pick(&["30min", "30min", "20s", "0"]);
        self.plan.record_max = RECORD_MAX;
        self.plan.document.insert("member_slots_ttl".into(), ttl.into());
        for member in 0..self.members.len() {
            let slots = self.slots.as_mut().expect("just seen");
            let other = slots.rng.range(0, self.members.len() as u64 - 1) as usize;
            let cascades = slots.rng.percent(25) && other != member;
            self.members[member].has_feedback = slots.rng.percent(40);
            let name = self.members[other].name.0.clone();
            if cascades {
                self.members[member].tags.0.insert("replicatefrom".into(), name.into());
            }
        }
        self.begin_checkpoints();
    }

    pub fn begin_checkpoints(&mut self) {
        (0..self.members.len()).for_each(|member| self.checkpoint_later(member));
    }

    fn checkpoint_later(&mut self, member: usize) {
        let Some(slots) = &mut self.slots else { return };
        let ms = slots.rng.range(CHECKPOINT_MS.0, CHECKPOINT_MS.1);
        self.after(ms, Event::Checkpoint { member });
    }

    /// What no slot needs is removed.
    pub fn on_checkpoint(&mut self, member: usize) {
        self.checkpoint_later(member);
        let server = &self.members[member].server;
        if !(server.accepts_commits() || server.is_standby()) || self.disk_fails(member) {
            return;
        }
        let end = server.log.end();
        self.remember_end(member, end);
        self.look_at_records();
        self.vacuum(member);
        if self.slots.as_ref().is_some_and(|slots| slots.keeps_wal) {
            return;
        }
        self.lose_slots(member, end);
        let wal = &mut self.members[member].server.wal;
        wal.redo = end;
        let needed = wal.slots.values().filter(|slot| !slot.is_lost).map(|slot| slot.restart);
        let keep = needed.min().unwrap_or(end).min(end.saturating_sub(KEPT));
        wal.kept_from = wal.kept_from.max(keep / SEGMENT * SEGMENT);
        check::slots::removed(self, member);
    }

    fn look_at_records(&mut self) {
        for member in 0..self.members.len() {
            let m = &self.members[member];
            let key = m.keys.member(&m.name);
            if self.stores.get(m.place.region, &key).is_some() {
                self.members[member].seen_at = self.now;
            }
        }
    }

    fn remember_end(&mut self, member: usize, end: u64) {
        let m = &self.members[member];
        let (client, leads, now) = (m.place.client, m.server.accepts_commits(), self.now);
        let Some(slots) = self.slots.as_mut().filter(|_| leads) else { return };
        let ends = &mut slots.ends[client];
        ends.push_back((now, end));
        while ends.front().is_some_and(|(at, _)| at + REMEMBERED_MS < now) {
            ends.pop_front();
        }
    }

    /// Where the log of the group's primary ended `ms` ago.
    pub fn ended_before(&self, client: usize, ms: u64) -> Option<u64> {
        let ends = &self.slots.as_ref()?.ends[client];
        let old = ends.iter().rev().find(|(at, _)| at + ms <= self.now);
        old.map(|(_, end)| *end)
    }

    /// A slot that needs more than the limit is given up, unless a standby uses it.
    fn lose_slots(&mut self, member: usize, end: u64) {
        let Some(limit) = self.slots.as_ref().and_then(|slots| slots.limit) else { return };
        let slots = &self.members[member].server.wal.slots;
        let is_old = |slot: &SlotModel| !slot.is_lost && slot.restart + limit < end;
        let old = slots.iter().filter(|(name, slot)| is_old(slot) && !self.is_active(member, name));
        for name in old.map(|(name, _)| name.clone()).collect::<Vec<_>>() {
            self.note_of(member, &format!("the slot {name} is lost"));
            let slots = &mut self.members[member].server.wal.slots;
            slots.entry(name).and_modify(|slot| slot.is_lost = true);
        }
    }

    /// A standby streams from it.
    pub fn is_active(&self, member: usize, name: &str) -> bool {
        self.members.iter().any(|m| {
            let follows = m.server.follows.as_ref();
            let slot = follows.and_then(|following| following.slot.as_deref());
            m.server.streams_from == Some(member) && slot == Some(name)
        })
    }

    /// PostgreSQL streams only through a slot that is there, and only WAL that it has.
    pub fn has_wal_for(&self, member: usize, upstream: usize) -> bool {
        if self.slots.is_none() {
            return true;
        }
        let (server, wal) = (&self.members[member].server, &self.members[upstream].server.wal);
        let slot = server.follows.as_ref().and_then(|following| following.slot.as_ref());
        let has_slot = slot.is_none_or(|name| wal.slots.get(name).is_some_and(|s| !s.is_lost));
        let keeps_all = self.slots.as_ref().is_some_and(|slots| slots.keeps_wal);
        has_slot && (keeps_all || wal.kept_from <= server.log.end())
    }

    /// A standby confirms what it has, and says which rows it still reads.
    pub fn move_slot(&mut self, member: usize, upstream: usize) {
        if self.slots.is_none() {
            return;
        }
        self.members[member].may_starve = false;
        let m = &self.members[member];
        let holds_rows = m.has_feedback || m.server.feedback;
        let (end, catalog) = (m.server.log.end(), self.catalog_needed(member));
        let name = m.server.follows.as_ref().and_then(|following| following.slot.clone());
        let wal = &mut self.members[upstream].server.wal;
        if let Some(slot) = name.and_then(|name| wal.slots.get_mut(&name)) {
            (slot.restart, slot.holds_rows, slot.catalog) = (end, holds_rows, catalog);
        }
    }

    /// As the server shows them.
    pub fn slots_of(&self, member: usize) -> Vec<Slot> {
        let slots = self.members[member].server.wal.slots.iter();
        let shown = slots.map(|(name, slot)| Slot {
            active: self.is_active(member, name),
            restart_lsn: (!slot.is_lost).then_some(Lsn(slot.restart)),
            holds_rows: slot.holds_rows,
            is_lost: slot.is_lost,
            catalog_xmin: slot.catalog.map(xid),
            ..Slot::physical(name, Lsn(slot.restart))
        });
        shown.chain(self.logical_slots_of(member)).collect()
    }

    pub fn change_slot(&mut self, member: usize, step: &SlotStep) -> Answer {
        if !self.answers(member) {
            return Answer::Failed("PostgreSQL does not answer".into());
        }
        let slots = self.slots.as_mut().expect("a world with slots");
        if slots.rng.percent(slots.fails) {
            return Answer::Failed("it was cancelled".into());
        }
        let places = slots.places;
        match self.changed_slot(member, step, places) {
            Ok(()) => {
                self.note_of(member, &step.to_string());
                Answer::Done
            }
            Err(why) => Answer::Failed(why.into()),
        }
    }

    fn changed_slot(
        &mut self,
        member: usize,
        step: &SlotStep,
        places: usize,
    ) -> Result<(), &'static str> {
        let (SlotStep::Drop { name, .. }
        | SlotStep::Advance { name, .. }
        | SlotStep::CreatePhysical { name }) = step
        else {
            panic!("servers of this world have no logical slots: {step}");
        };
        let (active, end) = (self.is_active(member, name), self.members[member].server.log.end());
        if let SlotStep::Drop { name, .. } = step
            && self.members[member].server.wal.logical.remove(name).is_some()
        {
            return Ok(());
        }
        let wal = &mut self.members[member].server.wal;
        let has_place = wal.slots.len() < places;
        let there = wal.slots.get_mut(name);
        match (step, there) {
            (SlotStep::CreatePhysical { .. }, Some(_)) => return Err("it is there already"),
            (SlotStep::CreatePhysical { .. }, None) if !has_place => {
                return Err("all of max_replication_slots are in use");
            }
            (SlotStep::CreatePhysical { name }, None) => {
                let made_at = wal.redo.max(wal.kept_from);
                let slot = SlotModel { restart: made_at, made_at, ..Default::default() };
                wal.slots.insert(name.clone(), slot);
            }
            (_, None) => return Err("it is not there"),
            (_, Some(_)) if active => return Err("it is active"),
            (SlotStep::Advance { to, .. }, Some(slot)) => {
                slot.restart = slot.restart.max(to.0.min(end));
            }
            (_, Some(_)) => drop(wal.slots.remove(name)),
        }
        Ok(())
    }
}
