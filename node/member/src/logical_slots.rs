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
mod opening;
mod settings;

pub(crate) use opening::BeforeOpening;
pub(crate) use settings::copies_region;
use settings::{defined, follows_another, follows_region};

use super::Member;
use super::slot_sight::{SlotEnd, SlotSight};
use crate::ha::Observation;
use crate::ha::facts::Facts;
use standby::slots::{
    Kind, Logical, NATIVE, Plan, Reader, Readers, Readiness, Role, Slot, SlotStep, logical,
};
use standby::switch::ownership::Ownership;
use std::collections::{BTreeMap, BTreeSet};
use topology::id::slot_name;
use topology::{Dynamic, GroupView, Lsn, MemberName, Millis, Timeline};

/// Between two restarts for copies of the same slot.
const RESTART_AGAIN_MS: u64 = 600_000;
/// Between two tries to read copies for a restart: a synchronous standby leaves its duty for each.
const READ_AGAIN_MS: u64 = 120_000;
/// An answer of the leader is good for this many loops.
const ANSWER_LOOPS: u64 = 3;

#[derive(Debug, Default)]
pub(super) struct LogicalMemory {
    /// This process has taken in what the server's slots are.
    is_noted: bool,
    major: u32,
    /// `wal_level` of the running server is logical, as far as it was looked at since its start.
    decodes: bool,
    /// When the server was started whose slots were looked at last.
    looked_at: Option<String>,
    /// The logical slots of the server when it was last looked at.
    there: Vec<Slot>,
    under_way: BTreeSet<SlotStep>,
    /// When a step beside the beats has failed: it waits for a loop, and others go first.
    failed: BTreeMap<SlotStep, Millis>,
    /// Slots that were here while this server was the primary.
    owned: BTreeSet<String>,
    /// Failover slots that `slots` has defined while they were here.
    defined: BTreeSet<String>,
    readers: Readers,
    /// This group follows another one, or did so until it opens.
    followed: bool,
    readiness: BTreeMap<String, Readiness>,
    /// Under which leader, and since which start of the server, they are judged.
    judged: Option<Judged>,
    answer: Option<(Millis, Vec<Slot>)>,
    /// In a standby region: what the remote leader said last of readers.
    remote: BTreeMap<String, Lsn>,
    /// Copies whose slot it does not have.
    gone: BTreeSet<String>,
    /// When the leader was asked last, and under which judgement.
    asked: Option<(Millis, Option<Judged>)>,
    /// Slots that the leader has and this server lacks.
    lacking: BTreeSet<String>,
    /// Slots of this server's own that it must not resume: they begin behind their readers.
    late: BTreeSet<String>,
    /// Slots of this standby's own that were begun and not seen since: they may be there.
    made: BTreeSet<String>,
    /// Since when a slot of this standby's own begins behind its reader.
    late_since: BTreeMap<String, Millis>,
    /// Copies that cannot be moved, and why.
    again: BTreeMap<String, String>,
    /// Slots that are to be copied at a start, and since when.
    due: BTreeSet<String>,
    due_since: Option<Millis>,
    /// When the server was last to restart for these, and which start of it that was.
    restarted: BTreeMap<String, (Millis, Option<String>)>,
    /// This member or one below it keeps copies. `None`: that was never known here.
    feedback: Option<bool>,
    /// When each physical slot was last used, for `synchronized_standby_slots`.
    used: BTreeMap<String, Millis>,
    /// What the last promotion found not to be ready.
    pub(crate) promoted_with: Option<String>,
}

/// Who leads, also in another region, through which slot there this member keeps rows, and when
/// the server was started.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Judged {
    leader: String,
    slot: Option<String>,
    /// Of the leader, as this server has it: two failovers may lead back to the same one.
    timeline: Option<Timeline>,
    started: Option<String>,
}

impl Judged {
    /// `before`: whose timeline holds while that of the server is not known.
    fn of(moment: &Moment, before: Option<&Judged>) -> Option<Judged> {
        let (started, slot) = (moment.sight.started.clone(), own_upstream_slot(moment));
        let timeline = moment.seen.server().and_then(|server| server.timeline);
        if !moment.copies_region() {
            let leader = moment.view.leader_name()?.to_string();
            let timeline = timeline.or(before.and_then(|before| before.timeline));
            return Some(Judged { leader, slot, timeline, started });
        }
        let remote = Facts::of(moment.seen).remote()?;
        let leader = format!("{} at {}:{}", remote.member, remote.host, remote.port);
        Some(Judged { leader, slot, timeline, started })
    }
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
}

