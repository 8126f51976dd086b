//! How a planned move goes on: numbered rows, first match wins.
//!
//! The mover looks at the journal and at both sides, asks `next`, performs the
//! answer and asks again. Nothing is remembered between two questions, so any
//! agent can go on where another one died: before the certificate the old
//! owner's agent drives, after it either side's.
//!
//! Invariants:
//! - *fence before open*: `Commit` comes only when every group of the old side
//!   has signed its end and every group of the new side has replayed it;
//! - *reachable*: the decision is taken only if the new owner's store has just
//!   answered. Otherwise both regions would be closed;
//! - *one decision*: `Abort` exists only before the certificate, and both are a
//!   compare-and-set of the same journal, so one of them loses;
//! - after the certificate there is no way back: late steps wait.

use super::preflight::{Finding, Level};
use std::collections::BTreeSet;
use topology::region::{Certificate, Journal, Phase};
use topology::{Group, RegionName};

/// What the mover sees.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct SwitchFacts {
    /// The region whose agent asks.
    pub me: RegionName,
    /// The certificate in force in the asking region's store.
    pub in_force: Option<Certificate>,
    /// The phase has lasted longer than the policy allows.
    pub is_late: bool,
    /// Writes have been held for longer than the move's operator allows.
    pub is_past_pause: bool,
    /// What the preflight found; `None` while it has not run here.
    pub findings: Option<Vec<Finding>>,
    pub is_warm: bool,
    pub is_held: bool,
    /// A step failed for good, in words.
    pub failure: Option<String>,
    /// Groups of the old side that are not in the journal.
    pub strangers: BTreeSet<Group>,
    /// Permanent logical slots of the old side that the new side could not resume.
    pub unready_slots: BTreeSet<String>,
    /// Groups whose token is not there yet.
    pub unsigned: BTreeSet<Group>,
    /// Groups of the new side that have not proved that they replayed it.
    pub behind: BTreeSet<Group>,
    /// The new owner's store has not answered for a while.
    pub is_silent: bool,
    /// The new owner's store has the certificate.
    pub is_delivered: bool,
    /// Groups of the new side without a running primary.
    pub closed: BTreeSet<Group>,
    pub is_rewired: bool,
    /// Groups of the old side that do not stream from the new one yet.
    pub unfollowing: BTreeSet<Group>,
}

/// One step that takes time and writes nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Work {
    Preflight,
    Warm,
    Hold,
}

/// What the mover does now.
#[derive(Clone, Debug, PartialEq)]
pub enum Next {
    /// Nothing until the journal changes.
    Rest,
    /// Look again when something changes. The row says what is awaited.
    Wait,
    Do(Work),
    /// Write the journal with this phase.
    Advance(Phase),
    /// Write the certificate into the old owner's register: the decision.
    Commit,
    /// Give the certificate to the new owner's store, again and again.
    Deliver,
    Abort(String),
}

pub struct Row {
    /// Shown in logs; never reused.
    pub id: u16,
    pub when: fn(&Journal, &SwitchFacts) -> bool,
    pub then: fn(&Journal, &SwitchFacts) -> Next,
    /// The sentence an operator reads.
    pub why: &'static str,
}

/// The row that fired and its answer.
#[derive(Clone, Debug, PartialEq)]
pub struct Answer {
    pub row: u16,
    pub why: &'static str,
    pub next: Next,
}

const fn row(
    id: u16,
    when: fn(&Journal, &SwitchFacts) -> bool,
    then: fn(&Journal, &SwitchFacts) -> Next,
    why: &'static str,
) -> Row {
    Row { id, when, then, why }
}

