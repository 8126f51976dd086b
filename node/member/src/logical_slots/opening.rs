//! What a promotion means for the readers of logical slots.

use crate::ha::Observation;
use crate::{Level, Member};
use standby::slots::{Readiness, skips};
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
        let (view, end) = (seen.view()?, seen.server()?.lsn);
        let logical = &self.slots.logical;
        let drops = skips(view, &self.dynamic, &logical.there, end);
        self.tell_opening(&drops);
        let logical = &mut self.slots.logical;
        logical.skipping = drops.keys().cloned().collect();
        let is_needed = !logical.there.is_empty() || !logical.under_way.is_empty();
        let drops: Vec<String> = drops.into_keys().collect();
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
