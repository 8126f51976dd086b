//! Writing what hangs on the own lease: a lease is granted first if there is none, and
//! one that the store does not know any more is replaced, once.

use super::Member;
use super::effect::{Answer, Call, Effect};
use super::next::Next;
use super::{Level, Local};
use crate::ha::failsafe::PromiseStore;
use crate::ha::{Observation, Outcome};
use crate::lock::{NextLease, OwnLease};
use crate::write;
use topology::{Millis, Session, SystemId, Write};

/// What is written.
#[derive(Clone, Debug)]
pub(super) enum What {
    Lock,
    NewCluster(SystemId),
}

#[derive(Debug)]
pub(super) struct OnLease {
    what: What,
    /// A lease that was gone has been replaced.
    is_second: bool,
    waits: Waits,
    /// A server that may be open without the lock does not wait longer for it.
    until: Option<Millis>,
}

#[derive(Debug)]
enum Waits {
    /// Asked for at this moment.
    Grant(Millis),
    Write,
    /// The answer was lost: the store is read before anything else.
    Refresh(String),
}

impl OnLease {
    fn limited(&self, call: Call, now: Millis) -> Effect {
        Effect::Call { call, limit_ms: self.until.map(|until| until.since(now).max(1)) }
    }
}

impl Member {
    pub(super) fn begin_on_lease(
        &mut self,
        what: What,
        seen: &Observation,
        now: Millis,
    ) -> (OnLease, Effect) {
        let may_be_open = matches!(what, What::Lock) && self.may_open(seen);
        let until = may_be_open.then(|| now + self.until_fence_ms(seen, now));
        let mut write = OnLease { what, is_second: false, waits: Waits::Write, until };
        let effect = self.ensured(&mut write, seen, now);
        (write, effect)
    }

    /// Asks for a lease, or writes on the one there is.
    fn ensured(&mut self, write: &mut OnLease, seen: &Observation, now: Millis) -> Effect {
        if let (None, Some(next)) = (self.lease.id, self.lease.next) {
            self.adopt_lease(next);
        }
        match self.lease.id {
            Some(lease) => {
                write.waits = Waits::Write;
                write.limited(Call::Write(self.write_on(lease, &write.what, seen)), now)
            }
            None => {
                write.waits = Waits::Grant(now);
                write.limited(Call::Grant { ttl_ms: self.dynamic.ttl_ms }, now)
            }
        }
    }

    fn write_on(&self, lease: Session, what: &What, seen: &Observation) -> Write {
        let view = seen.view().cloned().unwrap_or_default();
        match what {
            What::Lock => {
                let mine = seen.server().and_then(|s| s.timeline).filter(|_| seen.is_standby());
                let here = seen.server().map(|server| server.lsn);
                write::acquire(&self.name, lease, &view, mine, here)
            }
            What::NewCluster(system) => {
                let config = topology::document::compact(&self.dynamic.raw);
                let claim = self.memory.claim;
                write::finish_bootstrap(&self.name, lease, system, config, claim, &view)
            }
        }
    }

    pub(super) fn go_on_writing(
        &mut self,
        mut write: OnLease,
        seen: &Observation,
        answer: Answer,
        now: Millis,
        promises: &mut PromiseStore,
    ) -> Next<OnLease> {
        match (&write.waits, answer) {
            (Waits::Grant(renewed), Answer::Granted(id)) => {
                let (renewed, ttl_ms) = (*renewed, self.dynamic.ttl_ms);
                self.adopt_lease(NextLease { id, renewed, ttl_ms });
                let effect = self.ensured(&mut write, seen, now);
                Next::Goes(write, effect)
            }
            (Waits::Write, Answer::LeaseGone) if !write.is_second => {
                self.note(Level::Warn, "the lease is gone: another one is asked for");
                self.lease = OwnLease::default();
                write.is_second = true;
                let effect = self.ensured(&mut write, seen, now);
                Next::Goes(write, effect)
            }
            (Waits::Write, Answer::Written(result)) => {
                Next::Over(self.written_on_lease(&write.what, result.succeeded, seen, promises))
            }
            (Waits::Refresh(why), answer) => {
                if matches!(answer, Answer::Refreshed { is_leader: true }) {
                    self.end_promise(promises);
                }
                Next::Over(Outcome::Unknown(why.clone()))
            }
            (_, answer) => match (&write.what, answer.into_outcome()) {
                (What::Lock, Outcome::Unknown(why)) => {
                    write.waits = Waits::Refresh(why);
                    let effect = write.limited(Call::Refresh, now);
                    Next::Goes(write, effect)
                }
                (_, outcome) => Next::Over(outcome),
            },
        }
    }

    fn written_on_lease(
        &mut self,
        what: &What,
        succeeded: bool,
        seen: &Observation,
        promises: &mut PromiseStore,
    ) -> Outcome {
        if !succeeded {
            return Outcome::Lost;
        }
        self.held = true;
        match what {
            What::Lock => {
                self.end_promise(promises);
                if !seen.may_own() {
                    let text = "promoted self to a standby leader by acquiring session lock";
                    self.note(Level::Info, text);
                }
            }
            What::NewCluster(_) => {
                self.local.push(Local::Note(Level::Info, "initialized a new cluster".into()));
            }
        }
        Outcome::Done
    }
}
