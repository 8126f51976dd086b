//! What can go wrong beside one PostgreSQL, named by what comes next.
//!
//! Invariant *unknown is not absent*: a file that cannot be read is an error
//! here, never "there is no such file".

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;
use tokio_postgres::error::SqlState;
use topology::Timeline;

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("cannot {what} {}; check its owner, its mode and the free space", path.display())]
    File { what: &'static str, path: PathBuf, source: io::Error },
    #[error("`{command}` is no command: a quote is not closed, or it is empty")]
    NoWords { command: String },
    #[error("{} cannot be started; check its path, its mode and postgresql.bin_dir", tool.display())]
    NoTool { tool: PathBuf, source: io::Error },
    #[error("{tool} failed ({status}): {stderr}")]
    ToolFailed { tool: String, status: String, stderr: String },
    #[error("{tool} was not done after {limit:?} and was ended")]
    ToolTooSlow { tool: String, limit: Duration },
    #[error("{tool} answered without a readable `{missing}`; is it of a supported version?")]
    ToolUnclear { tool: String, missing: &'static str },
    #[error("{setting} may not hold `{option}`: this daemon sets it itself; remove it")]
    ForbiddenOption { setting: &'static str, option: String },
    #[error("{address} did not accept a connection within {waited:?}")]
    Silent { address: String, waited: Duration },
    #[error("{address} refused the connection")]
    Refused { address: String, source: tokio_postgres::Error },
    #[error("TLS to {address} cannot be set up: {why}; check postgresql.authentication")]
    Tls { address: String, why: String },
    #[error("the server did not answer `{what}` within {waited:?}")]
    Unanswered { what: &'static str, waited: Duration },
    #[error("the server refused `{what}`")]
    Sql { what: &'static str, source: tokio_postgres::Error },
    #[error("the answer to `{what}` has no readable `{field}`")]
    Answer { what: &'static str, field: &'static str },
    #[error(
        "the history of timeline {0} is not there; it may have been removed or not arrived yet"
    )]
    NoHistory(Timeline),
    #[error("the history of a timeline is damaged")]
    BadHistory(#[from] topology::timeline::BadHistory),
    #[error("{} is not a data directory of PostgreSQL: {why}; it is left as it is", path.display())]
    NotOurs { path: PathBuf, why: String },
    #[error("the postmaster {pid} cannot be signalled; does it run as another user?")]
    Signal { pid: i32, source: nix::Error },
    #[error(
        "{} begins an unfinished backup: crash recovery without it would damage the data",
        .0.display()
    )]
    UnfinishedBackup(PathBuf),
    #[error(
        "{} is of a PostgreSQL before 12 and no newer one starts beside it; have the tool write \
         recovery.signal and its settings into postgresql.auto.conf, or write them as \
         recovery_conf of the bootstrap method",
        .0.display()
    )]
    OldRecoveryConf(PathBuf),
    #[error(
        "PostgreSQL {major} is not supported, {oldest} and newer are; set postgresql.bin_dir to \
         the programs of such a one, after pg_upgrade if there are data"
    )]
    TooOld { major: u32, oldest: u32 },
    #[error(
        "a rewind of this data directory did not come to its end and it must not be started; \
         if it was put right by hand, remove {}",
        .0.display()
    )]
    HalfRewound(PathBuf),
    #[error("pg_rewind (pid {0}) of an earlier daemon goes on in the data directory: waiting")]
    StillRewinding(i32),
    #[error("PostgreSQL ended while it was starting; its log says why")]
    EndedAtStart,
    #[error("a postmaster (pid {0}) runs already in this data directory")]
    AlreadyRuns(i32),
}

impl Error {
    /// Asking again does not help: the server is up and says no.
    pub fn is_final(&self) -> bool {
        let Error::Refused { source, .. } = self else { return false };
        let refusals = [
            SqlState::INVALID_AUTHORIZATION_SPECIFICATION,
            SqlState::INVALID_PASSWORD,
            SqlState::INVALID_CATALOG_NAME,
        ];
        source.code().is_some_and(|code| refusals.contains(code))
    }

    pub(super) fn file(what: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Error {
        let path = path.to_path_buf();
        move |source| Error::File { what, path, source }
    }

    pub(super) fn sql(what: &'static str) -> impl FnOnce(tokio_postgres::Error) -> Error {
        move |source| Error::Sql { what, source }
    }
}

/// Reads a file that may be absent; any other failure is an error.
pub(super) fn read_if_there(path: &Path) -> Result<Option<String>, Error> {
    match std::fs::read(path) {
        Ok(bytes) => Ok(Some(String::from_utf8_lossy(&bytes).into_owned())),
        Err(source) if source.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(source) => Err(Error::file("read", path)(source)),
    }
}

/// Removes a file that may be absent.
pub(super) fn remove_if_there(path: &Path) -> Result<(), Error> {
    match std::fs::remove_file(path) {
        Err(source) if source.kind() != io::ErrorKind::NotFound => {
            Err(Error::file("remove", path)(source))
        }
        _ => Ok(()),
    }
}
