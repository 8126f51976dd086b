//! When a standby restarts for copies of logical slots, and which it gets.

use super::settings::follows_region;
use super::{
    ANSWER_LOOPS, LogicalMemory, Moment, READ_AGAIN_MS, RESTART_AGAIN_MAX_MS, RESTART_AGAIN_MS,
    logical_of,
};
use crate::Member;
use crate::ha::Observation;
use crate::ha::facts::Facts;
use crate::ha::observation::Job;
use crate::job_terms::{SlotCopies, SlotCopy};
use standby::slots::logical::makes_own;
use standby::slots::{
    Kind, Permanent, Plan, Readiness, Slot, Specification, is_below_nostream, permanent,
};
use std::collections::{BTreeMap, BTreeSet};
use topology::{MemberName, MemberRecord, Millis};

/// Why a slot of a standby's own is copied.
const PASSED_BY_NONE: &str = "its reader does not come to its beginning";

/// What a start of the server is to bring, or has brought.
#[derive(Debug, Default)]
pub(super) struct Copying {
    /// Slots that the leader has and this server lacks.
    pub lacking: BTreeSet<String>,
    /// Copies that cannot be moved, and why.
    pub again: BTreeMap<String, String>,
    /// Since when a slot of this standby's own begins behind its reader.
    pub late_since: BTreeMap<String, Millis>,
    /// Slots that are to be copied at a start, and since when.
    pub due: BTreeSet<String>,
    due_since: Option<Millis>,
    /// When the server was last to restart for these, and what came of it.
    restarted: BTreeMap<String, Restarted>,
}

#[derive(Debug, Default)]
struct Restarted {
    at: Millis,
    /// Which start of the server was to end.
    before: Option<String>,
    /// It was done, and the copy is not there, or of no use.
    is_vain: bool,
    /// Restarts in a row that were done in vain.
    vain: u32,
}

impl Restarted {
    /// Nothing could be read for a restart that did not come about. What one was in vain for may
    /// be so again: the stop writes a restartpoint, which removes WAL.
    fn wait_ms(&self, started: Option<&String>) -> u64 {
        if started.is_some() && self.before.as_ref() == started {
            return READ_AGAIN_MS;
        }
        (RESTART_AGAIN_MS << self.vain.min(10)).min(RESTART_AGAIN_MAX_MS)
    }

    fn again(&self, at: Millis, before: Option<String>) -> Restarted {
        Restarted { at, before, is_vain: false, vain: self.vain }
    }
}

impl LogicalMemory {
    /// The leader's slots, if its answer is young.
    pub(super) fn theirs(&self, moment: &Moment) -> &[Slot] {
        let age_max = ANSWER_LOOPS * moment.seen.dynamic.loop_wait_ms;
        let answer =
            self.judgement.answer.as_ref().filter(|(at, _)| moment.now.since(*at) <= age_max);
        answer.map_or(&[][..], |(_, slots)| slots)
    }

    /// Slots that the leader has and this server lacks.
    pub(super) fn find_lacking(&mut self, moment: &Moment, plan: &Plan) {
        let slots = &moment.sight.slots;
        let is_lacking = |name: &String, kind: &Kind| {
            let its = self.theirs(moment).iter().find(|s| s.name == *name && s.kind == *kind);
            let lacks = !slots.iter().any(|slot| slot.name == *name);
            lacks && its.is_some_and(is_copyable) && !self.readers.is_ahead(name)
        };
        let lacking = logical_of(plan).filter(|(name, kind)| is_lacking(name, kind));
        self.copying.lacking = lacking.map(|(name, _)| name.clone()).collect();
        self.find_passed_by_none(moment);
    }

