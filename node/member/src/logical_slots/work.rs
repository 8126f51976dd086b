//! Work on slots that runs beside the beats: what is under way, and what came of it.

use super::LogicalMemory;
use crate::Member;
use crate::slot_sight::SlotEnd;
use standby::slots::SlotStep;
use std::collections::{BTreeMap, BTreeSet};
use topology::Millis;

#[derive(Debug, Default)]
pub(super) struct Work {
    pub under_way: BTreeSet<SlotStep>,
    /// When a step beside the beats has failed: it waits for a loop, and others go first.
    pub failed: BTreeMap<SlotStep, Millis>,
    /// Slots of this standby's own that were begun and not seen since: they may be there.
    pub made: BTreeSet<String>,
}

impl LogicalMemory {
    pub(crate) fn begun(&mut self, step: &SlotStep, now: Millis) {
        if *step == SlotStep::AskLeader {
            self.judgement.asked = Some((now, self.judgement.judged.clone()));
        }
        if let SlotStep::CreateOnStandby { name, .. } = step {
            self.work.made.insert(name.clone());
        }
        self.work.under_way.insert(step.clone());
    }

    /// Its end wakes the member: without this a step that fails would be tried without a pause.
    pub(crate) fn rests(&self, step: &SlotStep, now: Millis, wait_ms: u64) -> bool {
        let failed = self.work.failed.get(&step.without_position());
        failed.is_some_and(|at| now.since(*at) < wait_ms)
    }

    fn ended(&mut self, end: &SlotEnd, now: Millis) {
        self.work.under_way.remove(&end.step);
        let key = end.step.without_position();
        match &end.result {
            Ok(_) => self.work.failed.remove(&key),
            Err(_) => self.work.failed.insert(key, now),
        };
        match (&end.step, &end.result) {
            (SlotStep::AskLeader, Ok(slots)) => self.take_answer(slots, now),
            (SlotStep::AdvanceLogical { name, .. }, Ok(_)) => {
                self.copying.again.remove(name);
            }
            (SlotStep::AdvanceLogical { name, .. }, Err(failure)) if failure.copy_again => {
                self.copying.again.insert(name.clone(), failure.why.clone());
            }
            _ => {}
        }
    }
}

impl Member {
    pub(crate) fn slot_work_ended(&mut self, ended: &[SlotEnd], now: Millis) {
        for end in ended {
            self.slots.logical.ended(end, now);
            // Until it is told, another primary would take it for one that was never used.
            self.status_due |=
                matches!((&end.step, &end.result), (SlotStep::CreateLogical { .. }, Ok(_)));
            let failure = end.result.as_ref().err().map(|failure| failure.why.clone());
            self.tell_step(&end.step, failure);
        }
    }
}
