//! A leader's history files: complete here, and in the archive.
//!
//! Begun as soon as this server is seen to be a primary, so that they reach the archive
//! before the first segment of the new timeline is full. What fails is tried again.

use crate::postgres::Instance;
use serde_json::Value;
use std::sync::Arc;
use tokio::task::JoinHandle;
use topology::{Millis, Timeline};

const AGAIN_MS: u64 = 60_000;

#[derive(Default)]
pub(super) struct Histories {
    /// For which timeline all is done, or under way.
    of: Option<Timeline>,
    begun: Millis,
    running: Option<JoinHandle<bool>>,
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
        if let Some(running) = self.running.take_if(|running| running.is_finished())
            && !running.await.unwrap_or(false)
        {
            self.of = None;
        }
        let is_due = self.of.is_none() && now.since(self.begun) >= AGAIN_MS;
        let is_new = self.of.is_some_and(|of| of != timeline) || self.begun == Millis(0);
        if self.running.is_some() || !(is_due || is_new) {
            return;
        }
        (self.of, self.begun) = (Some(timeline), now);
        let (instance, dynamic) = (instance.clone(), dynamic.clone());
        self.running = Some(tokio::spawn(async move {
            let done = instance.complete_histories(timeline, &dynamic).await;
            if let Err(error) = &done {
                tracing::warn!(
                    "a history file below timeline {timeline} is not in the archive, where a \
                     recovery to the latest timeline would stop: {}",
                    error.with_causes()
                );
            }
            done.is_ok()
        }));
    }
}
