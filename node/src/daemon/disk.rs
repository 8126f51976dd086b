//! Does the data directory take new files?
//!
//! PostgreSQL says so only when it needs a new file itself: a leader on a full
//! disk may look well for minutes while every client fails. So a small file is
//! written and removed, in every beat, where the data and where the log lie.
//!
//! A server that is down or starting needs a whole new segment of its log; one
//! that runs may live on the segments it has.
//!
//! A disk that does not answer at all is not known to fail: what was known
//! before stays, and the beat goes on.

use crate::ha::observation::Disk;
use nix::errno::Errno;
use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;
use tokio::task::JoinHandle;
use topology::Millis;

/// Base backups leave out what is called so. pg_rewind would not: the rules of a
/// beat do not look while one runs.
const NAME: &str = "pgsql_tmp_matriarch_probe";
const SMALL: u64 = 8 << 10;
const SEGMENT: u64 = 16 << 20;
/// A disk that is well takes a file in no time.
const PATIENCE: Duration = Duration::from_millis(500);
/// One that is well is not asked more often than this.
const PACE_MS: u64 = 1_000;
/// One that failed is asked again after this.
const AGAIN_MS: u64 = 400;

#[derive(Default)]
pub(super) struct Probe {
    known: Disk,
    looked: Millis,
    /// A look that hangs.
    running: Option<JoinHandle<Result<(), String>>>,
}

impl Probe {
    /// `at_rest`: no server runs there, as far as the last beat knew.
    pub async fn look(&mut self, data_dir: &Path, at_rest: bool, now: Millis) -> Disk {
        let pace = if self.known == Disk::Well { PACE_MS } else { AGAIN_MS };
        if self.looked.0 > 0 && now.since(self.looked) < pace {
            return self.known.clone();
        }
        self.looked = now;
        let data_dir = data_dir.to_path_buf();
        let size = if at_rest { SEGMENT } else { SMALL };
        let mut running = match self.running.take() {
            Some(running) => running,
            None => tokio::task::spawn_blocking(move || probe(&data_dir, size)),
        };
        match tokio::time::timeout(PATIENCE, &mut running).await {
            Ok(Ok(answer)) => self.take(answer, now),
            Ok(Err(_)) => {}
            Err(_) => {
                tracing::warn!("the disk of the data directory does not answer");
                self.running = Some(running);
            }
        }
        self.known.clone()
    }

    /// What the last look has found.
    pub fn known(&self) -> Disk {
        self.known.clone()
    }

    /// Look again so soon: it has just begun to fail.
    pub fn again_ms(&self) -> u64 {
        if self.known == Disk::Well { u64::MAX } else { AGAIN_MS }
    }

    fn take(&mut self, answer: Result<(), String>, now: Millis) {
        self.known = match (answer, &self.known) {
            (Ok(()), Disk::Well) => return,
            (Ok(()), Disk::Failing { .. }) => {
                tracing::info!("the disk of the data directory takes files again");
                Disk::Well
            }
            (Err(why), Disk::Failing { since, .. }) => Disk::Failing { since: *since, why },
            (Err(why), Disk::Well) => {
                tracing::error!("{why}: PostgreSQL cannot go on so; make room or mend the disk");
                Disk::Failing { since: now, why }
            }
        };
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
        let mut disk = Probe::default();
        for (turn, at_rest) in [(0, false), (1, true)] {
            let now = Millis(5_000 + turn * PACE_MS);
            assert_eq!(disk.look(dir.path(), at_rest, now).await, Disk::Well);
            assert_eq!(disk.looked, now, "it was not asked");
            assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
        }
    }

    /// The probe's file is a link to `/dev/full` until the first failing probe removes it.
    #[tokio::test]
    async fn a_disk_is_asked_at_its_pace_and_sooner_once_it_fails() {
        let dir = tempfile::tempdir().unwrap();
        let (mut disk, begin) = (Probe::default(), 5_000);
        let mut look = async |at: u64| disk.look(dir.path(), false, Millis(begin + at)).await;
        assert_eq!(look(0).await, Disk::Well);
        std::os::unix::fs::symlink("/dev/full", dir.path().join(NAME)).unwrap();
        assert_eq!(look(PACE_MS - 1).await, Disk::Well, "it is too early to ask");
        let failing = look(PACE_MS).await;
        let since = Millis(begin + PACE_MS);
        assert!(matches!(&failing, Disk::Failing { since: at, .. } if *at == since), "{failing:?}");
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0, "the way is removed");
        assert_eq!(look(PACE_MS + AGAIN_MS - 1).await, failing);
        assert_eq!(look(PACE_MS + AGAIN_MS).await, Disk::Well);
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

    #[test]
    fn a_failure_keeps_the_moment_at_which_it_began() {
        let mut disk = Probe::default();
        disk.take(Err("full".into()), Millis(100));
        disk.take(Err("still full".into()), Millis(900));
        assert_eq!(disk.known, Disk::Failing { since: Millis(100), why: "still full".into() });
        assert_eq!(disk.again_ms(), AGAIN_MS);
        disk.take(Ok(()), Millis(1_000));
        assert_eq!(disk.known, Disk::Well);
    }
}