impl LogicalMemory {
    pub(crate) fn begun(&mut self, step: &SlotStep, now: Millis) {
        if *step == SlotStep::AskLeader {
            self.asked = Some((now, self.judged.clone()));
        }
        if let SlotStep::CreateOnStandby { name, .. } = step {
            self.made.insert(name.clone());
        }
        self.under_way.insert(step.clone());
    }

    /// Its end wakes the member: without this a step that fails would be tried without a pause.
    pub(crate) fn rests(&self, step: &SlotStep, now: Millis, wait_ms: u64) -> bool {
        let failed = self.failed.get(&step.without_position());
        failed.is_some_and(|at| now.since(*at) < wait_ms)
    }

    /// What the rows go by.
    pub(crate) fn sight(&self, moment: &Moment, dynamic: &Dynamic) -> Logical {
        let Moment { now, seen, view, role, sight } = moment;
        let is_due =
            self.asked.as_ref().is_none_or(|(at, _)| now.since(*at) >= dynamic.loop_wait_ms);
        let refused = match role {
            Role::Primary => self.refused(&sight.slots),
            _ => BTreeMap::new(),
        };
        Logical {
            major: self.major,
            decodes: self.decodes,
            busy: self.under_way.iter().filter_map(SlotStep::beside).map(str::to_string).collect(),
            refused: refused.into_iter().map(|(name, reader)| (name, reader.at)).collect(),
            skipping: self.readers.ahead().into_keys().chain(self.late.clone()).collect(),
            knows_readers: view.status.is_some(),
            defined: self.defined.clone(),
            lacking: self.lacking.clone(),
            asks_leader: is_due && Facts::of(seen).slots_source().is_some(),
            remote: self.remote.clone(),
            gone: self.gone.clone(),
        }
    }

    /// Slots that a primary does not make, or resume.
    pub(crate) fn refused(&self, there: &[Slot]) -> BTreeMap<String, Reader> {
        let resumed = there.iter().filter(|slot| !self.late.contains(&slot.name));
        self.readers.refused(&resumed.cloned().collect::<Vec<_>>(), &self.owned)
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
        let words = self.readiness.iter();
        words.map(|(name, readiness)| (name.clone(), readiness.word().to_string())).collect()
    }

    pub(crate) fn is_native(&self) -> bool {
        self.major >= NATIVE
    }

    /// The answer of a former leader, or of another source, says nothing of the one that is
    /// followed now.
    fn take_answer(&mut self, slots: &[Slot], now: Millis) {
        if self.asked.as_ref().is_none_or(|(_, judged)| *judged == self.judged) {
            self.answer = Some((now, slots.to_vec()));
        }
    }

    /// While no member leads, or the remote leader is down, as in a move, nothing says that
    /// another one does: only a start of the server counts.
    fn judged_before(&self, moment: &Moment) -> Option<Judged> {
        let started = moment.sight.started.clone();
        self.judged.clone().map(|before| Judged { started, ..before })
    }

    /// A copy that is gone, or was never judged here, is not ready.
    fn doubt_judgement(&mut self, moment: &Moment) {
        let before = self.judged_before(moment);
        let is_judged = self.is_native() || before.is_some() && before == self.judged;
        for (name, readiness) in &mut self.readiness {
            let is_there =
                moment.sight.slots.iter().any(|slot| slot.name == *name && !slot.is_lost);
            *readiness = match (is_there, is_judged) {
                (false, _) => Readiness::Missing,
                (true, true) => *readiness,
                (true, false) => readiness.anew(),
            };
        }
    }

    fn judge(&mut self, moment: &Moment, plan: &Plan) {
        let judged = Judged::of(moment, self.judged.as_ref());
        let judged = judged.or_else(|| self.judged_before(moment));
        let is_known = judged.as_ref().is_some_and(|judged| judged.timeline.is_some());
        let may_differ = is_known || !moment.copies_region();
        if may_differ && self.judged != judged {
            self.readiness.values_mut().for_each(|readiness| *readiness = readiness.anew());
            (self.judged, self.answer) = (judged, None);
        }
        let theirs = self.answer.as_ref().map_or(&[][..], |(_, slots)| slots);
        let find = |slots: &'_ [Slot], name: &str| slots.iter().find(|s| s.name == name).cloned();
        let physical = own_upstream_slot(moment).and_then(|name| find(theirs, &name));
        let physical = physical.map(|slot| slot.catalog_xmin);
        let mut readiness = BTreeMap::new();
        for (name, kind) in logical_of(plan) {
            let own = find(&moment.sight.slots, name).filter(|slot| slot.kind == *kind);
            let before = self.readiness.get(name).copied().unwrap_or_default();
            let next = match self.is_native() {
                true => logical::native_readiness(&moment.sight.slots, name),
                false => {
                    let its = find(theirs, name).filter(|slot| slot.kind == *kind);
                    before.next(own.as_ref(), its.as_ref(), physical)
                }
            };
            readiness.insert(name.clone(), next);
        }
        self.readiness = readiness;
    }
}

