//! Runs one program of PostgreSQL to its end.
//!
//! Invariant *nothing is left behind*: dropping the future kills the program
//! and everything it started (it leads a process group of its own), so a
//! cancelled action cannot keep writing into the data directory.
//!
//! Absent on purpose: the postmaster, which must survive us (`process.rs`).

use super::error::Error;
use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use std::process::Stdio;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::process::{Child, Command};

/// Kept of each output stream; the rest is read and dropped.
const OUTPUT_BYTES_MAX: usize = 256 * 1024;
/// Of one line its beginning is kept: pg_waldump prints the content of a record
/// behind what describes it.
const LINE_BYTES_MAX: usize = 16 * 1024;
/// The last words of a failed tool that go into the error.
const STDERR_CHARS_MAX: usize = 2000;

/// The process group of a running tool, killed unless the tool has ended.
struct ToolGroup(Option<Pid>);

impl Drop for ToolGroup {
    fn drop(&mut self) {
        if let Some(group) = self.0 {
            // It may have ended this moment; then there is no process to kill.
            let _ = killpg(group, Signal::SIGKILL);
        }
    }
}

/// Runs `command`, demands exit status 0 within `limit`, returns what it printed.
pub(crate) async fn run(command: Command, limit: Duration) -> Result<String, Error> {
    run_named(command, limit, |_| Ok(())).await
}

/// The same; `named` hears the pid as soon as it runs, and ends it by failing.
pub(crate) async fn run_named(
    command: Command,
    limit: Duration,
    named: impl FnOnce(i32) -> Result<(), Error>,
) -> Result<String, Error> {
    let tool = name_of(&command);
    match tokio::time::timeout(limit, run_to_end(command, named)).await {
        Ok(output) => output,
        Err(_) => Err(Error::ToolTooSlow { tool, limit }),
    }
}

/// Runs `command` on `input` and returns what it printed as errors: the whole of it,
/// as far as that is kept. `None`: it was content.
pub(crate) async fn complaints(
    mut command: Command,
    input: std::fs::File,
    limit: Duration,
) -> Result<Option<String>, Error> {
    let tool = name_of(&command);
    command.stdin(Stdio::from(input)).stdout(Stdio::null()).stderr(Stdio::piped());
    let told = async {
        let (mut child, mut group) = spawn(command)?;
        let (_, stderr, status) = collect(&mut child).await;
        let no_tool = |source| Error::NoTool { tool: tool.clone().into(), source };
        let status = status.map_err(no_tool)?;
        group.0 = None;
        Ok((!status.success()).then_some(stderr))
    };
    match tokio::time::timeout(limit, told).await {
        Ok(told) => told,
        Err(_) => Err(Error::ToolTooSlow { tool, limit }),
    }
}

/// The same for a command whose output a person is to read: it goes where ours
/// goes.
pub(crate) async fn run_shown(mut command: Command, limit: Duration) -> Result<(), Error> {
    let tool = name_of(&command);
    command.stdin(Stdio::null());
    let shown = async {
        let (mut child, mut group) = spawn(command)?;
        let status = child.wait().await;
        let no_tool = |source| Error::NoTool { tool: tool.clone().into(), source };
        let status = status.map_err(no_tool)?;
        group.0 = None;
        if status.success() {
            return Ok(());
        }
        let stderr = "its own output says why".to_string();
        Err(Error::ToolFailed { tool: tool.clone(), status: status.to_string(), stderr })
    };
    match tokio::time::timeout(limit, shown).await {
        Ok(ended) => ended,
        Err(_) => Err(Error::ToolTooSlow { tool, limit }),
    }
}

fn spawn(mut command: Command) -> Result<(Child, ToolGroup), Error> {
    let path = command.as_std().get_program().into();
    command.process_group(0).kill_on_drop(true);
    crate::config::hide_from(command.as_std_mut());
    let child = command.spawn().map_err(|source| Error::NoTool { tool: path, source })?;
    let group = ToolGroup(child.id().map(|id| Pid::from_raw(id.cast_signed())));
    Ok((child, group))
}

