//! History files of older timelines, brought into the archive.
//!
//! Invariant: no file of the archive is replaced by one that says something else. One
//! that is there may be the history of a timeline that was abandoned. So a file goes
//! there only if the restore_command says that the archive does not have it, or if the
//! archive_command has shown that it refuses a name that is taken.

use super::archive::{COMMAND_LIMIT, fill_to, run_for, setting};
use super::error::{Error, remove_if_there};
use super::run::run;
use crate::config::Postgresql;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::time::{Duration, SystemTime};
use tokio::process::Command;

/// A file that was archived within this shows that the archive is in reach.
const REACHED: Duration = Duration::from_secs(60);
/// Added to a copy of a history: PostgreSQL passes over comments.
const COMMENT: &str = "# A copy: does archive_command replace what the archive has?\n";

/// Archives those of `names` that the archive does not have. `restore`: the
/// restore_command of a standby here, for a primary's files do not name it. `own`: a
/// history that the server's own archiver brings there.
pub(super) async fn archive_histories(
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
    match restore {
        Some(restore) => after_a_look(settings, &command, restore, own, missing).await,
        None if command.is_empty() => Err(Error::ArchiveUnknown(missing.join(", "))),
        None => where_none_is_replaced(settings, &command, own, missing).await,
    }
}

/// Only a restore_command that has just brought what is certainly there can say of
/// another file that it is not.
async fn after_a_look(
    settings: &Postgresql,
    command: &str,
    restore: &str,
    own: &str,
    missing: Vec<String>,
) -> Result<(), Error> {
    if !is_archived(settings, restore, own).await {
        return Err(Error::ArchiveSilent { own: own.to_string(), missing: missing.join(", ") });
    }
    for name in missing {
        let is_there = is_archived(settings, restore, &name).await;
        if !is_there && !command.is_empty() {
            archive(settings, command, &name).await?;
        }
        // Without a command a module of the server archives what is ready.
        let ending = if is_there || !command.is_empty() { "done" } else { "ready" };
        mark(settings, &name, ending)?;
    }
    Ok(())
}

/// Without a restore_command. What the command refuses may be there, or the archive may
/// be out of reach: it is tried again.
async fn where_none_is_replaced(
    settings: &Postgresql,
    command: &str,
    own: &str,
    missing: Vec<String>,
) -> Result<(), Error> {
    let missing_names = missing.join(", ");
    if !status_of(settings, own, "done").exists() {
        return Err(Error::ArchiveLate { own: own.to_string(), missing: missing_names });
    }
    // A command that fails because the archive is out of reach would look like one that
    // refuses.
    if !was_reached_lately(settings)? {
        return Err(Error::ArchiveQuiet(missing_names));
    }
    if !refuses_to_replace(settings, command, own).await? {
        return Err(Error::ArchiveReplaces(missing_names));
    }
    let mut result = Ok(());
    for name in missing {
        match archive(settings, command, &name).await {
            Ok(()) => mark(settings, &name, "done")?,
            Err(error) => result = Err(error),
        }
    }
    result
}

/// PostgreSQL's archiver renames the mark of a file that it has archived, which changes
/// the mark's status time.
fn was_reached_lately(settings: &Postgresql) -> Result<bool, Error> {
    let dir = settings.data_dir.join("pg_wal/archive_status");
    let since = SystemTime::now().checked_sub(REACHED).unwrap_or(SystemTime::UNIX_EPOCH);
    let since = since.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs();
    for entry in std::fs::read_dir(&dir).map_err(Error::file("list", &dir))? {
        let path = entry.map_err(Error::file("list", &dir))?.path();
        let is_done = path.extension().is_some_and(|ending| ending == "done");
        // A mark may be removed while it is looked at.
        let changed = path.metadata().ok().and_then(|mark| u64::try_from(mark.ctime()).ok());
        if is_done && changed.is_some_and(|changed| changed >= since) {
            return Ok(true);
        }
    }
    Ok(false)
}

async fn archive(settings: &Postgresql, command: &str, name: &str) -> Result<(), Error> {
    run_for(settings, command, name).await?;
    tracing::info!("archived {name}: a recovery to the latest timeline looks for it");
    Ok(())
}

