//! Crash recovery without a server that others could connect to.
//!
//! pg_rewind wants a data directory that was stopped in order. A single-user
//! server replays what a crash left, writes its shutdown checkpoint and ends.
//!
//! Invariant: never over a backup_label. It names where an unfinished backup
//! begins; a recovery that takes it for a crash ends in a damaged cluster.

use super::archive::archive_ready;
use super::error::{Error, read_if_there};
use super::files::{Places, set_standby};
use super::run::run;
use crate::config::Postgresql;
use std::path::PathBuf;
use std::time::Duration;
use tokio::process::Command;

/// Replay since the last checkpoint.
const LIMIT: Duration = Duration::from_secs(24 * 3600);

/// Brings a crashed data directory to a clean stop without opening it.
pub(crate) async fn recover(settings: &Postgresql) -> Result<(), Error> {
    let label = settings.data_dir.join("backup_label");
    if read_if_there(&label)?.is_some() {
        return Err(Error::UnfinishedBackup(label));
    }
    archive_what_waits(settings).await;
    let kept = forget_archived(settings)?;
    let places = Places::of(settings);
    set_standby(&places, false)?;
    let done = run(command(settings, &places)?, LIMIT).await.map(drop);
    remember_archived(&kept);
    done
}

/// A failure keeps nothing from going on: what was not archived stays here.
pub(crate) async fn archive_what_waits(settings: &Postgresql) {
    match archive_ready(settings).await {
        Ok(0) => {}
        Ok(count) => tracing::info!("archived {count} segments that waited for it"),
        Err(error) => tracing::warn!("segments that wait to be archived stay here: {error}"),
    }
}

fn command(settings: &Postgresql, places: &Places) -> Result<Command, Error> {
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
    Ok(command)
}

/// The shutdown checkpoint removes segments that are archived; pg_rewind reads
/// them. For its time no segment is. Gives the files that were removed.
fn forget_archived(settings: &Postgresql) -> Result<Vec<PathBuf>, Error> {
    let status = settings.data_dir.join("pg_wal/archive_status");
    let entries = match std::fs::read_dir(&status) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries.map_err(Error::file("list", &status))?,
    };
    let mut removed = Vec::new();
    for entry in entries {
        let path = entry.map_err(Error::file("list", &status))?.path();
        if path.extension().is_some_and(|ending| ending == "done") {
            std::fs::remove_file(&path).map_err(Error::file("remove", &path))?;
            removed.push(path);
        }
    }
    Ok(removed)
}

/// A segment that is archived twice may stop an archive that refuses that.
fn remember_archived(done: &[PathBuf]) {
    for path in done {
        let ready = path.with_extension("ready");
        // One that fails is archived once more by the next server.
        let _ = std::fs::write(path, "").and_then(|()| match ready.exists() {
            true => std::fs::remove_file(&ready),
            false => Ok(()),
        });
    }
}

/// The `name=value` of the last start, from postmaster.opts.
fn start_options(opts: &str) -> Vec<String> {
    let words = opts.split('"').skip(1).step_by(2);
    let settings = words.filter_map(|word| word.strip_prefix("--"));
    let settings = settings.filter(|word| word.contains('=') && !word.starts_with("config"));
    settings.map(str::to_string).collect()
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

    #[tokio::test]
    async fn an_unfinished_backup_is_not_taken_for_a_crash() {
        let dir = tempfile::tempdir().unwrap();
        let data_dir = dir.path().to_path_buf();
        std::fs::write(data_dir.join("backup_label"), "START WAL LOCATION").unwrap();
        let settings = Postgresql { data_dir, ..Postgresql::default() };
        let error = recover(&settings).await.unwrap_err();
        assert!(matches!(error, Error::UnfinishedBackup(_)), "{error}");
    }

    #[test]
    fn archived_segments_are_forgotten_for_a_while() {
        let dir = tempfile::tempdir().unwrap();
        let status = dir.path().join("pg_wal/archive_status");
        std::fs::create_dir_all(&status).unwrap();
        for name in ["A.done", "B.ready"] {
            std::fs::write(status.join(name), "").unwrap();
        }
        let data_dir = dir.path().to_path_buf();
        let settings = Postgresql { data_dir, ..Postgresql::default() };
        let kept = forget_archived(&settings).unwrap();
        assert!(!status.join("A.done").exists() && status.join("B.ready").exists());
        std::fs::write(status.join("A.ready"), "").unwrap();
        remember_archived(&kept);
        assert!(status.join("A.done").exists() && !status.join("A.ready").exists());
        assert!(status.join("B.ready").exists());
    }
}