async fn run_to_end(
    mut command: Command,
    named: impl FnOnce(i32) -> Result<(), Error>,
) -> Result<String, Error> {
    let tool = name_of(&command);
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let (mut child, mut group) = spawn(command)?;
    if let Some(pid) = group.0 {
        named(pid.as_raw())?;
    }
    let (stdout, stderr, status) = collect(&mut child).await;
    let status = status.map_err(|source| Error::NoTool { tool: tool.clone().into(), source })?;
    group.0 = None;
    if status.success() {
        return Ok(stdout);
    }
    Err(Error::ToolFailed { tool, status: status.to_string(), stderr: last_words(&stderr) })
}

async fn collect(child: &mut Child) -> (String, String, std::io::Result<std::process::ExitStatus>) {
    let (out, err) = (child.stdout.take(), child.stderr.take());
    tokio::join!(drain(out), drain(err), child.wait())
}

/// Reads a stream to its end and keeps its last part.
async fn drain(stream: Option<impl AsyncRead + Unpin>) -> String {
    let mut kept = Vec::new();
    let Some(mut stream) = stream else {
        return String::new();
    };
    let (mut chunk, mut column) = ([0u8; 8192], 0);
    while let Ok(count @ 1..) = stream.read(&mut chunk).await {
        for part in chunk[..count].split_inclusive(|byte| *byte == b'\n') {
            let is_end = part.ends_with(b"\n");
            let text = &part[..part.len() - usize::from(is_end)];
            let room = LINE_BYTES_MAX.saturating_sub(column).min(text.len());
            kept.extend_from_slice(&text[..room]);
            kept.extend(is_end.then_some(b'\n'));
            column = if is_end { 0 } else { column + text.len() };
        }
        if kept.len() > OUTPUT_BYTES_MAX {
            kept.drain(..kept.len() - OUTPUT_BYTES_MAX);
        }
    }
    String::from_utf8_lossy(&kept).into_owned()
}

fn last_words(stderr: &str) -> String {
    let text = stderr.trim();
    let skip = text.chars().count().saturating_sub(STDERR_CHARS_MAX);
    text.chars().skip(skip).collect()
}

fn name_of(command: &Command) -> String {
    let program = std::path::Path::new(command.as_std().get_program());
    program.file_name().unwrap_or(program.as_os_str()).to_string_lossy().into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(script: &str) -> Command {
        let mut command = Command::new("sh");
        command.args(["-c", script]);
        command
    }

    #[tokio::test]
    async fn long_lines_keep_their_beginnings() {
        let script = "for n in 1 2; do echo; printf 'line %d ' $n; head -c 400000 /dev/zero | \
                      tr '\\0' x; done; echo; echo end";
        let text = run(shell(script), Duration::from_secs(5)).await.unwrap();
        let lines: Vec<&str> = text.lines().filter(|line| !line.is_empty()).collect();
        assert_eq!(lines.len(), 3);
        assert!(lines[0].starts_with("line 1 xx") && lines[1].starts_with("line 2 xx"));
        assert_eq!((lines[1].len(), lines[2]), (LINE_BYTES_MAX, "end"));
    }

    #[tokio::test]
    async fn a_failure_carries_the_last_words() {
        let error = run(shell("echo no >&2; exit 3"), Duration::from_secs(5)).await.unwrap_err();
        let text = error.to_string();
        assert!(text.contains("no") && text.contains('3'), "{text}");
    }

    #[tokio::test]
    async fn a_slow_tool_is_ended_with_its_children() {
        let dir = tempfile::tempdir().unwrap();
        let mark = dir.path().join("mark");
        let script = format!("(sleep 0.6; touch {}) & wait", mark.display());
        let error = run(shell(&script), Duration::from_millis(100)).await.unwrap_err();
        assert!(matches!(error, Error::ToolTooSlow { .. }));
        tokio::time::sleep(Duration::from_millis(900)).await;
        assert!(!mark.exists(), "a grandchild survived");
    }

    #[tokio::test]
    async fn a_missing_tool_is_named() {
        let error = run(Command::new("/nowhere/pg_tool"), Duration::from_secs(1)).await;
        assert!(error.unwrap_err().to_string().contains("bin_dir"));
    }
}
