//! Making a data directory: a new cluster's, or a replica's.
//!
//! Invariant *half is not whole*: what is given up in the middle, for whatever
//! reason, is emptied or made unstartable before anybody looks at it.
//!
//! Invariant *no destruction*: nothing is removed before the source was asked
//! once more and belongs to this group's system.

use super::work::{HEARTBEAT, Hands, Unready, text};
use crate::act::citus;
use crate::background::JobResult;
use crate::config::{BootstrapMethod, ReplicaMethod, ReplicaMethods};
use crate::ha::observation::{Following, StopHow};
use crate::postgres::restored::Recovery;
use crate::postgres::{DataDirState, Error, Instance, Postmaster, Session, users};
use std::sync::Arc;
use std::time::Duration;
use topology::SystemId;

/// Tries of one base backup, and the time between them.
const TRIES: u32 = 2;
const BETWEEN_TRIES: Duration = Duration::from_secs(5);
/// How often a server that recovers is asked whether it has ended.
const RECOVERY_PACE: Duration = Duration::from_millis(500);

/// Whom to copy, and how.
#[derive(Clone, Debug)]
pub(super) struct Copy {
    pub from: Option<Following>,
    /// Only pg_basebackup: an operator wants the leader's own data.
    pub plain: bool,
}

impl Hands {
    pub async fn bootstrap(&self) -> JobResult {
        let Some(bootstrap) = &self.settings.bootstrap else {
            return Err("there is no `bootstrap` section".into());
        };
        // Somebody's data without a control file: whatever it was, it is kept.
        if self.instance.data_state().await == DataDirState::Incomplete {
            self.instance.move_data_aside().map_err(text)?;
        }
        match &bootstrap.method {
            None => {
                self.instance.initdb(bootstrap).await.map_err(text)?;
                self.start_new().await?;
                let session = self.instance.session(HEARTBEAT).await.map_err(text)?;
                self.settle(&session).await?;
                self.create_citus().await
            }
            Some(method) => self.bootstrap_by(method, &bootstrap.pg_hba).await,
        }
    }

    /// An operator's command makes the data; it is opened to nobody but us until
    /// all passwords are those of the configuration.
    async fn bootstrap_by(&self, method: &BootstrapMethod, hba: &[String]) -> JobResult {
        let made = Made::by(&self.instance, Else::MoveAside);
        tracing::info!("running bootstrap.{}.command", method.name);
        self.instance.bootstrap_by(method).await.map_err(text)?;
        self.must_be_there(&method.name).await?;
        made.keep();
        let recovery = Recovery::of(method);
        let started =
            self.instance.start_restored(recovery, hba, &self.dynamic, &self.overrides).await;
        let (postmaster, _) = started.map_err(text)?;
        let unready = Unready::of(&postmaster);
        let session = self.until_open(&postmaster).await?;
        self.settle(&session).await?;
        drop(session);
        // Nobody else could connect so far: what holds from now on is read at
        // the start.
        self.stop_fast(&postmaster).await?;
        unready.keep();
        self.instance.end_trust().map_err(text)?;
        self.start_new().await?;
        self.create_citus().await
    }

    /// Waits for the end of recovery; an operator may hold it at its target.
    async fn until_open(&self, postmaster: &Postmaster) -> Result<Session, String> {
        const IN_RECOVERY: &str = "SELECT pg_catalog.pg_is_in_recovery()";
        let mut told = false;
        loop {
            match self.instance.session(HEARTBEAT).await {
                Ok(session) => {
                    let row = session.row("recovery", IN_RECOVERY, &[]).await;
                    if row.is_ok_and(|row| row.try_get(0).is_ok_and(|recovers: bool| !recovers)) {
                        return Ok(session);
                    }
                    if !std::mem::replace(&mut told, true) {
                        tracing::info!("waiting for the end of recovery after custom bootstrap");
                    }
                }
                Err(error) if error.is_final() => return Err(text(error)),
                Err(_) => {}
            }
            if !postmaster.is_alive().map_err(text)? {
                return Err("PostgreSQL ended while it recovered; its log says why".into());
            }
            tokio::time::sleep(RECOVERY_PACE).await;
        }
    }

    /// Users, and what the operator wants done in a new cluster.
    async fn settle(&self, session: &Session) -> JobResult {
        let settings = &self.settings.postgresql;
        users::ensure_superuser(session, settings).await.map_err(text)?;
        let bootstrap = self.settings.bootstrap.as_ref();
        if let Some(command) = bootstrap.and_then(|b| b.post_bootstrap.as_ref()) {
            let done = self.instance.post_bootstrap(command).await;
            done.map_err(|error| format!("bootstrap.post_bootstrap: {}", text(error)))?;
        }
        users::ensure_others(session, settings).await.map_err(text)
    }

    async fn create_citus(&self) -> JobResult {
        match &self.settings.citus {
            Some(citus) => citus::create_database(&self.settings, &self.instance, citus).await,
            None => Ok(()),
        }
    }

