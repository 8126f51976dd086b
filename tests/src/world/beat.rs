//! The beat of one daemon: look once, then decide and do one thing at a time.
//!
//! It mirrors the daemon's own: up to eight rounds, each with a fresh look at
//! the clock, the server and the background slot; the store is read again after
//! a write that was not done. Between the rounds the world goes on.

use super::call::{Answer, Call};
use super::{Event, World};
use node::ha::observation::Lock;
use node::ha::{Action, Observation, Outcome, Step, decide};

/// Rounds in one beat.
const ROUNDS_MAX: usize = 8;
/// A beat that did not come to rest goes on after this.
const AGAIN_MS: u64 = 10;

#[derive(Debug)]
pub struct Beat {
    pub seen: Option<Box<Observation>>,
    pub rounds: usize,
    /// What the answer on its way is for.
    pub doing: Option<Action>,
}

impl World {
    pub fn on_wake(&mut self, member: usize, life: u64, timer: Option<u64>) {
        let daemon = &mut self.members[member].daemon;
        let stale = timer.is_some_and(|t| t != daemon.timer);
        if !daemon.alive || daemon.life != life || stale {
            return;
        }
        if daemon.frozen {
            daemon.deferred.push(Event::Wake {
                member,
                life,
                timer,
            });
            return;
        }
        if daemon.beat.is_some() {
            daemon.wake_pending = true;
            return;
        }
        daemon.beat = Some(Beat {
            seen: None,
            rounds: 0,
            doing: None,
        });
        self.send(member, Call::Read);
    }

    pub fn on_reply(&mut self, member: usize, life: u64, sent: u64, answer: Answer) {
        let daemon = &mut self.members[member].daemon;
        if !daemon.alive || daemon.life != life {
            return;
        }
        if daemon.frozen {
            let answer = Box::new(answer);
            daemon.deferred.push(Event::Reply {
                member,
                life,
                sent,
                answer,
            });
            return;
        }
        let Some(mut beat) = daemon.beat.take() else {
            return;
        };
        match beat.doing.take() {
            None => {
                let snapshot = match &answer {
                    Answer::Read(snapshot) => Some(snapshot),
                    _ => None,
                };
                let peers = beat.seen.take().and_then(|o| o.peers);
                let mut seen = self.observe(member, snapshot);
                seen.peers = peers;
                beat.seen = Some(Box::new(seen));
                self.go_on(member, beat);
            }
            Some(action) => {
                let mut seen = beat.seen.take().expect("an action follows a look");
                let outcome = self.fold_answer(member, &mut seen, &action, sent, answer);
                self.fold(member, &mut seen, &action, &outcome);
                beat.seen = Some(seen);
                if outcome == Outcome::Done {
                    self.go_on(member, beat);
                } else if !is_write(&action) {
                    self.end_beat(member, Some(1_000));
                } else if beat.rounds < ROUNDS_MAX {
                    self.members[member].daemon.beat = Some(beat);
                    self.send(member, Call::Read);
                } else {
                    self.end_beat(member, Some(AGAIN_MS));
                }
            }
        }
    }

    /// Decides and acts until something has to be waited for.
    fn go_on(&mut self, member: usize, mut beat: Beat) {
        let life = self.members[member].daemon.life;
        while beat.rounds < ROUNDS_MAX {
            beat.rounds += 1;
            let seen = beat.seen.as_mut().expect("looked before deciding");
            self.look_again(member, seen);
            let decision = decide(seen);
            self.note_decision(member, &decision);
            let action = match decision.step {
                Step::Rest { at_most_ms } => return self.end_beat(member, at_most_ms),
                Step::Do(action) => action,
            };
            match self.perform(member, seen, &action) {
                Some(outcome) => self.fold(member, seen, &action, &outcome),
                None => {
                    beat.doing = Some(action);
                    self.members[member].daemon.beat = Some(beat);
                    return;
                }
            }
            let daemon = &self.members[member].daemon;
            if !daemon.alive || daemon.life != life {
                return;
            }
        }
        self.end_beat(member, Some(AGAIN_MS));
    }

    /// The clock, the server and the slot change while a beat runs.
    fn look_again(&mut self, member: usize, seen: &mut Observation) {
        seen.now = self.members[member].clock.read(self.now);
        seen.postgres = self.look_at_server(member);
        seen.job = self.look_at_job(member);
        seen.memory = self.members[member].daemon.memory.clone();
    }

    fn fold(&mut self, member: usize, seen: &mut Observation, action: &Action, out: &Outcome) {
        let now = self.members[member].clock.read(self.now);
        if *out != Outcome::Done {
            self.note_of(member, &format!("{action:?} came to {out:?}"));
        }
        let memory = &mut self.members[member].daemon.memory;
        memory.fold(action, out, now);
        seen.memory = memory.clone();
    }

    fn end_beat(&mut self, member: usize, at_most: Option<u64>) {
        self.publish(member);
        let now = self.members[member].clock.read(self.now);
        let daemon = &mut self.members[member].daemon;
        daemon.beat = None;
        daemon.has_looked = true;
        let mut sleep = at_most.unwrap_or(u64::MAX).min(daemon.dynamic.loop_wait_ms);
        if std::mem::take(&mut daemon.wake_pending) {
            sleep = 1;
        }
        if daemon.held {
            let renews = daemon.lease.is_some();
            let budget = daemon.dynamic.fence_budget_ms();
            if let Lock::Mine { deadline, .. } = self.own_lock(member, renews)
                && deadline > now
            {
                sleep = sleep.min((deadline - budget).since(now).max(AGAIN_MS));
            }
        }
        self.set_timer(sleep, member);
    }

    fn note_decision(&mut self, member: usize, decision: &node::ha::Decision) {
        let what = match &decision.step {
            Step::Do(action) => format!("{action:?}"),
            Step::Rest { at_most_ms } => format!("rest {at_most_ms:?}"),
        };
        self.note_of(
            member,
            &format!("rule {} {what}: {}", decision.rule, decision.why),
        );
    }
}

fn is_write(action: &Action) -> bool {
    matches!(
        action,
        Action::Renew
            | Action::AcquireLock
            | Action::ReleaseLock { .. }
            | Action::ClearRequest
            | Action::ClaimInitialize
            | Action::GiveUpBootstrap
            | Action::FinishBootstrap
            | Action::AdoptSystem
            | Action::Sign { .. }
    )
}