/// Offers the archive a copy of `archived`, which it has, with one more comment. Should
/// the command take it, the archive's file still says the same, and gets its own bytes
/// back at once.
async fn refuses_to_replace(
    settings: &Postgresql,
    command: &str,
    archived: &str,
) -> Result<bool, Error> {
    // Some commands are given the path alone and take the name from it.
    let place = "pg_wal/offered";
    let dir = settings.data_dir.join(place);
    let (original, copy) = (settings.data_dir.join("pg_wal").join(archived), dir.join(archived));
    let text = std::fs::read_to_string(&original).map_err(Error::file("read", &original))?;
    std::fs::create_dir_all(&dir).map_err(Error::file("create", &dir))?;
    std::fs::write(&copy, text + COMMENT).map_err(Error::file("create", &copy))?;
    let offered = fill_to(command, archived, &format!("{place}/{archived}"));
    let taken = run_in_data(settings, offered).await;
    remove_if_there(&copy)?;
    std::fs::remove_dir(&dir).map_err(Error::file("remove", &dir))?;
    if taken.is_ok() {
        run_for(settings, command, archived).await?;
    }
    Ok(taken.is_err())
}

async fn run_in_data(settings: &Postgresql, command: String) -> Result<(), Error> {
    let mut shell = Command::new("sh");
    shell.arg("-c").arg(command).current_dir(&settings.data_dir);
    run(shell, COMMAND_LIMIT).await.map(drop)
}

