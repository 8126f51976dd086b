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
use std::path::{Path, PathBuf};
use std::time::Duration;
use tokio::process::Command;
use topology::{Lsn, Timeline};

/// For one segment.
const COMMAND_LIMIT: Duration = Duration::from_secs(300);
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

/// Brings history files into the archive that it does not have. One that is there is
/// not replaced: it may be the history of a timeline that was abandoned. `restore`: the
/// restore_command of a standby here, for a primary's files do not name it. `own`: a
/// history that the server's own archiver brings there.
pub async fn archive_histories(
    settings: &Postgresql,
    restore: Option<&str>,
    own: &str,
    names: impl Iterator<Item = String>,
) -> Result<(), Error> {
    let missing: Vec<String> = names.filter(|name| !is_settled(settings, name)).collect();
    if missing.is_empty() || !["on", "always"].contains(&&*setting(settings, "archive_mode").await?)
    {
        return Ok(());
    }
    let command = setting(settings, "archive_command").await?;
    // Only a command that has just brought what is certainly there can say of another
    // file that it is not.
    let Some(restore) = restore else { return Err(Error::ArchiveUnknown(missing.join(", "))) };
    if !is_archived(settings, restore, own).await {
        return Err(Error::ArchiveSilent { own: own.to_string(), missing: missing.join(", ") });
    }
    for name in missing {
        let is_there = is_archived(settings, restore, &name).await;
        if !is_there && !command.is_empty() {
            run_for(settings, &command, &name).await?;
            tracing::info!("archived {name}: a recovery to the latest timeline looks for it");
        }
        // Without a command a module of the server archives what is ready.
        let ending = if is_there || !command.is_empty() { "done" } else { "ready" };
        let path = status_of(settings, &name, ending);
        std::fs::write(&path, "").map_err(Error::file("create", &path))?;
    }
    Ok(())
}

fn status_of(settings: &Postgresql, name: &str, ending: &str) -> PathBuf {
    settings.data_dir.join("pg_wal/archive_status").join(format!("{name}.{ending}"))
}

/// It was archived, or waits for the server's archiver.
fn is_settled(settings: &Postgresql, name: &str) -> bool {
    ["done", "ready"].iter().any(|ending| status_of(settings, name, ending).exists())
}

/// Asked with the restore_command, into a file of our own.
async fn is_archived(settings: &Postgresql, restore: &str, name: &str) -> bool {
    let place = format!("pg_wal/{name}.{}", std::process::id());
    let path = settings.data_dir.join(&place);
    let mut shell = Command::new("sh");
    shell.arg("-c").arg(fill_to(restore, name, &place)).current_dir(&settings.data_dir);
    let came = run(shell, COMMAND_LIMIT).await.is_ok() && path.is_file();
    if let Err(error) = super::error::remove_if_there(&path) {
        tracing::warn!("{error}");
    }
    came
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

async fn run_for(settings: &Postgresql, command: &str, name: &str) -> Result<(), Error> {
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
fn fill_to(command: &str, name: &str, place: &str) -> String {
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
    use super::*;
    use std::fs;

    const NAME: &str = "00000001000000000000000A";

    #[test]
    fn signs_are_replaced() {
        let command = "cp '%p' /a/%f; echo 100%% %r %x %";
        let wanted = format!("cp 'pg_wal/{NAME}' /a/{NAME}; echo 100% {OLDEST} %x %");
        assert_eq!(fill(command, NAME), wanted);
    }

    /// A data directory, and a `postgres` that knows two settings.
    fn prepared(dir: &Path) -> Postgresql {
        let data_dir = dir.join("data");
        fs::create_dir_all(data_dir.join("pg_wal/archive_status")).unwrap();
        fs::create_dir(dir.join("archive")).unwrap();
        let archive = dir.join("archive");
        let script = format!(
            "#!/bin/sh\ncase $4 in archive_mode) echo on;; *) echo 'cp %p {0}/%f';; esac\n",
            archive.display()
        );
        fs::write(dir.join("postgres"), script).unwrap();
        let runs = std::os::unix::fs::PermissionsExt::from_mode(0o755);
        fs::set_permissions(dir.join("postgres"), runs).unwrap();
        Postgresql { data_dir, bin_dir: Some(dir.to_path_buf()), ..Postgresql::default() }
    }

    #[tokio::test]
    async fn what_is_ready_is_archived_once() {
        let dir = tempfile::tempdir().unwrap();
        let settings = prepared(dir.path());
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
    async fn h5_histories_that_the_archive_lacks_reach_it_and_none_is_replaced() {
        let dir = tempfile::tempdir().unwrap();
        let settings = prepared(dir.path());
        let (wal, archive) = (settings.data_dir.join("pg_wal"), dir.path().join("archive"));
        let names = ["00000002.history", "00000003.history"].map(str::to_string);
        for name in &names {
            fs::write(wal.join(name), "# a placeholder\n").unwrap();
        }
        fs::write(archive.join(&names[0]), "1\t0/3000000\tabandoned\n").unwrap();
        let restore = format!("cp {}/%f %p", archive.display());
        let (restore, own) = (Some(restore.as_str()), "00000004.history");
        let archive_them =
            |restore| archive_histories(&settings, restore, own, names.clone().into_iter());
        assert!(matches!(archive_them(None).await, Err(Error::ArchiveUnknown(_))));
        let silent = archive_them(restore).await;
        assert!(matches!(silent, Err(Error::ArchiveSilent { .. })), "{silent:?}");
        assert!(!archive.join(&names[1]).exists(), "nothing is known of the archive");
        fs::write(archive.join(own), "2\t0/4000000\town\n").unwrap();
        archive_them(restore).await.unwrap();
        let archived = |name: &String| fs::read_to_string(archive.join(name)).unwrap();
        assert_eq!(archived(&names[0]), "1\t0/3000000\tabandoned\n");
        assert_eq!(archived(&names[1]), "# a placeholder\n");
        for name in &names {
            assert!(is_settled(&settings, name));
        }
        assert_eq!(fs::read_dir(&wal).unwrap().count(), 3, "nothing else is left");
        fs::remove_file(archive.join(&names[1])).unwrap();
        archive_them(restore).await.unwrap();
        assert!(!archive.join(&names[1]).exists(), "it is archived once");
    }

    #[tokio::test]
    async fn a_segment_that_did_not_come_is_no_success() {
        let dir = tempfile::tempdir().unwrap();
        let settings = prepared(dir.path());
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
