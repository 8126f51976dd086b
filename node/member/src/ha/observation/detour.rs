//! Whether a cascade follows the leader instead of the member that its tag names.
//!
//! It does while no WAL arrives through that member, and goes back when that member streams again.
//!
//! Invariant *no flapping*: between two changes lie at least three loops; a return after which
//! nothing came doubles the wait for the next one, up to an hour.

use topology::{Lsn, MemberName, Millis};

/// What a restart of the upstream, or another leader, may take.
const LOOPS: u64 = 3;
/// A daemon that has not looked for longer was frozen: nothing is known of the time between.
const GAP_LOOPS: u64 = 2;
const RETURN_MAX_MS: u64 = 3_600_000;

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Detour {
    /// The leader is followed.
    pub is_taken: bool,
    /// The member that `replicatefrom` names, while another one leads.
    upstream: Option<MemberName>,
    /// WAL arrives through it, or could again.
    serves: bool,
    /// When that began to be so, as far as it was looked at since without a break.
    since: Millis,
    /// Returns in a row after which nothing came.
    failures: u32,
    /// Where the own log ended some loops ago, and when that was.
    mark: Option<(Lsn, Millis)>,
    looked: Millis,
}

impl Detour {
    pub fn begin_look(&mut self, now: Millis, loop_ms: u64) {
        let before = std::mem::replace(&mut self.looked, now);
        if now.since(before) > GAP_LOOPS * loop_ms {
            self.interrupt(now);
        }
    }

    /// Where this cascade stands now.
    pub fn look(&mut self, upstream: &MemberName, serves: bool, now: Millis, loop_ms: u64) {
        if self.upstream.as_ref() != Some(upstream) {
            let (upstream, looked) = (Some(upstream.clone()), self.looked);
            *self = Detour { upstream, serves, since: now, looked, ..Detour::default() };
        }
        if self.serves != serves {
            (self.serves, self.since) = (serves, now);
        }
        if now.since(self.since) < self.patience_ms(loop_ms) {
            return;
        }
        match (self.is_taken, serves) {
            (false, false) => (self.is_taken, self.since, self.mark) = (true, now, None),
            (true, true) => {
                (self.is_taken, self.since) = (false, now);
                self.failures = self.failures.saturating_add(1);
            }
            (false, true) => self.failures = 0,
            (true, false) => {}
        }
    }

    /// Has a log that ends at `theirs` what this one had some loops ago? A server sends nothing to
    /// a standby whose log is ahead of its own.
    pub fn is_caught_up(&mut self, own: Lsn, theirs: Lsn, now: Millis, loop_ms: u64) -> bool {
        let (mark, at) = *self.mark.get_or_insert((own, now));
        if theirs >= mark {
            return true;
        }
        if now.since(at) >= LOOPS * loop_ms {
            self.mark = Some((own, now));
        }
        false
    }

    /// Nothing can be said of the upstream now: what was seen of it does not count on.
    pub fn interrupt(&mut self, now: Millis) {
        (self.since, self.mark) = (now, None);
    }

    /// It was ended, and the upstream has not sent anything for long enough since.
    pub fn is_returning(&self) -> bool {
        !self.is_taken && self.failures > 0
    }

    fn patience_ms(&self, loop_ms: u64) -> u64 {
        let least = LOOPS * loop_ms;
        match self.serves {
            true => (least << self.failures.min(20)).min(RETURN_MAX_MS.max(least)),
            false => least,
        }
    }
}

#[cfg(test)]
impl Detour {
    pub(crate) fn taken(upstream: &str) -> Detour {
        Detour { is_taken: true, upstream: Some(upstream.into()), ..Detour::default() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LOOP: u64 = 10_000;

    struct Story(Detour, Millis);

    impl Story {
        /// Looks once a second; whether the leader is followed at the end.
        fn goes_on(&mut self, seconds: u64, serves: bool) -> bool {
            for _ in 0..seconds {
                self.1 = self.1 + 1_000;
                self.0.look(&"b".into(), serves, self.1, LOOP);
            }
            self.0.is_taken
        }

        fn begin() -> Story {
            Story(Detour::default(), Millis(1_000_000))
        }
    }

    #[test]
    fn the_leader_is_followed_after_three_loops_without_wal_and_left_after_three_with_it() {
        let mut story = Story::begin();
        assert!(!story.goes_on(30, false));
        assert!(story.goes_on(1, false));
        assert!(story.goes_on(100, false), "as long as nothing could come");
        assert!(story.goes_on(30, true));
        assert!(!story.goes_on(1, true));
        assert!(!story.goes_on(29, false) && !story.goes_on(1, true) && !story.goes_on(30, false));
    }

    #[test]
    fn each_return_that_brings_nothing_doubles_the_wait_up_to_an_hour() {
        let mut story = Story::begin();
        assert!(story.goes_on(31, false));
        for wait in [30, 60, 120, 240, 480, 960, 1_920, 3_600, 3_600] {
            assert!(story.goes_on(wait, true), "{wait}");
            assert!(!story.goes_on(1, true), "{wait}");
            assert!(story.goes_on(31, false), "{wait}");
        }
        // One that lasts as long as the wait was for is forgiven.
        assert!(!story.goes_on(3_601, true) && !story.goes_on(3_600, true));
        assert!(story.goes_on(31, false) && !story.goes_on(31, true));
    }

    /// The own log goes on, and the upstream comes after it.
    #[test]
    fn an_upstream_has_caught_up_when_it_has_what_was_here_some_loops_ago() {
        let mut detour = Detour::taken("b");
        let mut at = |own: u64, theirs: u64, second: u64| {
            detour.is_caught_up(Lsn(own), Lsn(theirs), Millis(second * 1_000), LOOP)
        };
        assert!(!at(1_000, 500, 0) && !at(1_290, 900, 29), "it has less than what was here");
        assert!(!at(1_300, 910, 30), "the mark is set anew");
        assert!(!at(1_400, 1_299, 40) && at(1_450, 1_300, 45) && at(1_900, 1_310, 90));
    }

    #[test]
    fn a_long_gap_between_looks_says_nothing_of_the_upstream_nor_of_the_own_log() {
        let mut story = Story::begin();
        let mut look = |ms: u64, serves: bool| {
            story.1 = story.1 + ms;
            story.0.begin_look(story.1, LOOP);
            story.0.look(&"b".into(), serves, story.1, LOOP);
            story.0.is_taken
        };
        assert!(!look(1_000, false) && !look(20_000, false) && look(10_000, false));
        assert!(look(20_001, true) && look(20_000, true) && look(9_999, true) && !look(1, true));
        assert!(!look(20_001, false) && !look(20_000, false) && look(10_000, false));
        let Story(mut detour, now) = story;
        let own = |at: u64| Lsn(at);
        assert!(!detour.is_caught_up(own(1_000), Lsn(900), now, LOOP));
        let later = now + 3_600_000;
        detour.begin_look(later, LOOP);
        assert!(!detour.is_caught_up(own(9_000), Lsn(1_000), later, LOOP), "an hour ago");
    }

    #[test]
    fn what_is_not_known_counts_for_neither_and_another_upstream_is_judged_anew() {
        let mut story = Story::begin();
        assert!(!story.goes_on(30, false));
        story.0.interrupt(story.1);
        assert!(!story.goes_on(29, false) && story.goes_on(1, false));
        story.0.look(&"c".into(), false, story.1, LOOP);
        assert!(!story.0.is_taken);
    }
}
