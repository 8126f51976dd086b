//! Permanent logical slots before PostgreSQL 17, and what reads from them.
//!
//! Each group has a slot `reader`. A reader asks any open server that has it for what lies behind
//! its own position, and confirms that. What a slot needs of the catalogues is a position, too:
//! a primary removes older rows with each checkpoint, up to what its slots and the feedback of
//! its standbys keep. A copy on a standby is a file that a start brings, and is moved beside the
//! beats. What is made, copied, moved and dropped the machine decides.
//!
//! Absent on purpose: WAL that is removed, readers of several slots, PostgreSQL 16 and newer.

use super::fault::Fault;
use super::links::Wire;
use super::logical::{DATABASE, Incoming, LogicalModel, PLUGIN, READER, xid};
use super::postgres::{Kind, Role};
use super::region::region_name;
use super::rng::Rng;
use super::{Event, World};
use crate::check;
use member::ha::observation::Following;
use member::{Answer, SlotCopies, SlotEnd, SlotFailure, SlotSight};
use serde_json::json;
use standby::slots::{Kind as SlotKind, Slot, SlotStep};
use std::collections::HashSet;
use topology::Lsn;

/// Between two questions of a reader.
const PACE_MS: (u64, u64) = (100, 600);
/// Between two moves that an operator asks for.
const MOVES_MS: (u64, u64) = (15_000, 60_000);

/// A reader of one group.
#[derive(Clone, Debug, Default)]
pub struct Reader {
    /// Where its slot began; `None`: it was never made.
    pub begun: Option<u64>,
    /// Up to where it has all.
    pub at: u64,
    /// The commits that it has got.
    pub got: HashSet<u64>,
    /// The server and the timeline that it read from last.
    pub from: Option<(usize, u32)>,
}

#[derive(Clone, Debug)]
pub struct Readers {
    rng: Rng,
    pub of: Vec<Reader>,
}

impl Readers {
    pub fn new(seed: u64, groups: usize) -> Readers {
        Readers { rng: Rng::new(seed ^ 0x7265_6164), of: vec![Reader::default(); groups] }
    }
}

impl World {
    pub fn slot_sight(&mut self, member: usize) -> SlotSight {
        let m = &mut self.members[member];
        let ended = std::mem::take(&mut m.daemon.slot_ended);
        let (own, regions) = (m.place.region, self.stores.regions.len());
        SlotSight {
            slots: self.slots_of(member),
            end: Lsn(self.members[member].server.log.end()),
            other_regions: (0..regions).filter(|r| *r != own).map(region_name).collect(),
            major: 15,
            decodes: self.readers.is_some(),
            started: Some(self.members[member].server.since.to_string()),
            ended,
            ..SlotSight::default()
        }
    }

    pub fn begin_readers(&mut self) {
        let slot = json!({ READER: {"database": DATABASE, "plugin": PLUGIN} });
        self.plan.document.insert("slots".into(), slot);
        let slots = self.slots.as_mut().expect("a world with slots");
        (slots.keeps_wal, slots.limit, slots.places) = (true, None, 10);
        self.begin_checkpoints();
        for group in 0..self.clients.len() {
            self.after(500, Event::Read { group });
        }
    }

    /// While faults happen, the formation moves more often than elsewhere.
    pub fn begin_moves(&mut self) {
        let Some(readers) = &mut self.readers else { return };
        let mut at = 0;
        for pause in [(); 6].map(|()| readers.rng.range(MOVES_MS.0, MOVES_MS.1)) {
            at += pause;
            self.after(at, Event::Fault(Fault::Move));
        }
    }

    pub fn logical_slots_of(&self, member: usize) -> impl Iterator<Item = Slot> {
        let slots = self.members[member].server.wal.logical.iter();
        slots.map(|(name, slot)| Slot {
            kind: SlotKind::Logical { database: DATABASE.into(), plugin: PLUGIN.into() },
            confirmed_flush: Some(Lsn(slot.confirmed)),
            catalog_xmin: Some(xid(slot.needs)),
            is_lost: slot.is_lost,
            ..Slot::physical(name, Lsn(slot.needs))
        })
    }

