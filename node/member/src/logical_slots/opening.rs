//! What a promotion means for the readers of logical slots.

use super::LogicalMemory;
use super::settings::defined;
use crate::ha::Observation;
use crate::{Level, Member};
use standby::slots::logical::{makes_own, native_readiness};
use standby::slots::{Readiness, Slot};
use standby::switch::ownership::Ownership;
use std::collections::{BTreeMap, BTreeSet};
use topology::{Dynamic, Lsn};

/// Before a promotion.
pub(crate) struct BeforeOpening {
    /// Copies that must not be resumed.
    pub drops: Vec<String>,
}

impl Member {
    /// This process has not seen yet which logical slots the server has, and whether they can be
    /// resumed: a standby that is about to open waits for that, for a while (709).
    pub(crate) fn note_unseen_slots(&mut self, seen: &Observation) {
        let is_defined = defined(&self.dynamic).next().is_some();
        let is_unseen = is_defined && !self.slots.logical.server.is_noted;
        let since = self.memory.slots_unseen_since.or(Some(seen.now));
        let opens = seen.is_standby() && seen.holds_lock();
        self.memory.slots_unseen_since = since.filter(|_| is_unseen && opens);
    }

    /// What a promotion of this member means for the readers of logical slots: it is told, and
    /// copies that would skip data are not resumed. `None`: there is nothing to end.
    pub(crate) fn before_opening(&mut self, seen: &Observation) -> Option<BeforeOpening> {
        let end = seen.server()?.lsn;
        self.note_readers(seen);
        let logical = &mut self.slots.logical;
        // A daemon that was started since has not seen the group follow another one.
        let opens_region = matches!(seen.ownership, Ownership::Owner { opening: true, .. });
        if logical.own.followed || opens_region {
            logical.readers.doubt(&self.dynamic, &logical.server.there, end);
        }
        let late = logical.late(&self.dynamic, end);
        let there = logical.server.there.iter().filter(|slot| !late.contains(&slot.name));
        logical.readers.judge(&self.dynamic, &there.cloned().collect::<Vec<_>>(), end);
        let mut drops = logical.readers.ahead();
        drops.retain(|name, _| logical.server.there.iter().any(|slot| slot.name == *name));
        self.tell_opening(&drops);
        let logical = &self.slots.logical;
        let is_needed = !logical.server.there.is_empty() || !logical.work.under_way.is_empty();
        for name in &late {
            let text = format!(
                "the logical slot `{name}` is not resumed: it was made here behind what its reader \
                 had confirmed on the former leader"
            );
            self.note(Level::Error, text);
        }
        // Time may end before all are dropped. A reader that comes to one that is late notices
        // nothing; one that is ahead of the log gets an error.
        let drops: Vec<String> = late.into_iter().chain(drops.into_keys()).collect();
        is_needed.then_some(BeforeOpening { drops })
    }

    fn tell_opening(&mut self, drops: &BTreeMap<String, Lsn>) {
        for (name, at) in drops {
            let text = format!(
                "the logical slot `{name}` is not resumed: its reader has confirmed {at}, which is \
                 more than this server's log has"
            );
            self.note(Level::Error, text);
        }
        let unready = self.slots.logical.unready(&self.dynamic).into_iter();
        let unready = unready.filter(|(name, _)| !drops.contains_key(name));
        let unready: Vec<String> =
            unready.map(|(name, readiness)| format!("{name} ({})", readiness.word())).collect();
        let lost = drops.keys().map(|name| format!("{name} (refused)"));
        let all: Vec<String> = unready.iter().cloned().chain(lost).collect();
        self.slots.logical.promoted_with = (!all.is_empty()).then(|| all.join(", "));
        if !unready.is_empty() {
            let text = format!(
                "promoting though logical slots are not ready here: {}. Readers of a pending one \
                 may fail or miss changes; a missing one that was used is not made anew",
                unready.join(", ")
            );
            self.note(Level::Warn, text);
        }
    }
}

impl LogicalMemory {
    /// Defined slots that a reader cannot certainly go on with, also those that were never judged.
    fn unready(&self, dynamic: &Dynamic) -> BTreeMap<String, Readiness> {
        let names: BTreeSet<String> = defined(dynamic).collect();
        let of_slot = |slot: &Slot| match self.is_native() {
            true => native_readiness(&self.server.there, &slot.name),
            false => Readiness::Copied { seen: None },
        };
        let there = self.server.there.iter().filter(|slot| names.contains(&slot.name));
        let mut all: BTreeMap<String, Readiness> =
            there.map(|slot| (slot.name.clone(), of_slot(slot))).collect();
        all.extend(self.judgement.readiness.clone());
        all.retain(|_, readiness| *readiness != Readiness::Ready);
        all
    }

    /// Slots of a standby's own that no reader is known to have passed, also those that were
    /// begun since the server was last looked at.
    fn late(&mut self, dynamic: &Dynamic, end: Lsn) -> Vec<String> {
        if !makes_own(self.server.major) {
            return Vec::new();
        }
        let unready = self.unready(dynamic).into_keys().collect();
        let mut late: BTreeSet<String> =
            self.readers.begin_late(&self.server.there, &unready).into_iter().collect();
        let made = defined(dynamic).filter(|name| self.work.made.contains(name));
        let made: BTreeSet<String> = made.collect();
        self.readers.guess(&made, end);
        late.extend(made);
        self.own.late = late.clone();
        late.into_iter().collect()
    }
}
