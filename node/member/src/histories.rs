//! A leader's history files: complete here, and in the archive.
//!
//! Members and the archive are asked for every number below the own timeline. What fails
//! is tried again, at first soon: the archiver brings the own history there in its own
//! time. A failure is told once.

use super::effect::Call;
use crate::ha::Observation;
use topology::{Millis, Timeline};

const AGAIN_MS: u64 = 2_000;
const AGAIN_MS_MAX: u64 = 60_000;
/// Told when it has failed so often, for the archiver needs a moment.
const TOLD_AT: u32 = 3;

#[derive(Debug, Default)]
pub(super) struct Histories {
    of: Option<Timeline>,
    begun: Millis,
    /// Tries that failed, for this timeline.
    failed: u32,
    is_done: bool,
    is_running: bool,
}

impl Histories {
    pub(crate) fn due(&mut self, seen: &Observation) -> Option<Call> {
        let leads = seen.is_primary() && seen.holds_lock();
        let timeline = seen.server().filter(|_| leads)?.timeline?;
        if self.is_running || !self.is_due(timeline, seen.now) {
            return None;
        }
        (self.of, self.begun, self.is_running) = (Some(timeline), seen.now, true);
        Some(Call::CompleteHistories { timeline })
    }

    fn is_due(&mut self, timeline: Timeline, now: Millis) -> bool {
        if self.of != Some(timeline) {
            (self.failed, self.is_done) = (0, false);
            return true;
        }
        let pace = (AGAIN_MS << self.failed.min(5)).min(AGAIN_MS_MAX);
        !self.is_done && now.since(self.begun) >= pace
    }

    /// Gives what is to be told of it.
    pub(crate) fn ended(&mut self, result: &Result<(), String>) -> Option<String> {
        self.is_running = false;
        match result {
            Ok(()) => {
                self.is_done = true;
                None
            }
            Err(why) => {
                self.failed = self.failed.saturating_add(1);
                (self.failed == TOLD_AT).then(|| format!("older timelines' history files could not be completed: {why}; it is tried again"))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ha::observation::Process;
    use crate::ha::sample;

    fn at(timeline: u32, ms: u64) -> Observation {
        let mut seen = sample::leader();
        seen.now = Millis(ms);
        if let Process::Running(server) = &mut seen.postgres.process {
            server.timeline = Some(Timeline(timeline));
        }
        seen
    }

    #[test]
    fn what_fails_is_tried_again_and_a_new_timeline_at_once() {
        let mut kept = Histories::default();
        assert!(kept.due(&at(2, 1)).is_some());
        assert!(kept.due(&at(2, 100_000)).is_none(), "one runs");
        assert_eq!(kept.ended(&Err("not yet".into())), None);
        assert!(kept.due(&at(2, 1_000)).is_none());
        assert!(kept.due(&at(2, 10_000)).is_some());
        kept.ended(&Ok(()));
        assert!(kept.due(&at(2, 10_000_000)).is_none());
        assert!(kept.due(&at(3, 10_000_000)).is_some());
    }

    #[test]
    fn only_a_leader_completes_them_and_what_keeps_failing_is_told_once() {
        let mut kept = Histories::default();
        assert!(kept.due(&sample::follower()).is_none());
        let told = (0..5).filter_map(|_| kept.ended(&Err("no answer".into())));
        assert_eq!(
            told.collect::<Vec<_>>(),
            ["older timelines' history files could not be completed: no answer; it is tried again"]
        );
    }
}
