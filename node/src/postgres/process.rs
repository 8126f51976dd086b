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
//! Absent on purpose: waiting for readiness, a composition of what is here (`mod.rs`).

use super::error::{Error, read_if_there, remove_if_there};
use super::procfs::{
    Stat, Walsenders, began_at, children_of, has_clients, is_anybody_in, is_postgres_in,
    orphans_in, walsenders_of,
};
use nix::errno::Errno;
use nix::sys::signal::{Signal, kill};
use nix::unistd::{Pid, getpid, getppid};
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::process::Command;

/// How often backends that die are looked at: a start waits for them.
const BRISK: Duration = Duration::from_millis(5);
/// A killed backend that hangs in the kernel is left to the next look.
const ORPHANS_LIMIT: Duration = Duration::from_secs(1);
/// `setsid` and a shell have this long to hand over to postgres.
const SPAWN_LIMIT: Duration = Duration::from_secs(10);

/// Prints the pid that postgres will have, and becomes postgres when it is told
/// to. A start that is given up before that leaves nothing behind.
const LAUNCH: &str = "echo $$; read go || exit 1; unset PWD; exec \"$@\" 1>&2 </dev/null";

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
    pub(super) started: u64,
    pub(super) data_dir: PathBuf,
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
    /// When it began, in ticks since boot.
    pub fn started(&self) -> u64 {
        self.started
    }

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
        // A program that this process runs got the pid of a postmaster of before.
        if stat.parent == getpid().as_raw() {
            return Ok(None);
        }
        let known = began_at(epoch, stat.started)? || is_postgres_in(pid, data_dir, postgres);
        let found = Postmaster { pid, started: stat.started, data_dir: data_dir.to_path_buf() };
        Ok((known && stat.lives).then_some(found))
    }

    /// Removes a postmaster.pid that PostgreSQL would take for a sign of life:
    /// its pid is a zombie that was not reaped yet, or another program's now, or
    /// a loss of power has left it without any. Only when no process at all works in
    /// the data directory, for an orphaned backend of a killed postmaster does.
    pub fn clear_stale(data_dir: &Path, postgres: &Path) -> Result<(), Error> {
        if let Some(running) = Postmaster::find(data_dir, postgres)? {
            return Err(Error::AlreadyRuns(running.pid));
        }
        let path = data_dir.join("postmaster.pid");
        let Some(text) = read_if_there(&path)? else { return Ok(()) };
        let stands_in_the_way = match owner_of(&text) {
            Some(pid) => Stat::of(pid.abs())?.is_some(),
            None => true,
        };
        if !stands_in_the_way || is_anybody_in(data_dir) {
            return Ok(());
        }
        tracing::warn!("{} is removed: no process works in its directory", path.display());
        remove_if_there(&path)
    }

    /// Ends what a killed postmaster left behind: its backends still commit for
    /// their clients, and no server starts beside them.
    pub async fn end_orphans(data_dir: &Path, postgres: &Path) {
        if !data_dir.join("postmaster.pid").is_file() {
            return;
        }
        let until = tokio::time::Instant::now() + ORPHANS_LIMIT;
        while kill_orphans(data_dir, postgres) && tokio::time::Instant::now() < until {
            tokio::time::sleep(BRISK).await;
        }
    }

    /// The same before a start, which fails beside anybody: a backend that was
    /// forked a moment before has no title yet and is waited for.
    pub async fn end_all_orphans(data_dir: &Path, postgres: &Path) {
        let until = tokio::time::Instant::now() + ORPHANS_LIMIT;
        while data_dir.join("postmaster.pid").is_file()
            && (kill_orphans(data_dir, postgres) || is_anybody_in(data_dir))
            && tokio::time::Instant::now() < until
        {
            tokio::time::sleep(BRISK).await;
        }
    }

    /// Starts a postmaster in a session of its own and returns at once: it may
    /// still end because of its configuration (`is_alive`).
    pub async fn start(launch: &Launch<'_>) -> Result<Postmaster, Error> {
        if let Some(other) = Postmaster::find(launch.data_dir, launch.postgres)? {
            return Err(Error::AlreadyRuns(other.pid));
        }
        let pid = tokio::time::timeout(SPAWN_LIMIT, spawn(launch))
            .await
            .map_err(|_| Error::ToolTooSlow { tool: "setsid".into(), limit: SPAWN_LIMIT })??;
        let stat = Stat::of(pid)?.filter(|stat| stat.lives).ok_or(Error::EndedAtStart)?;
        let data_dir = launch.data_dir.to_path_buf();
        Ok(Postmaster { pid, started: stat.started, data_dir })
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

    /// Anybody who could still commit: clients, and workers that act as one.
    pub fn has_clients(&self) -> bool {
        has_clients(self.pid)
    }

    pub fn receivers(&self) -> Walsenders {
        walsenders_of(self.pid)
    }

    pub fn has_receivers(&self) -> bool {
        let found = self.receivers();
        !(found.physical.is_empty() && found.logical.is_empty())
    }

    /// Ends the connections over which others receive the log; those of physical
    /// replication too, or those of logical replication only.
    pub fn end_receivers(&self, physical_too: bool) {
        let found = self.receivers();
        let physical = found.physical.into_iter().filter(|_| physical_too);
        for walsender in found.logical.into_iter().chain(physical) {
            // It may have ended by itself.
            let _ = kill(Pid::from_raw(walsender), Signal::SIGTERM);
        }
    }

    fn send(&self, signal: Signal) -> Result<(), Error> {
        if !self.is_alive()? {
            return Ok(());
        }
        match kill(Pid::from_raw(self.pid), signal) {
            Ok(()) | Err(Errno::ESRCH) => Ok(()),
            Err(source) => Err(Error::Signal { pid: self.pid, source }),
        }
    }
}

