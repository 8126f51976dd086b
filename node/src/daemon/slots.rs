//! Replication slots, kept after a beat: one step after the other, none tried twice.
//!
//! What is wanted and which step comes next is decided in `standby/src/slots`.

use super::server::Server;
use crate::clock;
use standby::slots::{DropWhy, Plan, Scene, Situation, Slot, SlotStep, Unknown, step, wanted};
use std::collections::{BTreeMap, BTreeSet};
use topology::Millis;

/// What is remembered of the slots between two beats.
#[derive(Default)]
pub(super) struct SlotMemory {
    unknown: Unknown,
    /// Steps of a beat whose time did not suffice: the next one begins behind them.
    tried: BTreeSet<SlotStep>,
    /// Why a step failed, and what was said of the definitions.
    told: BTreeMap<SlotStep, String>,
    findings: BTreeSet<String>,
}

impl SlotMemory {
    pub async fn keep(&mut self, server: &Server, situation: &Situation<'_>, until: Millis) {
        let (mut there, plan) = (server.slots(), wanted(situation));
        self.tell_findings(&plan);
        self.look_for_unknown(situation, &plan, &there);
        let mut tried = std::mem::take(&mut self.tried);
        while let Some(step) = self.next(situation, &plan, &there, &tried) {
            if clock::now() >= until {
                self.tried = tried;
                return;
            }
            let done = server.change_slot(&step).await;
            if done.is_ok() {
                step::apply(&step, &mut there, situation.end);
            }
            self.tell(&step, done);
            tried.insert(step);
        }
    }

    fn next(
        &self,
        situation: &Situation,
        plan: &Plan,
        there: &[Slot],
        tried: &BTreeSet<SlotStep>,
    ) -> Option<SlotStep> {
        let (unknown, now) = (&self.unknown, clock::now());
        step::next(&Scene { situation, plan, there, unknown, now }, tried)
    }

    fn look_for_unknown(&mut self, situation: &Situation, plan: &Plan, there: &[Slot]) {
        let (unknown, now) = (&self.unknown, clock::now());
        let names = step::unknown_names(&Scene { situation, plan, there, unknown, now });
        for name in self.unknown.look(names, now) {
            crate::log::warn(&format!(
                "the slot `{name}` is not known here and nothing uses it: it will be dropped. To \
                 keep it, add {{\"name\": \"{name}\"}} to `ignore_slots` with edit-config"
            ));
        }
    }

    /// What is wrong with the definitions, each once.
    fn tell_findings(&mut self, plan: &Plan) {
        for finding in plan.findings.iter().filter(|told| !self.findings.contains(*told)) {
            tracing::error!("{finding}");
        }
        self.findings = plan.findings.iter().cloned().collect();
    }

    /// A failure is told when it is new, or another one.
    fn tell(&mut self, step: &SlotStep, done: Result<(), String>) {
        let key = match step {
            // Where to is another one each time.
            SlotStep::Advance { name, .. } => {
                SlotStep::Advance { name: name.clone(), to: Default::default() }
            }
            step => step.clone(),
        };
        match done {
            Ok(()) => {
                self.told.remove(&key);
                if matches!(step, SlotStep::Drop { why, .. } if *why != DropWhy::Unreserved) {
                    tracing::info!("{step}");
                }
            }
            Err(why) if self.told.get(&key) != Some(&why) => {
                crate::log::warn(&format!("{step}: {why}"));
                self.told.insert(key, why);
            }
            Err(_) => {}
        }
    }
}
