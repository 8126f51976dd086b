//! The beats of one daemon: the daemon's own machine, driven by this world.
//!
//! Nothing is decided here. While a call is on its way the world goes on.

use super::call::Reply;
use super::member::AfterBeat;
use super::{Event, World};
use member::ha::observation::Lock;
use member::ha::{Decision, Outcome, Step};
use member::lock;
use member::{Answer, Call, Effect, Farewell, Level, Local, Report, Stage, may_campaign};
use topology::Millis;

impl World {
    pub fn on_wake(&mut self, member: usize, life: u64, timer: Option<u64>) {
        let daemon = &mut self.members[member].daemon;
        let stale = timer.is_some_and(|t| t != daemon.timer);
        if !daemon.alive || daemon.life != life || stale {
            return;
        }
        if daemon.frozen {
            daemon.deferred.push(Event::Wake { member, life, timer });
            return;
        }
        if daemon.machine.is_in_a_beat() || daemon.after_beat.is_some() {
            daemon.wake_pending = true;
            return;
        }
        if self.plan.unpromised {
            daemon.machine.memory.promised_until = Millis(u64::MAX / 2);
        }
        let effect = daemon.machine.wake();
        self.perform_all(member, effect);
    }

    pub fn on_reply(&mut self, member: usize, life: u64, sent: u64, reply: Reply) {
        let daemon = &mut self.members[member].daemon;
        if !daemon.alive || daemon.life != life {
            return;
        }
        if daemon.frozen {
            let reply = Box::new(reply);
            daemon.deferred.push(Event::Reply { member, life, sent, reply });
            return;
        }
        let answer = match reply {
            Reply::Machine(answer) => answer,
            Reply::Named(names) => match self.named(member, &names) {
                Some(answer) => answer,
                None => return self.ask_for_names(member, names),
            },
        };
        self.hear(member, &answer);
        if self.members[member].daemon.after_beat.is_some() {
            return self.go_on_after_beat(member, answer);
        }
        let effect = self.step(member, answer);
        self.perform_all(member, effect);
    }

    /// Performs effects until an answer has to be waited for.
    fn perform_all(&mut self, member: usize, mut effect: Effect) {
        loop {
            let answer = match effect {
                Effect::Rest(report) => return self.end_beat(member, *report),
                Effect::Look(look) => {
                    self.members[member].daemon.looks = true;
                    Answer::Looked(Box::new(self.look(member, look)))
                }
                Effect::Call { call, limit_ms } => match self.perform(member, call, limit_ms) {
                    Some(answer) => answer,
                    None => return,
                },
            };
            effect = self.step(member, answer);
        }
    }

    fn step(&mut self, member: usize, answer: Answer) -> Effect {
        let m = &mut self.members[member];
        let now = m.clock.read(self.now);
        let effect = m.daemon.machine.answer(now, answer, &mut m.promises);
        self.carry_out_local(member);
        self.keep_deadline(member, &effect);
        effect
    }

    /// What the machine wants done at once.
    pub fn carry_out_local(&mut self, member: usize) {
        for local in self.members[member].daemon.machine.take_local() {
            match local {
                Local::Arm(deadline) => self.arm(member, deadline),
                Local::Disarm => self.members[member].daemon.armed = None,
                Local::StopServer => self.stop_hard(member),
                Local::KeepProof(proof) => self.members[member].kept_proof = Some(*proof),
                Local::ForgetProof => self.members[member].kept_proof = None,
                Local::Decided { decision, outcome } => {
                    self.note_decision(member, &decision, outcome);
                }
                Local::Note(Level::Info | Level::Warn | Level::Error, text) => {
                    self.note_of(member, &text);
                }
                // No machine of this world has a watchdog, runs callbacks or has callers;
                // a promise lies where it was taken from, and every look is a new one.
                Local::LookAnew
                | Local::FeedWatchdog { .. }
                | Local::ForgetPromise
                | Local::ConfigChanged { .. }
                | Local::JobCancelled(_)
                | Local::CallBack(_) => {}
            }
        }
    }

    fn end_beat(&mut self, member: usize, report: Report) {
        let seen = &report.seen;
        let daemon = &mut self.members[member].daemon;
        daemon.has_looked = daemon.looks;
        daemon.disk_failed = seen.has_failed_disk();
        // A free lock may have been taken since: only an answer to the own try tells.
        let is_told = seen.view().is_some() && seen.lock != Lock::Free;
        if is_told && (!seen.holds_lock() || lock::is_relied_on(&seen.lock)) {
            daemon.is_new = false;
        }
        daemon.speaks = may_campaign(seen);
        let (report, stage) = (Box::new(report), Stage::FIRST);
        self.members[member].daemon.after_beat = Some(AfterBeat { report, stage });
        let next = self.begin_stage(member);
        self.perform_after_beat(member, next);
    }

    /// The answer to the last renewal is of no use to a process that ends.
    fn bid_farewell(&mut self, member: usize) {
        // No machine of this world has a watchdog.
        let Farewell { rests_watchdog: _, renews } = self.members[member].daemon.machine.farewell();
        if let Some(lease) = renews {
            self.send(member, Call::KeepAlive(lease), None);
        }
    }

    fn go_on_after_beat(&mut self, member: usize, answer: Answer) {
        let next = self.after_answer(member, answer);
        self.perform_after_beat(member, next);
    }

