//! Begins scheduled moves: asks the table about each schedule and has its answer performed.
//!
//! A part of the agent, without I/O. It works in the owner's region only: there it also
//! keeps the copies of the schedules in the other stores in step with its own.
//!
//! Absent on purpose: an alarm for the next occurrence. The clock of people may step, and
//! the agent wakes every second.

mod copies;

use super::Site;
use super::calls::Scene;
use super::effect::{AgentWrite, Answer, Severity};
use super::examining::Examining;
use super::preflight::{Finding, Level};
use super::purpose::{Purpose, ScheduleCall};
use super::request::requested;
use super::schedule::{Check, Next, ScheduleFacts, next};
use std::collections::BTreeMap;
use std::sync::Arc;
use topology::Millis;
use topology::schedule::{Outcome, Schedule};

/// After a write that did not happen.
const RETRY_MS: u64 = 1_000;
/// The preflight that decides must be younger than this when the move begins: the clock
/// of people may have been set back after it.
const YOUNG_MS: u64 = 60_000;

#[derive(Debug, Default)]
pub(super) struct Scheduler {
    examining: Option<(Subject, Examining)>,
    /// The last preflight of each schedule, by its id.
    checked: BTreeMap<String, Checked>,
    /// The end of an occurrence is being written; nothing is written before this moment.
    is_writing: bool,
    retry_at: Millis,
    /// The same of copies.
    is_copying: bool,
    copy_at: Millis,
    /// The failure that was logged last.
    last_error: Option<String>,
}

/// One preflight of one occurrence.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Subject {
    id: String,
    due_ms: Option<u64>,
    check: Check,
}

#[derive(Debug)]
struct Checked {
    subject: Subject,
    errors: Vec<String>,
    at: Millis,
}

impl Scheduler {
    pub(super) fn wake(&mut self, scene: &mut Scene) {
        let Some(own) = scene.own().filter(|own| is_owner(scene, own)) else { return };
        if !self.copy(scene, &own) || self.is_writing || scene.now() < self.retry_at {
            return;
        }
        let schedules = &own.topology.schedules;
        self.checked.retain(|id, _| schedules.get(id).is_some_and(Schedule::is_pending));
        for schedule in schedules.values() {
            self.act(scene, &own, schedule);
            if self.is_writing {
                return;
            }
        }
    }

    /// False: another store has what is newer, and this one must learn it before anything
    /// is decided on it. Copies for other stores are written beside.
    fn copy(&mut self, scene: &mut Scene, own: &Arc<Site>) -> bool {
        let Some((region, write)) = copies::next(scene, own) else { return true };
        let is_ours = region == scene.identity.region;
        if !self.is_copying
            && scene.now() >= self.copy_at
            && let Some(on) = scene.live(&region)
        {
            self.is_copying = true;
            scene.write(&region, on, write, Purpose::Schedule(ScheduleCall::Copy));
        }
        !is_ours
    }

    pub(super) fn answer(&mut self, scene: &mut Scene, call: ScheduleCall, answer: Answer) {
        match call {
            ScheduleCall::Examine(call) => {
                let Some((_, examining)) = &mut self.examining else { return };
                if examining.answer(scene, call, answer) {
                    self.examined(scene);
                    self.wake(scene);
                }
            }
            ScheduleCall::Copy => self.copied(scene, &answer),
            ScheduleCall::Conclude(id, outcome) => {
                if answer == Answer::Written {
                    log_outcome(scene, &id, &outcome);
                }
                self.wrote(scene, &answer);
            }
        }
    }

    fn act(&mut self, scene: &mut Scene, own: &Arc<Site>, schedule: &Schedule) {
        match next(schedule, &self.facts(scene, own, schedule)).1 {
            Next::Wait => {}
            Next::Examine(check) => self.examine(scene, own, schedule, check),
            Next::Begin => self.begin(scene, own, schedule),
            Next::Conclude(outcome) => self.conclude(scene, own, schedule, outcome, None),
        }
    }

    fn facts(&self, scene: &Scene, own: &Site, schedule: &Schedule) -> ScheduleFacts {
        let known = self.checked.get(&schedule.id);
        let known = known.filter(|known| known.subject.due_ms == schedule.due_ms);
        let is_young = |known: &&Checked| {
            known.subject.check < Check::Due || scene.now().since(known.at) < YOUNG_MS
        };
        let checked = known.filter(is_young);
        ScheduleFacts {
            me: scene.identity.region.clone(),
            in_force: own.topology.certificate().cloned(),
            now_ms: scene.sight.unix_ms,
            checked: checked.map(|known| (known.subject.check, known.errors.clone())),
            is_examining: self.examining.is_some(),
        }
    }