    /// Fills the data directory by the first method that succeeds.
    pub async fn copy(&self, copy: &Copy) -> JobResult {
        let read = ReplicaMethods::read(&self.settings.raw, &self.dynamic);
        read.warnings.iter().for_each(|warning| tracing::warn!("{warning}"));
        let methods = match (&copy.from, copy.plain) {
            (Some(_), true) => vec![ReplicaMethod::Basebackup],
            (Some(_), false) => read.methods.clone(),
            (None, _) => read.without_source(),
        };
        let mut failed = Err("no method makes a replica without a member to copy".to_string());
        for method in &methods {
            failed = match (method, &copy.from) {
                (ReplicaMethod::Basebackup, Some(from)) => self.base_backup(from, &read).await,
                (ReplicaMethod::Basebackup, None) => continue,
                (ReplicaMethod::Custom(_), from) => self.copy_by(method, from.as_ref()).await,
            };
            match &failed {
                Ok(()) => return self.instance.forget_trigger().map_err(text),
                Err(why) => tracing::error!("no replica by {}: {why}", method.name()),
            }
        }
        failed
    }

    async fn base_backup(&self, from: &Following, read: &ReplicaMethods) -> JobResult {
        let mut tries = 1;
        loop {
            self.instance.remove_data().map_err(text)?;
            let made = Made::by(&self.instance, Else::Empty);
            let tool = self.instance.basebackup(&from.host, from.port, &read.basebackup);
            let why = match self.reading_from(from, tool).await {
                Ok(()) => {
                    made.keep();
                    return Ok(());
                }
                Err(why) => why,
            };
            if tries >= TRIES {
                return Err(why);
            }
            tries += 1;
            tracing::warn!("the base backup is tried again: {why}");
            tokio::time::sleep(BETWEEN_TRIES).await;
        }
    }

    async fn copy_by(&self, method: &ReplicaMethod, from: Option<&Following>) -> JobResult {
        let ReplicaMethod::Custom(custom) = method else { return Ok(()) };
        if !custom.keep_data {
            self.instance.remove_data().map_err(text)?;
        }
        let otherwise = if custom.keep_data { Else::Disarm } else { Else::Empty };
        let made = Made::by(&self.instance, otherwise);
        let source = from.map(|from| (from.host.as_str(), from.port));
        self.instance.copy_by(custom, source).await.map_err(text)?;
        self.must_be_there(method.name()).await?;
        made.keep();
        Ok(())
    }

    async fn must_be_there(&self, method: &str) -> JobResult {
        match self.instance.data_state().await {
            DataDirState::Valid { .. } => Ok(()),
            other => Err(format!(
                "{method} ended without an error, but {} is no data directory: {other:?}",
                self.settings.postgresql.data_dir.display()
            )),
        }
    }

    /// Only decided with a good source at hand; it is asked once more before
    /// anything is removed.
    pub async fn rebuild(&self, copy: &Copy, system: Option<SystemId>) -> JobResult {
        if let Some(from) = &copy.from {
            self.same_system(from, system).await?;
        }
        // With programs that do not run there would be no copy either.
        self.instance.catalogue().await.map_err(text)?;
        self.stop(StopHow::Immediate).await?;
        self.copy(copy).await
    }

    /// The group's own id counts, for the data here may be damaged.
    async fn same_system(&self, from: &Following, group: Option<SystemId>) -> JobResult {
        let source = self.source(from).await?;
        let sql = "SELECT system_identifier::text FROM pg_catalog.pg_control_system()";
        let row = source.row("system id", sql, &[]).await.map_err(text)?;
        let theirs: String = row.try_get(0).map_err(|e| e.to_string())?;
        let ours = match group {
            Some(system) => system,
            None => self.instance.control().await.map_err(text)?.system_id,
        };
        if ours.0 == theirs {
            return Ok(());
        }
        Err(format!(
            "{}:{} is of system {theirs}, the data here of {ours}: it is not removed",
            from.host, from.port
        ))
    }
}

/// What becomes of a data directory whose making is given up.
#[derive(Clone, Copy)]
enum Else {
    Empty,
    /// Kept for the next try of the same command, but not startable.
    Disarm,
    /// Kept for whoever wants to know why.
    MoveAside,
}

/// A data directory in the making, by this job alone.
struct Made(Option<(Arc<Instance>, Else)>);

impl Made {
    fn by(instance: &Arc<Instance>, otherwise: Else) -> Made {
        Made(Some((instance.clone(), otherwise)))
    }

    fn keep(mut self) {
        self.0 = None;
    }
}

impl Drop for Made {
    fn drop(&mut self) {
        let Some((instance, otherwise)) = self.0.take() else { return };
        let done: Result<(), Error> = match otherwise {
            Else::Empty => instance.empty_data(),
            Else::Disarm => instance.disarm_data(),
            Else::MoveAside => {
                let moved = instance.move_made_data_aside();
                moved.map(drop).or_else(|error| {
                    tracing::warn!("{error}");
                    instance.empty_data()
                })
            }
        };
        if let Err(error) = done {
            tracing::error!("what is left of an unfinished data directory: {error}");
        }
    }
}
