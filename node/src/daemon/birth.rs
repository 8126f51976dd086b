//! Making a data directory: a new cluster's, or a replica's.
//!
//! Invariant *no destruction*: only a directory without files is filled, or the half
//! that this daemon has left under its mark. Anything else takes a permission, which
//! is given after the source was asked once more and belongs to this group's system.

use super::filling::{Else, Filling};
use super::silent_source::{ReadError, reading_from};
use super::work::{HEARTBEAT, ServerJobs, Unready, text};
use crate::act::citus;
use crate::background::JobResult;
use crate::config::{BootstrapMethod, ReplicaMethod, ReplicaMethods};
use crate::postgres::restored::Recovery;
use crate::postgres::{DataDirState, Permission, Postmaster, ProvenSource, Session, users};
use member::ha::observation::{Following, Rebuild};
use std::time::Duration;
use topology::SystemId;

/// Tries of one base backup, and the time between them.
const TRIES: u32 = 2;
const BETWEEN_TRIES: Duration = Duration::from_secs(5);
/// How often a server that recovers is asked whether it has ended.
const RECOVERY_PACE: Duration = Duration::from_millis(500);

/// Which server to copy, and how.
#[derive(Clone, Debug)]
pub(super) struct Copy {
    pub from: Option<Following>,
    /// Only pg_basebackup: an operator wants the leader's own data.
    pub plain: bool,
}

impl ServerJobs {
    pub(super) async fn bootstrap(&self) -> JobResult {
        let Some(bootstrap) = &self.settings.bootstrap else {
            return Err("there is no `bootstrap` section".into());
        };
        match &bootstrap.method {
            None => {
                let filling = self.fill("initdb", None, Else::MoveAside)?;
                self.clear(None)?;
                filling.run(self.instance.initdb(bootstrap)).await.map_err(text)?;
                filling.finish()?;
                self.start_new().await?;
                let session = self.instance.session(HEARTBEAT).await.map_err(text)?;
                self.settle(&session).await?;
                self.create_citus().await
            }
            Some(method) => self.bootstrap_by(method, &bootstrap.pg_hba).await,
        }
    }

    /// An operator's command makes the data; only the daemon's own users, on this machine,
    /// may connect until all passwords are those of the configuration.
    async fn bootstrap_by(&self, method: &BootstrapMethod, hba: &[String]) -> JobResult {
        let filling = self.fill(&method.name, None, Else::MoveAside)?;
        self.clear(None)?;
        tracing::info!("running bootstrap.{}.command", method.name);
        filling.run(self.instance.bootstrap_by(method)).await.map_err(text)?;
        self.must_be_there(&method.name).await?;
        filling.finish()?;
        let recovery = Recovery::of(method);
        let started =
            self.instance.start_restored(recovery, hba, &self.dynamic, &self.overrides).await;
        let (postmaster, _) = started.map_err(text)?;
        let unready = Unready::of(&postmaster);
        let session = self.until_open(&postmaster).await?;
        self.settle(&session).await?;
        drop(session);
        // No other client could connect so far: the settings that hold from now
        // on are read at the start.
        self.stop_server(&postmaster).await?;
        unready.keep();
        self.instance.end_trust().map_err(text)?;
        self.start_new().await?;
        self.create_citus().await
    }

