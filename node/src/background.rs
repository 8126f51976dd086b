//! The one slot for long actions.
//!
//! Invariant: at most one job at a time; a job that is cancelled is dropped,
//! and dropping it kills the programs it runs. What a thread does at that moment,
//! such as removing a directory, is ended first: the next job waits for it.

use member::ha::observation::{Job, Running};
use std::future::Future;
use std::sync::Arc;
use tokio::sync::Mutex;
use tokio::sync::oneshot::{self, error::TryRecvError};
use tokio::task::AbortHandle;
use topology::Millis;

pub(crate) type JobResult = Result<(), String>;

struct Slot {
    running: Running,
    task: AbortHandle,
    answer: oneshot::Receiver<JobResult>,
    result: Option<JobResult>,
}

#[derive(Default)]
pub(crate) struct Background {
    slot: Option<Slot>,
    /// Held by whatever job still does anything, also a cancelled one.
    job_lock: Arc<Mutex<()>>,
}

impl Background {
    pub(crate) fn begin(
        &mut self,
        job: Job,
        now: Millis,
        work: impl Future<Output = JobResult> + Send + 'static,
    ) {
        assert!(self.slot.is_none(), "one job at a time: `decide` looks at the slot first");
        let (tell, answer) = oneshot::channel();
        let task = tokio::spawn(alone(self.job_lock.clone(), work, tell));
        let running = Running { job, since: now, closed: None, ending: Default::default() };
        self.slot = Some(Slot { running, task: task.abort_handle(), answer, result: None });
    }

    pub(crate) fn running(&self) -> Option<&Running> {
        self.slot.as_ref().map(|slot| &slot.running)
    }

    pub(crate) fn cancel(&mut self) -> Option<Job> {
        let slot = self.slot.take()?;
        slot.task.abort();
        Some(slot.running.job)
    }

    /// Takes the result of a job that is over.
    pub(crate) fn reap(&mut self) -> Option<(Job, JobResult)> {
        let slot = self.slot.as_mut()?;
        let result = match slot.result.take() {
            Some(result) => result,
            None => match slot.answer.try_recv() {
                Ok(result) => result,
                Err(TryRecvError::Empty) => return None,
                Err(TryRecvError::Closed) => Err(FAULT.to_string()),
            },
        };
        self.slot.take().map(|slot| (slot.running.job, result))
    }

    /// Waits until the running job is over; for ever when none runs.
    pub(crate) async fn over(&mut self) {
        match &mut self.slot {
            Some(slot) if slot.result.is_none() => {
                let answer = (&mut slot.answer).await;
                slot.result = Some(answer.unwrap_or_else(|_| Err(FAULT.to_string())));
            }
            Some(_) => {}
            None => std::future::pending().await,
        }
    }
}

/// The job is dropped before the slot is free again.
async fn alone(
    job_lock: Arc<Mutex<()>>,
    work: impl Future<Output = JobResult>,
    tell: oneshot::Sender<JobResult>,
) {
    let mine = job_lock.lock_owned().await;
    let result = work.await;
    drop(mine);
    // The receiver is gone only when the job was cancelled.
    let _ = tell.send(result);
}

const FAULT: &str = "the action ended by a fault of this daemon; its log has the panic";

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[tokio::test]
    async fn a_job_is_reaped_once_with_its_result() {
        let mut slot = Background::default();
        slot.begin(Job::StartPrimary, Millis(1), async { Err("no".to_string()) });
        slot.over().await;
        slot.over().await;
        assert_eq!(slot.reap(), Some((Job::StartPrimary, Err("no".to_string()))));
        assert_eq!(slot.reap(), None);
    }

    #[tokio::test]
    async fn a_cancelled_job_leaves_the_slot_free() {
        let mut slot = Background::default();
        slot.begin(Job::PrePromote, Millis(1), std::future::pending());
        assert_eq!(slot.reap(), None);
        assert_eq!(slot.cancel(), Some(Job::PrePromote));
        assert!(slot.running().is_none());
        let waits = tokio::time::timeout(Duration::from_millis(20), slot.over()).await;
        assert!(waits.is_err());
    }

    /// The first job blocks its thread; the timer needs another one, on one core too.
    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn a_job_waits_until_a_cancelled_one_has_let_go() {
        let (begin, begun) = oneshot::channel();
        let (release, released) = std::sync::mpsc::channel();
        let mut slot = Background::default();
        slot.begin(Job::Restore, Millis(1), async move {
            begin.send(()).expect("the test waits");
            // A thread that is busy sees a cancellation only when it has finished.
            released.recv().expect("the test goes on");
            std::future::pending().await
        });
        begun.await.expect("it runs");
        slot.cancel();
        slot.begin(Job::Recover, Millis(2), async { Ok(()) });
        let early = tokio::time::timeout(Duration::from_millis(50), slot.over()).await;
        assert!(early.is_err(), "two jobs at a time");
        release.send(()).expect("the job still runs");
        let over = tokio::time::timeout(Duration::from_secs(5), slot.over()).await;
        assert!(over.is_ok(), "it waits for ever");
        assert_eq!(slot.reap(), Some((Job::Recover, Ok(()))));
    }

    #[tokio::test]
    async fn the_end_of_a_job_wakes_what_waits_for_it() {
        let mut slot = Background::default();
        let (finish, finished) = oneshot::channel::<()>();
        let job = async move { finished.await.map_err(|e| e.to_string()) };
        slot.begin(Job::Recover, Millis(7), job);
        let early = tokio::time::timeout(Duration::from_millis(20), slot.over()).await;
        assert!(early.is_err(), "it is not over");
        assert_eq!(slot.running().map(|running| running.since), Some(Millis(7)));
        finish.send(()).expect("it waits");
        let over = tokio::time::timeout(Duration::from_secs(5), slot.over()).await;
        assert!(over.is_ok(), "nobody was woken");
        assert_eq!(slot.reap(), Some((Job::Recover, Ok(()))));
    }

    #[tokio::test]
    async fn a_job_that_panics_ends_with_an_error() {
        let mut slot = Background::default();
        slot.begin(Job::Recover, Millis(1), async { panic!("on purpose") });
        slot.over().await;
        assert_eq!(slot.reap(), Some((Job::Recover, Err(FAULT.to_string()))));
    }

    #[tokio::test]
    async fn what_a_cancelled_job_has_started_dies_with_its_children() {
        let dir = tempfile::tempdir().expect("a directory");
        let (begun, survived) = (dir.path().join("begun"), dir.path().join("survived"));
        let script =
            format!("(touch {}; sleep 1; touch {}) & wait", begun.display(), survived.display());
        let mut command = tokio::process::Command::new("sh");
        command.args(["-c", &script]);
        let mut slot = Background::default();
        slot.begin(Job::Restore, Millis(1), async move {
            let done = crate::postgres::run::run(command, Duration::from_secs(20)).await;
            done.map(drop).map_err(|e| e.to_string())
        });
        for _ in 0..1_000 {
            if begun.exists() {
                break;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        assert!(begun.exists());
        slot.cancel();
        tokio::time::sleep(Duration::from_millis(1_300)).await;
        assert!(!survived.exists(), "a grandchild lived on");
    }
}
