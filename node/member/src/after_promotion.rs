//! The checkpoint after a promotion.
//!
//! Until it is done the control file shows the timeline before, and pg_rewind
//! against this server finds nothing to do. The member record says so; a member
//! that has to rewind waits for the checkpoint.

use super::effect::Call;
use crate::ha::Observation;
use topology::Millis;

/// After a checkpoint that failed.
const AGAIN_MS: u64 = 1_000;

/// Of the server as it runs now; begins anew when that is no leader any more.
#[derive(Debug, Default)]
pub(super) struct AfterPromotion {
    is_done: bool,
    is_running: bool,
    failed_at: Option<Millis>,
}

impl AfterPromotion {
    pub(crate) fn is_done(&self) -> bool {
        self.is_done
    }

    /// The checkpoint is not done, and none runs.
    pub(crate) fn due(&mut self, seen: &Observation) -> Option<Call> {
        if !seen.is_primary() || !seen.holds_lock() {
            *self = AfterPromotion::default();
            return None;
        }
        let timeline = seen.server()?.timeline?;
        // The first timeline was never promoted to.
        self.is_done |= timeline.0 <= 1;
        if self.is_done || self.is_running || self.again_ms(seen.now) > 0 {
            return None;
        }
        self.is_running = true;
        Some(Call::Checkpoint { timeline })
    }

    /// Gives what is to be told of it. The end of one that was begun for an earlier
    /// promotion says nothing.
    pub(crate) fn ended(&mut self, result: &Result<(), String>, now: Millis) -> Option<String> {
        if !std::mem::take(&mut self.is_running) {
            return None;
        }
        match result {
            Ok(()) => {
                self.is_done = true;
                None
            }
            Err(why) => {
                self.failed_at = Some(now);
                Some(format!("the checkpoint after the promotion failed: {why}; it is tried again"))
            }
        }
    }

    /// Until it is tried again; 0: nothing has failed just now.
    pub(crate) fn again_ms(&self, now: Millis) -> u64 {
        self.failed_at.map_or(0, |at| (at + AGAIN_MS).since(now))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ha::sample;
    use topology::Timeline;

    fn is_due(state: &mut AfterPromotion, seen: &Observation) -> bool {
        matches!(state.due(seen), Some(Call::Checkpoint { timeline: Timeline(2) }))
    }

    #[test]
    fn known_bug_15_a_second_promotion_has_a_checkpoint_of_its_own() {
        let mut state = AfterPromotion::default();
        assert!(is_due(&mut state, &sample::leader()));
        // Demoted while it runs, and promoted again.
        assert!(!is_due(&mut state, &sample::follower()));
        assert_eq!(state.ended(&Ok(()), Millis(sample::NOW)), None);
        assert!(!state.is_done(), "the end of the first one says nothing");
        assert!(is_due(&mut state, &sample::leader()));
    }

    #[test]
    fn it_is_due_until_it_is_done_and_again_when_it_failed() {
        let mut state = AfterPromotion::default();
        let mut seen = sample::leader();
        assert!(is_due(&mut state, &seen) && !state.is_done());
        assert!(!is_due(&mut state, &seen), "it runs");
        let told = state.ended(&Err("no answer".into()), seen.now);
        assert_eq!(
            told.as_deref(),
            Some("the checkpoint after the promotion failed: no answer; it is tried again")
        );
        assert!(!is_due(&mut state, &seen), "it has just failed");
        assert_eq!(state.again_ms(seen.now), AGAIN_MS);
        seen.now = seen.now + AGAIN_MS;
        assert!(is_due(&mut state, &seen));
        assert_eq!(state.ended(&Ok(()), seen.now), None);
        assert!(!is_due(&mut state, &seen) && state.is_done());
    }

    #[test]
    fn the_first_timeline_needs_none() {
        let mut state = AfterPromotion::default();
        let mut seen = sample::leader();
        if let crate::ha::observation::Process::Running(server) = &mut seen.postgres.process {
            server.timeline = Some(Timeline(1));
        }
        assert!(state.due(&seen).is_none() && state.is_done());
    }
}