/// A planned move. First match wins.
pub const SWITCH: &[Row] = &[
    row(10, |j, _| j.phase.is_over(), |_, _| Next::Rest, "the move is over"),
    row(20, is_superseded, conclude, "another certificate is in force"),
    row(
        25,
        |j, f| !j.phase.is_decided() && is_certified(j, f),
        |_, _| Next::Advance(Phase::Open),
        "the certificate is written: the journal follows it",
    ),
    row(
        30,
        |j, f| !j.phase.is_decided() && f.me != j.from,
        |_, _| Next::Rest,
        "the old owner's agent drives until the certificate",
    ),
    row(
        40,
        |j, f| !j.phase.is_decided() && !is_ours(j, f),
        |j, f| Next::Abort(not_ours(j, f)),
        "the region does not own the formation at the journal's epoch",
    ),
    row(
        45,
        |j, _| !j.phase.is_decided() && j.abort.is_some(),
        |j, _| Next::Abort(aborted(j)),
        "an operator asked that the move be given up",
    ),
    row(
        50,
        |j, f| !j.phase.is_decided() && f.failure.is_some(),
        |_, f| Next::Abort(f.failure.clone().unwrap_or_default()),
        "a step failed before the certificate",
    ),
    row(
        60,
        |j, f| !j.phase.is_decided() && f.is_late,
        |j, f| Next::Abort(late(j, f)),
        "a step exceeded its deadline before the certificate",
    ),
    row(
        65,
        |j, f| !j.phase.is_decided() && f.is_past_pause,
        |j, _| Next::Abort(past_pause(j)),
        "writes were held for too long before the certificate",
    ),
    row(
        100,
        |j, _| j.phase == Phase::Requested,
        |_, _| Next::Advance(Phase::Preflight),
        "an operator asked for the move",
    ),
    row(
        110,
        |j, f| j.phase == Phase::Preflight && f.findings.is_none(),
        |_, _| Next::Do(Work::Preflight),
        "both sides are examined",
    ),
    row(
        120,
        |j, f| j.phase == Phase::Preflight && !errors(f).is_empty(),
        |_, f| Next::Abort(format!("preflight: {}", errors(f).join("; "))),
        "the preflight found errors",
    ),
    row(
        130,
        |j, _| j.phase == Phase::Preflight,
        |_, _| Next::Advance(Phase::Warm),
        "the preflight found no errors",
    ),
    row(
        140,
        |j, f| j.phase == Phase::Warm && !f.is_warm,
        |_, _| Next::Do(Work::Warm),
        "checkpoints make the stop short",
    ),
    row(
        145,
        |j, f| j.phase == Phase::Warm && f.is_silent,
        |_, _| Next::Wait,
        "the new owner's store does not answer: no group is stopped",
    ),
    row(
        150,
        |j, _| j.phase == Phase::Warm,
        |_, _| Next::Advance(Phase::Hold),
        "the checkpoints are done",
    ),
    row(
        160,
        |j, f| j.phase == Phase::Hold && !f.is_held,
        |_, _| Next::Do(Work::Hold),
        "no new distributed commit may begin",
    ),
    row(
        170,
        |j, f| in_stop(j) && !f.strangers.is_empty(),
        |_, f| Next::Abort(format!("groups {} appeared during the move", list(&f.strangers))),
        "a group is not in the journal",
    ),
    row(
        175,
        |j, f| in_stop(j) && !f.unready_slots.is_empty(),
        |_, f| Next::Abort(unready(f)),
        "a logical slot is not ready on the new side any more",
    ),
    row(180, |j, _| j.phase == Phase::Hold, |_, _| Next::Advance(Phase::Stop), "writes are held"),
    row(
        190,
        |j, f| j.phase == Phase::Stop && !f.unsigned.is_empty(),
        |_, _| Next::Wait,
        "groups of the old side shut down",
    ),
    row(
        192,
        |j, f| j.phase == Phase::Stop && is_proven(j, f) && f.is_silent,
        |_, _| Next::Wait,
        "the new owner's store must answer: it has to learn what is decided",
    ),
    row(
        195,
        |j, f| j.phase == Phase::Stop && is_proven(j, f),
        |_, _| Next::Commit,
        "every token was replayed as soon as it was signed",
    ),
    row(
        200,
        |j, _| j.phase == Phase::Stop,
        |_, _| Next::Advance(Phase::CatchUp),
        "all groups of the old side have signed their end",
    ),
    row(
        210,
        |j, f| in_catch_up(j) && !f.behind.is_empty(),
        |_, _| Next::Wait,
        "groups of the new side replay to the token",
    ),
    row(
        215,
        |j, f| in_catch_up(j) && is_proven(j, f) && f.is_silent,
        |_, _| Next::Wait,
        "the new owner's store must answer: it has to learn what is decided",
    ),
    row(
        220,
        |j, f| in_catch_up(j) && is_proven(j, f),
        |_, _| Next::Commit,
        "every token is signed and replayed: the certificate may change",
    ),
    row(
        230,
        |j, _| in_catch_up(j),
        |_, f| Next::Abort(format!("tokens of groups {} are missing", list(&f.unsigned))),
        "the journal lacks a token",
    ),
    row(
        300,
        |j, f| j.phase == Phase::Open && !f.is_delivered,
        |_, _| Next::Deliver,
        "the new owner's store must learn that it owns",
    ),
    row(
        310,
        |j, f| j.phase == Phase::Open && !f.closed.is_empty(),
        |_, _| Next::Wait,
        "groups of the new side promote",
    ),
    row(
        320,
        |j, _| j.phase == Phase::Open && is_citus(j),
        |_, _| Next::Advance(Phase::Rewire),
        "all groups of the new side are primary",
    ),
    row(
        330,
        |j, _| j.phase == Phase::Open,
        |_, _| Next::Advance(Phase::Reverse),
        "the new side's group is primary",
    ),
    row(
        340,
        |j, f| j.phase == Phase::Rewire && !f.is_rewired,
        |_, _| Next::Wait,
        "the coordinator rewrites pg_dist_node",
    ),
    row(
        350,
        |j, _| j.phase == Phase::Rewire,
        |_, _| Next::Advance(Phase::Reverse),
        "pg_dist_node names the servers of the new side",
    ),
    row(
        360,
        |j, f| j.phase == Phase::Reverse && !f.unfollowing.is_empty() && !f.is_late,
        |_, _| Next::Wait,
        "the old side's groups begin to follow",
    ),
    row(
        370,
        |j, _| j.phase == Phase::Reverse,
        |_, _| Next::Advance(Phase::Done),
        "the move is complete",
    ),
    row(999, |_, _| true, |_, _| Next::Rest, "nothing applies"),
];

