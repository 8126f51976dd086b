//! What takes time before the old side stops: preflight, checkpoints, the hold.
//!
//! Each is done once for a move. A step that fails for good leaves its reason in
//! `Progress::failure`, and the table gives the move up.

use super::super::calls::Scene;
use super::super::effect::{Answer, Call};
use super::super::examining::Examining;
use super::super::purpose::{ExamineCall, Lead, MoverCall, Purpose};
use super::super::table::Work;
use super::super::{Site, Target};
use super::{Mover, WARM_SECONDS, step_seconds};
use std::sync::Arc;
use topology::region::Journal;

/// Checkpoints in a row, until all are short.
const WARM_ROUNDS_MAX: usize = 3;
const WARM_ENOUGH_MS: u64 = 300;
const CHECKPOINT_MS: u64 = WARM_SECONDS * 1_000;
const HOLD_MS: u64 = 60_000;
/// A hold lasts for two steps at most: for its own and for the stop.
const HOLD_MARGIN_MS: u64 = 10_000;

/// Checkpoints everywhere at once, until all are short.
#[derive(Debug)]
pub(super) struct Warming {
    targets: Vec<Target>,
    rounds: usize,
    open: usize,
    longest_ms: u64,
}

impl Mover {
    pub(super) fn begin_work(
        &mut self,
        scene: &mut Scene,
        work: Work,
        lead: &Lead,
        from: Option<Arc<Site>>,
    ) {
        let Some(from) = from.filter(|_| self.working != Some(work)) else { return };
        self.working = Some(work);
        match work {
            Work::Preflight => self.examine(scene, &lead.journal),
            Work::Warm => {
                let to = scene.site(&lead.journal.to).unwrap_or_default();
                let targets = from.leaders().chain(to.leaders()).collect();
                self.warm(scene, Warming { targets, rounds: 0, open: 0, longest_ms: 0 });
            }
            Work::Hold => {
                let limit_ms = 2 * 1_000 * step_seconds(&from) + HOLD_MARGIN_MS;
                let call = Call::Hold { targets: from.leaders().collect(), limit_ms };
                self.hold = Some(scene.call(HOLD_MS, call, Purpose::Mover(MoverCall::Hold)));
            }
        }
    }

    fn examine(&mut self, scene: &mut Scene, journal: &Journal) {
        let purpose = |call| Purpose::Mover(MoverCall::Examine(call));
        let sides = (&journal.from, &journal.to);
        self.examining = Some(Examining::begin(scene, sides, &journal.limits, None, purpose));
    }

    /// True: the preflight is over.
    pub(super) fn examined(
        &mut self,
        scene: &mut Scene,
        call: ExamineCall,
        answer: Answer,
    ) -> bool {
        let Some(examining) = &mut self.examining else { return false };
        if !examining.answer(scene, call, answer) {
            return false;
        }
        self.progress.findings = self.examining.take().map(Examining::findings);
        true
    }

    /// A round of checkpoints. True: none is needed.
    fn warm(&mut self, scene: &mut Scene, mut warming: Warming) -> bool {
        (warming.open, warming.longest_ms) = (warming.targets.len(), 0);
        for target in &warming.targets {
            let purpose = Purpose::Mover(MoverCall::Checkpoint);
            scene.call(CHECKPOINT_MS, Call::Checkpoint(target.clone()), purpose);
        }
        self.progress.is_warm = warming.targets.is_empty();
        self.warming = Some(warming);
        self.progress.is_warm
    }

    /// True: all are warm.
    pub(super) fn warmed(&mut self, scene: &mut Scene, answer: &Answer) -> bool {
        let Some(warming) = &mut self.warming else { return false };
        warming.open = warming.open.saturating_sub(1);
        match answer {
            Answer::Took(ms) => warming.longest_ms = warming.longest_ms.max(*ms),
            // The stop would take as long as this one, with all writes held back.
            other => {
                let why = format!("checkpoint before the stop: {}", other.failure());
                self.progress.failure = Some(why);
                self.warming = None;
                return true;
            }
        }
        let Some(mut warming) = self.warming.take_if(|warming| warming.open == 0) else {
            return false;
        };
        warming.rounds += 1;
        if warming.longest_ms < WARM_ENOUGH_MS || warming.rounds == WARM_ROUNDS_MAX {
            self.progress.is_warm = true;
            return true;
        }
        self.warm(scene, warming)
    }

    pub(super) fn held(&mut self, answer: &Answer) -> bool {
        match answer {
            Answer::Done => self.progress.is_held = true,
            other => {
                self.hold = None;
                self.progress.failure = Some(format!("hold: {}", other.failure()));
            }
        }
        true
    }
}
