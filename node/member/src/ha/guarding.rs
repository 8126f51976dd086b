//! What the watchdog of this machine means to the rules.

use super::facts::Facts;
use super::observation::{Guarding, Job, Observation, Process};

/// Whether an armed watchdog stays armed: while this member may write, or is about to.
/// A stop that takes longer than it may is still one whose clients commit, until the
/// last of them is gone (`is_quiet`). `may_open`: the server accepts writes or will.
pub(crate) fn is_watchdog_needed(seen: &Observation, may_open: bool, is_quiet: bool) -> bool {
    let job = seen.job.as_ref().map(|running| &running.job);
    let ends = matches!(job, Some(Job::Stop { .. } | Job::Bootstrap));
    let leads = seen.holds_lock() && seen.may_own() && !seen.is_stopped();
    let opens = matches!(seen.postgres.process, Process::Starting { as_primary: true, .. });
    let stops = matches!(job, Some(Job::Stop { .. })) && is_quiet;
    let closed = stops || seen.job.as_ref().is_some_and(|running| running.closed.is_some());
    !closed && (may_open || opens || ends || leads)
}

impl Facts<'_> {
    pub fn is_watchdog_ready(&self) -> bool {
        self.o.watchdog == Guarding::Ready
    }

    /// Why the watchdog that is required cannot be used.
    pub fn watchdog_broken(&self) -> Option<String> {
        match &self.o.watchdog {
            Guarding::Broken(why) => Some(why.clone()),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ha::observation::{Running, StopHow};
    use crate::ha::sample::{NOW, leader};
    use topology::{Millis, Seen};

    #[test]
    fn known_bug_01_a_stop_that_takes_too_long_keeps_the_watchdog_while_backends_commit() {
        let mut o = leader();
        o.dynamic.primary_stop_timeout_ms = 5_000;
        let job = Job::Stop { how: StopHow::Planned };
        let (since, ending) = (Millis(NOW - 600_000), Default::default());
        o.job = Some(Running { job, since, closed: None, ending });
        assert!(is_watchdog_needed(&o, true, false));
        // It does not answer any more, or the lock is gone: clients may write still.
        if let Process::Running(server) = &mut o.postgres.process {
            server.role = Seen::Unknown;
        }
        o.lock = crate::ha::observation::Lock::Free;
        assert!(is_watchdog_needed(&o, true, false));
        assert!(is_watchdog_needed(&o, false, false));
        // Without a client no session can commit.
        assert!(!is_watchdog_needed(&o, true, true));
    }
}
