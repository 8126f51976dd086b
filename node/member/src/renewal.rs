//! Renewing the lease that this member's record and, leading, its lock hang on.
//!
//! Invariant *never without a lock*: a lease is replaced (`ttl` has changed, or the
//! store says that it is gone) by writing the leader key on the new one. The old
//! lease is renewed first, so that a store that refuses the new one takes nothing
//! away; the new one is remembered before the write is sent, so that a lost answer
//! leaves no key that this process does not know as its own.
//!
//! Absent on purpose: revoking the old lease. The member's record may still hang on
//! it; it ends by itself.

use super::effect::{Answer, Call, Effect};
use super::next::Next;
use super::{Level, Local, Member};
use crate::ha::observation::Lock;
use crate::ha::{Observation, Outcome};
use crate::lock::{NextLease, OwnLease};
use topology::{Millis, Session, Write};

/// A renewal under way.
#[derive(Debug)]
pub(super) struct Renewal {
    sent: Millis,
    /// No answer after this moment: the fence must be asked for in time.
    until: Millis,
    /// The lease in use was renewed: a replacement that fails takes nothing away.
    is_proven: bool,
    waits: Waits,
}

/// The call whose answer is awaited.
#[derive(Clone, Copy, Debug)]
enum Waits {
    KeepAlive(Session),
    /// The leader key is compared with this lease or, `foreign`, put on it: it hung on
    /// the lease of an earlier process.
    Prove {
        foreign: bool,
    },
    /// A replacement that was begun is renewed.
    KeepNext(NextLease),
    /// Asked for at this moment.
    Grant(Millis),
    Move(NextLease),
    /// The key is gone: the store is read.
    Refresh,
}

impl Member {
    pub(super) fn begin_renewal(&mut self, seen: &Observation, now: Millis) -> (Renewal, Effect) {
        self.adopt_moved(seen);
        let until = now + self.until_fence_ms(seen, now);
        let waits = match self.lease.id {
            Some(id) => Waits::KeepAlive(id),
            None => self.replacement(now),
        };
        let renewal = Renewal { sent: now, until, is_proven: false, waits };
        let effect = self.renewal_call(&renewal, now);
        (renewal, effect)
    }

    pub(super) fn go_on_renewing(
        &mut self,
        mut renewal: Renewal,
        seen: &Observation,
        answer: Answer,
        now: Millis,
    ) -> Next<Renewal> {
        match self.next_wait(&mut renewal, seen, answer, now) {
            Ok(waits) => {
                renewal.waits = waits;
                let effect = self.renewal_call(&renewal, now);
                Next::Goes(renewal, effect)
            }
            Err(outcome) => Next::Over(self.renewed(&renewal, outcome, now)),
        }
    }

    /// `lease_tried` counts from the end of an attempt, so that other rules get their turn while
    /// the store is silent.
    fn renewed(&mut self, renewal: &Renewal, outcome: Outcome, now: Millis) -> Outcome {
        self.memory.lease_tried = now;
        let outcome = match outcome {
            // While the leader key may hang on the replacement, its earlier deadline counts.
            Outcome::Unknown(why) if renewal.is_proven && self.lease.next.is_none() => {
                let text = format!("the lease could not be replaced by one of the new ttl: {why}");
                self.note(Level::Warn, text);
                Outcome::Done
            }
            other => other,
        };
        if let Outcome::Unknown(why) = &outcome {
            self.note(Level::Warn, format!("the lease could not be renewed: {why}"));
        }
        outcome
    }

    fn renewal_call(&self, renewal: &Renewal, now: Millis) -> Effect {
        let me = || self.name.clone();
        let call = match renewal.waits {
            Waits::KeepAlive(id) => Call::KeepAlive(id),
            Waits::KeepNext(next) => Call::KeepAlive(next.id),
            Waits::Grant(_) => Call::Grant { ttl_ms: self.dynamic.ttl_ms },
            Waits::Move(next) => Call::Write(Write::AdoptLock { me: me(), session: next.id }),
            Waits::Prove { foreign } => {
                let session = self.lease.id.expect("only a lease that was renewed is proven");
                Call::Write(match foreign {
                    true => Write::AdoptLock { me: me(), session },
                    false => Write::ProveLock { me: me(), session },
                })
            }
            Waits::Refresh => Call::Refresh,
        };
        Effect::Call { call, limit_ms: Some(renewal.until.since(now).max(1)) }
    }

