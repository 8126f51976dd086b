//! What can go wrong beside one PostgreSQL, named by what comes next.
//!
//! Invariant *unknown is not absent*: a file that cannot be read is an error
//! here, never "there is no such file".

use super::slot_state::BadState;
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
    #[error(
        "process {pid} was killed and is still there after {limit:?}: it waits in the kernel, most \
         likely for a disk (state D in `ps`)"
    )]
    OutlivesKill { pid: i32, limit: Duration },
    #[error("{tool} answered without a readable `{missing}`; is it of a supported version?")]
    ToolUnclear { tool: String, missing: &'static str },
    #[error("{setting} may not hold `{option}`: this daemon sets it itself; remove it")]
    ForbiddenOption { setting: &'static str, option: String },
    #[error("{address} did not accept a connection within {waited:?}")]
    Silent { address: String, waited: Duration },
    #[error("{address} is not reached")]
    Unreached { address: String, source: io::Error },
    #[error("{address} refused the connection")]
    Refused { address: String, source: tokio_postgres::Error },
    /// An attempt that is not made, since one was refused a moment ago.
    #[error("PostgreSQL is not asked again yet: {said}")]
    NotAsked { said: String, not_yet: bool, is_final: bool },
    #[error("TLS to {address} cannot be set up: {why}; check postgresql.authentication")]
    Tls { address: String, why: String },
    #[error("the server did not answer `{what}` within {waited:?}")]
    Unanswered { what: &'static str, waited: Duration },
    #[error("the server refused `{what}`")]
    Sql { what: &'static str, source: tokio_postgres::Error },
    #[error("the answer to `{what}` has no readable `{field}`")]
    Answer { what: &'static str, field: &'static str },
    #[error("the state file of the logical slot `{slot}` cannot be used")]
    SlotState {
        slot: String,
        #[source]
        why: BadState,
    },
    #[error(
        "the history of timeline {0} is not there; it may have been removed or not arrived yet"
    )]
    NoHistory(Timeline),
    #[error(
        "without a restore_command it is not known whether the archive has {0}: nothing is put \
         there, and a recovery to the latest timeline may stop at what is missing; name \
         postgresql.recovery_conf.restore_command"
    )]
    ArchiveUnknown(String),
    #[error(
        "restore_command does not bring {own}, which is archived at every promotion: whether the \
         archive has {missing} is not known, and nothing is put there"
    )]
    ArchiveSilent { own: String, missing: String },
    #[error(
        "{own}, which PostgreSQL's archiver brings to the archive, is not there yet; {missing} \
         follow when it is"
    )]
    ArchiveLate { own: String, missing: String },
    #[error(
        "archive_command replaces files that the archive has, and without a restore_command it is \
         not known whether the archive has {0}: nothing is put there, and a recovery to the \
         latest timeline may stop at what is missing; name \
         postgresql.recovery_conf.restore_command"
    )]
    ArchiveReplaces(String),
    #[error(
        "nothing was archived in the last minute, so it is not known whether the archive is in \
         reach: {0} wait until it is, or name postgresql.recovery_conf.restore_command"
    )]
    ArchiveQuiet(String),
    #[error("the history of a timeline is damaged")]
    BadHistory(#[from] topology::timeline::BadHistory),
    #[error("{} is not a data directory of PostgreSQL: {why}; it is left as it is", path.display())]
    NotOurs { path: PathBuf, why: String },
    #[error(
        "{} is not empty: nothing is put into it, and nothing is removed from it",
        .0.display()
    )]
    NotEmpty(PathBuf),
    #[error(
        "{setting} names {}, which is not there and cannot be made; as root: `{command}`, and for \
         a directory that a reboot takes away a line in /etc/tmpfiles.d",
        dir.display()
    )]
    NoDirectory { setting: &'static str, dir: PathBuf, command: String, source: io::Error },
    #[error("{address} is of system {theirs}, the data here of {ours}: it is not touched")]
    OtherSystem { address: String, theirs: String, ours: String },
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
    /// In one sentence with everything that led to it.
    pub fn with_causes(&self) -> String {
        let mut text = self.to_string();
        let mut source = std::error::Error::source(self);
        while let Some(cause) = source {
            text.push_str(&format!(": {cause}"));
            source = cause.source();
        }
        text
    }

    /// Asking again does not help: the server is up and says no.
    pub fn is_final(&self) -> bool {
        if let Error::NotAsked { is_final, .. } = self {
            return *is_final;
        }
        let Error::Refused { source, .. } = self else { return false };
        let refusals = [
            SqlState::INVALID_AUTHORIZATION_SPECIFICATION,
            SqlState::INVALID_PASSWORD,
            SqlState::INVALID_CATALOG_NAME,
        ];
        source.code().is_some_and(|code| refusals.contains(code))
    }

    /// The server is up and takes no connections yet, or no more.
    pub fn says_not_yet(&self) -> bool {
        match self {
            Error::NotAsked { not_yet, .. } => *not_yet,
            _ => self.code() == Some(&SqlState::CANNOT_CONNECT_NOW),
        }
    }

    /// The server is there and took no connection: a FATAL line in its log.
    pub fn is_refusal(&self) -> bool {
        match self {
            Error::Refused { source, .. } => source.code().is_some(),
            Error::NotAsked { .. } => true,
            _ => false,
        }
    }

    /// No server answered: nothing listens, or what listens sends no answer.
    pub fn is_no_answer(&self) -> bool {
        match self {
            Error::Refused { source, .. } => source.code().is_none(),
            Error::Silent { .. } => true,
            _ => false,
        }
    }

    /// No connection came to be: nothing listens there, or there is no way to it.
    pub fn is_of_the_way(&self) -> bool {
        matches!(self, Error::Unreached { .. })
    }

    /// A connection that was lost may have been lost long ago. A server that took
    /// too long would take as long once more, and one that refuses says it again.
    pub fn is_worth_another_try(&self) -> bool {
        let ended = [SqlState::ADMIN_SHUTDOWN, SqlState::CRASH_SHUTDOWN];
        match self {
            Error::Sql { source, .. } => match source.code() {
                Some(code) => ended.contains(code),
                None => true,
            },
            _ => false,
        }
    }

    fn code(&self) -> Option<&SqlState> {
        match self {
            Error::Refused { source, .. } | Error::Sql { source, .. } => source.code(),
            _ => None,
        }
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
    let bytes = bytes_if_there(path)?;
    Ok(bytes.map(|bytes| String::from_utf8_lossy(&bytes).into_owned()))
}

/// The same as it is: files that are written again may be in any encoding.
pub(super) fn bytes_if_there(path: &Path) -> Result<Option<Vec<u8>>, Error> {
    match std::fs::read(path) {
        Ok(bytes) => Ok(Some(bytes)),
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

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;
    use tokio_postgres::NoTls;

    /// What a client gets from a server that says no with this code.
    async fn said(code: &str) -> tokio_postgres::Error {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let fields = format!("SFATAL\0VFATAL\0C{code}\0Mno\0\0");
        tokio::spawn(async move {
            let (mut client, _) = listener.accept().await.unwrap();
            let _ = client.read(&mut [0; 512]).await;
            let length = (fields.len() as u32 + 4).to_be_bytes();
            let answer = [&b"E"[..], &length, fields.as_bytes()].concat();
            let _ = client.write_all(&answer).await;
        });
        let target = format!("host=127.0.0.1 port={port} user=x connect_timeout=5");
        tokio_postgres::connect(&target, NoTls).await.err().expect("it says no")
    }

    async fn refused(code: &str) -> Error {
        Error::Refused { address: "here".into(), source: said(code).await }
    }

    async fn failed(code: &str) -> Error {
        Error::Sql { what: "it", source: said(code).await }
    }

    #[tokio::test]
    async fn a_server_that_starts_is_told_from_one_that_is_full_and_one_that_is_not_there() {
        let starting = refused("57P03").await;
        assert!(starting.says_not_yet() && !starting.is_no_answer() && !starting.is_final());
        let full = refused("53300").await;
        assert!(!full.says_not_yet() && !full.is_no_answer() && !full.is_final());
        let wrong = refused("28P01").await;
        assert!(!wrong.says_not_yet() && wrong.is_final());
        let unserved = tokio_postgres::connect("host=127.0.0.1 port=1 user=x", NoTls).await;
        let source = unserved.err().expect("no server listens there");
        let refused = Error::Refused { address: "here".into(), source };
        assert!(refused.is_no_answer() && !refused.says_not_yet());
    }

    #[tokio::test]
    async fn only_a_lost_connection_is_asked_again_at_once() {
        assert!(failed("57P01").await.is_worth_another_try(), "the session was ended");
        assert!(!failed("57014").await.is_worth_another_try(), "statement_timeout");
        assert!(!failed("42501").await.is_worth_another_try(), "not permitted");
        let late = Error::Unanswered { what: "it", waited: Duration::from_secs(3) };
        assert!(!late.is_worth_another_try());
        assert!(!refused("57P03").await.is_worth_another_try());
    }
}
