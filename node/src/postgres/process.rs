//! The postmaster: finding it, starting it, sending it signals.
//!
//! The postmaster is not our child: it lives in its own session and survives
//! the death of this daemon, and the next daemon adopts it. So everything is
//! done through its pid, and the pid is only trusted together with the moment
//! at which that process began.
//!
//! Invariant *the right process*: no signal is sent to a pid whose process did
//! not begin when the postmaster we know began.
//!
//! Absent on purpose: waiting for readiness and stopping with a deadline; both
//! are compositions of what is here (`mod.rs`).

use super::error::{Error, read_if_there};
use nix::errno::Errno;
use nix::sys::signal::{Signal, kill};
use nix::unistd::{Pid, getpid, getppid};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::Command;

/// Ticks of a second in /proc: a constant of Linux's interface.
const TICKS: u64 = 100;
/// postmaster.pid holds whole seconds, and the boot time is rounded too.
const START_TOLERANCE_S: u64 = 3;
/// How often a dying postmaster is looked at: a client waits for the answer.
const BRISK: Duration = Duration::from_millis(5);
/// How often a living one is looked at; its connections tell sooner.
const CALM: Duration = Duration::from_millis(100);
/// `setsid` and a shell have this long to hand over to postgres.
const SPAWN_LIMIT: Duration = Duration::from_secs(10);

/// Prints the pid that postgres will have, then becomes postgres.
const LAUNCH: &str = "echo $$; unset PWD; exec \"$@\" 1>&2";

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StopMode {
    /// Waits for clients to leave.
    Smart,
    /// Ends clients, writes a checkpoint.
    Fast,
    /// Ends at once; the next start begins with crash recovery.
    Immediate,
}

/// A postmaster that was seen running.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Postmaster {
    pub pid: i32,
    /// When it began, in ticks since boot.
    started: u64,
    data_dir: PathBuf,
}

/// How to start one.
#[derive(Clone, Debug)]
pub struct Launch<'a> {
    pub postgres: &'a Path,
    pub data_dir: &'a Path,
    pub config_file: &'a Path,
    /// Becomes `--name=value`, in this order.
    pub options: &'a [(String, String)],
    /// Where the server's own output goes; ours when absent.
    pub log: Option<&'a Path>,
}

impl Postmaster {
    /// The postmaster of `data_dir`, if one runs.
    pub fn find(data_dir: &Path, postgres: &Path) -> Result<Option<Postmaster>, Error> {
        let Some(text) = read_if_there(&data_dir.join("postmaster.pid"))? else {
            return Ok(None);
        };
        let Some((pid, epoch)) = parse_pid_file(&text) else {
            return Ok(None);
        };
        if pid == getpid().as_raw() || pid == getppid().as_raw() {
            return Ok(None);
        }
        let Some(stat) = Stat::of(pid)? else {
            return Ok(None);
        };
        let known = began_at(epoch, stat.started)? || is_postgres_in(pid, data_dir, postgres);
        let found = Postmaster {
            pid,
            started: stat.started,
            data_dir: data_dir.to_path_buf(),
        };
        Ok((known && stat.lives).then_some(found))
    }

    /// Starts a postmaster in a session of its own and returns at once: it may
    /// still end because of its configuration (`is_alive`).
    pub async fn start(launch: &Launch<'_>) -> Result<Postmaster, Error> {
        if let Some(other) = Postmaster::find(launch.data_dir, launch.postgres)? {
            return Err(Error::AlreadyRuns(other.pid));
        }
        let pid = tokio::time::timeout(SPAWN_LIMIT, spawn(launch))
            .await
            .map_err(|_| Error::ToolTooSlow {
                tool: "setsid".into(),
                limit: SPAWN_LIMIT,
            })??;
        let stat = Stat::of(pid)?
            .filter(|stat| stat.lives)
            .ok_or(Error::EndedAtStart)?;
        let data_dir = launch.data_dir.to_path_buf();
        Ok(Postmaster {
            pid,
            started: stat.started,
            data_dir,
        })
    }

    /// `Err`: /proc could not be read, so it is not known.
    pub fn is_alive(&self) -> Result<bool, Error> {
        let stat = Stat::of(self.pid)?;
        Ok(stat.is_some_and(|stat| stat.lives && stat.started == self.started))
    }