fn unready(f: &SwitchFacts) -> String {
    let names: Vec<&str> = f.unready_slots.iter().map(String::as_str).collect();
    format!(
        "the logical slots {} are not ready on the new side any more: their readers would end",
        names.join(", ")
    )
}

/// What the mover does next, with the row that says so.
pub fn next(journal: &Journal, facts: &SwitchFacts) -> Answer {
    let row = SWITCH.iter().find(|row| (row.when)(journal, facts));
    let row = row.expect("the last row always matches");
    let answer = (row.then)(journal, facts);
    if answer == Next::Commit {
        assert!(is_proven(journal, facts), "fence before open: a group did not sign or replay");
    }
    Answer { row: row.id, why: row.why, next: answer }
}

/// The journal as it is with another phase; every change is noted with its time.
pub fn advanced(journal: &Journal, phase: Phase, now_ms: u64, driver: &str) -> Journal {
    let mut next = journal.clone();
    next.phase = phase;
    next.driver = driver.to_string();
    next.steps.push(topology::region::StepRecord { phase, at_ms: now_ms });
    next
}

/// What an operator reads about a step that goes on.
pub fn awaited(journal: &Journal, facts: &SwitchFacts) -> String {
    match journal.phase {
        Phase::Warm | Phase::Stop | Phase::CatchUp if is_held_back(journal, facts) => {
            format!("the store of region {} does not answer", journal.to)
        }
        Phase::Stop => format!("no token yet from groups {}", list(&facts.unsigned)),
        Phase::CatchUp | Phase::Certify => {
            format!("groups {} have not replayed their token", list(&facts.behind))
        }
        Phase::Open if !facts.is_delivered => {
            format!("the store of region {} has not accepted the certificate", journal.to)
        }
        Phase::Open => format!("groups {} have no running primary", list(&facts.closed)),
        Phase::Rewire => "the coordinator has not finished rewiring".to_string(),
        Phase::Reverse => format!("groups {} do not follow yet", list(&facts.unfollowing)),
        _ => "the step has not finished".to_string(),
    }
}