    /// A slot of this standby's own whose reader does not come to its beginning: a copy of the
    /// leader's is better, though it takes a restart.
    fn find_passed_by_none(&mut self, moment: &Moment) {
        let slots = &moment.sight.slots;
        let is_late = |slot: &&Slot| {
            let its = self.theirs(moment).iter().find(|its| its.name == slot.name);
            makes_own(self.server.major)
                && its.is_some_and(|its| its.confirmed_flush < slot.confirmed_flush)
        };
        let late: BTreeSet<String> = slots
            .iter()
            .filter(|s| !s.is_physical())
            .filter(is_late)
            .map(|s| s.name.clone())
            .collect();
        self.copying.late_since.retain(|name, _| late.contains(name));
        let is_known = |name: &String| self.theirs(moment).iter().any(|its| its.name == *name);
        let again = self.copying.again.iter().filter(|(name, why)| {
            *why != PASSED_BY_NONE || late.contains(*name) || !is_known(name)
        });
        self.copying.again = again.map(|(name, why)| (name.clone(), why.clone())).collect();
        for name in late {
            let since = *self.copying.late_since.entry(name.clone()).or_insert(moment.now);
            if moment.now.since(since) >= RESTART_AGAIN_MS {
                self.copying.again.insert(name, PASSED_BY_NONE.to_string());
            }
        }
    }

    /// Slots that the leader has and this server lacks, or cannot move.
    pub(super) fn find_due(&mut self, moment: &Moment, plan: &Plan) {
        let Moment { now, sight, .. } = moment;
        self.judge_restarts(moment);
        let theirs = self.theirs(moment);
        let is_recent = |name: &String| {
            let restarted = self.copying.restarted.get(name);
            restarted.is_some_and(|last| now.since(last.at) < last.wait_ms(sight.started.as_ref()))
        };
        let is_due = |name: &String, kind: &Kind| {
            let is_there = |slot: &&Slot| slot.name == *name && slot.kind == *kind;
            let is_missing = !sight.slots.iter().any(|slot| slot.name == *name);
            let lacks = is_missing && !makes_own(self.server.major);
            (lacks || self.copying.again.contains_key(name))
                && !self.readers.is_ahead(name)
                && theirs.iter().find(is_there).is_some_and(|its| {
                    // Without that WAL the copy would be lost: the reader has to come here first.
                    is_copyable(its) && sight.has_wal(its.restart_lsn)
                })
                && !is_recent(name)
        };
        let is_well = self.server.major > 0 && self.server.decodes && moment.seen.view().is_some();
        let can = is_well && !self.is_native() && !moment.seen.dynamic.pause;
        let due: BTreeSet<String> = logical_of(plan)
            .filter(|(name, kind)| can && is_due(name, kind))
            .map(|(name, _)| name.clone())
            .collect();
        self.copying.due_since = (!due.is_empty()).then(|| self.copying.due_since.unwrap_or(*now));
        self.copying.due = due;
    }

    /// What the restarts for copies have brought. A copy that is there for as long as another
    /// restart would have waited was not made in vain.
    fn judge_restarts(&mut self, moment: &Moment) {
        let Moment { now, sight, .. } = moment;
        let is_kept = |name: &String| {
            let own = sight.slots.iter().find(|slot| slot.name == *name);
            own.is_some_and(|slot| !slot.is_lost)
        };
        self.copying.restarted.retain(|name, last| {
            if sight.started.is_none() || last.before == sight.started {
                return true;
            }
            if !is_kept(name) && !last.is_vain {
                (last.is_vain, last.vain) = (true, last.vain + 1);
            }
            last.is_vain || now.since(last.at) < RESTART_AGAIN_MS
        });
    }

    fn copy_of(&self, slot: Specification) -> Option<SlotCopy> {
        let Kind::Logical { database, plugin } = slot.kind else { return None };
        if self.readers.is_ahead(&slot.name) {
            return None;
        }
        let replaces = self.copying.again.contains_key(&slot.name);
        Some(SlotCopy { name: slot.name, database, plugin, replaces })
    }
}

/// One that is still being made has confirmed nothing, and would not survive a start.
pub(super) fn is_copyable(slot: &Slot) -> bool {
    !slot.is_lost && slot.confirmed_flush.is_some()
}

/// The member that restarts for no copies. In a standby region the leader does, too.
fn leader<'a>(moment: &'a Moment) -> Option<&'a MemberName> {
    moment.view.leader_name().filter(|_| !moment.copies_region())
}

/// How many of those that lack copies come before this member, in the order of names.
fn rank(moment: &Moment) -> u64 {
    let me = &moment.seen.me.name;
    let leader = leader(moment);
    let before = moment.view.members.iter().filter(|(name, _)| *name < me && Some(*name) != leader);
    before.filter(|(_, m)| lacks_copies(&m.value)).count() as u64
}

