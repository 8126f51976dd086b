//! Rules are rows: numbered, ordered, first match wins.
//!
//! Tests of every table: ids rise, the last row always matches, and over all
//! generated observations every row fires (`ha/check.rs`).
//!
//! Invariant *no wait without an end*: a row that does nothing says what ends its
//! wait and what happens if that does not come, or that nothing is left to do.

use super::action::{Action, Decision, Step};
use super::facts::Facts;

pub struct Rule {
    /// Shown in logs, in the REST API and in bug reports; never reused.
    pub id: u16,
    pub when: fn(&Facts) -> bool,
    pub then: fn(&Facts) -> Step,
    /// The sentence an operator reads.
    pub why: &'static str,
    /// What makes the sentence particular, such as the named refusal.
    pub detail: fn(&Facts) -> Option<String>,
    pub rests: Rests,
}

/// Why a row may do nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rests {
    /// It always acts.
    Never,
    /// All is as it should be: nothing is awaited.
    InOrder,
    Until(Wait),
}

/// A wait, in words for an operator.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Wait {
    pub ends_with: &'static str,
    /// What happens if that does not come.
    pub otherwise: &'static str,
}

impl Rule {
    pub const fn new(
        id: u16,
        when: fn(&Facts) -> bool,
        then: fn(&Facts) -> Step,
        why: &'static str,
    ) -> Rule {
        Rule { id, when, then, why, detail: |_| None, rests: Rests::Never }
    }

    /// This row waits: what ends it, and what happens if that does not come.
    pub const fn until(mut self, ends_with: &'static str, otherwise: &'static str) -> Rule {
        self.rests = Rests::Until(Wait { ends_with, otherwise });
        self
    }

    /// This row does nothing and waits for nothing.
    pub const fn at_rest(mut self) -> Rule {
        self.rests = Rests::InOrder;
        self
    }

    pub const fn saying(mut self, detail: fn(&Facts) -> Option<String>) -> Rule {
        self.detail = detail;
        self
    }
}

/// The first row that matches decides.
pub fn first_match(table: &[Rule], facts: &Facts) -> Decision {
    let rule = table.iter().find(|rule| (rule.when)(facts));
    let rule = rule.expect("the last row of every table always matches");
    let (step, detail) = ((rule.then)(facts), (rule.detail)(facts));
    Decision { rule: rule.id, step, why: rule.why, detail }
}

pub fn act(action: Action) -> Step {
    Step::Do(action)
}

pub fn rest() -> Step {
    Step::Rest { at_most_ms: None }
}

pub fn soon(ms: u64) -> Step {
    Step::Rest { at_most_ms: Some(ms) }
}