/// Kills processes until none is found any more, for a while at most.
pub(super) async fn kill_until_gone(find: impl Fn() -> Vec<i32>) {
    let until = tokio::time::Instant::now() + ORPHANS_LIMIT;
    loop {
        let found = find();
        for pid in &found {
            // It may have ended by itself.
            let _ = kill(Pid::from_raw(*pid), Signal::SIGKILL);
        }
        if found.is_empty() || tokio::time::Instant::now() >= until {
            return;
        }
        tokio::time::sleep(BRISK).await;
    }
}

/// Were there any?
fn kill_orphans(data_dir: &Path, postgres: &Path) -> bool {
    let orphans = orphans_in(data_dir, postgres);
    for orphan in &orphans {
        // It may have ended by itself.
        let _ = kill(Pid::from_raw(*orphan), Signal::SIGKILL);
    }
    !orphans.is_empty()
}

/// The pid of the new process, which may end at any time. Nothing is awaited after
/// `go` is written: the caller gets the pid, or it drops the future and nothing runs.
async fn spawn(launch: &Launch<'_>) -> Result<i32, Error> {
    let mut command = Command::new("setsid");
    command.args(["--fork", "sh", "-c", LAUNCH, "sh"]).arg(launch.postgres);
    command.arg("-D").arg(launch.data_dir);
    command.arg(format!("--config-file={}", launch.config_file.display()));
    command.args(launch.options.iter().map(|(name, value)| format!("--{name}={value}")));
    command.current_dir(launch.data_dir).stdin(Stdio::piped()).stdout(Stdio::piped());
    if let Some(log) = launch.log {
        let file = std::fs::OpenOptions::new().create(true).append(true).open(log);
        command.stderr(file.map_err(Error::file("open", log))?);
    }
    clean_environment(&mut command, std::env::vars_os());
    let no_tool = |source| Error::NoTool { tool: "setsid".into(), source };
    let mut child = command.spawn().map_err(no_tool)?;
    let mut line = String::new();
    if let Some(stdout) = child.stdout.take() {
        BufReader::new(stdout).read_line(&mut line).await.map_err(no_tool)?;
    }
    let word = child.stdin.take();
    child.wait().await.map_err(no_tool)?;
    let unclear = |_| Error::ToolUnclear { tool: "setsid --fork sh".into(), missing: "pid" };
    let pid = line.trim().parse().map_err(unclear)?;
    if let Some(mut word) = word {
        word.write_all(b"go\n").await.map_err(no_tool)?;
    }
    Ok(pid)
}