fn late(journal: &Journal, facts: &SwitchFacts) -> String {
    format!("step {:?} was too late: {}", journal.phase, awaited(journal, facts))
}

fn aborted(journal: &Journal) -> String {
    let host = journal.abort.as_ref().map_or("", |request| &request.host);
    format!("an operator aborted it on host {host}")
}

fn past_pause(journal: &Journal) -> String {
    let seconds = journal.limits.pause_seconds_max.unwrap_or_default();
    format!("writes were held for longer than the {seconds} s that its operator allows")
}

fn is_certified(journal: &Journal, facts: &SwitchFacts) -> bool {
    let names_us = |c: &Certificate| c.epoch == journal.epoch + 1 && c.owner == journal.to;
    facts.in_force.as_ref().is_some_and(names_us)
}

fn is_ours(journal: &Journal, facts: &SwitchFacts) -> bool {
    let ours = |c: &Certificate| c.epoch == journal.epoch && c.owner == journal.from;
    facts.in_force.as_ref().is_some_and(ours)
}

fn not_ours(journal: &Journal, facts: &SwitchFacts) -> String {
    match &facts.in_force {
        None => "no certificate is in force here".to_string(),
        Some(c) => format!(
            "region {} owns the formation at epoch {}, the move began with {} at epoch {}",
            c.owner, c.epoch, journal.from, journal.epoch
        ),
    }
}

/// A certificate that this move did not write, and that came after its own.
fn is_superseded(journal: &Journal, facts: &SwitchFacts) -> bool {
    let later = |c: &Certificate| c.epoch > journal.epoch && !is_certified(journal, facts);
    facts.in_force.as_ref().is_some_and(later)
}

fn conclude(journal: &Journal, facts: &SwitchFacts) -> Next {
    if journal.phase.is_decided() {
        Next::Advance(Phase::Done)
    } else {
        Next::Abort(not_ours(journal, facts))
    }
}

fn is_citus(journal: &Journal) -> bool {
    journal.groups.contains(&Group::COORDINATOR)
}

fn in_stop(journal: &Journal) -> bool {
    (Phase::Hold..=Phase::Certify).contains(&journal.phase)
}

fn in_catch_up(journal: &Journal) -> bool {
    matches!(journal.phase, Phase::CatchUp | Phase::Certify)
}

/// Everything else is ready, only the new owner's store is silent.
fn is_held_back(journal: &Journal, facts: &SwitchFacts) -> bool {
    facts.is_silent && (journal.phase == Phase::Warm || is_proven(journal, facts))
}

/// All tokens are there and all of them are replayed. While the old side stops
/// they lie in its store, afterwards in the journal.
fn is_proven(journal: &Journal, facts: &SwitchFacts) -> bool {
    let in_journal = journal.groups.iter().all(|group| journal.tokens.contains_key(group));
    let signed = if journal.phase == Phase::Stop { facts.unsigned.is_empty() } else { in_journal };
    signed && !journal.groups.is_empty() && facts.behind.is_empty() && facts.strangers.is_empty()
}

fn errors(facts: &SwitchFacts) -> Vec<String> {
    let all = facts.findings.iter().flatten();
    let errors = all.filter(|f| f.level == Level::Error);
    errors.map(Finding::text).collect()
}

fn list(groups: &BTreeSet<Group>) -> String {
    groups.iter().map(Group::to_string).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
#[path = "table_tests.rs"]
mod tests;
