//! The one slot for long actions.
//!
//! Invariant: at most one job at a time; a job that is cancelled is dropped,
//! and dropping it kills the programs it runs.

use crate::ha::observation::{Job, Running};
use std::future::Future;
use tokio::sync::oneshot::{self, error::TryRecvError};
use tokio::task::AbortHandle;
use topology::Millis;

pub type JobResult = Result<(), String>;

struct Slot {
    running: Running,
    task: AbortHandle,
    answer: oneshot::Receiver<JobResult>,
    result: Option<JobResult>,
}

#[derive(Default)]
pub struct Background(Option<Slot>);

impl Background {
    pub fn begin(
        &mut self,
        job: Job,
        now: Millis,
        work: impl Future<Output = JobResult> + Send + 'static,
    ) {
        assert!(self.0.is_none(), "one job at a time: `decide` looks at the slot first");
        let (tell, answer) = oneshot::channel();
        let task = tokio::spawn(async move {
            // Nobody listens only when the job was cancelled.
            let _ = tell.send(work.await);
        });
        let running = Running { job, since: now, closed: None };
        self.0 = Some(Slot { running, task: task.abort_handle(), answer, result: None });
    }

    pub fn running(&self) -> Option<&Running> {
        self.0.as_ref().map(|slot| &slot.running)
    }

    pub fn cancel(&mut self) -> Option<Job> {
        let slot = self.0.take()?;
        slot.task.abort();
        Some(slot.running.job)
    }

    /// Takes the result of a job that is over.
    pub fn reap(&mut self) -> Option<(Job, JobResult)> {
        let slot = self.0.as_mut()?;
        let result = match slot.result.take() {
            Some(result) => result,
            None => match slot.answer.try_recv() {
                Ok(result) => result,
                Err(TryRecvError::Empty) => return None,
                Err(TryRecvError::Closed) => Err(FAULT.to_string()),
            },
        };
        self.0.take().map(|slot| (slot.running.job, result))
    }

    /// Waits until the running job is over; for ever when none runs.
    pub async fn over(&mut self) {
        match &mut self.0 {
            Some(slot) if slot.result.is_none() => {
                let answer = (&mut slot.answer).await;
                slot.result = Some(answer.unwrap_or_else(|_| Err(FAULT.to_string())));
            }
            Some(_) => {}
            None => std::future::pending().await,
        }
    }
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
}
