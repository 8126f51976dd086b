//! What a beat shows of logical slots, taken in by the role that the server has.

use super::settings::{defined, follows_another};
use super::{LogicalMemory, Moment, logical_of};
use crate::ha::Observation;
use crate::{Level, Member};
use standby::slots::{Plan, Readiness, Role, Slot, logical};
use std::collections::{BTreeMap, BTreeSet};
use topology::Dynamic;

impl Member {
    /// Also while a job runs, and on a member that keeps no copies.
    pub(crate) fn note_readers(&mut self, seen: &Observation) {
        if let Some(view) = seen.view() {
            self.slots.logical.readers.look(view, &self.dynamic, seen.holds_lock());
        }
    }

    /// Takes in what this beat shows of logical slots.
    pub(crate) fn note_logical(&mut self, moment: &Moment, plan: &Plan) {
        let logical = &mut self.slots.logical;
        logical.note_server(moment, &self.dynamic);
        logical.note_upstream(moment, &self.dynamic);
        match moment.role {
            Role::Primary => logical.note_primary(moment, plan),
            Role::Replica | Role::StandbyLeader if moment.is_doubtful() => {
                logical.note_doubtful(moment);
            }
            Role::StandbyLeader if !moment.copies_region() => {
                logical.note_follower_of_cluster(moment, &self.dynamic);
            }
            Role::Replica | Role::StandbyLeader => logical.note_copies_of(moment, plan),
            Role::Promoting => logical.note_promoting(),
        }
        let told = self.slots.logical.take_behind(moment);
        told.into_iter().for_each(|text| self.note(Level::Info, text));
        self.memory.slots_to_copy = self.slots_to_copy(moment);
    }
}

impl LogicalMemory {
    fn note_server(&mut self, moment: &Moment, dynamic: &Dynamic) {
        let slots = &moment.sight.slots;
        (self.server.major, self.server.decodes) = (moment.sight.major, moment.sight.decodes);
        self.server.looked_at.clone_from(&moment.sight.started);
        self.server.is_noted = true;
        self.note_made(moment);
        if moment.role == Role::Primary {
            let mut before = std::mem::take(&mut self.server.there);
            before.retain(|slot| self.own.owned.contains(&slot.name));
            self.readers.find_ahead(dynamic, &before, moment.sight.end);
        }
        self.server.there = slots.iter().filter(|slot| !slot.is_physical()).cloned().collect();
        let mut physical = slots.iter().filter(|slot| slot.is_physical());
        self.server.keeps_below = physical.any(|slot| slot.catalog_xmin.is_some());
        self.note_used(moment);
    }

    /// What is kept for others, and whether this group follows another one: while that is in
    /// doubt, what held before.
    fn note_upstream(&mut self, moment: &Moment, dynamic: &Dynamic) {
        if !moment.is_doubtful() {
            let needs = self.needs_feedback(moment.seen, moment.view, dynamic);
            self.server.feedback = Some(needs);
        }
        self.own.followed = match moment.role {
            Role::Primary => false,
            Role::Promoting => self.own.followed,
            _ if moment.is_doubtful() => self.own.followed,
            Role::StandbyLeader | Role::Replica => follows_another(moment.seen),
        };
    }

    fn note_primary(&mut self, moment: &Moment, plan: &Plan) {
        let slots = &moment.sight.slots;
        self.remote = Default::default();
        self.copying.again.clear();
        self.copying.due.clear();
        (self.judgement.judged, self.judgement.answer) = (None, None);
        self.judgement.told_behind.clear();
        let names = self.server.there.iter().map(|slot| slot.name.clone());
        let is_kept = |name: &String| !self.readers.is_ahead(name) && !self.own.late.contains(name);
        let kept: Vec<String> = names.filter(is_kept).collect();
        self.own.owned.extend(kept);
        self.own.late.retain(|name| slots.iter().any(|slot| slot.name == *name));
        self.note_defined(plan);
        let state = |name: &String| match slots.iter().find(|slot| slot.name == *name) {
            // One that is being made has no position yet.
            Some(slot) if !slot.is_lost && slot.position().is_some() => Readiness::Ready,
            _ => Readiness::Missing,
        };
        let names = logical_of(plan).map(|(name, _)| (name.clone(), state(name)));
        self.judgement.readiness = names.collect();
    }

    fn note_defined(&mut self, plan: &Plan) {
        let failover = self.server.there.iter().filter(|slot| slot.failover);
        let names: BTreeSet<String> = failover.map(|slot| slot.name.clone()).collect();
        self.own.defined.retain(|name| names.contains(name));
        let defined = names.into_iter().filter(|name| plan.wanted.contains_key(name));
        self.own.defined.extend(defined);
    }

    /// Whose slots these are copies of is not known: what was proven stays so.
    fn note_doubtful(&mut self, moment: &Moment) {
        self.forget_own();
        self.copying.due.clear();
        self.copying.lacking.clear();
        self.doubt_judgement(moment);
    }

    /// The leader of a standby cluster whose server copies slots itself, or that keeps none.
    fn note_follower_of_cluster(&mut self, moment: &Moment, dynamic: &Dynamic) {
        self.own.owned.clear();
        self.copying.due.clear();
        self.judgement.readiness = native_copies(dynamic, &moment.sight.slots);
    }

    fn note_copies_of(&mut self, moment: &Moment, plan: &Plan) {
        self.forget_own();
        self.judge(moment, plan);
        self.note_remote(moment, plan);
        self.find_lacking(moment, plan);
        self.find_due(moment, plan);
    }

    fn note_promoting(&mut self) {
        self.own.owned.clear();
        self.copying.due.clear();
    }

    fn forget_own(&mut self) {
        self.own.owned.clear();
        self.own.late.clear();
    }

    /// A slot that is still being made has confirmed nothing.
    fn note_made(&mut self, moment: &Moment) {
        let slots = &moment.sight.slots;
        let is_seen =
            |name: &String| slots.iter().any(|s| s.name == *name && s.confirmed_flush.is_some());
        self.work.made.retain(|name| moment.role != Role::Primary && !is_seen(name));
    }

    /// What the remote leader has, and what it has not: only a young answer counts.
    fn note_remote(&mut self, moment: &Moment, plan: &Plan) {
        if !moment.copies_region() {
            self.remote = Default::default();
            return;
        }
        let is_there = |slot: &Slot| logical_of(plan).any(|(name, _)| *name == slot.name);
        let theirs: Vec<Slot> = self.theirs(moment).to_vec();
        let positions = theirs.iter().filter(|slot| is_there(slot));
        self.remote
            .positions
            .extend(positions.filter_map(|s| Some((s.name.clone(), s.confirmed_flush?))));
        self.remote.positions.retain(|name, _| plan.wanted.contains_key(name));
        let is_gone = |name: &&String| !theirs.iter().any(|slot| slot.name == **name);
        let own = self.server.there.iter().map(|slot| &slot.name);
        let own = own.filter(|name| plan.wanted.contains_key(*name));
        self.remote.gone = match theirs.is_empty() {
            // Its physical slot of this region is always in an answer.
            true => BTreeSet::new(),
            false => own.filter(is_gone).cloned().collect(),
        };
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