    /// Performs what is asked for, stage by stage, until an answer has to be waited for.
    fn perform_after_beat(&mut self, member: usize, mut next: Option<Effect>) {
        loop {
            self.carry_out_local(member);
            next = match next {
                Some(Effect::Call { call, limit_ms }) => {
                    let Some(answer) = self.perform(member, call, limit_ms) else { return };
                    self.after_answer(member, answer)
                }
                _ if self.has_next_stage(member) => self.begin_stage(member),
                _ => return self.end_after_beat(member),
            };
        }
    }

    fn after_answer(&mut self, member: usize, answer: Answer) -> Option<Effect> {
        let m = &mut self.members[member];
        let now = m.clock.read(self.now);
        let AfterBeat { report, stage } = m.daemon.after_beat.as_ref()?;
        match stage {
            Stage::Chores(_) => m.daemon.machine.go_on_with_chores(now, &report.seen, answer),
            Stage::Documents => m.daemon.machine.go_on_with_upkeep(now, &report.seen, answer),
            Stage::Rows => None,
            Stage::Slots => m.daemon.machine.go_on_with_slots(now, &report.seen, answer),
        }
    }

    fn has_next_stage(&mut self, member: usize) -> bool {
        let Some(after) = &mut self.members[member].daemon.after_beat else { return false };
        let next = after.stage.next(&after.report.seen);
        after.stage = next.unwrap_or(after.stage);
        next.is_some()
    }

    fn begin_stage(&mut self, member: usize) -> Option<Effect> {
        let m = &self.members[member];
        let AfterBeat { report, stage } = m.daemon.after_beat.as_ref()?;
        let (now, seen, stage) = (m.clock.read(self.now), report.seen.clone(), *stage);
        match stage {
            Stage::Chores(moment) => {
                let own = self.chore_sight(member);
                self.members[member].daemon.machine.begin_chores(now, &seen, moment, own)
            }
            Stage::Rows => {
                self.keep_rows(member, &seen);
                if self.citus.is_some() {
                    self.resolve_if_due(member, &seen);
                }
                None
            }
            Stage::Documents => {
                let about = self.particulars(member, &seen);
                self.members[member].daemon.machine.begin_upkeep(now, &seen, about)
            }
            // The servers of other worlds have no slots.
            Stage::Slots if self.slots.is_none() => None,
            Stage::Slots => {
                let sight = self.slot_sight(member);
                self.members[member].daemon.machine.begin_slots(now, &seen, sight)
            }
        }
    }

    fn end_after_beat(&mut self, member: usize) {
        let Some(after) = self.members[member].daemon.after_beat.take() else { return };
        match after.report.exit {
            Some(code) => self.end_by_itself(member, code, after.report.rule),
            None => self.sleep(member, &after.report),
        }
    }

    /// What its record says last was written in the stages after its last beat.
    fn end_by_itself(&mut self, member: usize, code: i32, rule: u16) {
        self.note_of(member, &format!("daemon ends with {code}"));
        self.bid_farewell(member);
        self.end_daemon(member);
        self.apply_refusal(member, rule);
    }

    /// In this world the store is always the right one, so the operator stops this server,
    /// as rule 831 asks.
    fn apply_refusal(&mut self, member: usize, rule: u16) {
        if rule == member::ha::race::UNKNOWN_STORE {
            self.crash_server(member);
        }
    }

    /// The longest sleep; events wake the daemon earlier.
    fn sleep(&mut self, member: usize, report: &Report) {
        let m = &mut self.members[member];
        let now = m.clock.read(self.now);
        let asleep = m.daemon.machine.sleep_ms(&report.seen, report.at_most_ms, now);
        let asleep = m.daemon.registrar.wake_in_ms(now).map_or(asleep, |due| due.min(asleep));
        let pending = std::mem::take(&mut m.daemon.wake_pending);
        let ms = if pending { 0 } else { asleep };
        self.set_timer(ms.max(1), member);
    }

    /// Until when this member may write, for the checker.
    fn keep_deadline(&mut self, member: usize, effect: &Effect) {
        let m = &mut self.members[member];
        let machine = &m.daemon.machine;
        if machine.dynamic.pause {
            m.daemon.last_paused = Some(m.clock.read(self.now));
        }
        let seen = match effect {
            Effect::Rest(report) => Some(&report.seen),
            _ => machine.seen(),
        };
        if let Some(Lock::Mine { deadline, .. }) = seen.map(|seen| &seen.lock)
            && deadline.0 > 0
        {
            m.deadline = *deadline;
        }
        m.deadline = m.deadline.max(machine.proof.unwrap_or(Millis(0)));
    }

    fn note_decision(&mut self, member: usize, decision: &Decision, outcome: Option<Outcome>) {
        self.decided(member, decision);
        let what = match &decision.step {
            Step::Do(action) => format!("{action:?}"),
            Step::Rest { at_most_ms } => format!("rest {at_most_ms:?}"),
        };
        let came = match outcome {
            Some(Outcome::Done) | None => String::new(),
            Some(other) => format!(" -> {other:?}"),
        };
        let line = format!("rule {} {what}: {}{came}", decision.rule, decision.line());
        self.note_of(member, &line);
    }
}
