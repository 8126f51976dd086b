//! Work that runs beside the beats: a checkpoint, copies of history files.
//!
//! When it is begun, and what its end means, the machine decides (`member/chores.rs`).
//! Work that is begun a second time replaces the first: only the end of the second is
//! told. What has begun is not cancelled.

use crate::postgres::{Error, Instance};
use member::chores::Work;
use std::collections::BTreeMap;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Notify;
use tokio::sync::oneshot::{self, error::TryRecvError};
use topology::Timeline;

const HEARTBEAT: &str = "Patroni heartbeat";
const CHECKPOINT: Duration = Duration::from_secs(600);
/// From here on a checkpoint may flush unlogged tables too.
const FLUSHES_UNLOGGED: u32 = 19;

type Ended = Result<(), String>;

#[derive(Default)]
pub(super) struct Beside {
    running: BTreeMap<Work, oneshot::Receiver<Ended>>,
    over: Arc<Notify>,
}

impl Beside {
    pub(super) fn begin(&mut self, work: Work, task: impl Future<Output = Ended> + Send + 'static) {
        let (tell, told) = oneshot::channel();
        let over = self.over.clone();
        tokio::spawn(async move {
            // The receiver is gone once the same was begun again.
            let _ = tell.send(task.await);
            over.notify_one();
        });
        self.running.insert(work, told);
    }

    /// What has ended since this was asked last.
    pub(super) fn take_ended(&mut self) -> Vec<(Work, Ended)> {
        let mut ended = Vec::new();
        self.running.retain(|work, told| {
            let result = match told.try_recv() {
                Ok(result) => result,
                Err(TryRecvError::Empty) => return true,
                Err(TryRecvError::Closed) => Err("the task panicked".to_string()),
            };
            ended.push((*work, result));
            false
        });
        ended
    }

    /// What wakes the daemon when work beside the beats has ended.
    pub(super) fn over_of_others(&self) -> Arc<Notify> {
        self.over.clone()
    }

    /// Ready when some work has come to its end.
    pub(super) fn over(&self) -> impl Future<Output = ()> + use<> {
        let over = self.over.clone();
        async move { over.notified().await }
    }
}

/// Writes a checkpoint unless the control file shows this timeline already.
pub(super) async fn checkpoint(instance: &Instance, timeline: Timeline) -> Result<(), Error> {
    const WHAT: &str = "checkpoint";
    let session = instance.session(HEARTBEAT).await?;
    let sql = "SELECT timeline_id::bigint FROM pg_catalog.pg_control_checkpoint()";
    let shown: Option<i64> = session.row(WHAT, sql, &[]).await?.try_get(0).ok();
    if shown == Some(i64::from(timeline.0)) {
        return Ok(());
    }
    let flushes = instance.catalogue().await?.major >= FLUSHES_UNLOGGED;
    let sql = if flushes { "CHECKPOINT (FLUSH_UNLOGGED)" } else { "CHECKPOINT" };
    session.execute_long(WHAT, sql, CHECKPOINT).await
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn until_ended(beside: &mut Beside, wanted: usize) -> Vec<(Work, Ended)> {
        let mut ended = Vec::new();
        for _ in 0..100 {
            ended.extend(beside.take_ended());
            if ended.len() == wanted {
                break;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        ended
    }

    #[tokio::test]
    async fn the_end_is_told_once_and_of_the_latest_only() {
        let mut beside = Beside::default();
        let (go, wait) = oneshot::channel::<()>();
        beside.begin(Work::Checkpoint, async move { wait.await.map_err(|_| "dropped".into()) });
        assert_eq!(beside.take_ended(), [], "it runs");
        beside.begin(Work::Checkpoint, async { Err("no answer".into()) });
        go.send(()).expect("the first still waits");
        let over = tokio::time::timeout(Duration::from_secs(5), beside.over());
        over.await.expect("an end wakes the daemon");
        let ended = until_ended(&mut beside, 1).await;
        assert_eq!(ended, [(Work::Checkpoint, Err("no answer".into()))]);
        assert_eq!(beside.take_ended(), []);
    }

    #[tokio::test]
    async fn work_that_panics_has_failed() {
        let mut beside = Beside::default();
        beside.begin(Work::Histories, async { panic!("a fault") });
        let ended = until_ended(&mut beside, 1).await;
        assert!(matches!(&ended[..], [(Work::Histories, Err(_))]), "{ended:?}");
    }
}
