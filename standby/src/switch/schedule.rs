//! When a scheduled move begins: numbered rows, first match wins.
//!
//! The scheduler asks `next` about each schedule in the owner's store, performs the answer
//! and asks again. The clock is that of people, and may step: nothing is counted by it.
//!
//! Invariants:
//! - *no occurrence begins twice*: `Begin` and `Conclude` are one write that compares the
//!   schedule, and put a later occurrence in the place of this one;
//! - *never late in silence*: an occurrence begins within its window or is skipped with a
//!   reason.

use topology::RegionName;
use topology::region::Certificate;
use topology::schedule::{Outcome, Schedule};

const MINUTE_MS: u64 = 60_000;
/// An early check tells its finding while there is time to mend it.
const EARLY_MS: u64 = 15 * MINUTE_MS;
const SOON_MS: u64 = MINUTE_MS;
/// Schedules that are over are kept for an operator's look, up to this many.
pub const OVER_MAX: usize = 3;

/// One preflight of an occurrence. The last one decides.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Check {
    Early,
    Soon,
    Due,
}

/// What the scheduler sees of one schedule.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ScheduleFacts {
    /// The region whose agent asks.
    pub me: RegionName,
    /// The certificate in force in its store.
    pub in_force: Option<Certificate>,
    /// The clock of people.
    pub now_ms: u64,
    /// The last preflight of this occurrence by this agent, and the errors that it found.
    pub checked: Option<(Check, Vec<String>)>,
    /// A preflight is under way.
    pub is_examining: bool,
}

#[derive(Clone, Debug, PartialEq)]
pub enum Next {
    /// Nothing until the time or the store says otherwise.
    Wait,
    Examine(Check),
    Begin,
    Conclude(Outcome),
}

pub struct Row {
    /// Shown in logs; never reused.
    pub id: u16,
    pub when: fn(&Schedule, &ScheduleFacts) -> bool,
    pub then: fn(&Schedule, &ScheduleFacts) -> Next,
    /// The sentence an operator reads.
    pub why: &'static str,
}

const fn row(
    id: u16,
    when: fn(&Schedule, &ScheduleFacts) -> bool,
    then: fn(&Schedule, &ScheduleFacts) -> Next,
    why: &'static str,
) -> Row {
    Row { id, when, then, why }
}

/// A schedule. First match wins.
pub const SCHEDULE: &[Row] = &[
    row(1905, |s, _| !s.is_pending(), |_, _| Next::Wait, "the schedule is over"),
    row(
        1910,
        |_, f| !is_owner(f),
        |_, _| Next::Wait,
        "the owner's agent runs the schedules; this region does not own the formation",
    ),
    row(
        1920,
        |s, f| s.cron.is_none() && is_outdated(s, f),
        |s, f| Next::Conclude(Outcome::Cancelled(outdated(s, f))),
        "a schedule with one time ends with the epoch under which it was made",
    ),
    row(
        1930,
        |s, f| since_due(s, f) > window_ms(s),
        |s, f| skip(late(s, f)),
        "the time of the start is further in the past than the window allows",
    ),
    row(
        1935,
        |s, f| f.me != s.from && is_due(s, f),
        |s, f| skip(format!("region {} owns the formation, not {}", f.me, s.from)),
        "the time has come, and the schedule is for a move away from another region",
    ),
    row(
        1940,
        |s, f| f.me != s.from || !is_near(s, f, EARLY_MS),
        |_, _| Next::Wait,
        "the time has not come",
    ),
    row(
        1945,
        |_, f| f.is_examining,
        |_, _| Next::Wait,
        "both sides are examined, each call with its deadline",
    ),
    row(
        1950,
        |s, f| is_due(s, f) && !has_checked(f, Check::Due),
        |_, _| Next::Examine(Check::Due),
        "the time has come: both sides are examined, and this preflight decides",
    ),
    row(
        1955,
        |s, f| is_due(s, f) && !errors(f).is_empty(),
        |_, f| skip(format!("preflight: {}", errors(f).join("; "))),
        "the preflight found errors when the time had come",
    ),
    row(1960, is_due, |_, _| Next::Begin, "the time has come, and nothing hinders the move"),
    row(
        1970,
        |s, f| is_near(s, f, SOON_MS) && !has_checked(f, Check::Soon),
        |_, _| Next::Examine(Check::Soon),
        "one minute before the time: errors of a preflight are only logged",
    ),
    row(
        1980,
        |_, f| !has_checked(f, Check::Early),
        |_, _| Next::Examine(Check::Early),
        "fifteen minutes before the time: errors of a preflight are only logged",
    ),
    row(1999, |_, _| true, |_, _| Next::Wait, "both sides were examined; the time has not come"),
];

/// The row that fired, and what to do.
pub fn next(schedule: &Schedule, facts: &ScheduleFacts) -> (u16, Next) {
    let row = SCHEDULE.iter().find(|row| (row.when)(schedule, facts));
    let row = row.expect("the last row always matches");
    (row.id, (row.then)(schedule, facts))
}

fn skip(why: String) -> Next {
    Next::Conclude(Outcome::Skipped(why))
}

fn is_owner(facts: &ScheduleFacts) -> bool {
    facts.in_force.as_ref().is_some_and(|certificate| certificate.owner == facts.me)
}

fn is_outdated(schedule: &Schedule, facts: &ScheduleFacts) -> bool {
    let same = |c: &Certificate| c.epoch == schedule.epoch && c.owner == schedule.from;
    !facts.in_force.as_ref().is_some_and(same)
}

fn outdated(schedule: &Schedule, facts: &ScheduleFacts) -> String {
    let epoch = facts.in_force.as_ref().map_or(0, |certificate| certificate.epoch);
    format!(
        "region {} owns the formation at epoch {epoch}; the schedule was made when {} owned it \
         at epoch {}",
        facts.me, schedule.from, schedule.epoch
    )
}

fn due_ms(schedule: &Schedule) -> u64 {
    schedule.due_ms.unwrap_or(u64::MAX)
}

/// 0 before the time.
fn since_due(schedule: &Schedule, facts: &ScheduleFacts) -> u64 {
    facts.now_ms.saturating_sub(due_ms(schedule))
}

fn is_near(schedule: &Schedule, facts: &ScheduleFacts, within_ms: u64) -> bool {
    facts.now_ms.saturating_add(within_ms) >= due_ms(schedule)
}

fn is_due(schedule: &Schedule, facts: &ScheduleFacts) -> bool {
    is_near(schedule, facts, 0)
}

fn window_ms(schedule: &Schedule) -> u64 {
    schedule.window_minutes.saturating_mul(MINUTE_MS)
}

fn late(schedule: &Schedule, facts: &ScheduleFacts) -> String {
    let late_s = since_due(schedule, facts) / 1_000;
    let window = schedule.window_minutes;
    format!("it could not begin in time: {late_s} s late, the window is {window} min")
}

fn has_checked(facts: &ScheduleFacts, check: Check) -> bool {
    facts.checked.as_ref().is_some_and(|(done, _)| *done >= check)
}

fn errors(facts: &ScheduleFacts) -> &[String] {
    facts.checked.as_ref().map_or(&[], |(_, errors)| errors)
}

#[cfg(test)]
#[path = "schedule_tests.rs"]
mod tests;