    fn examine(&mut self, scene: &mut Scene, own: &Site, schedule: &Schedule, check: Check) {
        let (id, due_ms) = (schedule.id.clone(), schedule.due_ms);
        let purpose = |call| Purpose::Schedule(ScheduleCall::Examine(call));
        let sides = (&schedule.from, &schedule.to);
        let running = own.topology.journal();
        let examining = Examining::begin(scene, sides, &schedule.limits, running, purpose);
        self.examining = Some((Subject { id, due_ms, check }, examining));
    }

    fn examined(&mut self, scene: &mut Scene) {
        let Some((subject, examining)) = self.examining.take() else { return };
        let findings = examining.findings();
        let errors = findings.iter().filter(|found| found.level == Level::Error);
        let errors: Vec<String> = errors.map(Finding::text).collect();
        let when = match subject.check {
            Check::Early => Some("15 minutes"),
            Check::Soon => Some("a minute"),
            Check::Due => None,
        };
        if let Some(when) = when.filter(|_| !errors.is_empty()) {
            let (id, errors) = (&subject.id, errors.join("; "));
            let text = format!("schedule {id}: due in less than {when}, and hindered: {errors}");
            scene.log(Severity::Warn, text);
        }
        let checked = Checked { errors, at: scene.now(), subject: subject.clone() };
        self.checked.insert(subject.id, checked);
    }

    fn begin(&mut self, scene: &mut Scene, own: &Arc<Site>, schedule: &Schedule) {
        let Schedule { from, to, limits, .. } = schedule;
        match requested(own, from, to, limits, scene.sight.unix_ms) {
            Ok(journal) => {
                let outcome = Outcome::Started(journal.id.clone());
                self.conclude(scene, own, schedule, outcome, Some(Box::new(journal)));
            }
            Err(why) => {
                let outcome = Outcome::Skipped(why.to_string());
                self.conclude(scene, own, schedule, outcome, None);
            }
        }
    }

    fn conclude(
        &mut self,
        scene: &mut Scene,
        own: &Arc<Site>,
        schedule: &Schedule,
        outcome: Outcome,
        journal: Option<Box<topology::region::Journal>>,
    ) {
        self.is_writing = true;
        let (id, now_ms) = (schedule.id.clone(), scene.sight.unix_ms);
        let call = ScheduleCall::Conclude(id.clone(), outcome.clone());
        let write = AgentWrite::Conclude { id, outcome, journal, now_ms };
        let region = scene.identity.region.clone();
        scene.write(&region, own.clone(), write, Purpose::Schedule(call));
    }

    fn copied(&mut self, scene: &mut Scene, answer: &Answer) {
        self.is_copying = false;
        if *answer == Answer::Written {
            return self.wake(scene);
        }
        scene.log_failure("a schedule could not be copied", answer);
        self.copy_at = scene.now() + RETRY_MS;
    }

    /// What did not happen is tried again, on what the stores say by then.
    fn wrote(&mut self, scene: &mut Scene, answer: &Answer) {
        self.is_writing = false;
        match answer {
            Answer::Written => {
                self.last_error = None;
                self.wake(scene);
            }
            Answer::Failed(why) => {
                self.retry_at = scene.now() + RETRY_MS;
                if self.last_error.as_ref() != Some(why) {
                    scene.log(Severity::Warn, format!("a schedule could not be written: {why}"));
                    self.last_error = Some(why.clone());
                }
            }
            _ => self.retry_at = scene.now() + RETRY_MS,
        }
    }
}

fn is_owner(scene: &Scene, own: &Site) -> bool {
    own.topology.certificate().is_some_and(|held| held.owner == scene.identity.region)
}

fn log_outcome(scene: &mut Scene, id: &str, outcome: &Outcome) {
    let severity = match outcome {
        Outcome::Started(_) => Severity::Info,
        Outcome::Skipped(_) | Outcome::Cancelled(_) => Severity::Warn,
    };
    scene.log(severity, format!("schedule {id}: {outcome}"));
}