/// What a standby leader's own server has copied from the remote side.
fn native_copies(dynamic: &Dynamic, slots: &[Slot]) -> BTreeMap<String, Readiness> {
    let state = |name: String| {
        let readiness = logical::native_readiness(slots, &name);
        (name, readiness)
    };
    defined(dynamic).map(state).collect()
}

fn logical_of(plan: &Plan) -> impl Iterator<Item = (&String, &Kind)> {
    let all = plan.wanted.iter().map(|(name, wanted)| (name, &wanted.kind));
    all.filter(|(_, kind)| **kind != Kind::Physical)
}

/// The slot on the leader through which this member's feedback comes: its own, or that of
/// the member nearest to the leader that it cascades from.
fn own_upstream_slot(moment: &Moment) -> Option<String> {
    if moment.copies_region() {
        return Facts::of(moment.seen).remote()?.slot;
    }
    let mut at = moment.seen.me.name.clone();
    for _ in 0..=moment.view.members.len() {
        let record = moment.view.member(&at)?;
        let above = record.tags.replicatefrom().map(MemberName::new);
        let above = above.filter(|name| moment.view.member(name).is_some());
        match above.filter(|name| moment.view.leader_name() != Some(name)) {
            Some(above) => at = above,
            None => return Some(slot_name(at.as_str())),
        }
    }
    None
}

impl Member {
    /// Also while a job runs, and on a member that keeps no copies.
    pub(super) fn note_readers(&mut self, seen: &Observation) {
        if let Some(view) = seen.view() {
            self.slots.logical.readers.look(view, &self.dynamic, seen.holds_lock());
        }
    }

    pub(super) fn slot_work_ended(&mut self, ended: &[SlotEnd], now: Millis) {
        for end in ended {
            let logical = &mut self.slots.logical;
            logical.under_way.remove(&end.step);
            let key = end.step.without_position();
            match &end.result {
                Ok(_) => logical.failed.remove(&key),
                Err(_) => logical.failed.insert(key, now),
            };
            if let (SlotStep::AskLeader, Ok(slots)) = (&end.step, &end.result) {
                logical.take_answer(slots, now);
            }
            if let (SlotStep::AdvanceLogical { name, .. }, Err(failure)) = (&end.step, &end.result)
                && failure.copy_again
            {
                logical.again.insert(name.clone(), failure.why.clone());
            }
            if let (SlotStep::AdvanceLogical { name, .. }, Ok(_)) = (&end.step, &end.result) {
                logical.again.remove(name);
            }
            // Until it is told, another primary would take it for one that was never used.
            self.status_due |=
                matches!((&end.step, &end.result), (SlotStep::CreateLogical { .. }, Ok(_)));
            let failure = end.result.as_ref().err().map(|failure| failure.why.clone());
            self.tell_step(&end.step, failure);
        }
    }