    /// Asks it to end; `wait_exit` says when it has.
    pub fn stop(&self, mode: StopMode) -> Result<(), Error> {
        self.send(match mode {
            StopMode::Smart => Signal::SIGTERM,
            StopMode::Fast => Signal::SIGINT,
            StopMode::Immediate => Signal::SIGQUIT,
        })
    }

    /// Reads its configuration files again.
    pub fn reload(&self) -> Result<(), Error> {
        self.send(Signal::SIGHUP)
    }

    /// Tells a standby to leave recovery. It does so by itself from here on.
    pub fn promote(&self) -> Result<(), Error> {
        let trigger = self.data_dir.join("promote");
        std::fs::write(&trigger, b"").map_err(Error::file("create", &trigger))?;
        self.send(Signal::SIGUSR1)
    }

    /// Kills the postmaster and all its children, without mercy or checkpoint.
    pub fn kill_all(&self) -> Result<(), Error> {
        // Stopped first, so that it starts no child that we would not see.
        self.send(Signal::SIGSTOP)?;
        let children = children_of(self.pid);
        self.send(Signal::SIGKILL)?;
        for child in children {
            // A child that is gone already is what we want.
            let _ = kill(Pid::from_raw(child), Signal::SIGKILL);
        }
        Ok(())
    }

    /// Ready when a postmaster that was told to end has ended.
    pub async fn wait_exit(&self) {
        self.poll_exit(BRISK).await;
    }

    /// Ready when a postmaster that should go on living has ended. Cheap, for
    /// the whole life of the server.
    pub async fn watch_exit(&self) {
        self.poll_exit(CALM).await;
    }

    async fn poll_exit(&self, pace: Duration) {
        // Not known is not gone: keep looking.
        while self.is_alive().unwrap_or(true) {
            tokio::time::sleep(pace).await;
        }
    }

    fn send(&self, signal: Signal) -> Result<(), Error> {
        if !self.is_alive()? {
            return Ok(());
        }
        match kill(Pid::from_raw(self.pid), signal) {
            Ok(()) | Err(Errno::ESRCH) => Ok(()),
            Err(source) => Err(Error::Signal {
                pid: self.pid,
                source,
            }),
        }
    }
}

/// The pid of the new process, which may end at any time.
async fn spawn(launch: &Launch<'_>) -> Result<i32, Error> {
    let mut command = Command::new("setsid");
    command
        .args(["--fork", "sh", "-c", LAUNCH, "sh"])
        .arg(launch.postgres);
    command.arg("-D").arg(launch.data_dir);
    command.arg(format!("--config-file={}", launch.config_file.display()));
    command.args(
        launch
            .options
            .iter()
            .map(|(name, value)| format!("--{name}={value}")),
    );
    command
        .current_dir(launch.data_dir)
        .stdin(Stdio::null())
        .stdout(Stdio::piped());
    if let Some(log) = launch.log {
        let file = std::fs::OpenOptions::new()
            .create(true)
            .append(true)
            .open(log);
        command.stderr(file.map_err(Error::file("open", log))?);
    }
    clean_environment(&mut command);
    let no_tool = |source| Error::NoTool {
        tool: "setsid".into(),
        source,
    };
    let mut child = command.spawn().map_err(no_tool)?;
    let mut line = String::new();
    if let Some(stdout) = child.stdout.take() {
        BufReader::new(stdout)
            .read_line(&mut line)
            .await
            .map_err(no_tool)?;
    }
    child.wait().await.map_err(no_tool)?;
    let unclear = |_| Error::ToolUnclear {
        tool: "setsid --fork sh".into(),
        missing: "pid",
    };
    line.trim().parse().map_err(unclear)
}

/// The server does not see what was meant for the daemon.
fn clean_environment(command: &mut Command) {
    for (name, value) in std::env::vars_os() {
        let text = name.to_string_lossy();
        if text == "NOTIFY_SOCKET"
            || text.starts_with("PATRONI_")
            || text.starts_with("KUBERNETES_")
        {
            command.env_remove(&name);
        }
        if text == "PG_MALLOC_ARENA_MAX" {
            command.env_remove(&name).env("MALLOC_ARENA_MAX", value);
        }
    }
}

/// Pid and start (seconds since 1970) of a postmaster.pid; none in a file of a
/// single-user server (negative) or in one that was cut off.
fn parse_pid_file(text: &str) -> Option<(i32, Option<u64>)> {
    let mut lines = text.lines();
    let pid: i32 = lines.next()?.trim().parse().ok()?;
    let epoch = lines.nth(1).and_then(|line| line.trim().parse().ok());
    (pid > 0).then_some((pid, epoch))
}

