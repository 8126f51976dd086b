//! A leader's history files: complete here, and in the archive.
//!
//! Begun as soon as this server is seen to be a primary, so that they reach the archive
//! before the first segment of the new timeline is full. What fails is tried again, at
//! first soon: the archiver brings the own history there in its own time. It is told
//! once.

use crate::postgres::Instance;
use serde_json::Value;
use std::sync::Arc;
use tokio::task::JoinHandle;
use topology::{Millis, Timeline};

const AGAIN_MS: u64 = 2_000;
const AGAIN_MS_MAX: u64 = 60_000;
/// Told when it has failed so often, for the archiver needs a moment.
const TOLD_AT: u32 = 3;

#[derive(Default)]
pub(super) struct Histories {
    of: Option<Timeline>,
    begun: Millis,
    /// Tries that failed, for this timeline.
    failed: u32,
    done: bool,
    running: Option<JoinHandle<Result<(), String>>>,
}

impl Histories {
    /// Asked in every beat of a primary.
    pub async fn keep(
        &mut self,
        instance: &Arc<Instance>,
        dynamic: &Value,
        timeline: Timeline,
        now: Millis,
    ) {
        if let Some(running) = self.running.take_if(|running| running.is_finished()) {
            self.take(running.await.unwrap_or_else(|error| Err(error.to_string())));
        }
        if self.running.is_some() || !self.is_due(timeline, now) {
            return;
        }
        (self.of, self.begun) = (Some(timeline), now);
        let (instance, dynamic) = (instance.clone(), dynamic.clone());
        self.running = Some(tokio::spawn(async move {
            let done = instance.complete_histories(timeline, &dynamic).await;
            done.map_err(|error| error.with_causes())
        }));
    }

    fn is_due(&mut self, timeline: Timeline, now: Millis) -> bool {
        if self.of != Some(timeline) {
            (self.failed, self.done) = (0, false);
            return true;
        }
        let pace = (AGAIN_MS << self.failed.min(5)).min(AGAIN_MS_MAX);
        !self.done && now.since(self.begun) >= pace
    }

    fn take(&mut self, result: Result<(), String>) {
        match result {
            Ok(()) => self.done = true,
            Err(why) => {
                self.failed = self.failed.saturating_add(1);
                if self.failed == TOLD_AT {
                    tracing::warn!("histories of older timelines: {why}");
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_fails_is_tried_again_and_a_new_timeline_at_once() {
        let mut kept = Histories::default();
        assert!(kept.is_due(Timeline(2), Millis(1)));
        (kept.of, kept.begun) = (Some(Timeline(2)), Millis(1));
        kept.take(Err("not yet".into()));
        assert!(!kept.is_due(Timeline(2), Millis(1_000)));
        assert!(kept.is_due(Timeline(2), Millis(10_000)));
        kept.take(Ok(()));
        assert!(!kept.is_due(Timeline(2), Millis(10_000_000)));
        assert!(kept.is_due(Timeline(3), Millis(10_000_000)));
    }
}