    /// Takes in what this beat shows of logical slots.
    pub(super) fn note_logical(&mut self, moment: &Moment, plan: &Plan) {
        let logical = &mut self.slots.logical;
        let slots = &moment.sight.slots;
        (logical.major, logical.decodes) = (moment.sight.major, moment.sight.decodes);
        logical.looked_at.clone_from(&moment.sight.started);
        logical.is_noted = true;
        logical.note_made(moment);
        if moment.role == Role::Primary {
            let mut before = std::mem::take(&mut logical.there);
            before.retain(|slot| logical.owned.contains(&slot.name));
            logical.readers.find_ahead(&self.dynamic, &before, moment.sight.end);
        }
        logical.there = slots.iter().filter(|slot| !slot.is_physical()).cloned().collect();
        logical.note_used(moment);
        let is_doubtful = matches!(moment.seen.ownership, Ownership::Doubtful(_));
        if !is_doubtful {
            logical.feedback =
                Some(logical.needs_feedback(moment.seen, moment.view, &self.dynamic));
        }
        logical.followed = match moment.role {
            Role::Primary => false,
            Role::Promoting => logical.followed,
            _ if is_doubtful => logical.followed,
            Role::StandbyLeader | Role::Replica => follows_another(moment.seen),
        };
        match moment.role {
            Role::Primary => {
                (logical.remote, logical.gone) = Default::default();
                logical.again.clear();
                let names = logical.there.iter().map(|slot| slot.name.clone());
                let is_kept =
                    |name: &String| !logical.readers.is_ahead(name) && !logical.late.contains(name);
                logical.owned.extend(names.filter(is_kept));
                logical.late.retain(|name| slots.iter().any(|slot| slot.name == *name));
                let failover = logical.there.iter().filter(|slot| slot.failover);
                let names: BTreeSet<String> = failover.map(|slot| slot.name.clone()).collect();
                logical.defined.retain(|name| names.contains(name));
                let defined = names.into_iter().filter(|name| plan.wanted.contains_key(name));
                logical.defined.extend(defined);
                (logical.judged, logical.answer) = (None, None);
                logical.due.clear();
                let state = |name: &String| match slots.iter().find(|slot| slot.name == *name) {
                    // One that is being made has no position yet.
                    Some(slot) if !slot.is_lost && slot.position().is_some() => Readiness::Ready,
                    _ => Readiness::Missing,
                };
                let names = logical_of(plan).map(|(name, _)| (name.clone(), state(name)));
                logical.readiness = names.collect();
            }
            // Whose slots these are copies of is not known: what was proven stays so.
            Role::Replica | Role::StandbyLeader if is_doubtful => {
                logical.owned.clear();
                logical.late.clear();
                (logical.due, logical.lacking) = Default::default();
                logical.doubt_judgement(moment);
            }
            Role::StandbyLeader if !moment.copies_region() => {
                logical.owned.clear();
                logical.due.clear();
                logical.readiness = native_copies(&self.dynamic, slots);
            }
            Role::Replica | Role::StandbyLeader => {
                logical.owned.clear();
                logical.late.clear();
                logical.judge(moment, plan);
                logical.note_remote(moment, plan);
                logical.find_lacking(moment, plan);
                logical.find_due(moment, plan);
            }
            Role::Promoting => {
                logical.owned.clear();
                logical.due.clear();
            }
        }
        self.memory.slots_to_copy = self.slots_to_copy(moment);
    }
}

impl LogicalMemory {
    /// A slot that is still being made has confirmed nothing.
    fn note_made(&mut self, moment: &Moment) {
        let slots = &moment.sight.slots;
        let is_seen =
            |name: &String| slots.iter().any(|s| s.name == *name && s.confirmed_flush.is_some());
        self.made.retain(|name| moment.role != Role::Primary && !is_seen(name));
    }

    /// What the remote leader has, and what it has not: only a young answer counts.
    fn note_remote(&mut self, moment: &Moment, plan: &Plan) {
        if !moment.copies_region() {
            (self.remote, self.gone) = Default::default();
            return;
        }
        let is_there = |slot: &Slot| logical_of(plan).any(|(name, _)| *name == slot.name);
        let theirs: Vec<Slot> = self.theirs(moment).to_vec();
        let positions = theirs.iter().filter(|slot| is_there(slot));
        self.remote.extend(positions.filter_map(|s| Some((s.name.clone(), s.confirmed_flush?))));
        self.remote.retain(|name, _| plan.wanted.contains_key(name));
        let is_gone = |name: &&String| !theirs.iter().any(|slot| slot.name == **name);
        let own = self.there.iter().map(|slot| &slot.name);
        let own = own.filter(|name| plan.wanted.contains_key(*name));
        self.gone = match theirs.is_empty() {
            // Its physical slot of this region is always in an answer.
            true => BTreeSet::new(),
            false => own.filter(is_gone).cloned().collect(),
        };
    }

    /// What the leader of a standby region tells of readers: `None` where its own slots tell.
    pub(crate) fn remote_readers(&self, seen: &Observation) -> Option<BTreeMap<String, Lsn>> {
        (follows_region(seen) && !self.is_native()).then(|| self.remote.clone())
    }
}

impl Member {
    /// The word for each permanent logical slot that is kept here.
    pub fn logical_slots(&self) -> BTreeMap<String, String> {
        self.slots.logical.words()
    }

    /// Settings of a server are written before its slots are looked at.
    pub(super) fn note_version(&mut self, version: i32) {
        self.slots.logical.major = u32::try_from(version / 10_000).unwrap_or_default();
    }

    /// What was seen of another server says nothing of the `wal_level` of this one.
    pub(super) fn note_start(&mut self, started: Option<&str>) {
        let logical = &mut self.slots.logical;
        if started.is_some() && logical.looked_at.as_deref() != started {
            logical.decodes = false;
        }
    }
}

#[cfg(test)]
#[path = "logical_slots_tests.rs"]
mod tests;
