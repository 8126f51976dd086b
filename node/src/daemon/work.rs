//! What the jobs do to PostgreSQL, step by step.
//!
//! Everything here may take long and may be dropped at any await: programs die
//! with the future, and the next beat sees what is there.

use crate::act::citus;
use crate::background::JobResult;
use crate::config::Settings;
use crate::ha::observation::{Following, StopHow};
use crate::postgres::process::{Postmaster, StopMode};
use crate::postgres::recovery::Upstream;
use crate::postgres::session::{Session, Target};
use crate::postgres::{Error, Instance, StartAs, data_dir, users};
use serde_json::Value;
use std::sync::Arc;
use std::time::Duration;

/// Between two looks at a server that starts.
const POLL: Duration = Duration::from_millis(10);
/// After SIGQUIT, before SIGKILL.
const QUIT: Duration = Duration::from_secs(5);
const CHECKPOINT: Duration = Duration::from_secs(600);
const SCRIPT: Duration = Duration::from_secs(60);

#[derive(Clone)]
pub(super) struct Hands {
    pub settings: Arc<Settings>,
    pub instance: Arc<Instance>,
    pub dynamic: Value,
    pub overrides: Vec<(String, String)>,
}

fn text(error: Error) -> String {
    let mut text = error.to_string();
    let mut source = std::error::Error::source(&error);
    while let Some(cause) = source {
        text.push_str(&format!(": {cause}"));
        source = cause.source();
    }
    text
}

impl Hands {
    pub async fn bootstrap(&self) -> JobResult {
        let Some(bootstrap) = &self.settings.bootstrap else {
            return Err("there is no `bootstrap` section".into());
        };
        self.instance.initdb(bootstrap).await.map_err(text)?;
        self.start_primary().await?;
        let session = self.session("bootstrap").await.map_err(text)?;
        users::ensure_all(&session, &self.settings.postgresql).await.map_err(text)?;
        if let Some(citus) = &self.settings.citus {
            citus::create_database(&self.settings, citus).await?;
        }
        if let Some(command) = &bootstrap.post_bootstrap {
            self.instance.run_script(command, SCRIPT).await.map_err(text)?;
        }
        Ok(())
    }

    pub async fn clone_from(&self, from: &Following) -> JobResult {
        self.instance.clone_from(&upstream(from)).await.map_err(text)
    }

    pub async fn start_primary(&self) -> JobResult {
        self.start(StartAs::Primary).await
    }

    pub async fn start_standby(&self, follow: Option<&Following>) -> JobResult {
        self.start(StartAs::Standby { upstream: follow.map(upstream) }).await
    }

    /// Starts and waits until connections are accepted (or it has ended).
    async fn start(&self, role: StartAs) -> JobResult {
        let postmaster =
            self.instance.start(role, &self.dynamic, &self.overrides).await.map_err(text)?;
        loop {
            match self.session("start").await {
                Ok(_) => return Ok(()),
                Err(error) if !postmaster.is_alive().map_err(text)? => {
                    return Err(format!("PostgreSQL ended while it was starting: {}", text(error)));
                }
                Err(_) => tokio::time::sleep(POLL).await,
            }
        }
    }

    async fn session(&self, _for_what: &str) -> Result<Session, Error> {
        Session::connect(&self.instance.target("Patroni heartbeat")).await
    }

    pub async fn stop(&self, how: StopHow) -> JobResult {
        let Some(postmaster) = self.instance.postmaster().map_err(text)? else { return Ok(()) };
        if how == StopHow::Planned {
            self.checkpoint().await;
        }
        if how != StopHow::Immediate
            && let Some(command) = &self.settings.postgresql.before_stop
            && let Err(why) = self.instance.run_script(command, SCRIPT).await
        {
            tracing::warn!("before_stop: {why}");
        }
        match how {
            StopHow::Planned | StopHow::Fast => self.stop_fast(&postmaster).await,
            StopHow::Immediate => self.stop_hard(&postmaster).await,
        }
    }

    /// While clients still write: what is left for the shutdown is short.
    async fn checkpoint(&self) {
        let Ok(session) = self.session("checkpoint").await else { return };
        if let Err(error) = session.execute_long("checkpoint", "CHECKPOINT", CHECKPOINT).await {
            tracing::warn!("the checkpoint before the stop: {error}");
        }
    }

    async fn stop_fast(&self, postmaster: &Postmaster) -> JobResult {
        postmaster.stop(StopMode::Fast).map_err(text)?;
        postmaster.wait_exit().await;
        Ok(())
    }

    async fn stop_hard(&self, postmaster: &Postmaster) -> JobResult {
        postmaster.stop(StopMode::Immediate).map_err(text)?;
        if tokio::time::timeout(QUIT, postmaster.wait_exit()).await.is_err() {
            postmaster.kill_all().map_err(text)?;
            postmaster.wait_exit().await;
        }
        Ok(())
    }

    /// Rewinds against a primary whose control file knows its timeline.
    pub async fn rewind(&self, from: &Following) -> JobResult {
        let pg = &self.settings.postgresql;
        let target =
            Target::new(&from.host, from.port, &pg.rewind, &pg.database, "Patroni heartbeat");
        let source = Session::connect(&target).await.map_err(text)?;
        source.execute_long("checkpoint", "CHECKPOINT", CHECKPOINT).await.map_err(text)?;
        drop(source);
        self.instance.rewind(&upstream(from)).await.map_err(text)
    }

    /// Only decided with a good source at hand; it is asked once more before
    /// anything is removed.
    pub async fn rebuild(&self, from: &Following) -> JobResult {
        self.same_system(from).await?;
        self.stop(StopHow::Immediate).await?;
        data_dir::remove(&self.settings.postgresql.data_dir).map_err(text)?;
        self.clone_from(from).await
    }

    async fn same_system(&self, from: &Following) -> JobResult {
        let pg = &self.settings.postgresql;
        let target =
            Target::new(&from.host, from.port, &pg.rewind, &pg.database, "Patroni heartbeat");
        let source = Session::connect(&target).await.map_err(text)?;
        let sql = "SELECT system_identifier::text FROM pg_control_system()";
        let row = source.row("system id", sql, &[]).await.map_err(text)?;
        let theirs: String = row.try_get(0).map_err(|e| e.to_string())?;
        let ours = self.instance.control_data().await.map_err(text)?.system_id;
        if ours.0 == theirs {
            return Ok(());
        }
        Err(format!(
            "{}:{} is of system {theirs}, the data here of {ours}: it is not removed",
            from.host, from.port
        ))
    }

    pub async fn rewrite(&self, follow: Option<&Following>) -> JobResult {
        let role = StartAs::Standby { upstream: follow.map(upstream) };
        self.instance.write_config(&role, &self.dynamic, &self.overrides).await.map_err(text)
    }

    pub async fn rewrite_primary(&self) -> JobResult {
        let role = StartAs::Primary;
        self.instance.write_config(&role, &self.dynamic, &self.overrides).await.map_err(text)
    }
}

fn upstream(from: &Following) -> Upstream {
    let remote = from.slot.as_deref().is_some_and(|s| s.starts_with("region_"));
    Upstream { host: from.host.clone(), port: from.port, slot: from.slot.clone(), remote }
}
