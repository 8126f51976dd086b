//! The archive's commands, run for a server that is down.
//!
//! A log that is about to be rewound holds segments that are not archived yet;
//! and one that was cleaned up early may lack segments that the archive has.
//! Both go through the operator's own commands.
//!
//! Absent on purpose: archive modules (`archive_library`): only a running
//! server can load one.

use super::error::Error;
use super::files::Places;
use super::run::run;
use crate::config::Postgresql;
use std::path::Path;
use std::time::Duration;
use tokio::process::Command;
use topology::{Lsn, Timeline};

/// For one segment.
pub(super) const COMMAND_LIMIT: Duration = Duration::from_secs(300);
const SETTING_LIMIT: Duration = Duration::from_secs(10);
/// What stands for %r: nothing may be removed for our sake.
const OLDEST: &str = "000000010000000000000001";

/// The value of a setting in the files of a server that is down.
pub async fn setting(settings: &Postgresql, name: &str) -> Result<String, Error> {
    let places = Places::of(settings);
    let mut command = Command::new(settings.tool("postgres"));
    command.arg("-D").arg(&settings.data_dir).arg("-C").arg(name);
    if places.config_dir != places.data_dir {
        command.arg("-c").arg(format!("config_file={}", places.conf().display()));
    }
    Ok(run(command, SETTING_LIMIT).await?.trim_end_matches('\n').to_string())
}

/// Archives what waits for it, oldest first, and marks it as done. Stops at the
/// first failure. Gives how many were archived.
pub async fn archive_ready(settings: &Postgresql) -> Result<usize, Error> {
    let status = settings.data_dir.join("pg_wal/archive_status");
    let ready = ready_in(&status)?;
    if ready.is_empty() || !["on", "always"].contains(&&*setting(settings, "archive_mode").await?) {
        return Ok(0);
    }
    let command = setting(settings, "archive_command").await?;
    if command.is_empty() {
        return Ok(0);
    }
    for name in &ready {
        run_for(settings, &command, name).await?;
        let (from, to) =
            (status.join(format!("{name}.ready")), status.join(format!("{name}.done")));
        std::fs::rename(&from, &to).map_err(Error::file("rename", &from))?;
    }
    Ok(ready.len())
}

/// Archives one segment, which the server did not live to close: it holds the
/// shutdown checkpoint. Nothing, where nothing is archived.
pub async fn archive_segment(settings: &Postgresql, name: &str) -> Result<(), Error> {
    if !["on", "always"].contains(&&*setting(settings, "archive_mode").await?) {
        return Ok(());
    }
    let command = setting(settings, "archive_command").await?;
    if command.is_empty() { Ok(()) } else { run_for(settings, &command, name).await }
}

/// The file that holds a place of the log.
pub fn segment_name(timeline: Timeline, lsn: Lsn, segment_bytes: u64) -> String {
    let number = lsn.0 / segment_bytes.max(1);
    let per_file = (1u64 << 32) / segment_bytes.max(1);
    format!("{:08X}{:08X}{:08X}", timeline.0, number / per_file, number % per_file)
}

/// Brings one segment into pg_wal.
pub async fn fetch(settings: &Postgresql, command: &str, name: &str) -> Result<(), Error> {
    run_for(settings, command, name).await?;
    let path = settings.data_dir.join("pg_wal").join(name);
    std::fs::metadata(&path).map(drop).map_err(Error::file("find after restore_command", &path))
}

pub(super) async fn run_for(settings: &Postgresql, command: &str, name: &str) -> Result<(), Error> {
    let mut shell = Command::new("sh");
    shell.arg("-c").arg(fill(command, name)).current_dir(&settings.data_dir);
    run(shell, COMMAND_LIMIT).await.map(drop)
}

/// `<24 hex>[.partial].ready`, without the ending.
fn ready_in(status: &Path) -> Result<Vec<String>, Error> {
    let entries = match std::fs::read_dir(status) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries.map_err(Error::file("list", status))?,
    };
    let mut names = Vec::new();
    for entry in entries {
        let name = entry.map_err(Error::file("list", status))?.file_name();
        if let Some(name) = name.to_str().and_then(|name| name.strip_suffix(".ready"))
            && is_segment(name.strip_suffix(".partial").unwrap_or(name))
        {
            names.push(name.to_string());
        }
    }
    names.sort();
    Ok(names)
}

pub fn is_segment(name: &str) -> bool {
    name.len() == 24 && name.bytes().all(|b| b.is_ascii_digit() || (b'A'..=b'F').contains(&b))
}

fn fill(command: &str, name: &str) -> String {
    fill_to(command, name, &format!("pg_wal/{name}"))
}

/// Replaces %p, %f, %r and %%; any other sign stays as it is.
pub(super) fn fill_to(command: &str, name: &str, place: &str) -> String {
    let mut text = String::with_capacity(command.len() + name.len());
    let mut chars = command.chars();
    while let Some(c) = chars.next() {
        if c != '%' {
            text.push(c);
            continue;
        }
        match chars.next() {
            Some('p') => text.push_str(place),
            Some('f') => text.push_str(name),
            Some('r') => text.push_str(OLDEST),
            Some('%') => text.push('%'),
            other => text.extend(std::iter::once('%').chain(other)),
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::super::archive_histories::tests::prepared;
    use super::*;
    use std::fs;

    const NAME: &str = "00000001000000000000000A";

    #[test]
    fn signs_are_replaced() {
        let command = "cp '%p' /a/%f; echo 100%% %r %x %";
        let wanted = format!("cp 'pg_wal/{NAME}' /a/{NAME}; echo 100% {OLDEST} %x %");
        assert_eq!(fill(command, NAME), wanted);
    }

    #[tokio::test]
    async fn what_is_ready_is_archived_once() {
        let dir = tempfile::tempdir().unwrap();
        let settings = prepared(dir.path(), "cp %p");
        let status = settings.data_dir.join("pg_wal/archive_status");
        let partial = format!("{NAME}.partial");
        for name in [NAME, &partial, "00000002.history"] {
            fs::write(settings.data_dir.join("pg_wal").join(name), "wal").unwrap();
            fs::write(status.join(format!("{name}.ready")), "").unwrap();
        }
        assert_eq!(archive_ready(&settings).await.unwrap(), 2);
        assert!(dir.path().join("archive").join(&partial).exists());
        assert!(status.join(format!("{NAME}.done")).exists());
        assert!(status.join("00000002.history.ready").exists());
        assert_eq!(archive_ready(&settings).await.unwrap(), 0);
    }

    #[tokio::test]
    async fn a_segment_that_did_not_come_is_no_success() {
        let dir = tempfile::tempdir().unwrap();
        let settings = prepared(dir.path(), "cp %p");
        assert!(fetch(&settings, "true", NAME).await.is_err());
        fetch(&settings, "echo wal > %p", NAME).await.unwrap();
        assert!(settings.data_dir.join("pg_wal").join(NAME).exists());
    }

    #[test]
    fn segments_are_named_as_postgres_does() {
        let name = |lsn| segment_name(Timeline(3), Lsn(lsn), 16 << 20);
        assert_eq!(name(0x0300_0028), "000000030000000000000003");
        assert_eq!(name(0xA_FE00_0000), "000000030000000A000000FE");
        assert_eq!(segment_name(Timeline(1), Lsn(1 << 32), 1 << 20), "000000010000000100000000");
    }
}
