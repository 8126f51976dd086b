//! How a script goes on after an answer.

use super::Effect;
use crate::ha::Outcome;

/// The step after an answer: another call, or the end.
pub(super) enum Next<S> {
    Goes(S, Effect),
    Over(Outcome),
}
