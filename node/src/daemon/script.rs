//! Commands that an operator configured, run to their end.
//!
//! A command is split as a shell splits words; relative paths are relative to
//! the daemon's working directory.

use crate::words::split;
use std::process::Stdio;
use std::time::Duration;
use tokio::process::Command;

/// A script that gates a promotion or a stop must not hold it for ever.
const LIMIT: Duration = Duration::from_secs(60);

/// Runs `command` with more arguments behind its own; not 0 is an error.
pub(super) async fn run(command: &str, more: &[String]) -> Result<(), String> {
    run_within(LIMIT, command, more).await
}

/// The same, where less time is left.
pub(super) async fn run_within(
    limit: Duration,
    command: &str,
    more: &[String],
) -> Result<(), String> {
    let words = split(command).ok_or_else(|| format!("`{command}`: a quote is not closed"))?;
    let (program, arguments) = words.split_first().ok_or("the command is empty")?;
    let child = Command::new(program)
        .args(arguments)
        .args(more)
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .status();
    let status = tokio::time::timeout(limit, child).await;
    let status = status.map_err(|_| format!("`{command}` was not done in {limit:?}"))?;
    let status = status.map_err(|e| format!("`{program}`: {e}"))?;
    if status.success() { Ok(()) } else { Err(format!("`{command}` ended with {status}")) }
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
}
