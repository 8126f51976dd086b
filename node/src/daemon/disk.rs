//! Does the data directory take new files?
//!
//! A small file is written and removed where the data and where the log lie. When that is
//! done, and what it means, the machine decides (`member/disk_watch.rs`).
//!
//! A server that is down or starting needs a whole new segment of its log; one
//! that runs may live on the segments it has.
//!
//! A disk that does not answer at all is not known to fail: what was known
//! before stays, and the beat goes on.

use nix::errno::Errno;
use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;
use tokio::task::JoinHandle;

/// Base backups leave out what is called so. pg_rewind would not: the rules of a
/// beat do not look while one runs.
const NAME: &str = "pgsql_tmp_matriarch_probe";
const SMALL: u64 = 8 << 10;
const SEGMENT: u64 = 16 << 20;
/// A disk that is well takes a file in no time.
const PATIENCE: Duration = Duration::from_millis(500);

#[derive(Default)]
pub(super) struct Probe {
    /// A try that hangs.
    running: Option<JoinHandle<Result<(), String>>>,
}

impl Probe {
    /// `at_rest`: no server runs there, as far as the last beat knew. `None`: no answer.
    pub(super) async fn try_file(
        &mut self,
        data_dir: &Path,
        at_rest: bool,
    ) -> Option<Result<(), String>> {
        let data_dir = data_dir.to_path_buf();
        let size = if at_rest { SEGMENT } else { SMALL };
        let mut running = match self.running.take() {
            Some(running) => running,
            None => tokio::task::spawn_blocking(move || probe(&data_dir, size)),
        };
        match tokio::time::timeout(PATIENCE, &mut running).await {
            Ok(answer) => answer.ok(),
            Err(_) => {
                tracing::warn!("the disk of the data directory does not answer");
                self.running = Some(running);
                None
            }
        }
    }
}

/// `Err`: a disk takes no files, and why.
fn probe(data_dir: &Path, size: u64) -> Result<(), String> {
    let mut places = vec![data_dir.to_path_buf()];
    let device = |path: &Path| path.metadata().map(|m| m.dev()).ok();
    let wal = data_dir.join("pg_wal");
    if device(&wal).is_some_and(|wal| Some(wal) != device(data_dir)) {
        places.push(wal);
    }
    places.into_iter().try_for_each(|place| probe_place(&place, size))
}

fn probe_place(place: &Path, size: u64) -> Result<(), String> {
    let path: PathBuf = place.join(NAME);
    let written = write(&path, size);
    let removed = std::fs::remove_file(&path);
    match written.and(removed) {
        Err(error) if is_of_the_disk(&error) => {
            Err(format!("the disk of {} takes no files: {error}", place.display()))
        }
        // Any other error: the directory is missing, or another user's. Other checks report it.
        _ => Ok(()),
    }
}

fn write(path: &Path, size: u64) -> io::Result<()> {
    let mut options = OpenOptions::new();
    let mut file = options.write(true).create(true).truncate(true).mode(0o600).open(path)?;
    let length = i64::try_from(size).expect("a small number");
    if size > SMALL {
        match nix::fcntl::fallocate(&file, nix::fcntl::FallocateFlags::empty(), 0, length) {
            Ok(()) => return Ok(()),
            // Not every file system can.
            Err(Errno::EOPNOTSUPP | Errno::ENOSYS) => {}
            Err(errno) => return Err(errno.into()),
        }
    }
    write_some(&mut file)
}

fn write_some(file: &mut File) -> io::Result<()> {
    file.write_all(&[0x5A; SMALL as usize])
}

fn is_of_the_disk(error: &io::Error) -> bool {
    let code = error.raw_os_error().map(Errno::from_raw);
    matches!(code, Some(Errno::ENOSPC | Errno::EROFS | Errno::EIO | Errno::EDQUOT))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_disk_that_is_well_keeps_nothing() {
        let dir = tempfile::tempdir().unwrap();
        for at_rest in [false, true] {
            let answer = Probe::default().try_file(dir.path(), at_rest).await;
            assert_eq!(answer, Some(Ok(())));
            assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
        }
    }

    /// The probe's file is a link to `/dev/full` until the first failing probe removes it.
    #[tokio::test]
    async fn a_disk_that_fails_is_well_again_when_it_takes_files() {
        let dir = tempfile::tempdir().unwrap();
        let mut disk = Probe::default();
        std::os::unix::fs::symlink("/dev/full", dir.path().join(NAME)).unwrap();
        let failing = disk.try_file(dir.path(), false).await;
        assert!(matches!(failing, Some(Err(_))), "{failing:?}");
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0, "the way is removed");
        assert_eq!(disk.try_file(dir.path(), false).await, Some(Ok(())));
    }

    /// `/dev/full` takes nothing, as a full disk.
    #[test]
    fn only_what_the_disk_refuses_counts() {
        let full = write(Path::new("/dev/full"), SMALL).unwrap_err();
        assert!(is_of_the_disk(&full), "{full}");
        let missing = write(Path::new("/nowhere/at/all"), SMALL).unwrap_err();
        assert!(!is_of_the_disk(&missing), "{missing}");
        assert_eq!(probe(Path::new("/nowhere/at/all"), SMALL), Ok(()));
    }
}
