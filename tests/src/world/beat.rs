//! The beat of one daemon: look once, then decide and do one thing at a time.
//!
//! It mirrors `node::beat` and the daemon around it: up to eight rounds, then
//! the chores (records, positions), then sleep until something wakes it. While
//! a call is on its way the world goes on.

use super::call::{Answer, CALL_MIN_MS, CALL_MS, Call};
use super::{Event, World};
use node::ha::observation::{Job, Lock};
use node::ha::{Action, Decision, Observation, Outcome, Step, decide};
use node::observe::lock;
use topology::Seen;

/// Rounds in one beat.
const ROUNDS_MAX: usize = 8;
/// After a beat that used all its rounds.
const UNFINISHED_MS: u64 = 20;

#[derive(Debug)]
pub struct Beat {
    pub seen: Box<Observation>,
    pub rounds: usize,
    pub waits: Waits,
}

/// What the answer on its way is for.
#[derive(Debug)]
pub enum Waits {
    Action(Action),
    Chores { at_most_ms: Option<u64> },
}

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
        if daemon.beat.is_some() {
            daemon.wake_pending = true;
            return;
        }
        let seen = Box::new(self.look(member));
        self.go_on(member, seen, 0);
    }

    pub fn on_reply(&mut self, member: usize, life: u64, sent: u64, answer: Answer) {
        let daemon = &mut self.members[member].daemon;
        if !daemon.alive || daemon.life != life {
            return;
        }
        if daemon.frozen {
            let answer = Box::new(answer);
            daemon.deferred.push(Event::Reply { member, life, sent, answer });
            return;
        }
        let Some(beat) = daemon.beat.take() else {
            return;
        };
        let mut seen = beat.seen;
        match beat.waits {
            Waits::Chores { at_most_ms } => {
                if matches!(answer, Answer::Done(_)) {
                    self.fold_own_write(member);
                }
                self.sleep(member, at_most_ms);
            }
            Waits::Action(action) => {
                if let Some(call) = self.second_call(member, &seen, &action, sent, &answer) {
                    let patience = self.until_fence(member, &seen);
                    let (rounds, waits) = (beat.rounds, Waits::Action(action));
                    self.members[member].daemon.beat = Some(Beat { seen, rounds, waits });
                    return self.send(member, call, patience);
                }
                let outcome = self.fold_answer(member, &mut seen, &action, sent, answer);
                self.over(member, &mut seen, &action, &outcome);
                self.go_on(member, seen, beat.rounds);
            }
        }
    }

    /// Decides and acts until something has to be waited for.
    fn go_on(&mut self, member: usize, mut seen: Box<Observation>, mut rounds: usize) {
        while rounds < ROUNDS_MAX {
            rounds += 1;
            let decision = decide(&seen);
            self.note_decision(member, &decision);
            let action = match decision.step {
                Step::Rest { at_most_ms } => return self.end_beat(member, seen, at_most_ms),
                Step::Do(action) => action,
            };
            if let Action::Exit(code) = action {
                self.note_of(member, &format!("daemon ends with {code}"));
                self.end_daemon(member);
                return self.apply_refusal(member, decision.rule);
            }
            match self.perform(member, &seen, &action) {
                Some(outcome) => self.over(member, &mut seen, &action, &outcome),
                None => {
                    let waits = Waits::Action(action);
                    self.members[member].daemon.beat = Some(Beat { seen, rounds, waits });
                    return;
                }
            }
        }
        self.end_beat(member, seen, Some(UNFINISHED_MS));
    }

    /// It is the right store: the operator does what the message says.
    fn apply_refusal(&mut self, member: usize, rule: u16) {
        if rule == node::ha::race::UNKNOWN_STORE {
            self.crash_server(member);
        }
    }

    fn over(&mut self, member: usize, seen: &mut Observation, action: &Action, out: &Outcome) {
        if *out != Outcome::Done {
            self.note_of(member, &format!("{action:?} came to {out:?}"));
        }
        self.look_again(member, seen, action, out);
    }

    fn end_beat(&mut self, member: usize, seen: Box<Observation>, at_most_ms: Option<u64>) {
        self.members[member].daemon.has_looked = true;
        if seen.view().is_some() && (!seen.holds_lock() || lock::is_relied_on(&seen.lock)) {
            self.members[member].daemon.is_new = false;
        }
        self.members[member].daemon.speaks = seen.holds_lock() || seen.lock == Lock::Free;
        self.guard(member, &seen);
        self.update_promises(member, &seen);
        self.keep_names(member, &seen);
        let txns = self.chores(member, &seen);
        if txns.is_empty() {
            return self.sleep(member, at_most_ms);
        }
        let patience = self.report_limit(member, &seen);
        self.members[member].daemon.beat =
            Some(Beat { seen, rounds: ROUNDS_MAX, waits: Waits::Chores { at_most_ms } });
        self.send(member, Call::Chores(txns), patience);
    }

    /// The longest sleep; events wake the daemon earlier.
    fn sleep(&mut self, member: usize, at_most_ms: Option<u64>) {
        let disk = self.disk_sleep_ms(member);
        let m = &mut self.members[member];
        let (now, daemon) = (m.clock.read(self.now), &mut m.daemon);
        let dynamic = &daemon.dynamic;
        let mut ms = at_most_ms.unwrap_or(u64::MAX).min(dynamic.loop_wait_ms).min(disk);
        let held = daemon.held.then(|| daemon.lease.deadline());
        if let Some(until) = held.max(daemon.proof) {
            let fence = until.since(now + dynamic.fence_budget_ms());
            ms = ms.min(fence.max(20));
        }
        let due = daemon.memory.lease_renewed + dynamic.loop_wait_ms;
        let again = daemon.memory.renewal_again(&m.name);
        ms = ms.min(due.max(again).since(now).max(20));
        if std::mem::take(&mut daemon.wake_pending) {
            ms = 0;
        }
        self.set_timer(ms.max(1), member);
    }

    /// Arms the last guard while this member may write.
    fn guard(&mut self, member: usize, seen: &Observation) {
        let paused = self.members[member].daemon.dynamic.pause;
        match seen.relied_until() {
            _ if paused || !self.may_open(member, seen) => {
                self.members[member].daemon.armed = None;
            }
            Some(until) => self.arm(member, until),
            None => {}
        }
    }

    pub fn may_open(&self, member: usize, seen: &Observation) -> bool {
        let job = seen.job.as_ref().map(|running| &running.job);
        let starts = matches!(job, Some(Job::StartPrimary | Job::Restart { as_primary: true }));
        let silent = seen.server().is_some_and(|server| server.role == Seen::Unknown);
        let promoting = self.members[member].daemon.memory.promoting.is_some();
        seen.is_primary() || seen.is_opening() || starts || silent || promoting
    }

    /// How long a call to the store may hold up the beat of a server that may
    /// have to be fenced.
    pub fn until_fence(&self, member: usize, seen: &Observation) -> u64 {
        let m = &self.members[member];
        let dynamic = &m.daemon.dynamic;
        let fence = match seen.lock {
            _ if seen.relied_until().is_some() => {
                seen.relied_until().expect("just seen") - dynamic.fence_budget_ms()
            }
            Lock::Mine { .. } | Lock::Unknown => m.daemon.memory.started + dynamic.retry_timeout_ms,
            Lock::Free | Lock::Other(_) => return CALL_MS,
        };
        match self.may_open(member, seen) {
            true => fence.since(m.clock.read(self.now)).clamp(CALL_MIN_MS, CALL_MS),
            false => CALL_MS,
        }
    }

    /// A leader's next renewal must fit in before it would have to stop.
    fn report_limit(&self, member: usize, seen: &Observation) -> u64 {
        let (limit, m) = (self.until_fence(member, seen), &self.members[member]);
        let dynamic = &m.daemon.dynamic;
        match seen.relied_until() {
            Some(until) if self.may_open(member, seen) => {
                let kept = dynamic.fence_budget_ms() + dynamic.renewal_reserve_ms();
                limit.min((until - kept).since(m.clock.read(self.now)))
            }
            _ => limit,
        }
    }

    fn note_decision(&mut self, member: usize, decision: &Decision) {
        let what = match &decision.step {
            Step::Do(action) => format!("{action:?}"),
            Step::Rest { at_most_ms } => format!("rest {at_most_ms:?}"),
        };
        self.note_of(member, &format!("rule {} {what}: {}", decision.rule, decision.line()));
    }
}
