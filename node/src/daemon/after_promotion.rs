//! The checkpoint after a promotion.
//!
//! Until it is done the control file shows the timeline before, and pg_rewind
//! against this server finds nothing to do. The member record says so; a member
//! that has to rewind waits for the checkpoint.

use crate::postgres::{Error, Instance};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Notify;
use tokio::sync::oneshot::{self, error::TryRecvError};
use topology::Timeline;

const HEARTBEAT: &str = "Patroni heartbeat";
const LIMIT: Duration = Duration::from_secs(600);
/// Before the next try.
const AGAIN: Duration = Duration::from_secs(1);
/// From here on a checkpoint may flush unlogged tables too.
const FLUSHES_UNLOGGED: u32 = 19;

/// Of the server as it runs now; begins anew when that is no leader any more.
#[derive(Default)]
pub(super) struct AfterPromotion {
    done: bool,
    running: Option<oneshot::Receiver<()>>,
    over: Arc<Notify>,
}

impl AfterPromotion {
    /// The checkpoint is not done, and no task works on it.
    pub fn is_due(&mut self) -> bool {
        match self.running.as_mut().map(oneshot::Receiver::try_recv) {
            Some(Ok(())) => self.done = true,
            Some(Err(TryRecvError::Empty)) => return false,
            // It failed, and its log line says why.
            Some(Err(TryRecvError::Closed)) | None => {}
        }
        self.running = None;
        !self.done
    }

    pub fn is_done(&self) -> bool {
        self.done
    }

    /// The first timeline was never promoted to.
    pub fn begin(&mut self, instance: Arc<Instance>, timeline: Timeline) {
        if timeline.0 <= 1 {
            self.done = true;
            return;
        }
        let (tell, told) = oneshot::channel();
        let over = self.over.clone();
        tokio::spawn(async move {
            match checkpoint(&instance, timeline).await {
                // The receiver is gone once this member no longer leads.
                Ok(()) => drop(tell.send(())),
                Err(error) => {
                    tracing::warn!("the checkpoint after the promotion: {error}");
                    tokio::time::sleep(AGAIN).await;
                    drop(tell);
                }
            }
            over.notify_one();
        });
        self.running = Some(told);
    }

    /// Ready when a checkpoint has come to its end.
    pub fn over(&self) -> impl Future<Output = ()> + use<> {
        let over = self.over.clone();
        async move { over.notified().await }
    }
}

async fn checkpoint(instance: &Instance, timeline: Timeline) -> Result<(), Error> {
    const WHAT: &str = "checkpoint";
    let session = instance.session(HEARTBEAT).await?;
    let sql = "SELECT timeline_id::bigint FROM pg_catalog.pg_control_checkpoint()";
    let shown: Option<i64> = session.row(WHAT, sql, &[]).await?.try_get(0).ok();
    if shown == Some(i64::from(timeline.0)) {
        return Ok(());
    }
    let flushes = instance.catalogue().await?.major >= FLUSHES_UNLOGGED;
    let sql = if flushes { "CHECKPOINT (FLUSH_UNLOGGED)" } else { "CHECKPOINT" };
    session.execute_long(WHAT, sql, LIMIT).await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_bug_15_a_second_promotion_has_a_checkpoint_of_its_own() {
        let mut first = AfterPromotion::default();
        assert!(first.is_due());
        let (tell, told) = oneshot::channel();
        first.running = Some(told);
        // Demoted while it runs, and promoted again.
        let mut second = AfterPromotion::default();
        drop(first);
        assert!(tell.send(()).is_err(), "the end of the first is nobody's");
        assert!(second.is_due() && !second.is_done());
    }

    #[test]
    fn it_is_due_until_it_is_done_and_again_when_it_failed() {
        let mut state = AfterPromotion::default();
        assert!(state.is_due() && !state.is_done());
        let (tell, told) = oneshot::channel();
        state.running = Some(told);
        assert!(!state.is_due());
        drop(tell);
        assert!(state.is_due());
        let (tell, told) = oneshot::channel();
        state.running = Some(told);
        tell.send(()).unwrap();
        assert!(!state.is_due() && state.is_done());
    }
}
