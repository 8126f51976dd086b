//! Commands that an operator configured, run to their end.
//!
//! A command is split as a shell splits words; relative paths are relative to
//! the daemon's working directory, which the command keeps.
//!
//! Invariant *nothing is left behind*: a command leads a process group of its
//! own, and ending it ends its children. Only a callback outlives the daemon.

use crate::words::split;
use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use std::process::{ExitStatus, Stdio};
use std::time::Duration;
use tokio::process::{Child, Command};

/// A drain before a stop or a load after initdb may take long; a command that
/// hangs must not hold its member for ever.
pub(super) const LIMIT: Duration = Duration::from_secs(3_600);
/// Between the polite signal and the other one.
const GRACE: Duration = Duration::from_secs(1);

/// A command that runs.
pub(super) struct Script {
    shown: String,
    child: Child,
    group: Option<Pid>,
    /// Dropping this `Script` ends the command.
    bound: bool,
}

impl Script {
    /// Begins `command` with more arguments behind its own.
    pub(super) fn start(command: &str, more: &[String]) -> Result<Script, String> {
        let words = split(command).ok_or_else(|| format!("`{command}`: a quote is not closed"))?;
        let (program, arguments) = words.split_first().ok_or("the command is empty")?;
        let mut started = Command::new(program);
        crate::config::hide_from(started.as_std_mut());
        let child = started
            .args(arguments)
            .args(more)
            .stdin(Stdio::null())
            .process_group(0)
            .spawn()
            .map_err(|e| format!("`{program}`: {e}"))?;
        let group = child.id().map(|id| Pid::from_raw(id.cast_signed()));
        Ok(Script { shown: command.to_string(), child, group, bound: true })
    }

    /// It goes on when the daemon ends.
    pub(super) fn unbound(mut self) -> Script {
        self.bound = false;
        self
    }

    pub(super) async fn wait(&mut self) -> std::io::Result<ExitStatus> {
        let status = self.child.wait().await;
        self.group = None;
        status
    }

    /// Ends it and its children.
    pub(super) async fn end(mut self) {
        let Some(group) = self.group else { return };
        // Each may have ended by itself; then there is no process to signal.
        let _ = killpg(group, Signal::SIGTERM);
        let _ = tokio::time::timeout(GRACE, self.child.wait()).await;
        let _ = killpg(group, Signal::SIGKILL);
        let _ = self.wait().await;
    }

    async fn finish(mut self, limit: Duration) -> Result<(), String> {
        let command = self.shown.clone();
        let status = tokio::time::timeout(limit, self.wait()).await;
        let status = status.map_err(|_| format!("`{command}` was not done in {limit:?}"))?;
        let status = status.map_err(|e| format!("`{command}`: {e}"))?;
        if status.success() { Ok(()) } else { Err(format!("`{command}` ended with {status}")) }
    }
}

impl Drop for Script {
    fn drop(&mut self) {
        if let Some(group) = self.group.filter(|_| self.bound) {
            let _ = killpg(group, Signal::SIGKILL);
        }
    }
}

/// Runs `command` with more arguments behind its own; not 0 is an error.
pub(super) async fn run(command: &str, more: &[String]) -> Result<(), String> {
    Script::start(command, more)?.finish(LIMIT).await
}

/// The same for one that a lock waits for: it has less time.
pub(super) async fn run_within(command: &str, limit: Duration) -> Result<(), String> {
    Script::start(command, &[])?.finish(limit).await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn failure_and_absence_are_told() {
        assert!(run("true", &[]).await.is_ok());
        assert!(run("false", &[]).await.unwrap_err().contains("exit status"));
        assert!(run("no-such-program-here", &[]).await.is_err());
    }

    #[tokio::test]
    async fn h3_a_pre_promote_that_hangs_fails_in_time() {
        let why = run_within("sleep 60", Duration::from_millis(50)).await.unwrap_err();
        assert!(why.contains("was not done in 50ms"), "{why}");
    }

    /// A command whose child would leave `mark` behind after half a second.
    fn slow(mark: &std::path::Path) -> String {
        format!("sh -c '(sleep 0.5; touch {}) & wait'", mark.display())
    }

    #[tokio::test]
    async fn a_command_that_is_given_up_ends_with_its_children() {
        let dir = tempfile::tempdir().unwrap();
        let (dropped, ended) = (dir.path().join("dropped"), dir.path().join("ended"));
        drop(Script::start(&slow(&dropped), &[]).unwrap());
        Script::start(&slow(&ended), &[]).unwrap().end().await;
        tokio::time::sleep(Duration::from_millis(900)).await;
        assert!(!dropped.exists() && !ended.exists(), "a child survived");
    }

    #[tokio::test]
    async fn a_relative_path_begins_where_the_daemon_runs() {
        let here = std::env::current_dir().unwrap();
        let dir = tempfile::tempdir_in(&here).unwrap();
        let name = dir.path().file_name().unwrap().to_str().unwrap();
        run("sh -c 'cp /dev/null \"$0/$1\"'", &[format!("./{name}"), "mark".into()]).await.unwrap();
        assert!(dir.path().join("mark").exists());
    }
}