fn mark(settings: &Postgresql, name: &str, ending: &str) -> Result<(), Error> {
    let path = status_of(settings, name, ending);
    std::fs::write(&path, "").map_err(Error::file("create", &path))
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
    let brought = run_in_data(settings, fill_to(restore, name, &place)).await;
    let came = brought.is_ok() && path.is_file();
    if let Err(error) = remove_if_there(&path) {
        tracing::warn!("{error}");
    }
    came
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use std::fs;
    use std::path::Path;

    const OWN: &str = "00000004.history";
    const ABANDONED: &str = "1\t0/3000000\tabandoned\n";
    const PLACEHOLDER: &str = "# a placeholder\n";

    /// A data directory, an archive, and a `postgres` that knows two settings: its
    /// archive_command is `copy` with the place in the archive behind it.
    pub(crate) fn prepared(dir: &Path, copy: &str) -> Postgresql {
        let data_dir = dir.join("data");
        fs::create_dir_all(data_dir.join("pg_wal/archive_status")).unwrap();
        fs::create_dir(dir.join("archive")).unwrap();
        let archive = dir.join("archive").display().to_string();
        let copy = copy.replace("ARCHIVE", &archive);
        let script = format!(
            "#!/bin/sh\ncase $4 in archive_mode) echo on;; *) echo '{copy} {archive}/%f';; esac\n"
        );
        fs::write(dir.join("postgres"), script).unwrap();
        let runs = std::os::unix::fs::PermissionsExt::from_mode(0o755);
        fs::set_permissions(dir.join("postgres"), runs).unwrap();
        Postgresql { data_dir, bin_dir: Some(dir.to_path_buf()), ..Postgresql::default() }
    }

    fn names() -> [String; 2] {
        ["00000002.history", "00000003.history"].map(str::to_string)
    }

    /// Placeholders for two timelines; the archive has a history of the first.
    fn with_placeholders(dir: &Path, copy: &str) -> Postgresql {
        let settings = prepared(dir, copy);
        for name in names() {
            fs::write(settings.data_dir.join("pg_wal").join(name), PLACEHOLDER).unwrap();
        }
        fs::write(dir.join("archive").join(&names()[0]), ABANDONED).unwrap();
        settings
    }

    fn archive_own(settings: &Postgresql, dir: &Path) {
        let text = "2\t0/4000000\town\n";
        fs::write(settings.data_dir.join("pg_wal").join(OWN), text).unwrap();
        fs::write(dir.join("archive").join(OWN), text).unwrap();
        mark(settings, OWN, "done").unwrap();
    }

    async fn run_with(settings: &Postgresql, restore: Option<&str>) -> Result<(), Error> {
        archive_histories(settings, restore, OWN, names().into_iter()).await
    }

    fn archived(dir: &Path, name: &str) -> String {
        fs::read_to_string(dir.join("archive").join(name)).unwrap_or_default()
    }

    fn files_in(dir: &Path) -> usize {
        fs::read_dir(dir.join("data/pg_wal")).unwrap().count()
    }

    #[tokio::test]
    async fn h5_histories_that_the_archive_lacks_reach_it_and_none_is_replaced() {
        let dir = tempfile::tempdir().unwrap();
        let (dir, settings) = (dir.path(), with_placeholders(dir.path(), "cp %p"));
        let restore = format!("cp {}/archive/%f %p", dir.display());
        let silent = run_with(&settings, Some(&restore)).await;
        assert!(matches!(silent, Err(Error::ArchiveSilent { .. })), "{silent:?}");
        assert_eq!(archived(dir, &names()[1]), "", "nothing is known of the archive");
        archive_own(&settings, dir);
        run_with(&settings, Some(&restore)).await.unwrap();
        assert_eq!(archived(dir, &names()[0]), ABANDONED);
        assert_eq!(archived(dir, &names()[1]), PLACEHOLDER);
        assert!(names().iter().all(|name| is_settled(&settings, name)));
        assert_eq!(files_in(dir), 4, "nothing else is left");
        fs::remove_file(dir.join("archive").join(&names()[1])).unwrap();
        run_with(&settings, Some(&restore)).await.unwrap();
        assert_eq!(archived(dir, &names()[1]), "", "it is archived once");
    }

    #[tokio::test]
    async fn h5_without_restore_command_a_command_that_replaces_nothing_gets_them() {
        let dir = tempfile::tempdir().unwrap();
        let keeps = "test ! -f ARCHIVE/%f && cp %p";
        let (dir, settings) = (dir.path(), with_placeholders(dir.path(), keeps));
        let late = run_with(&settings, None).await;
        assert!(matches!(late, Err(Error::ArchiveLate { .. })), "{late:?}");
        archive_own(&settings, dir);
        let refused = run_with(&settings, None).await;
        assert!(refused.is_err(), "the first is refused, and may be there or not");
        assert_eq!(archived(dir, &names()[0]), ABANDONED);
        assert_eq!(archived(dir, &names()[1]), PLACEHOLDER);
        assert!(!is_settled(&settings, &names()[0]) && is_settled(&settings, &names()[1]));
        assert!(!archived(dir, OWN).contains('#'));
        assert_eq!(files_in(dir), 4, "nothing else is left");
        fs::remove_file(dir.join("archive").join(&names()[0])).unwrap();
        run_with(&settings, None).await.unwrap();
        assert_eq!(archived(dir, &names()[0]), PLACEHOLDER);
    }

    #[tokio::test]
    async fn h5_without_restore_command_a_command_that_replaces_gets_none() {
        let dir = tempfile::tempdir().unwrap();
        let (dir, settings) = (dir.path(), with_placeholders(dir.path(), "cp %p"));
        archive_own(&settings, dir);
        let unsafe_command = run_with(&settings, None).await;
        assert!(matches!(unsafe_command, Err(Error::ArchiveReplaces(_))), "{unsafe_command:?}");
        assert_eq!(archived(dir, &names()[0]), ABANDONED);
        assert_eq!(archived(dir, &names()[1]), "");
        assert_eq!(archived(dir, OWN), "2\t0/4000000\town\n", "its own bytes are back");
        assert_eq!(files_in(dir), 4, "nothing else is left");
    }

    #[test]
    fn h5_only_a_file_that_was_archived_shows_that_the_archive_is_in_reach() {
        let dir = tempfile::tempdir().unwrap();
        let settings = prepared(dir.path(), "cp %p");
        assert!(!was_reached_lately(&settings).unwrap());
        mark(&settings, OWN, "ready").unwrap();
        assert!(!was_reached_lately(&settings).unwrap(), "it still waits");
        mark(&settings, OWN, "done").unwrap();
        assert!(was_reached_lately(&settings).unwrap());
    }
}
