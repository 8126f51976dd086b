//! PostgreSQL's programs: initdb, pg_basebackup, pg_rewind, single-user
//! recovery, pg_waldump.
//!
//! Each future owns its program: dropping it kills the program with everything
//! it started (`run.rs`).
//!
//! Absent on purpose: when to run which, and clearing the data directory
//! before or after (`data_dir.rs`).

use super::conninfo::Conninfo;
use super::error::{Error, read_if_there};
use super::files::{Places, SecretFile, append_hba, pgpass_lines, set_standby};
use super::run::run;
use crate::config::{Bootstrap, Login, Postgresql, ToolOption};
use std::path::PathBuf;
use std::time::Duration;
use tokio::process::Command;
use topology::{Lsn, Timeline};

const INITDB_LIMIT: Duration = Duration::from_secs(600);
const WALDUMP_LIMIT: Duration = Duration::from_secs(30);
/// The largest databases take days; a dead source ends it much sooner.
pub(super) const COPY_LIMIT: Duration = Duration::from_secs(7 * 24 * 3600);
/// Replay since the last checkpoint.
const RECOVERY_LIMIT: Duration = Duration::from_secs(24 * 3600);

const INITDB_FORBIDDEN: [&str; 5] = ["pgdata", "nosync", "pwfile", "sync-only", "version"];
const BASEBACKUP_FORBIDDEN: [&str; 11] = [
    "pgdata",
    "format",
    "wal-method",
    "xlog-method",
    "gzip",
    "version",
    "dbname",
    "host",
    "port",
    "username",
    "password",
];

/// In the environment of whatever fills a data directory: a daemon that is
/// killed leaves it at work, and the next one finds it.
pub(super) const FILLS: &str = "MATRIARCH_FILLS";

/// A server to copy from.
#[derive(Clone, Copy, Debug)]
pub struct Source<'a> {
    pub host: &'a str,
    pub port: u16,
}

/// Creates a new cluster in the empty data directory.
pub async fn initdb(settings: &Postgresql, bootstrap: &Bootstrap) -> Result<(), Error> {
    refuse("bootstrap.initdb", &bootstrap.initdb, &INITDB_FORBIDDEN)?;
    let mut command = Command::new(settings.tool("initdb"));
    command.args(bootstrap.initdb.iter().map(option));
    let superuser = &settings.superuser;
    if !superuser.username.is_empty() {
        command.arg(format!("--username={}", superuser.username));
    }
    let secret = match &superuser.password {
        Some(word) => Some(SecretFile::create(beside_pgpass(settings, "initdb"), &word.0)?),
        None => None,
    };
    if let Some(file) = &secret {
        command.arg(format!("--pwfile={}", file.path().display()));
    }
    command.arg(&settings.data_dir).env(FILLS, &settings.data_dir);
    run(command, INITDB_LIMIT).await?;
    if bootstrap.pg_hba.is_empty() {
        return Ok(());
    }
    // initdb writes its files into the data directory, wherever ours are.
    let data_dir = settings.data_dir.clone();
    append_hba(&bootstrap.pg_hba, &Places::in_data(&data_dir))
}

/// Copies `source` into the empty data directory.
pub async fn basebackup(
    settings: &Postgresql,
    source: Source<'_>,
    options: &[ToolOption],
    major: u32,
) -> Result<(), Error> {
    refuse("postgresql.basebackup", options, &BASEBACKUP_FORBIDDEN)?;
    refuse_compression(options, major)?;
    let login = &settings.replication;
    let secret = secret(settings, login, source, "basebackup")?;
    let mut command = Command::new(settings.tool("pg_basebackup"));
    command.arg(format!("--pgdata={}", settings.data_dir.display())).args(["-X", "stream"]);
    command.arg(format!("--dbname={}", dsn(login, source, None, major)));
    command.args(options.iter().map(option));
    command.env("PGPASSFILE", secret.path()).env(FILLS, &settings.data_dir);
    run(command, COPY_LIMIT).await.map(drop)
}

