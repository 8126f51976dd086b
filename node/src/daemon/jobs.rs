//! The work of each job: long, cancellable, without decisions.

use super::Daemon;
use super::birth::Copy;
use crate::background::JobResult;
use crate::ha::Observation;
use crate::ha::observation::{Asked, Job, Rebuild, StopHow};
use std::future::Future;
use std::pin::Pin;

type Work = Pin<Box<dyn Future<Output = JobResult> + Send>>;

impl Daemon {
    pub(super) fn work(&self, job: &Job, seen: &Observation) -> Work {
        let hands = self.server.hands(self.dynamic.raw.clone(), self.overrides(&seen.ownership));
        let was_primary = seen.is_primary();
        match job.clone() {
            Job::Bootstrap => Box::pin(async move { hands.bootstrap().await }),
            Job::Clone { from } => {
                let plain = seen.memory.asked == Some(Asked::ReinitializeFromLeader);
                let copy = Copy { from: Some(from), plain };
                Box::pin(async move { hands.copy(&copy).await })
            }
            Job::Restore => {
                let copy = Copy { from: None, plain: false };
                Box::pin(async move { hands.copy(&copy).await })
            }
            Job::StartPrimary => Box::pin(async move { hands.start_primary().await }),
            Job::StartStandby { follow } => {
                Box::pin(async move { hands.start_standby(follow.as_ref()).await })
            }
            Job::Stop { how } => Box::pin(async move { hands.stop(how).await }),
            Job::Restart if was_primary => Box::pin(async move {
                hands.stop(StopHow::Planned).await?;
                hands.start_primary().await
            }),
            Job::Restart => {
                let follow = seen.follows().cloned();
                Box::pin(async move {
                    hands.stop(StopHow::Fast).await?;
                    hands.start_standby(follow.as_ref()).await
                })
            }
            Job::Recover => Box::pin(async move { hands.recover().await }),
            Job::Rewind { from } => {
                // Elsewhere a standby may lead the group.
                let from_primary = seen.may_own();
                Box::pin(async move { hands.rewind(&from, from_primary).await })
            }
            Job::Rebuild { from, why } => {
                let copy = Copy { from: Some(from), plain: why == Rebuild::AskedFromLeader };
                let system = seen.view().and_then(|v| v.initialize.as_ref()?.value.clone());
                Box::pin(async move { hands.rebuild(&copy, system).await })
            }
        }
    }
}
