//! What a promotion means for the readers of logical slots.

use super::LogicalMemory;
use crate::ha::Observation;
use crate::{Level, Member};
use standby::slots::Readiness;
use standby::slots::logical::makes_own;
use standby::switch::ownership::Ownership;
use std::collections::BTreeMap;
use topology::Lsn;

/// Before a promotion.
pub(crate) struct BeforeOpening {
    /// Copies that must not be resumed.
    pub drops: Vec<String>,
}

impl Member {
    /// What a promotion of this member means for the readers of logical slots: it is told, and
    /// copies that would skip data are not resumed. `None`: there is nothing to end.
    pub(crate) fn before_opening(&mut self, seen: &Observation) -> Option<BeforeOpening> {
        let end = seen.server()?.lsn;
        self.note_readers(seen);
        let logical = &mut self.slots.logical;
        // A daemon that was started since has not seen the group follow another one.
        let opens_region = matches!(seen.ownership, Ownership::Owner { opening: true, .. });
        if logical.followed || opens_region {
            logical.readers.doubt(&self.dynamic, &logical.there, end);
        }
        let late = logical.late();
        let there = logical.there.iter().filter(|slot| !late.contains(&slot.name));
        logical.readers.judge(&self.dynamic, &there.cloned().collect::<Vec<_>>(), end);
        let mut drops = logical.readers.ahead();
        drops.retain(|name, _| logical.there.iter().any(|slot| slot.name == *name));
        self.tell_opening(&drops);
        let logical = &self.slots.logical;
        let is_needed = !logical.there.is_empty() || !logical.under_way.is_empty();
        for name in &late {
            let text = format!(
                "the logical slot `{name}` is not resumed: it was made here behind what its reader \
                 had confirmed on the former leader"
            );
            self.note(Level::Error, text);
        }
        let drops: Vec<String> = drops.into_keys().chain(late).collect();
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
        let unready = self.slots.logical.readiness.iter();
        let unready =
            unready.filter(|(name, r)| **r != Readiness::Ready && !drops.contains_key(*name));
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
    /// Slots of a standby's own that no reader is known to have passed.
    fn late(&mut self) -> Vec<String> {
        if !makes_own(self.major) {
            return Vec::new();
        }
        let unready = self.readiness.iter().filter(|(_, r)| **r != Readiness::Ready);
        let unready = unready.map(|(name, _)| name.clone()).collect();
        let late = self.readers.begin_late(&self.there, &unready);
        self.late = late.iter().cloned().collect();
        late
    }
}
