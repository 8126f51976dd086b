//! The end of the daemon: from the request for it to what is left to do before the process ends.
//!
//! Invariant: a lock that is still held is not prolonged. Its server may run on, and another
//! member takes over as soon as the lock is gone.

use super::Member;
use topology::Session;

/// What the performer does before the process ends. Neither may delay the end for long.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Farewell {
    /// The watchdog is put to rest: the server runs on, and no daemon feeds the watchdog.
    pub rests_watchdog: bool,
    /// This lease is renewed once more: the member's record, which shows that the server is
    /// stopped, stays for one more `ttl`.
    pub renews: Option<Session>,
}

impl Member {
    /// The daemon was told to end; what that takes, the next beats decide. False: it was told before.
    pub fn begin_to_end(&mut self) -> bool {
        !std::mem::replace(&mut self.memory.stopping, true)
    }

    /// In a pause the server and the keys in the store are left as they are.
    pub fn farewell(&self) -> Farewell {
        let is_paused = self.dynamic.pause;
        let renews = self.lease.id.filter(|_| !is_paused && !self.held);
        Farewell { rests_watchdog: is_paused, renews }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use topology::Millis;

    fn with_lease() -> (Member, Option<Session>) {
        let mut member = Member::new("n1".into(), 20, Millis(0));
        member.lease.id = Some(Session::of_store(7));
        let lease = member.lease.id;
        (member, lease)
    }

    #[test]
    fn an_end_that_was_asked_for_twice_begins_once() {
        let (mut member, _) = with_lease();
        assert!(member.begin_to_end() && !member.begin_to_end());
        assert!(member.memory.stopping);
    }

    #[test]
    fn the_record_of_a_stopped_member_stays_for_one_more_ttl() {
        let (mut member, lease) = with_lease();
        assert_eq!(member.farewell(), Farewell { rests_watchdog: false, renews: lease });
        member.lease.id = None;
        assert_eq!(member.farewell().renews, None);
    }

    #[test]
    fn a_lock_that_is_held_is_not_prolonged() {
        let (mut member, _) = with_lease();
        member.held = true;
        assert_eq!(member.farewell(), Farewell { rests_watchdog: false, renews: None });
    }

    #[test]
    fn in_a_pause_only_the_watchdog_is_put_to_rest() {
        let (mut member, _) = with_lease();
        member.dynamic.pause = true;
        assert_eq!(member.farewell(), Farewell { rests_watchdog: true, renews: None });
    }
}