/// Takes the stopped data directory back to where `source` left its history.
/// `restore_wal`: WAL that is missing here may come from the archive.
pub async fn rewind(
    settings: &Postgresql,
    source: Source<'_>,
    restore_wal: bool,
    major: u32,
) -> Result<(), Error> {
    let login = &settings.rewind;
    let secret = secret(settings, login, source, "rewind")?;
    let mut command = Command::new(settings.tool("pg_rewind"));
    command.arg("-D").arg(&settings.data_dir).arg("--source-server");
    command.arg(dsn(login, source, Some(&settings.database), major));
    let places = Places::of(settings);
    let elsewhere = places.config_dir != places.data_dir;
    if restore_wal && (major >= 15 || !elsewhere) {
        command.arg("--restore-target-wal");
    }
    if major >= 15 && elsewhere {
        command.arg(format!("--config-file={}", places.conf().display()));
    }
    command.envs([("LANG", "C"), ("LC_ALL", "C"), ("PGOPTIONS", "-c statement_timeout=0")]);
    command.env("PGPASSFILE", secret.path());
    run(command, COPY_LIMIT).await.map(drop)
}

/// Brings a crashed data directory to a clean stop without opening it.
///
/// WAL that waits for archiving is **not** archived first: it stays marked as
/// ready (`archive_mode=on` with a command that fails), so the server archives
/// it after its next start.
pub async fn crash_recovery(settings: &Postgresql) -> Result<(), Error> {
    let places = Places::of(settings);
    set_standby(&places, false)?;
    let opts = read_if_there(&settings.data_dir.join("postmaster.opts"))?.unwrap_or_default();
    let mut command = Command::new(settings.tool("postgres"));
    command.arg("--single").arg("-D").arg(&settings.data_dir);
    if places.config_dir != places.data_dir {
        command.arg("-c").arg(format!("config_file={}", places.conf().display()));
    }
    for setting in start_options(&opts) {
        command.arg("-c").arg(setting);
    }
    command.args(["-c", "archive_mode=on", "-c", "archive_command=false", "template1"]);
    command.current_dir(&settings.data_dir);
    run(command, RECOVERY_LIMIT).await.map(drop)
}

/// Where the checkpoint record at `lsn` ends: the end of a cleanly stopped log.
pub async fn checkpoint_end(
    settings: &Postgresql,
    timeline: Timeline,
    lsn: Lsn,
    segment_bytes: u64,
) -> Result<Lsn, Error> {
    let mut command = Command::new(settings.tool("pg_waldump"));
    command.arg("-p").arg(settings.data_dir.join("pg_wal"));
    command.arg(format!("--timeline={timeline}")).arg(format!("--start={lsn}"));
    command.args(["--limit=1"]).env("LC_ALL", "C");
    let stdout = run(command, WALDUMP_LIMIT).await?;
    let unclear = || Error::ToolUnclear { tool: "pg_waldump".into(), missing: "record length" };
    let length = record_length(&stdout).ok_or_else(unclear)?;
    Ok(end_of_record(lsn, length, segment_bytes))
}

/// `... len (rec/tot):    114/   114, tx: ...`
fn record_length(text: &str) -> Option<u64> {
    let (_, rest) = text.split_once("len (rec/tot):")?;
    let (lengths, _) = rest.split_once(',')?;
    lengths.split_once('/')?.1.trim().parse().ok()
}

/// A record that crosses into a new page goes on behind that page's header.
fn end_of_record(start: Lsn, length: u64, segment_bytes: u64) -> Lsn {
    const PAGE: u64 = 8192;
    const HEADER: u64 = 24;
    const SEGMENT_HEADER: u64 = 40;
    let mut at = start.0;
    let mut left = length;
    loop {
        let room = PAGE - at % PAGE;
        if left <= room {
            return Lsn((at + left).next_multiple_of(8));
        }
        left -= room;
        at += room;
        let first = segment_bytes > 0 && at.is_multiple_of(segment_bytes);
        at += if first { SEGMENT_HEADER } else { HEADER };
    }
}