    /// The next call of the renewal, or its end.
    fn next_wait(
        &mut self,
        renewal: &mut Renewal,
        seen: &Observation,
        answer: Answer,
        now: Millis,
    ) -> Result<Waits, Outcome> {
        match (renewal.waits, answer) {
            (Waits::KeepAlive(_), Answer::Alive { alive: true, is_lost }) => {
                self.store_lost = is_lost;
                self.kept_alive(renewal, seen, now)
            }
            (Waits::KeepAlive(_), Answer::Alive { alive: false, .. }) => {
                // The key went with it, unless it was moved; the store is asked.
                self.note(Level::Warn, "the lease is gone: another one is asked for");
                self.lease.id = None;
                Ok(self.replacement(now))
            }
            (Waits::Prove { .. }, Answer::Written(result)) if result.succeeded => {
                self.proven(renewal.sent, seen);
                renewal.is_proven = true;
                self.replace_if_wanted(now)
            }
            (Waits::Prove { .. }, Answer::Written(_)) => {
                self.held = false;
                Err(Outcome::Lost)
            }
            (Waits::KeepNext(next), Answer::Alive { alive: true, .. }) => {
                self.adopt_or_move(next, seen)
            }
            (Waits::KeepNext(_), Answer::Alive { alive: false, .. }) => Ok(Waits::Grant(now)),
            (Waits::Grant(renewed), Answer::Granted(id)) => {
                let ttl_ms = self.dynamic.ttl_ms;
                self.adopt_or_move(NextLease { id, renewed, ttl_ms }, seen)
            }
            (Waits::Move(next), Answer::Written(result)) => {
                self.adopt_lease(next);
                if result.succeeded {
                    self.proven(next.renewed, seen);
                    return Err(Outcome::Done);
                }
                // The copy of the store may not know yet that the key is gone.
                self.held = false;
                renewal.is_proven = false;
                Ok(Waits::Refresh)
            }
            (Waits::Refresh, _) => Err(Outcome::Lost),
            (_, answer) => Err(answer.into_outcome()),
        }
    }

    fn kept_alive(
        &mut self,
        renewal: &mut Renewal,
        seen: &Observation,
        now: Millis,
    ) -> Result<Waits, Outcome> {
        // Without a watch the key is not known to hang on this lease still.
        if self.lease.next.is_some() && self.store_lost {
            return self.replace_if_wanted(now);
        }
        let foreign = matches!(seen.lock, Lock::Mine { deadline, .. } if deadline.0 == 0);
        if foreign || seen.holds_lock() && self.store_lost {
            return Ok(Waits::Prove { foreign });
        }
        self.proven(renewal.sent, seen);
        renewal.is_proven = true;
        self.replace_if_wanted(now)
    }

    /// The lease was granted for another `ttl`, or a replacement was begun.
    fn replace_if_wanted(&self, now: Millis) -> Result<Waits, Outcome> {
        match self.lease.ttl_ms == self.dynamic.ttl_ms && self.lease.next.is_none() {
            true => Err(Outcome::Done),
            false => Ok(self.replacement(now)),
        }
    }

    /// The lease of a replacement that was begun, if it fits, or a new one.
    fn replacement(&self, now: Millis) -> Waits {
        let begun = self.lease.next.filter(|next| next.ttl_ms == self.dynamic.ttl_ms);
        match begun {
            Some(next) => Waits::KeepNext(NextLease { renewed: now, ..next }),
            None => Waits::Grant(now),
        }
    }

    /// Puts the leader key on a new lease; without a lock only the lease is new.
    fn adopt_or_move(&mut self, next: NextLease, seen: &Observation) -> Result<Waits, Outcome> {
        if !seen.holds_lock() {
            self.adopt_lease(next);
            self.proven(next.renewed, seen);
            return Err(Outcome::Done);
        }
        self.lease.next = Some(next);
        Ok(Waits::Move(next))
    }

    /// The store shows the leader key on the lease that it was moved to.
    fn adopt_moved(&mut self, seen: &Observation) {
        let leader = seen.view().and_then(|view| view.leader.as_ref());
        let shown = leader.and_then(|leader| leader.session);
        if let Some(next) = self.lease.next.filter(|next| Some(next.id) == shown) {
            self.adopt_lease(next);
        }
    }

    pub(super) fn adopt_lease(&mut self, next: NextLease) {
        self.lease = OwnLease::replaced_by(next);
        self.memory.lease_renewed = next.renewed;
    }

    /// The watchdog fires before the lock ends, also while the lease in use is
    /// still one of a shorter `ttl`.
    fn proven(&mut self, sent: Millis, seen: &Observation) {
        if seen.holds_lock() {
            let ttl_ms = self.lease.ttl_ms.min(self.dynamic.ttl_ms);
            self.local.push(Local::FeedWatchdog { ttl_ms });
        }
        self.lease.renewed = sent;
        self.memory.lease_renewed = sent;
        self.status_due = true;
    }
}
