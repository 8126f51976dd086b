//! The files of a running server: settings, upstream, passwords, the copy of the
//! dynamic configuration.
//!
//! Invariant: PostgreSQL reloads its files only when a value in them differs from the
//! one in force, or when the caller asks for a reload.

use super::Server;
use crate::daemon::cache;
use crate::daemon::running::following;
use crate::daemon::work::upstream;
use crate::postgres::Written;
use crate::postgres::difference::FilesRead;
use member::ha::observation::Following;
use member::role::Role;
use member::{Configurations, Reload};
use serde_json::Value;
use topology::Dynamic;

impl Server {
    /// The dynamic configuration before the store is read: the copy in the
    /// data directory, else what a new cluster would begin with.
    pub(crate) fn first_dynamic(&self) -> Dynamic {
        let data_dir = &self.settings.postgresql.data_dir;
        let configurations = Configurations {
            kept: cache::read(data_dir),
            own: self.settings.bootstrap.as_ref().map(|b| b.dcs.clone()),
            is_backup: data_dir.join("backup_label").is_file(),
        };
        let (dynamic, refused) = configurations.first(cache::NAME, self.settings.minimum_ttl());
        refused.iter().for_each(|why| tracing::error!("{why}"));
        dynamic
    }

    pub(crate) async fn follow(
        &mut self,
        upstream: Option<&Following>,
        dynamic: &Value,
        overrides: &[(String, String)],
    ) -> Result<(), String> {
        let jobs = self.jobs(dynamic.clone(), overrides.to_vec());
        jobs.rewrite(upstream).await?;
        let postmaster = self.postmaster.as_ref().ok_or("PostgreSQL does not run")?;
        postmaster.reload().map_err(|e| e.to_string())
    }

    /// As what it runs, for settings that depend on it.
    pub(crate) fn role(&self, dynamic: &Value) -> Option<Role> {
        let monitor = self.monitor.as_ref()?;
        if !monitor.status.in_recovery {
            return Some(Role::Primary);
        }
        let remote = following(monitor).is_some_and(|from| upstream(&from, dynamic).remote);
        Some(if remote { Role::StandbyLeader } else { Role::Replica })
    }

    /// Rewrites the files for the role it has. True: the server was told to
    /// read them, because something in them is another value.
    pub(crate) async fn apply_settings(
        &mut self,
        dynamic: &Value,
        overrides: &[(String, String)],
        reload: Reload,
    ) -> Result<bool, String> {
        let Some(monitor) = &self.monitor else { return Ok(false) };
        let read = self.files_read().await;
        let jobs = self.jobs(dynamic.clone(), overrides.to_vec());
        let written = if monitor.status.in_recovery {
            let follows = following(monitor);
            jobs.rewrite(follows.as_ref()).await?
        } else {
            jobs.rewrite_primary().await?
        };
        if !(self.is_another(&written, read).await || reload == Reload::Always) {
            return Ok(false);
        }
        let postmaster = self.postmaster.as_ref().ok_or("PostgreSQL does not run")?;
        postmaster.reload().map_err(|e| e.to_string())?;
        Ok(true)
    }

    /// Writes the files with other names of synchronous standbys, and has the
    /// server read them.
    pub(crate) async fn rename_sync(
        &mut self,
        dynamic: &Value,
        overrides: &[(String, String)],
    ) -> Result<(), String> {
        match self.apply_settings(dynamic, overrides, Reload::Always).await? {
            true => Ok(()),
            false => Err("PostgreSQL does not answer".into()),
        }
    }

    /// Writes the password file of a standby again, in case it was removed.
    pub(crate) fn keep_pgpass(&self, dynamic: &Value) -> Result<(), String> {
        let follows = self.monitor.as_ref().filter(|monitor| monitor.status.in_recovery);
        let Some(from) = follows.and_then(following) else { return Ok(()) };
        let kept = self.instance.keep_pgpass(&upstream(&from, dynamic));
        kept.map_err(|error| error.with_causes())
    }

    /// `None`: not known.
    async fn files_read(&self) -> Option<FilesRead> {
        FilesRead::of(self.session.as_ref()?).await.ok()
    }

    /// Do the files say something else than the server has in force?
    async fn is_another(&self, written: &Written, read: Option<FilesRead>) -> bool {
        let (true, Some(session), Some(read)) = (written.changed, &self.session, read) else {
            return written.changed;
        };
        match read.changes(session, &written.effective.parameters).await {
            Ok(Some(changes)) => {
                changes.iter().for_each(|change| tracing::info!("{change}"));
                written.beside_values || !changes.is_empty()
            }
            Ok(None) => true,
            Err(error) => {
                tracing::warn!("what the new settings change is not known: {error}");
                true
            }
        }
    }

    /// The copy that a restarted daemon begins with.
    pub(crate) fn save_dynamic(&self, dynamic: &Value) -> Result<(), String> {
        let written = cache::write(&self.settings.postgresql.data_dir, dynamic);
        written.map_err(|error| format!("{} cannot be written: {error}", cache::NAME))
    }
}
