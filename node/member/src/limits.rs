//! How long a beat may take, and how long the member may sleep.
//!
//! Invariant: a leader's next renewal fits in before it would have to stop writing.

use super::{Local, Member};
use crate::ha::Observation;
use crate::ha::observation::{Job, Lock};
use topology::{Millis, Seen};

/// The store's own deadline of a call is not longer: well below the lock's ttl, so
/// that a frozen store leaves time to fence.
pub const STORE_CALL_MS: u64 = 3_000;
/// Enough for a store that is well, short beside the budget for fencing.
const STORE_WAIT_MIN_MS: u64 = 500;
/// A follower sleeps this much longer than its leader.
const FOLLOWER_YIELDS_MS: u64 = 500;
/// No sleep is shorter.
const SLEEP_MIN_MS: u64 = 20;

impl Member {
    /// A server that accepts writes, or will without being asked again. One
    /// that does not answer may be such a server.
    pub fn may_open(&self, seen: &Observation) -> bool {
        let job = seen.job.as_ref().map(|running| &running.job);
        let starts = matches!(job, Some(Job::StartPrimary | Job::Restart { as_primary: true }));
        let silent = seen.server().is_some_and(|server| server.role == Seen::Unknown);
        seen.is_primary()
            || seen.is_opening()
            || starts
            || silent
            || self.memory.promoting.is_some()
    }

    /// How long a call to the store may hold up the beat of a server that may
    /// have to be fenced.
    pub fn until_fence_ms(&self, seen: &Observation, now: Millis) -> u64 {
        let fence = match (seen.relied_until(), &seen.lock) {
            (Some(until), _) => until - self.dynamic.fence_budget_ms(),
            (None, Lock::Mine { .. } | Lock::Unknown) => {
                self.memory.started + self.dynamic.retry_timeout_ms
            }
            // Another member may take it at any moment.
            (None, Lock::Free) => now,
            (None, Lock::Other(_)) => return STORE_CALL_MS,
        };
        match self.may_open(seen) {
            true => fence.since(now).clamp(STORE_WAIT_MIN_MS, STORE_CALL_MS),
            false => STORE_CALL_MS,
        }
    }

    /// How long upkeep writes may delay the next beat: a leader's next renewal must fit in
    /// before it would have to stop.
    pub fn report_limit_ms(&self, seen: &Observation, now: Millis) -> u64 {
        let limit = self.until_fence_ms(seen, now);
        match seen.relied_until() {
            Some(until) if self.may_open(seen) => {
                let kept = self.dynamic.fence_budget_ms() + self.dynamic.renewal_reserve_ms();
                limit.min((until - kept).since(now))
            }
            _ => limit,
        }
    }

    /// The longest sleep after a beat; events wake the member earlier.
    pub fn sleep_ms(&self, seen: &Observation, at_most_ms: Option<u64>, now: Millis) -> u64 {
        let longest = self.dynamic.loop_wait_ms + yielded_ms(&seen.lock);
        let mut ms = at_most_ms.unwrap_or(u64::MAX).min(longest);
        if let Some(until) = seen.relied_until() {
            let fence = until.since(now + self.dynamic.fence_budget_ms());
            ms = ms.min(fence.max(SLEEP_MIN_MS));
        }
        let again = self.memory.renewal_again(&self.name);
        // A key on the lease of an earlier process is put on the own one as soon as a
        // renewal may be tried again; until then nothing keeps it alive.
        let is_foreign = matches!(seen.lock, Lock::Mine { deadline: Millis(0), .. });
        let due = if is_foreign { again } else { self.memory.lease_renewed + longest };
        ms = ms.min(due.max(again).since(now).max(SLEEP_MIN_MS));
        let checkpoint = self.chores.checkpoint.again_ms(now);
        ms = if checkpoint > 0 { ms.min(checkpoint) } else { ms };
        // Until a new slot is told, another primary would make it anew, and skip what its reader had.
        let leads = seen.holds_lock() && seen.is_primary();
        let tells = self.status_due && leads && seen.view().is_some();
        let ms = if tells { ms.min(SLEEP_MIN_MS) } else { ms };
        let planned = self.planned.due_in.unwrap_or(u64::MAX);
        ms.min(planned).min(self.disk.again_ms()).min(self.scheduled_in.unwrap_or(u64::MAX))
    }

    /// Arms the guard thread while this member may write, at the end of a beat.
    pub(super) fn guard(&mut self, seen: &Observation) {
        match seen.relied_until() {
            _ if self.dynamic.pause || !self.may_open(seen) => self.local.push(Local::Disarm),
            Some(until) => self.arm(until),
            None => {}
        }
    }

    pub(super) fn arm(&mut self, deadline: Millis) {
        if !self.dynamic.pause {
            self.local.push(Local::Arm(deadline));
        }
    }
}

/// A follower beats when its leader has reported; by itself only if that does
/// not come.
fn yielded_ms(lock: &Lock) -> u64 {
    if matches!(lock, Lock::Other(_)) { FOLLOWER_YIELDS_MS } else { 0 }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ha::sample;

    #[test]
    fn the_key_of_an_earlier_process_is_not_slept_over() {
        let mut seen = sample::leader();
        seen.lock = Lock::Mine { renewed: Millis(0), deadline: Millis(0) };
        let mut member = Member::new("me".into(), 20, seen.now);
        // The first renewal was answered before the store was seen.
        (member.memory.lease_renewed, member.memory.lease_tried) = (seen.now, seen.now);
        let again = member.memory.renewal_again(&member.name);
        assert_eq!(member.sleep_ms(&seen, None, seen.now), again.since(seen.now));
        assert!(again.since(seen.now) < 1_000);
    }

    #[test]
    fn a_new_slot_is_told_at_once_unless_the_store_is_silent() {
        let mut seen = sample::leader();
        let mut member = Member::new("me".into(), 20, seen.now);
        (member.memory.lease_renewed, member.memory.lease_tried) = (seen.now, seen.now);
        seen.lock = Lock::Mine { renewed: seen.now, deadline: seen.now + 30_000 };
        member.status_due = true;
        assert_eq!(member.sleep_ms(&seen, None, seen.now), SLEEP_MIN_MS);
        let silent = Observation { store: Seen::Unknown, ..seen.clone() };
        assert!(member.sleep_ms(&silent, None, seen.now) > SLEEP_MIN_MS);
        // A leader that is not open keeps the end of its predecessor in `/status`.
        seen.postgres.process = sample::standby_of(None);
        assert!(member.sleep_ms(&seen, None, seen.now) > SLEEP_MIN_MS);
    }

    #[test]
    fn a_primary_without_the_lock_does_not_wait_long_for_it() {
        let mut seen = sample::leader();
        seen.lock = Lock::Free;
        let member = Member::new("me".into(), 20, Millis(0));
        assert_eq!(member.until_fence_ms(&seen, seen.now), STORE_WAIT_MIN_MS);
        seen = sample::follower();
        seen.lock = Lock::Free;
        assert_eq!(member.until_fence_ms(&seen, seen.now), STORE_CALL_MS);
    }

    #[test]
    fn a_follower_waits_a_little_longer_than_its_leader() {
        let mine = Lock::Mine { renewed: Millis(1), deadline: Millis(2) };
        assert_eq!(yielded_ms(&mine), 0);
        assert_eq!((yielded_ms(&Lock::Free), yielded_ms(&Lock::Unknown)), (0, 0));
        assert_eq!(yielded_ms(&Lock::Other("n2".into())), FOLLOWER_YIELDS_MS);
    }
}