    /// What an agent is shown. One that is blinded believes in a copy on every server.
    pub fn probed_slots(&self, member: usize) -> Vec<Slot> {
        let shown: Vec<Slot> = self.logical_slots_of(member).collect();
        if !self.plan.blind || !shown.is_empty() {
            return shown;
        }
        let kind = SlotKind::Logical { database: DATABASE.into(), plugin: PLUGIN.into() };
        vec![Slot { kind, ..Slot::physical(READER, Lsn(1)) }]
    }

    /// What this standby's feedback asks for, also for those that cascade from it.
    pub fn catalog_needed(&self, member: usize) -> Option<u64> {
        let server = &self.members[member].server;
        let own = server.wal.logical.values().filter(|slot| !slot.is_lost).map(|slot| slot.needs);
        let below = server.wal.slots.values().filter_map(|slot| slot.catalog);
        own.chain(below).min().filter(|_| server.feedback)
    }

    /// Dead rows of catalogues go, as far as no slot keeps them.
    pub fn vacuum(&mut self, member: usize) {
        if self.readers.is_none() || !self.members[member].server.accepts_commits() {
            return;
        }
        let id = self.record_id();
        let server = &mut self.members[member].server;
        let (end, wal) = (server.log.end(), &server.wal);
        let logical = wal.logical.values().filter(|slot| !slot.is_lost).map(|slot| slot.needs);
        let physical = wal.slots.values().filter_map(|slot| slot.catalog);
        let to = logical.chain(physical).min().unwrap_or(end).min(end);
        if to > server.log.horizon() {
            server.append(id, 60, Kind::Vacuum(to));
        }
    }

    // The reader.

    pub fn on_read(&mut self, group: usize) {
        let Some(readers) = &mut self.readers else { return };
        let pause = readers.rng.range(PACE_MS.0, PACE_MS.1);
        let (part, confirms) = (readers.rng.range(1, 30) as usize, readers.rng.percent(70));
        self.after(pause, Event::Read { group });
        let Some(member) = self.readable(group) else { return };
        check::readers::connects(self, group, member);
        self.read(group, member, part);
        if confirms {
            self.confirm(group, member);
        }
    }

    /// An open server of the group that has its slot.
    fn readable(&self, group: usize) -> Option<usize> {
        self.members.iter().position(|m| {
            let slot = m.server.wal.logical.get(READER).filter(|slot| !slot.is_lost);
            let answers = m.server.accepts_commits() && !m.server.mute;
            m.place.client == group && answers && slot.is_some()
        })
    }

    /// Takes the next records behind its position, or behind what the slot has confirmed.
    fn read(&mut self, group: usize, member: usize, part: usize) {
        let readers = self.readers.as_mut().expect("a world with readers");
        let (reader, server) = (&mut readers.of[group], &self.members[member].server);
        let confirmed = server.wal.logical[READER].confirmed;
        reader.begun.get_or_insert(confirmed);
        reader.at = reader.at.max(confirmed);
        let records = server.log.records();
        let from = records.partition_point(|record| record.end <= reader.at);
        for record in records[from..].iter().take(part) {
            if record.kind == Kind::Commit {
                reader.got.insert(record.id);
            }
            reader.at = record.end;
        }
        reader.from = Some((member, server.log.timeline()));
    }

    /// What the slot needs follows one step behind.
    fn confirm(&mut self, group: usize, member: usize) {
        let at = self.readers.as_ref().expect("a world with readers").of[group].at;
        let slots = &mut self.members[member].server.wal.logical;
        if let Some(slot) = slots.get_mut(READER) {
            slot.move_to(at);
        }
    }

    // Copies.

    /// Before a job that starts a standby. How many were read.
    pub fn read_copies(&mut self, member: usize) -> usize {
        let work = self.members[member].daemon.job.as_ref().expect("its job runs");
        let copies = work.terms.copies.clone();
        let incoming = copies.map_or_else(Vec::new, |copies| self.copies_from(member, &copies));
        let read = incoming.len();
        self.members[member].server.incoming = incoming;
        read
    }

    fn copies_from(&self, member: usize, copies: &SlotCopies) -> Vec<Incoming> {
        let Some(source) = self.open_server(member, &copies.from) else { return Vec::new() };
        let theirs = &self.members[source].server.wal.logical;
        let read = copies.slots.iter().filter_map(|wanted| {
            let model = theirs.get(&wanted.name)?.clone();
            Some(Incoming { name: wanted.name.clone(), replaces: wanted.replaces, model })
        });
        read.collect()
    }

