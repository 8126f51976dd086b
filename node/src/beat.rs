//! One heartbeat: look, then decide and do one thing at a time.
//!
//! Looking, deciding and doing meet here and nowhere else. `decide` is asked
//! again after every action, because the world has answered: the lock that was
//! asked for may be this member's now, or another member's.

use crate::ha::{Action, Decision, Observation, Outcome, Step, decide};
use std::future::Future;

/// Rounds in one heartbeat. A decision that needs more waits for the next one.
const ROUNDS_MAX: usize = 8;
/// After an action that failed or whose outcome is not known.
const AGAIN_MS: u64 = 500;
/// After a beat that used all its rounds.
const UNFINISHED_MS: u64 = 20;

/// The world as a member sees and changes it; the daemon's, or a simulated one.
pub trait World {
    fn observe(&mut self) -> impl Future<Output = Observation> + Send;

    /// Does one thing. Safe to ask for again when the outcome is not known.
    fn act(&mut self, action: &Action, seen: &Observation) -> impl Future<Output = Outcome> + Send;

    /// What is seen after an action: only what it may have changed is asked for.
    fn look_again(
        &mut self,
        seen: Observation,
        action: &Action,
        outcome: &Outcome,
    ) -> impl Future<Output = Observation> + Send;

    /// Keeps the decision for those who ask why.
    fn note(&mut self, decision: &Decision, outcome: Option<&Outcome>);
}

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

pub async fn beat<W: World + Send>(world: &mut W) -> Report {
    let mut seen = world.observe().await;
    let mut last = None;
    for _ in 0..ROUNDS_MAX {
        let decision = decide(&seen);
        let action = match &decision.step {
            Step::Rest { at_most_ms } => {
                world.note(&decision, None);
                let (rule, why, at_most_ms) = (decision.rule, decision.line(), *at_most_ms);
                return Report { seen, rule, why, rests: true, at_most_ms, exit: None };
            }
            Step::Do(Action::Exit(code)) => {
                world.note(&decision, None);
                let (rule, why, exit) = (decision.rule, decision.line(), Some(*code));
                return Report { seen, rule, why, rests: true, at_most_ms: None, exit };
            }
            Step::Do(action) => action.clone(),
        };
        let outcome = world.act(&action, &seen).await;
        world.note(&decision, Some(&outcome));
        seen = world.look_again(seen, &action, &outcome).await;
        // What could not be done now is decided again in the next beat. Only the
        // renewal goes on: whether to fence must be asked in this one.
        if matches!(outcome, Outcome::Unknown(_) | Outcome::Failed(_)) && action != Action::Renew {
            let (rule, why) = (decision.rule, decision.line());
            return Report {
                seen,
                rule,
                why,
                rests: false,
                at_most_ms: Some(AGAIN_MS),
                exit: None,
            };
        }
        last = Some(decision);
    }
    let decision = last.expect("a beat has rounds");
    let (rule, why) = (decision.rule, decision.line());
    Report { seen, rule, why, rests: false, at_most_ms: Some(UNFINISHED_MS), exit: None }
}
