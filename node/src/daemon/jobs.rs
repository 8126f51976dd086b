//! The work of each job: long, cancellable, without decisions.

use super::birth::Copy;
use super::{Daemon, script};
use crate::background::JobResult;
use member::ha::observation::Job;
use member::job_terms::JobTerms;
use std::future::Future;
use std::pin::Pin;
use std::time::Duration;

type Work = Pin<Box<dyn Future<Output = JobResult> + Send>>;

impl Daemon {
    pub(super) fn work(&self, job: &Job, terms: JobTerms) -> Work {
        let values = self.values_of(&terms.overrides);
        let mut jobs = self.server.jobs(self.member.dynamic.raw.clone(), values);
        jobs.notice = terms.event.map(|row| self.notice(row));
        jobs.terms = terms.clone();
        let plain = terms.plain_copy;
        match job.clone() {
            Job::Bootstrap => Box::pin(async move { jobs.bootstrap().await }),
            Job::Clone { from } => {
                Box::pin(async move { jobs.copy(&Copy { from: Some(from), plain }, None).await })
            }
            Job::Restore => {
                let copy = Copy { from: None, plain: false };
                Box::pin(async move { jobs.copy(&copy, None).await })
            }
            Job::StartPrimary => Box::pin(async move { jobs.start_primary().await }),
            Job::StartStandby { ref follow, .. } => {
                let (job, follow) = (job.clone(), follow.clone());
                Box::pin(async move { jobs.start_standby(&job, follow.as_ref()).await })
            }
            Job::Stop { .. } => {
                let left = self.server.left_running();
                Box::pin(async move { jobs.stop_all(left).await })
            }
            Job::Restart { as_primary } => {
                let job = job.clone();
                Box::pin(async move { jobs.restart(&job, as_primary).await })
            }
            Job::PrePromote => {
                let command = self.settings.postgresql.pre_promote.clone();
                let limit = Duration::from_millis(terms.gate_ms);
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
                Box::pin(
                    async move { jobs.rewind(&from, terms.from_primary, terms.at_least).await },
                )
            }
            Job::Rebuild { from, why } => {
                let copy = Copy { from: Some(from), plain };
                Box::pin(async move { jobs.rebuild(&copy, why, terms.system).await })
            }
        }
    }
}