    pub fn install_copies(&mut self, member: usize, role: Role) {
        let server = &mut self.members[member].server;
        let mut told = Vec::new();
        for incoming in std::mem::take(&mut server.incoming) {
            let is_there = server.wal.logical.contains_key(&incoming.name);
            if role == Role::Standby && (incoming.replaces || !is_there) {
                told.push(format!("a copy of the slot {} is put here", incoming.name));
                server.wal.logical.insert(incoming.name, incoming.model);
            }
        }
        told.iter().for_each(|line| self.note_of(member, line));
    }

    fn open_server(&self, member: usize, from: &Following) -> Option<usize> {
        let other = self.member_at(from)?;
        let server = &self.members[other].server;
        let reached = self.links.between(Wire::Replication, member, other);
        (reached && server.accepts_commits() && !server.mute).then_some(other)
    }

    // Work beside the beats.

    pub fn begin_slot_work(
        &mut self,
        member: usize,
        step: SlotStep,
        leader: Option<Following>,
    ) -> Answer {
        let ms = self.readers.as_mut().expect("a world with readers").rng.range(5, 1_500);
        let daemon = &mut self.members[member].daemon;
        daemon.slot_work.push(step.clone());
        let life = daemon.life;
        self.after(ms, Event::SlotWork { member, life, step, leader });
        Answer::Done
    }

    pub fn end_slot_work(&mut self, member: usize, drops: &[String]) -> Answer {
        let m = &mut self.members[member];
        for step in m.daemon.slot_work.drain(..) {
            m.daemon.slot_ended.push(SlotEnd { step, result: failed("it was ended") });
        }
        for name in drops {
            m.server.wal.logical.remove(name);
        }
        Answer::Done
    }

    pub fn on_slot_work(
        &mut self,
        member: usize,
        life: u64,
        step: &SlotStep,
        leader: Option<&Following>,
    ) {
        let daemon = &mut self.members[member].daemon;
        let under_way = daemon.slot_work.iter().position(|other| other == step);
        let Some(index) = under_way.filter(|_| daemon.alive && daemon.life == life) else { return };
        daemon.slot_work.remove(index);
        let fails = self.slots.as_ref().map_or(0, |slots| slots.fails);
        let readers = self.readers.as_mut().expect("a world with readers");
        let result = match readers.rng.percent(fails) || !self.answers(member) {
            true => failed("it was cancelled"),
            false => self.worked(member, step, leader),
        };
        if result.is_ok() && *step != SlotStep::AskLeader {
            self.note_of(member, &step.to_string());
        }
        let end = SlotEnd { step: step.clone(), result };
        self.members[member].daemon.slot_ended.push(end);
        self.wake_now(member);
    }

    fn worked(
        &mut self,
        member: usize,
        step: &SlotStep,
        leader: Option<&Following>,
    ) -> Result<Vec<Slot>, SlotFailure> {
        let server = &mut self.members[member].server;
        let (end, is_open) = (server.log.end(), server.accepts_commits());
        match step {
            SlotStep::CreateLogical { name, .. } if is_open => {
                let model = LogicalModel { confirmed: end, needs: end, is_lost: false };
                server.wal.logical.entry(name.clone()).or_insert(model);
                Ok(Vec::new())
            }
            SlotStep::AdvanceLogical { name, to, .. } if server.is_standby() && to.0 <= end => {
                let slot = server.wal.logical.get_mut(name).filter(|slot| !slot.is_lost);
                let slot = slot.ok_or_else(|| failure("it is not there"))?;
                slot.move_to(to.0);
                Ok(Vec::new())
            }
            SlotStep::AskLeader => {
                let other = leader.and_then(|leader| self.open_server(member, leader));
                other.map(|other| self.slots_of(other)).ok_or_else(|| failure("no answer"))
            }
            _ => failed("the server is not as it was"),
        }
    }
}

fn failure(why: &str) -> SlotFailure {
    SlotFailure { why: why.into(), copy_again: false }
}

fn failed(why: &str) -> Result<Vec<Slot>, SlotFailure> {
    Err(failure(why))
}