/// The words of /proc/<pid>/stat that matter.
struct Stat {
    lives: bool,
    parent: i32,
    started: u64,
}

impl Stat {
    fn of(pid: i32) -> Result<Option<Stat>, Error> {
        let path = PathBuf::from(format!("/proc/{pid}/stat"));
        match read_if_there(&path) {
            Ok(text) => Ok(text.and_then(|text| Stat::parse(&text))),
            // The process ended between open and read.
            Err(Error::File { source, .. }) if source.raw_os_error() == Some(3) => Ok(None),
            Err(error) => Err(error),
        }
    }

    fn parse(text: &str) -> Option<Stat> {
        // The name in parentheses may hold anything; count from its end.
        let words: Vec<&str> = text.rsplit_once(')')?.1.split_whitespace().collect();
        let lives = !matches!(*words.first()?, "Z" | "X" | "x");
        let parent = words.get(1)?.parse().ok()?;
        Some(Stat {
            lives,
            parent,
            started: words.get(19)?.parse().ok()?,
        })
    }
}

fn began_at(epoch: Option<u64>, ticks: u64) -> Result<bool, Error> {
    let Some(epoch) = epoch else { return Ok(false) };
    let path = Path::new("/proc/stat");
    let text = read_if_there(path)?.unwrap_or_default();
    let boot = text.lines().find_map(|line| line.strip_prefix("btime "));
    let boot: Option<u64> = boot.and_then(|seconds| seconds.trim().parse().ok());
    Ok(boot.is_some_and(|boot| (boot + ticks / TICKS).abs_diff(epoch) <= START_TOLERANCE_S))
}

/// The clock may have been set since; then the program and its place decide.
fn is_postgres_in(pid: i32, data_dir: &Path, postgres: &Path) -> bool {
    let link = |name: &str| std::fs::read_link(format!("/proc/{pid}/{name}")).ok();
    let (Some(exe), Some(cwd)) = (link("exe"), link("cwd")) else {
        return false;
    };
    let names = [
        postgres.file_name(),
        Some("postmaster".as_ref()),
        Some("postgres".as_ref()),
    ];
    let right_place = std::fs::canonicalize(data_dir).is_ok_and(|dir| dir == cwd);
    right_place && names.contains(&exe.file_name())
}

fn children_of(parent: i32) -> Vec<i32> {
    let Ok(entries) = std::fs::read_dir("/proc") else {
        return Vec::new();
    };
    let pids = entries
        .flatten()
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    pids.filter(|pid| matches!(Stat::of(*pid), Ok(Some(stat)) if stat.parent == parent))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pid_files_are_read_with_care() {
        assert_eq!(
            parse_pid_file("42\n/data\n1795208971\n"),
            Some((42, Some(1795208971)))
        );
        assert_eq!(parse_pid_file("42\n"), Some((42, None)));
        assert_eq!(parse_pid_file("-42\n/data\n1\n"), None);
        assert_eq!(parse_pid_file(""), None);
    }

    #[test]
    fn a_process_name_may_hold_parentheses() {
        let tail = "S 7 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 12345 0";
        let stat = Stat::parse(&format!("42 (a) b) {tail}")).unwrap();
        assert!(stat.lives);
        assert_eq!((stat.parent, stat.started), (7, 12345));
    }

    #[test]
    fn a_stranger_with_the_pid_is_no_postmaster() {
        let dir = tempfile::tempdir().unwrap();
        let mut other = std::process::Command::new("sleep")
            .arg("30")
            .spawn()
            .unwrap();
        let text = format!("{}\n{}\n1000\n", other.id(), dir.path().display());
        std::fs::write(dir.path().join("postmaster.pid"), text).unwrap();
        let found = Postmaster::find(dir.path(), Path::new("postgres"));
        other.kill().unwrap();
        other.wait().unwrap();
        assert_eq!(found.unwrap(), None);
    }

    #[test]
    fn no_pid_file_is_no_postmaster_and_an_unreadable_one_is_not_known() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(
            Postmaster::find(dir.path(), Path::new("postgres")).unwrap(),
            None
        );
        std::fs::create_dir(dir.path().join("postmaster.pid")).unwrap();
        assert!(Postmaster::find(dir.path(), Path::new("postgres")).is_err());
    }
}