    /// Waits for the end of recovery; an operator may hold it at its target.
    async fn until_open(&self, postmaster: &Postmaster) -> Result<Session, String> {
        let mut told = false;
        loop {
            match self.instance.session(HEARTBEAT).await {
                Ok(session) => {
                    if session.is_in_recovery().await.is_ok_and(|recovers| !recovers) {
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
            Some(citus) => citus::create_databases(&self.settings, &self.instance, citus).await,
            None => Ok(()),
        }
    }

    /// Fills the data directory by the first method that succeeds. `over`: what is
    /// in it may be replaced.
    pub(super) async fn copy(&self, copy: &Copy, over: Option<&Permission>) -> JobResult {
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
                (ReplicaMethod::Basebackup, Some(from)) => {
                    self.base_backup(from, &read, over).await
                }
                (ReplicaMethod::Basebackup, None) => continue,
                (ReplicaMethod::Custom(_), from) => self.copy_by(method, from.as_ref(), over).await,
            };
            match &failed {
                Ok(()) => return self.instance.forget_trigger().map_err(text),
                Err(why) => tracing::error!("no replica by {}: {why}", method.name()),
            }
        }
        failed
    }

    async fn base_backup(
        &self,
        from: &Following,
        read: &ReplicaMethods,
        over: Option<&Permission>,
    ) -> JobResult {
        let mut tries = 1;
        loop {
            let what = format!("a base backup of {}:{}", from.host, from.port);
            let filling = self.fill(&what, over, Else::Empty)?;
            self.clear(over)?;
            let tool = self.instance.basebackup(&from.host, from.port, &read.basebackup);
            let why = match filling.run(reading_from(&self.instance, from, tool)).await {
                Ok(()) => return filling.finish(),
                Err(ReadError::Silent(why)) => return Err(why),
                Err(ReadError::Tool(why)) => why,
            };
            drop(filling);
            if tries >= TRIES {
                return Err(why);
            }
            tries += 1;
            tracing::warn!("the base backup is tried again: {why}");
            tokio::time::sleep(BETWEEN_TRIES).await;
        }
    }

    async fn copy_by(
        &self,
        method: &ReplicaMethod,
        from: Option<&Following>,
        over: Option<&Permission>,
    ) -> JobResult {
        let ReplicaMethod::Custom(custom) = method else { return Ok(()) };
        let otherwise = if custom.keep_data { Else::Keep } else { Else::Empty };
        let filling = self.fill(method.name(), over, otherwise)?;
        if !custom.keep_data {
            self.clear(over)?;
        }
        let source = from.map(|from| (from.host.as_str(), from.port));
        filling.run(self.instance.copy_by(custom, source)).await.map_err(text)?;
        self.must_be_there(method.name()).await?;
        filling.finish()
    }

    /// Marks the data directory as half made. It is empty, or holds what `over`
    /// or an own mark permits to replace.
    fn fill(
        &self,
        what: &str,
        over: Option<&Permission>,
        otherwise: Else,
    ) -> Result<Filling, String> {
        let own = self.own_half()?;
        Filling::begin(&self.instance, what, over.or(own.as_ref()), otherwise)
    }

    /// Empties the directory that was just marked.
    fn clear(&self, over: Option<&Permission>) -> JobResult {
        let own = self.own_half()?;
        match over.or(own.as_ref()) {
            Some(permission) => self.instance.remove_data(permission).map_err(text),
            None => Ok(()),
        }
    }

    /// Of what this daemon has left in the directory under its mark.
    fn own_half(&self) -> Result<Option<Permission>, String> {
        let data_dir = &self.settings.postgresql.data_dir;
        let Some(mark) = self.instance.fill_mark().map_err(text)? else { return Ok(None) };
        let is_ours = mark.is_of(data_dir).map_err(text)?;
        Ok(is_ours.then(|| Permission::own_half(&mark)))
    }

    async fn must_be_there(&self, method: &str) -> JobResult {
        match self.instance.content_state().await {
            DataDirState::Valid { .. } => Ok(()),
            other => Err(format!(
                "{method} ended without an error, but {} is no data directory: {other:?}",
                self.settings.postgresql.data_dir.display()
            )),
        }
    }

    /// Only decided with a good source at hand; it is asked once more before
    /// anything is removed.
    pub(super) async fn rebuild(
        &self,
        copy: &Copy,
        why: Rebuild,
        system: Option<SystemId>,
    ) -> JobResult {
        let from = copy.from.as_ref().ok_or("there is no member to copy")?;
        let session = self.source(from).await?;
        let source = self.proven(&session, from, system).await?;
        let permission = match why {
            Rebuild::Asked | Rebuild::AskedFromLeader => Permission::asked(source),
            Rebuild::Diverged => Permission::by_setting(source),
        };
        drop(session);
        self.can_stream_from(from).await?;
        // With programs that do not run there would be no copy either.
        self.instance.catalogue().await.map_err(text)?;
        self.stop().await?;
        self.copy(copy, Some(&permission)).await
    }

    /// A copy that could not follow its source is worse than the data that are here.
    async fn can_stream_from(&self, from: &Following) -> JobResult {
        let asked = self.instance.peer_history(&from.host, from.port).await;
        asked.map(drop).map_err(|error| {
            format!("nothing is removed, for the copy could not stream: {}", text(error))
        })
    }

    /// The group's own id counts, for the data here may be damaged.
    pub(super) async fn proven(
        &self,
        session: &Session,
        from: &Following,
        group: Option<SystemId>,
    ) -> Result<ProvenSource, String> {
        let ours = match group {
            Some(system) => system,
            None => self.instance.control().await.map_err(text)?.system_id,
        };
        let address = format!("{}:{}", from.host, from.port);
        ProvenSource::ask(session, address, &ours).await.map_err(text)
    }
}
