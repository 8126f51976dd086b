//! The work of each job: long, cancellable, without decisions.

use super::birth::Copy;
use super::work::RestartLimit;
use super::{Daemon, script};
use crate::background::JobResult;
use member::ha::Observation;
use member::ha::facts::Facts;
use member::ha::observation::{Asked, Disk, Job, Rebuild};
use member::overrides::Overrides;
use std::future::Future;
use std::pin::Pin;
use std::time::Duration;

/// For `pre_promote` where `primary_start_timeout` is 0, which is meant for crashes.
const GATE: Duration = Duration::from_secs(300);

type Work = Pin<Box<dyn Future<Output = JobResult> + Send>>;

impl Daemon {
    pub(super) fn work(&self, job: &Job, seen: &Observation, overrides: &Overrides) -> Work {
        let mut jobs = self.server.jobs(self.member.dynamic.raw.clone(), self.values_of(overrides));
        jobs.may_checkpoint = seen.disk == Disk::Well;
        match job.clone() {
            Job::Bootstrap => Box::pin(async move { jobs.bootstrap().await }),
            Job::Clone { from } => {
                let plain = seen.memory.asked == Some(Asked::ReinitializeFromLeader);
                let copy = Copy { from: Some(from), plain };
                Box::pin(async move { jobs.copy(&copy, None).await })
            }
            Job::Restore => {
                let copy = Copy { from: None, plain: false };
                Box::pin(async move { jobs.copy(&copy, None).await })
            }
            Job::StartPrimary => Box::pin(async move { jobs.start_primary().await }),
            Job::StartStandby { follow, .. } => {
                Box::pin(async move { jobs.start_standby(follow.as_ref()).await })
            }
            Job::Stop { how } => {
                let left = self.server.left_running();
                Box::pin(async move { jobs.stop_all(how, left).await })
            }
            Job::Restart { as_primary } => {
                let follow = seen.follows().cloned().or_else(|| Facts::of(seen).upstream());
                let limit = self.restart_limit();
                Box::pin(async move { jobs.restart(as_primary, follow.as_ref(), limit).await })
            }
            Job::PrePromote => {
                let command = self.settings.postgresql.pre_promote.clone();
                let limit = self.gate_limit();
                Box::pin(async move {
                    match command {
                        Some(command) => script::run_within(&command, limit).await,
                        None => Ok(()),
                    }
                })
            }
            Job::Recover => Box::pin(async move { jobs.recover().await }),
            Job::RecoverStandby { .. } => Box::pin(async move { jobs.recover_standby().await }),
            Job::Rewind { from } => {
                // Elsewhere a standby may lead the group.
                let from_primary = seen.may_own();
                let at_least = seen.memory.compared_timeline;
                Box::pin(async move { jobs.rewind(&from, from_primary, at_least).await })
            }
            Job::Rebuild { from, why } => {
                let copy = Copy { from: Some(from), plain: why == Rebuild::AskedFromLeader };
                let system = seen.view().and_then(|v| v.initialize.as_ref()?.value.clone());
                Box::pin(async move { jobs.rebuild(&copy, why, system).await })
            }
        }
    }

    /// The lock is held meanwhile, and another member might open sooner.
    fn gate_limit(&self) -> Duration {
        match self.member.dynamic.primary_start_timeout_ms {
            0 => GATE,
            limit => Duration::from_millis(limit),
        }
    }

    /// What was asked for, else the limit of any start.
    fn restart_limit(&self) -> RestartLimit {
        let configured = self.member.dynamic.primary_start_timeout_ms;
        match self.member.memory.start_limit_ms {
            Some(ms) => RestartLimit::Asked(Duration::from_millis(ms)),
            None if configured > 0 => RestartLimit::General(Duration::from_millis(configured)),
            None => {
                let seconds = self.settings.postgresql.pg_ctl_timeout_s;
                RestartLimit::General(Duration::from_secs(seconds))
            }
        }
    }
}
