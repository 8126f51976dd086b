//! What one instance does with its data directory: looking at it, filling it, and
//! taking away what may be taken away.
//!
//! Invariants: nothing here is done while a server runs on it; a mark decides what is
//! half made (`fill_mark.rs`); whatever removes or renames demands a `Permission`.

use super::permission::Permission;
use super::{
    ControlData, DataDirState, Error, Instance, Postmaster, controldata, data_dir, error,
    fill_mark, process, procfs, rewind_mark, tools,
};
use std::path::PathBuf;

impl Instance {
    pub async fn control(&self) -> Result<ControlData, Error> {
        controldata::read(&self.settings.tool("pg_controldata"), &self.settings.data_dir).await
    }

    /// A mark decides before anything that is in the directory does.
    pub async fn data_state(&self) -> DataDirState {
        match self.marked_state() {
            Ok(Some(state)) => state,
            Ok(None) => self.content_state().await,
            Err(error) => DataDirState::Unreadable(error.with_causes()),
        }
    }

    fn marked_state(&self) -> Result<Option<DataDirState>, Error> {
        let data_dir = &self.settings.data_dir;
        let Some(mark) = fill_mark::find(&self.settings)? else { return Ok(None) };
        if data_dir::is_nothing(data_dir)? {
            return Ok(None);
        }
        if mark.is_of(data_dir)? {
            return Ok(Some(DataDirState::Half(mark.what)));
        }
        Ok(Some(DataDirState::Unreadable(format!(
            "{} says that its filling was begun ({}), but its files are another program's; if \
             they are good, remove that mark",
            mark.path.display(),
            mark.what
        ))))
    }

    /// What is in the directory, whatever a mark says.
    pub async fn content_state(&self) -> DataDirState {
        if let Some(theirs) = data_dir::major_of(&self.settings.data_dir)
            && let Ok(ours) = self.catalogue().await.map(|catalogue| catalogue.major)
            && theirs != ours
        {
            return DataDirState::OtherVersion { theirs, ours };
        }
        data_dir::state(&self.settings.tool("pg_controldata"), &self.settings.data_dir).await
    }

    /// The mark of a filling that did not come to its end.
    pub fn fill_mark(&self) -> Result<Option<fill_mark::FillMark>, Error> {
        fill_mark::find(&self.settings)
    }

    /// Marks the data directory as half made before it is changed. One that is not
    /// empty takes a permission.
    pub fn begin_fill(&self, what: &str, over: Option<&Permission>) -> Result<(), Error> {
        self.refuse_running()?;
        let data_dir = &self.settings.data_dir;
        match over {
            None if !data_dir::is_nothing(data_dir)? => Err(Error::NotEmpty(data_dir.clone())),
            None => fill_mark::set(&self.settings, what),
            Some(permission) => fill_mark::set(&self.settings, &format!("{what}: {permission}")),
        }
    }

    /// What a tool has put there by now is remembered as this daemon's work.
    pub fn note_fill(&self) -> Result<(), Error> {
        fill_mark::note(&self.settings)
    }

    /// The data directory is complete, or empty again. A complete one was not
    /// rewound half way any more.
    pub fn end_fill(&self) -> Result<(), Error> {
        rewind_mark::clear(&self.settings)?;
        fill_mark::clear(&self.settings)
    }

    /// A program that is not PostgreSQL and writes where its data lie.
    pub fn other_writer(&self) -> Option<String> {
        if !matches!(rewind_mark::find(&self.settings), Ok(None)) {
            // A rewind is known by its mark.
            return None;
        }
        let place = |name: &str| self.settings.data_dir.join(name);
        procfs::writer_below(&["base", "global", "pg_wal", "pg_tblspc"].map(place))
    }

    /// A server that runs on it shows that a person has put the directory right.
    pub fn forget_fill_of_running(&self) -> Result<(), Error> {
        let Some(mark) = self.fill_mark()? else { return Ok(()) };
        if self.postmaster()?.is_none() {
            return Ok(());
        }
        tracing::warn!("{} is removed: a server runs on the data directory", mark.path.display());
        fill_mark::clear(&self.settings)
    }

    /// Refused while a server runs on it or when it is not PostgreSQL's.
    pub fn remove_data(&self, permission: &Permission) -> Result<(), Error> {
        self.refuse_running()?;
        data_dir::remove(&self.settings.data_dir, permission)
    }

    pub fn move_data_aside(&self, permission: &Permission) -> Result<PathBuf, Error> {
        self.refuse_running()?;
        data_dir::move_aside(&self.settings.data_dir, permission)
    }

    /// Ends what a killed daemon left filling this data directory: only where the
    /// mark says that something was. A helper that a command left behind when it
    /// was done has the variable too.
    pub async fn end_leftover_fillers(&self) -> Result<bool, Error> {
        let data_dir = &self.settings.data_dir;
        if self.fill_mark()?.is_none() || self.postmaster()?.is_some() {
            return Ok(false);
        }
        let fillers = || procfs::with_variable(tools::FILLS, data_dir);
        if fillers().is_empty() {
            return Ok(false);
        }
        process::kill_until_gone(fillers).await;
        Ok(true)
    }

    /// Empties the data directory, in which this daemon has been at work.
    pub fn empty_data(&self, permission: &Permission) -> Result<(), Error> {
        self.refuse_running()?;
        data_dir::empty(&self.settings.data_dir, permission)
    }

    /// An empty one that anybody may read: PostgreSQL would not start on it.
    pub fn close_empty(&self) -> Result<(), Error> {
        let data_dir = &self.settings.data_dir;
        if data_dir::is_nothing(data_dir)? { data_dir::close(data_dir) } else { Ok(()) }
    }

    /// A request to leave recovery that came with a copy is not ours.
    pub fn forget_trigger(&self) -> Result<(), Error> {
        error::remove_if_there(&self.settings.data_dir.join("promote"))
    }

    /// Of what an operator's command left in an empty data directory.
    pub fn move_made_data_aside(&self, permission: &Permission) -> Result<PathBuf, Error> {
        self.refuse_running()?;
        data_dir::move_made_aside(&self.settings.data_dir, permission)
    }

    /// The data directory is ours alone: no server runs on it.
    pub(super) fn refuse_running(&self) -> Result<(), Error> {
        Postmaster::clear_stale(&self.settings.data_dir, &self.settings.tool("postgres"))
    }
}