fn lacks_copies(record: &MemberRecord) -> bool {
    record.logical_slots.values().any(|word| word == Readiness::Missing.word())
}

/// Others that lack copies go first, in the order of names; none while another standby is away.
fn is_my_turn(moment: &Moment) -> bool {
    let me = &moment.seen.me.name;
    let leader = leader(moment);
    let others =
        moment.view.members.iter().filter(|(name, _)| *name != me && Some(*name) != leader);
    let mut keep = others.filter(|(_, m)| !m.value.tags.nofailover() && !m.value.tags.nostream());
    keep.all(|(name, m)| {
        let is_away = m.value.replication_state.as_deref() != Some("streaming");
        !is_away && (!lacks_copies(&m.value) || name > me)
    })
}

impl Member {
    /// What makes this standby restart now.
    pub(super) fn slots_to_copy(&self, moment: &Moment) -> Option<String> {
        let logical = &self.slots.logical;
        let since = logical.copying.due_since.filter(|_| !logical.copying.due.is_empty())?;
        // The wait has an end, and not the same one for all.
        let limit_ms = 2 * self.dynamic.ttl_ms * (1 + rank(moment));
        let waited = moment.now.since(since) >= limit_ms;
        let names = || logical.copying.due.iter().cloned().collect::<Vec<_>>().join(", ");
        (waited || is_my_turn(moment)).then(names)
    }

    /// The server restarts for nothing else.
    pub(crate) fn is_restart_for_copies(&self, seen: &Observation, job: &Job) -> bool {
        let is_restart = matches!(job, Job::Restart { as_primary: false });
        let recovers_otherwise = seen.server().is_some_and(|server| server.restart_due.is_some());
        let is_due = self.memory.slots_to_copy.is_some() && !recovers_otherwise;
        is_restart && is_due && self.memory.asked.is_none()
    }

    /// None of the slots that a restart is due for can be copied as things are.
    pub(crate) fn note_copies(&mut self, seen: &Observation) {
        let is_due = self.memory.slots_to_copy.is_some();
        self.memory.are_copies_refused = is_due && self.copies_now(seen).is_none();
    }

    /// The slots to copy before this job starts a standby.
    pub(crate) fn slot_copies(&mut self, seen: &Observation, job: &Job) -> Option<SlotCopies> {
        if !matches!(job, Job::StartStandby { .. } | Job::Restart { as_primary: false }) {
            return None;
        }
        let is_purpose = self.is_restart_for_copies(seen, job);
        let copies = self.copies_now(seen);
        self.memory.slots_to_copy = None;
        // Whatever comes of it, these slots make the server restart no second time soon.
        let logical = &mut self.slots.logical;
        let due = std::mem::take(&mut logical.copying.due);
        let looked_at = logical.server.looked_at.clone();
        for name in &due {
            let last = logical.copying.restarted.entry(name.clone()).or_default();
            *last = last.again(seen.now, looked_at.clone());
        }
        if copies.is_some() {
            logical.copying.again.retain(|name, _| !due.contains(name));
        }
        Some(SlotCopies { is_purpose, ..copies? })
    }

    fn copies_now(&self, seen: &Observation) -> Option<SlotCopies> {
        let of_region = follows_region(seen);
        let is_kept = (seen.may_own() || of_region) && !seen.me.tags.nofailover();
        let system = seen.system()?.clone();
        let (view, from) = (seen.view()?, Facts::of(seen).slots_source().filter(|_| is_kept)?);
        let is_leader = view.leader_name() == Some(&from.member) && from.member != self.name;
        let has_wal = !is_below_nostream(&self.name, view);
        if !(is_leader || of_region) || !self.dynamic.use_slots || !has_wal {
            return None;
        }
        let Permanent { specifications, .. } = permanent(&self.dynamic.slots);
        let logical = &self.slots.logical;
        let slots: Vec<SlotCopy> =
            specifications.into_iter().filter_map(|slot| logical.copy_of(slot)).collect();
        (!slots.is_empty()).then_some(SlotCopies { from, system, slots, is_purpose: false })
    }
}
