//! One heartbeat: look, then decide and do one thing at a time.
//!
//! Looking, deciding and doing meet here and nowhere else. `decide` is asked
//! again after every action, because the world has answered: the lock that was
//! asked for may be this member's now, or another member's.

use super::act::Script;
use super::look::look_after;
use super::next::Next;
use super::{Answer, Effect, Local, Look, Member, Sight};
use crate::ha::failsafe::PromiseStore;
use crate::ha::{Action, Decision, Observation, Outcome, Step, decide};
use topology::Millis;

/// Rounds in one heartbeat. A decision that needs more waits for the next one.
const ROUNDS_MAX: usize = 8;
/// After an action that failed or whose outcome is not known.
const AGAIN_MS: u64 = 500;
/// After a beat that used all its rounds.
const UNFINISHED_MS: u64 = 20;

/// How a beat ended.
#[derive(Debug)]
pub struct Report {
    pub seen: Observation,
    /// The sentence of the last decision, and its rule.
    pub rule: u16,
    pub why: String,
    /// Nothing was left to do.
    pub rests: bool,
    /// The next beat begins at most this much later.
    pub at_most_ms: Option<u64>,
    pub exit: Option<i32>,
}

/// A beat under way.
#[derive(Debug)]
pub(super) enum Beat {
    Looks,
    Acts(Box<Round>, Script),
    /// The action is over; what it may have changed is looked at.
    LooksAgain(Box<Round>, Outcome),
}

#[derive(Debug)]
pub(super) struct Round {
    seen: Observation,
    number: usize,
    decision: Decision,
    action: Action,
}

impl Member {
    /// Begins a beat. One that was under way is given up: its answer was lost with the
    /// driver that waited for it.
    pub fn wake(&mut self) -> Effect {
        self.beat = Some(Beat::Looks);
        Effect::Look(Look::All)
    }

    /// What the beat under way has seen.
    pub fn seen(&self) -> Option<&Observation> {
        match self.beat.as_ref()? {
            Beat::Looks => None,
            Beat::Acts(round, _) | Beat::LooksAgain(round, _) => Some(&round.seen),
        }
    }

    pub fn is_in_a_beat(&self) -> bool {
        self.beat.is_some()
    }

    /// The last effect has come to its end; what it means is decided here.
    pub fn answer(&mut self, now: Millis, answer: Answer, promises: &mut PromiseStore) -> Effect {
        match (self.beat.take(), answer) {
            (Some(Beat::Looks), Answer::Looked(sight)) => {
                let seen = self.observe(now, *sight, promises);
                self.decide(now, seen, 1, promises)
            }
            (Some(Beat::Acts(mut round, script)), answer) => {
                let next = self.go_on_acting(now, &mut round.seen, script, answer, promises);
                self.after(now, round, next)
            }
            (Some(Beat::LooksAgain(round, outcome)), Answer::Looked(sight)) => {
                self.after_look(now, *round, outcome, *sight, promises)
            }
            (beat, answer) => panic!("{answer:?} answers nothing of {beat:?}"),
        }
    }

    fn decide(
        &mut self,
        now: Millis,
        seen: Observation,
        number: usize,
        promises: &mut PromiseStore,
    ) -> Effect {
        let decision = decide(&seen);
        let (at_most_ms, exit) = match &decision.step {
            Step::Rest { at_most_ms } => (*at_most_ms, None),
            Step::Do(Action::Exit(code)) => (None, Some(*code)),
            Step::Do(action) => {
                let action = action.clone();
                let next = self.begin_action(now, &seen, &action, promises);
                let round = Box::new(Round { seen, number, decision, action });
                return self.after(now, round, next);
            }
        };
        let report = Report::of(seen, &decision, at_most_ms, true);
        self.local.push(Local::Decided { decision, outcome: None });
        self.rest(Report { exit, ..report }, promises)
    }

    fn after(&mut self, now: Millis, round: Box<Round>, next: Next<Script>) -> Effect {
        match next {
            Next::Goes(script, effect) => {
                self.beat = Some(Beat::Acts(round, script));
                effect
            }
            Next::Over(outcome) => {
                let decision = round.decision.clone();
                self.local.push(Local::Decided { decision, outcome: Some(outcome.clone()) });
                self.memory.fold(&round.action, &outcome, now);
                let look = look_after(&round.action, &round.seen, now);
                self.beat = Some(Beat::LooksAgain(round, outcome));
                Effect::Look(look)
            }
        }
    }

    fn after_look(
        &mut self,
        now: Millis,
        mut round: Round,
        outcome: Outcome,
        sight: Sight,
        promises: &mut PromiseStore,
    ) -> Effect {
        // What a job that has just ended did to the server was not looked at yet.
        let is_old = sight.ended.is_some() && sight.postgres.is_none();
        self.observe_again(now, sight, &mut round.seen, promises);
        if is_old {
            self.beat = Some(Beat::LooksAgain(Box::new(round), outcome));
            return Effect::Look(Look::Again { store: false, server: true });
        }
        let Round { seen, number, decision, action } = round;
        // What could not be done now is decided again in the next beat. Only the
        // renewal goes on: whether to fence must be asked in this one.
        let is_open = matches!(outcome, Outcome::Unknown(_) | Outcome::Failed(_));
        if is_open && action != Action::Renew {
            return self.rest(Report::of(seen, &decision, Some(AGAIN_MS), false), promises);
        }
        if number == ROUNDS_MAX {
            return self.rest(Report::of(seen, &decision, Some(UNFINISHED_MS), false), promises);
        }
        self.decide(now, seen, number + 1, promises)
    }

    fn rest(&mut self, report: Report, promises: &mut PromiseStore) -> Effect {
        self.guard(&report.seen);
        self.update_promises(&report.seen, promises);
        Effect::Rest(Box::new(report))
    }
}

impl Report {
    fn of(seen: Observation, decision: &Decision, at_most_ms: Option<u64>, rests: bool) -> Report {
        Report { seen, rule: decision.rule, why: decision.line(), rests, at_most_ms, exit: None }
    }
}
