//! How a postmaster ends: asking it to, waiting for it, and what must be gone before the next one.

use super::error::{Error, read_if_there};
use super::process::{Postmaster, StopMode, owner_of};
use super::procfs::Stat;
use nix::errno::Errno;
use rustix::process::{PidfdFlags, pidfd_open};
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::time::Duration;
use tokio::io::unix::AsyncFd;

/// Until a process that has ended is reaped.
const BRISK: Duration = Duration::from_millis(5);
/// How often the postmaster is looked at, where the kernel does not tell its end.
const CALM: Duration = Duration::from_millis(50);
/// A process that has ended is reaped within this, where anything reaps it.
const REAPED_LIMIT: Duration = Duration::from_secs(1);

impl Postmaster {
    /// Ends it without a checkpoint, and kills it if it has not ended after `quit`.
    pub async fn stop_at_once(&self, quit: Duration, killed: Duration) -> Result<(), Error> {
        self.stop(StopMode::Immediate)?;
        if tokio::time::timeout(quit, self.wait_exit()).await.is_err() {
            self.kill_all()?;
        }
        let gone = tokio::time::timeout(killed, self.wait_gone()).await;
        gone.map_err(|_| Error::OutlivesKill { pid: self.pid, limit: killed })
    }

    /// Ready when the postmaster has ended. The kernel tells (pidfd); where it
    /// cannot, the process is looked at.
    pub async fn wait_exit(&self) {
        if let Ok(Some(exit)) = self.exit_event()
            && let Err(error) = exit.readable().await
        {
            tracing::warn!("the end of process {} is polled for: {error}", self.pid);
        }
        // Not known is not gone: keep looking.
        while self.is_alive().unwrap_or(true) {
            tokio::time::sleep(CALM).await;
        }
    }

    /// Ready when it has ended and nothing of it stands in the way of the next start: PostgreSQL takes
    /// the lock file of a process that was not reaped yet for that of a server that runs. A server that
    /// ends by itself removes that file, so only a killed one is waited for. Where nothing reaps it, the
    /// file is removed before a start (`clear_stale`), so this wait has an end.
    pub async fn wait_gone(&self) {
        self.wait_exit().await;
        let until = tokio::time::Instant::now() + REAPED_LIMIT;
        while self.stands_in_the_way() && tokio::time::Instant::now() < until {
            tokio::time::sleep(BRISK).await;
        }
    }

    /// It has left its lock file, and is there at least as a process that was not reaped.
    fn stands_in_the_way(&self) -> bool {
        let text = read_if_there(&self.data_dir.join("postmaster.pid"));
        // A file that cannot be read may be its own.
        let has_file = text.map_or(true, |text| text.is_some_and(|text| self.owns(&text)));
        let stat = || Stat::of(self.pid);
        has_file && stat().is_ok_and(|stat| stat.is_some_and(|stat| stat.started == self.started))
    }

    /// The lock file is its own.
    fn owns(&self, text: &str) -> bool {
        owner_of(text).is_some_and(|pid| pid.abs() == self.pid)
    }

    /// None: it has ended. The process is looked at after the descriptor was
    /// made, so that the descriptor is not of another one with the same pid.
    fn exit_event(&self) -> Result<Option<AsyncFd<OwnedFd>>, Error> {
        let signal = |source: rustix::io::Errno| Error::Signal {
            pid: self.pid,
            source: Errno::from_raw(source.raw_os_error()),
        };
        let Some(pid) = rustix::process::Pid::from_raw(self.pid) else { return Ok(None) };
        let event = match pidfd_open(pid, PidfdFlags::NONBLOCK) {
            Ok(event) => event,
            Err(rustix::io::Errno::SRCH) => return Ok(None),
            Err(source) => return Err(signal(source)),
        };
        if !self.is_alive()? {
            return Ok(None);
        }
        let path = PathBuf::from(format!("/proc/{}", self.pid));
        #[expect(deprecated, reason = "sound here: an OwnedFd never changes its descriptor")]
        AsyncFd::new(event).map(Some).map_err(Error::file("watch", &path))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;

    /// A process that is never reaped stands for one that a signal does not end.
    #[tokio::test]
    async fn a_stop_at_once_ends_in_an_error_when_a_process_outlives_it() {
        let mut child = std::process::Command::new("sleep").arg("30").spawn().unwrap();
        let pid = i32::try_from(child.id()).unwrap();
        let started = Stat::of(pid).unwrap().unwrap().started;
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("postmaster.pid"), format!("{pid}\n/\n1000\n")).unwrap();
        let postmaster = Postmaster { pid, started, data_dir: dir.path().to_path_buf() };
        let brief = REAPED_LIMIT / 10;
        let stopped = postmaster.stop_at_once(brief, brief).await;
        assert!(matches!(stopped, Err(Error::OutlivesKill { .. })), "{stopped:?}");
        child.wait().unwrap();
        assert!(postmaster.stop_at_once(brief, brief).await.is_ok(), "it is gone");
    }

    /// A child of this process that has ended and left its lock file, and that nothing has reaped.
    fn ended(data_dir: &Path) -> (std::process::Child, Postmaster) {
        let child = std::process::Command::new("true").spawn().unwrap();
        let pid = i32::try_from(child.id()).unwrap();
        while Stat::of(pid).unwrap().expect("not reaped").lives {
            std::thread::yield_now();
        }
        let started = Stat::of(pid).unwrap().expect("not reaped").started;
        std::fs::write(data_dir.join("postmaster.pid"), format!("{pid}\n/\n1000\n")).unwrap();
        (child, Postmaster { pid, started, data_dir: data_dir.to_path_buf() })
    }

    #[tokio::test]
    async fn a_server_that_removed_its_lock_file_is_gone_before_it_is_reaped() {
        let dir = tempfile::tempdir().unwrap();
        let (mut child, server) = ended(dir.path());
        let path = dir.path().join("postmaster.pid");
        for other in ["1\n/\n1000\n", ""] {
            match other {
                "" => std::fs::remove_file(&path).unwrap(),
                another => std::fs::write(&path, another).unwrap(),
            }
            let begin = tokio::time::Instant::now();
            server.wait_gone().await;
            assert!(begin.elapsed() < REAPED_LIMIT / 2, "a switchover would take that much longer");
        }
        child.wait().unwrap();
    }

    #[tokio::test]
    async fn a_server_is_gone_when_it_was_reaped_and_the_wait_for_that_has_an_end() {
        let dir = tempfile::tempdir().unwrap();
        let (mut child, server) = ended(dir.path());
        server.wait_exit().await;
        assert!(server.stands_in_the_way(), "it has ended, and was not reaped");
        let begin = tokio::time::Instant::now();
        server.wait_gone().await;
        assert!(begin.elapsed() >= REAPED_LIMIT, "nothing reaps it");
        assert!(server.stands_in_the_way());
        let waits = server.wait_gone();
        let reaps = async {
            tokio::time::sleep(REAPED_LIMIT / 4).await;
            child.wait().unwrap();
        };
        let begin = tokio::time::Instant::now();
        tokio::join!(waits, reaps);
        assert!(!server.stands_in_the_way() && begin.elapsed() < REAPED_LIMIT / 2);
    }
}