/// A server or a command does not see what was meant for the daemon.
pub(super) fn clean_environment(
    command: &mut Command,
    ours: impl Iterator<Item = (OsString, OsString)>,
) {
    for (name, value) in ours {
        let text = name.to_string_lossy();
        if crate::config::is_for_the_daemon(&text) || text.starts_with("KUBERNETES_") {
            command.env_remove(&name);
        }
        if text == "PG_MALLOC_ARENA_MAX" {
            command.env_remove(&name).env("MALLOC_ARENA_MAX", value);
        }
    }
}

/// Where a server is reached, as it says itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Listening {
    pub pid: i32,
    /// Its first address; empty: it listens on sockets only.
    pub host: String,
    pub port: u16,
    /// Its first socket directory.
    pub socket_dir: Option<PathBuf>,
}

/// Of the server that runs on `data_dir`, or ran last.
pub(crate) fn listening(data_dir: &Path) -> Option<Listening> {
    let text = read_if_there(&data_dir.join("postmaster.pid")).ok()??;
    let (pid, _) = parse_pid_file(&text)?;
    let mut lines = text.lines().skip(3).map(str::trim);
    let port = lines.next()?.parse().ok()?;
    // An abstract socket has no directory; another one may be named from `data_dir`.
    let socket_dir = lines.next().filter(|dir| !dir.is_empty() && !dir.starts_with('@'));
    let socket_dir = socket_dir.map(|dir| data_dir.join(dir));
    let host = lines.next()?.to_string();
    Some(Listening { pid, host, port, socket_dir })
}

/// The pid that a lock file names; of a single-user server negative. `None`: the file
/// is empty or holds something else, and PostgreSQL refuses to judge it.
pub(super) fn owner_of(text: &str) -> Option<i32> {
    text.lines().next()?.trim().parse().ok().filter(|pid| *pid != 0)
}

