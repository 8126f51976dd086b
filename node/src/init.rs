//! The first process of a container.
//!
//! The process with pid 1 inherits every orphan (the postmaster is one: it
//! survives its daemon) and gets no default treatment of signals. So pid 1 is not
//! the daemon but this code: it runs the same program once more as a child,
//! passes signals on, reaps every child that ends, and ends as its own child did.
//!
//! Invariant: it starts before anything else in the process (threads, the
//! async runtime), so that every signal is blocked everywhere and none is lost.

use nix::errno::Errno;
use nix::sys::signal::{SigSet, Signal, kill};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;
use std::process::{Command, ExitCode};

/// What the child gets to see.
const FORWARDED: [Signal; 7] = [
    Signal::SIGHUP,
    Signal::SIGQUIT,
    Signal::SIGUSR1,
    Signal::SIGUSR2,
    Signal::SIGINT,
    Signal::SIGABRT,
    Signal::SIGTERM,
];

/// This process has pid 1: no other process looks after its children.
pub fn is_needed() -> bool {
    std::process::id() == 1
}

/// A child inherits what its parent had blocked; the daemon blocks nothing.
pub fn unblock_signals() {
    if let Err(error) = SigSet::all().thread_unblock() {
        eprintln!("matriarch: signals stay blocked: {error}");
    }
}

/// Runs this program as a child until it ends; gives its exit code.
pub fn run() -> ExitCode {
    match keep_child() {
        Ok(code) => ExitCode::from(code),
        Err(error) => {
            eprintln!("matriarch: as process 1: {error}");
            ExitCode::FAILURE
        }
    }
}

fn keep_child() -> std::io::Result<u8> {
    let mut signals = SigSet::from_iter(FORWARDED);
    signals.add(Signal::SIGCHLD);
    signals.thread_block()?;
    let program = std::env::current_exe()?;
    let child = Command::new(program).args(std::env::args_os().skip(1)).spawn()?;
    let child = Pid::from_raw(child.id().cast_signed());
    loop {
        match signals.wait()? {
            Signal::SIGCHLD => {
                if let Some(code) = reap_until(child)? {
                    return Ok(code);
                }
            }
            // It may have ended this moment; then its end is the next signal.
            signal => drop(kill(child, signal)),
        }
    }
}

/// Takes everything that has ended; one signal may stand for several ends.
fn reap_until(child: Pid) -> Result<Option<u8>, Errno> {
    let mut ended = None;
    loop {
        match waitpid(None, Some(WaitPidFlag::WNOHANG)) {
            Ok(WaitStatus::StillAlive) | Err(Errno::ECHILD) => return Ok(ended),
            Ok(status) if status.pid() == Some(child) => ended = code_of(status).or(ended),
            Ok(_) | Err(Errno::EINTR) => {}
            Err(error) => return Err(error),
        }
    }
}

/// As a shell tells it: a signal counts from 128.
fn code_of(status: WaitStatus) -> Option<u8> {
    match status {
        WaitStatus::Exited(_, code) => u8::try_from(code & 0xff).ok(),
        WaitStatus::Signaled(_, signal, _) => u8::try_from(128 + signal as i32).ok(),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ends_are_told_as_a_shell_does() {
        let pid = Pid::from_raw(5);
        assert_eq!(code_of(WaitStatus::Exited(pid, 3)), Some(3));
        assert_eq!(code_of(WaitStatus::Signaled(pid, Signal::SIGKILL, false)), Some(137));
        assert_eq!(code_of(WaitStatus::Stopped(pid, Signal::SIGSTOP)), None);
    }
}