/// The `name=value` of the last start, from postmaster.opts.
fn start_options(opts: &str) -> Vec<String> {
    let words = opts.split('"').skip(1).step_by(2);
    let settings = words.filter_map(|word| word.strip_prefix("--"));
    let settings = settings.filter(|word| word.contains('=') && !word.starts_with("config"));
    settings.map(str::to_string).collect()
}

fn option(option: &ToolOption) -> String {
    match &option.value {
        Some(value) => format!("--{}={value}", option.name),
        None => format!("--{}", option.name),
    }
}

fn refuse(setting: &'static str, given: &[ToolOption], forbidden: &[&str]) -> Result<(), Error> {
    match given.iter().find(|option| forbidden.contains(&option.name.as_str())) {
        Some(option) => Err(Error::ForbiddenOption { setting, option: option.name.clone() }),
        None => Ok(()),
    }
}

/// Only the server may compress: the data directory must be usable as it is.
fn refuse_compression(given: &[ToolOption], major: u32) -> Result<(), Error> {
    let on_server = |option: &ToolOption| {
        major >= 15 && option.value.as_deref().is_some_and(|value| value.starts_with("server"))
    };
    match given.iter().find(|option| option.name == "compress" && !on_server(option)) {
        Some(_) => refuse("postgresql.basebackup", given, &["compress"]),
        None => Ok(()),
    }
}

pub(super) fn dsn(login: &Login, source: Source<'_>, database: Option<&str>, major: u32) -> String {
    let conninfo = Conninfo {
        login,
        host: source.host,
        port: source.port,
        database,
        passfile: None,
        application_name: None,
        target_session_attrs: None,
        major,
    };
    conninfo.render()
}

pub(super) fn secret(
    settings: &Postgresql,
    login: &Login,
    source: Source<'_>,
    what: &str,
) -> Result<SecretFile, Error> {
    let password = login.password.as_ref().map_or("", |password| &password.0);
    let text = pgpass_lines(source.host, source.port, &login.username, password);
    SecretFile::create(beside_pgpass(settings, what), &text)
}

/// A file of its own for each tool: the server keeps using the other one.
fn beside_pgpass(settings: &Postgresql, what: &str) -> PathBuf {
    let mut path = settings.pgpass.clone().into_os_string();
    path.push(format!(".{what}"));
    path.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_start_options_are_found_again() {
        let opts = "/bin/postgres \"-D\" \"/d\" \"--config-file=/d/postgresql.conf\" \
                    \"--port=5361\" \"--cluster_name=a b\"\n";
        assert_eq!(start_options(opts), ["port=5361", "cluster_name=a b"]);
        assert!(start_options("").is_empty());
    }

    #[test]
    fn a_record_may_cross_a_page() {
        const SEGMENT: u64 = 16 << 20;
        assert_eq!(end_of_record(Lsn(0x28), 114, SEGMENT), Lsn(0xA0));
        assert_eq!(end_of_record(Lsn(8192 - 64), 114, SEGMENT), Lsn(8192 + 24 + 56));
        assert_eq!(end_of_record(Lsn(SEGMENT - 64), 114, SEGMENT), Lsn(SEGMENT + 40 + 56));
    }

    #[test]
    fn record_lengths_are_read() {
        let text = "rmgr: XLOG  len (rec/tot):    114/   120, tx:          0, lsn: 0/0150";
        assert_eq!(record_length(text), Some(120));
        assert_eq!(record_length("nothing"), None);
    }

    #[test]
    fn forbidden_options_are_named() {
        let compress =
            |value: &str| [ToolOption { name: "compress".into(), value: Some(value.into()) }];
        assert!(refuse_compression(&compress("server-gzip"), 15).is_ok());
        assert!(refuse_compression(&compress("server-gzip"), 14).is_err());
        let error = refuse_compression(&compress("gzip"), 15).unwrap_err();
        assert!(error.to_string().contains("compress"));
    }
}