/// Pid and start (seconds since 1970) of a postmaster.pid; none in a file of a
/// single-user server (negative) or in one that was cut off.
fn parse_pid_file(text: &str) -> Option<(i32, Option<u64>)> {
    let mut lines = text.lines();
    let pid: i32 = lines.next()?.trim().parse().ok()?;
    let epoch = lines.nth(1).and_then(|line| line.trim().parse().ok());
    (pid > 0).then_some((pid, epoch))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pid_files_are_read_with_care() {
        assert_eq!(parse_pid_file("42\n/data\n1795208971\n"), Some((42, Some(1795208971))));
        assert_eq!(parse_pid_file("42\n"), Some((42, None)));
        assert_eq!(parse_pid_file("-42\n/data\n1\n"), None);
        assert_eq!(parse_pid_file(""), None);
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(listening(dir.path()), None);
        let text = "42\n/data\n1795208971\n5433\n/tmp\n10.0.0.5\n  123  4\nready   \n";
        std::fs::write(dir.path().join("postmaster.pid"), text).unwrap();
        let (host, socket_dir) = ("10.0.0.5".to_string(), Some(PathBuf::from("/tmp")));
        let there = Listening { pid: 42, host, port: 5433, socket_dir };
        assert_eq!(listening(dir.path()), Some(there));
    }

    #[tokio::test]
    async fn the_server_sees_what_is_meant_for_it() {
        let ours = [
            ("PATRONI_SUPERUSER_PASSWORD", "secret"),
            ("KUBERNETES_SERVICE_HOST", "h"),
            ("NOTIFY_SOCKET", "/run/n"),
            ("PG_MALLOC_ARENA_MAX", "1"),
            ("PGTZ", "UTC"),
        ];
        let mut command = Command::new("/usr/bin/env");
        command.env_clear().envs(ours);
        let ours = ours.map(|(name, value)| (OsString::from(name), OsString::from(value)));
        clean_environment(&mut command, ours.into_iter());
        let seen = command.output().await.unwrap().stdout;
        let mut seen: Vec<&str> = std::str::from_utf8(&seen).unwrap().lines().collect();
        seen.sort_unstable();
        assert_eq!(seen, ["MALLOC_ARENA_MAX=1", "PGTZ=UTC"]);
    }

    #[test]
    fn a_stranger_with_the_pid_is_no_postmaster() {
        let dir = tempfile::tempdir().unwrap();
        // Process 1 is no PostgreSQL server, and began at another time than the file tells.
        let text = format!("1\n{}\n1000\n", dir.path().display());
        std::fs::write(dir.path().join("postmaster.pid"), text).unwrap();
        let found = Postmaster::find(dir.path(), Path::new("postgres"));
        assert_eq!(found.unwrap(), None);
    }

    /// It began in the very second that the file tells.
    #[test]
    fn a_child_with_the_pid_is_no_postmaster() {
        let dir = tempfile::tempdir().unwrap();
        let mut other = std::process::Command::new("sleep").arg("30").spawn().unwrap();
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
        let text = format!("{}\n{}\n{}\n", other.id(), dir.path().display(), now.as_secs());
        std::fs::write(dir.path().join("postmaster.pid"), text).unwrap();
        let found = Postmaster::find(dir.path(), Path::new("postgres"));
        other.kill().unwrap();
        other.wait().unwrap();
        assert_eq!(found.unwrap(), None);
    }

    /// A server began before the clock was set: its file and its process tell other
    /// moments, and no second server may be started beside it.
    #[test]
    fn bug18_a_clock_that_was_set_hides_no_postmaster() {
        let (dir, place) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let program = place.path().join("postgres");
        std::fs::copy("/bin/sleep", &program).unwrap();
        // The shell ends, so the server is no child of this process.
        let mut shell = std::process::Command::new("sh");
        shell.args(["-c", "\"$0\" 60 >/dev/null 2>&1 & echo $!"]).arg(&program);
        let output = shell.current_dir(dir.path()).output().unwrap();
        let pid: i32 = String::from_utf8_lossy(&output.stdout).trim().parse().unwrap();
        while !is_postgres_in(pid, dir.path(), &program) {
            std::thread::yield_now();
        }
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
        let found: Vec<_> = [0_i64, -7_200, 7_200]
            .map(|stepped| {
                let began = now.as_secs() as i64 + stepped;
                let text = format!("{pid}\n{}\n{began}\n", dir.path().display());
                std::fs::write(dir.path().join("postmaster.pid"), text).unwrap();
                let found = Postmaster::find(dir.path(), &program);
                let cleared = Postmaster::clear_stale(dir.path(), &program);
                (found.unwrap().map(|server| server.pid), cleared.is_err())
            })
            .into();
        kill(Pid::from_raw(pid), Signal::SIGKILL).unwrap();
        assert_eq!(found, [(Some(pid), true); 3]);
    }

    #[test]
    fn a_zombie_holds_no_data_directory() {
        let dir = tempfile::tempdir().unwrap();
        let mut other = std::process::Command::new("true").spawn().unwrap();
        let path = dir.path().join("postmaster.pid");
        std::fs::write(&path, format!("{}\n/\n1000\n", other.id())).unwrap();
        Postmaster::clear_stale(dir.path(), Path::new("postgres")).unwrap();
        other.wait().unwrap();
        assert!(!path.exists());
    }

    #[test]
    fn h6_a_pid_file_without_a_pid_holds_no_data_directory() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("postmaster.pid");
        let clear = || Postmaster::clear_stale(dir.path(), Path::new("postgres")).unwrap();
        for text in ["", "\0\0\0\0", "0\n/data\n", "rubbish\n"] {
            std::fs::write(&path, text).unwrap();
            let mut owner = std::process::Command::new("sleep");
            let mut owner = owner.arg("30").current_dir(dir.path()).spawn().unwrap();
            clear();
            assert!(path.exists(), "a process works in the directory");
            owner.kill().unwrap();
            owner.wait().unwrap();
            clear();
            assert!(!path.exists(), "{text:?} keeps the server down");
        }
        // What names a dead process is PostgreSQL's own to judge.
        std::fs::write(&path, "-999999999\n/data\n1\n").unwrap();
        clear();
        assert!(path.exists());
    }

    #[test]
    fn no_pid_file_is_no_postmaster_and_an_unreadable_one_is_not_known() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(Postmaster::find(dir.path(), Path::new("postgres")).unwrap(), None);
        std::fs::create_dir(dir.path().join("postmaster.pid")).unwrap();
        assert!(Postmaster::find(dir.path(), Path::new("postgres")).is_err());
    }
}
