//! The lock in time: when to renew it, and when to stop writing because of it.
//!
//! Invariant: a lock that cannot be proven is given up `fence_budget_ms` before its
//! deadline, unless all members agreed that this member leads on.

use super::Facts;
use crate::ha::observation::{Lock, Memory};
use topology::{MemberName, Millis};

/// A store that does not answer for the lease is asked again after this, then after
/// twice as long, and so on.
const RETRY_FIRST_MS: u64 = 100;
/// But not after more than this, and a part of it, so that not all members of
/// all groups ask at once. One that refused a renewal is asked again after this.
pub(crate) const RETRY_MAX_MS: u64 = 1_000;
/// After a renewal that was answered. A store that takes longer than `loop_wait` for
/// each answer is asked at this distance: more would cost a short lease its renewal.
pub(crate) const ANSWERED_MS: u64 = 200;
const RETRY_SPREAD_PERCENT: u64 = 80;
/// A beat that comes so little before the renewal is due does it: a follower
/// beats when its leader has reported, which is not always to the millisecond. Of a
/// short `loop_wait` it is a quarter.
const RENEW_EARLY_MS: u64 = 500;
/// Between two questions to all members, when they did not all agree to the last one.
const ASK_RETRY_MS: u64 = 1_000;
/// Others find a free lock and take it within this, if they are able.
const ELECTION_MS: u64 = 3_000;

impl Memory {
    /// When a renewal may be tried again: soon after one that was answered, and later
    /// with each in a row that was not.
    pub fn renewal_again(&self, me: &MemberName) -> Millis {
        if self.lease_misses == 0 {
            let pause = if self.lease_refused { RETRY_MAX_MS } else { ANSWERED_MS };
            return self.lease_tried + pause;
        }
        let doubled = RETRY_FIRST_MS << (self.lease_misses - 1).min(8);
        let pause = doubled.min(RETRY_MAX_MS);
        let name = me.as_str().bytes().fold(0u64, |sum, byte| sum * 31 % 9_973 + u64::from(byte));
        let spread = (self.lease_tried.0.wrapping_mul(name | 1) / 7) % (RETRY_SPREAD_PERCENT + 1);
        self.lease_tried + pause + pause * spread / 100
    }
}

impl Facts<'_> {
    /// Is the own lease due for renewal?
    pub fn is_renewal_due(&self) -> bool {
        let memory = &self.o.memory;
        let stale_key = matches!(self.o.lock, Lock::Mine { deadline, .. } if deadline.0 == 0);
        let loop_wait = self.o.dynamic.loop_wait_ms;
        let early = RENEW_EARLY_MS.min(loop_wait / 4);
        let old = self.o.now.since(memory.lease_renewed) + early >= loop_wait;
        let tried = self.o.now < memory.renewal_again(&self.o.me.name);
        (old || stale_key) && !(tried && memory.lease_tried.0 > 0)
    }

    /// Too close to the lock's deadline (or past it) to keep writing.
    pub fn is_fence_due(&self) -> bool {
        let budget = self.o.dynamic.fence_budget_ms();
        if self.is_proven() {
            return false;
        }
        match self.o.lock {
            Lock::Mine { deadline, .. } if deadline.0 > 0 => self.o.now + budget >= deadline,
            // The lock was free when it was last seen, and was asked for in vain.
            Lock::Unknown if self.o.memory.is_lock_unanswered => true,
            Lock::Mine { .. } | Lock::Unknown => {
                // A daemon that just came up beside a running server: the store
                // gets one retry_timeout to say whose lock it is.
                let grace = self.o.memory.started + self.o.dynamic.retry_timeout_ms;
                self.o.now >= grace
            }
            // Led on without a store until a moment ago, and has no lock yet; or the store
            // does not answer any more, and another member may have taken the lock.
            Lock::Free => {
                let memory = &self.o.memory;
                let is_silent = memory.lease_misses > 0 || memory.is_lock_unanswered;
                self.o.failsafe.proof.is_some() || is_silent
            }
            Lock::Other(_) => false,
        }
    }

    /// This process has renewed the lease that the leader key hangs on: a key of an
    /// earlier process is this member's by name only.
    pub fn is_lock_renewed(&self) -> bool {
        matches!(self.o.lock, Lock::Mine { deadline, .. } if deadline.0 > 0)
    }

    /// Something planned may begin: clients write on for a while, and no other member may
    /// lead meanwhile. On the key of an earlier process that is not certain.
    pub fn may_begin_planned(&self) -> bool {
        self.is_lock_renewed() || !self.o.is_primary()
    }

    /// All members agreed that this member leads on, for longer than the fence budget.
    pub fn is_proven(&self) -> bool {
        let budget = self.o.dynamic.fence_budget_ms();
        self.o.failsafe.proof.is_some_and(|proof| self.o.now + budget < proof)
    }

    /// The lock could not be proven for a whole loop, and all members can be asked.
    pub fn must_ask_all(&self) -> bool {
        let (o, failsafe) = (self.o, &self.o.failsafe);
        let asks = o.dynamic.failsafe_mode
            && failsafe.is_ready
            && !self.is_paused()
            && !self.is_leader_elsewhere();
        let relied = o.relied_until().is_some_and(|until| o.now < until);
        // A server that does not get open in its time is of no use to clients: the
        // promises end, and a member that sees the store may lead.
        asks && relied
            && o.may_write()
            && !self.start_took_too_long()
            && !o.memory.stopping
            && self.is_store_silent()
            && o.now.since(self.proven_at()) >= o.dynamic.loop_wait_ms
            && o.now.since(failsafe.asked) >= ASK_RETRY_MS
    }

    /// A slow answer to the last renewal is an answer.
    fn is_store_silent(&self) -> bool {
        let memory = &self.o.memory;
        memory.lease_misses > 0 || memory.lease_refused || self.view().is_none()
    }

    /// When the lock was last renewed, or all members last agreed.
    fn proven_at(&self) -> Millis {
        let agreed = self.o.failsafe.proof.map_or(Millis(0), |proof| proof - self.o.dynamic.ttl_ms);
        match self.o.lock {
            Lock::Mine { renewed, deadline } if deadline.0 > 0 => agreed.max(renewed),
            _ => agreed,
        }
    }

    /// This member promised another member not to lead.
    pub fn has_promised(&self) -> bool {
        self.o.failsafe.promise.is_some()
    }

    /// A promotion must be over before the lock can end.
    pub fn is_lock_young_enough(&self) -> bool {
        let budget = self.o.dynamic.fence_budget_ms();
        matches!(self.o.lock, Lock::Mine { deadline, .. } if self.o.now + budget < deadline)
    }

    /// Another member may take the free lock at any moment.
    pub fn is_election_young(&self) -> bool {
        let since = self.o.memory.leaderless_since;
        since.is_none_or(|since| self.o.now.since(since) < ELECTION_MS)
    }
}
