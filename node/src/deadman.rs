//! The last guard of *one writer*: a thread that stops PostgreSQL when the
//! lock's deadline comes and nobody has moved it on.
//!
//! The beat fences earlier (rule 20). This thread is for a beat that hangs, a
//! runtime that is stuck, a process that was frozen and wakes up late: it needs
//! nothing but a timer, two numbers and `kill`. The timer counts while the
//! machine is suspended, as the deadline does. A server that is only about to
//! start is looked for when the time has come.

use crate::clock;
use nix::errno::Errno;
use nix::sys::signal::{Signal, kill};
use nix::sys::timerfd::{ClockId, Expiration, TimerFd, TimerFlags, TimerSetTimeFlags};
use nix::unistd::Pid;
use std::sync::Arc;
use std::sync::atomic::{AtomicI32, AtomicU64, Ordering};
use std::time::Duration;
use topology::Millis;

/// Between an immediate stop and SIGKILL.
const PATIENCE: Duration = Duration::from_millis(500);
/// Looks this often once the time has come.
const PERIOD: Duration = Duration::from_millis(100);
/// Before the deadline: an immediate stop and, if need be, a kill fit in.
const MARGIN_MS: u64 = 1_000;

/// After it: a server that was just being started is met as well.
const LINGER_MS: u64 = 2_000;

struct Shared {
    timer: TimerFd,
    /// 0: not armed.
    deadline: AtomicU64,
    /// 0: nothing to stop.
    postmaster: AtomicI32,
}

#[derive(Clone)]
pub struct Deadman(Arc<Shared>);

impl Deadman {
    /// `find` tells the postmaster that runs now.
    pub fn spawn(find: impl Fn() -> Option<i32> + Send + 'static) -> std::io::Result<Deadman> {
        let timer = TimerFd::new(ClockId::CLOCK_BOOTTIME, TimerFlags::TFD_CLOEXEC)?;
        let (deadline, postmaster) = (AtomicU64::new(0), AtomicI32::new(0));
        let shared = Arc::new(Shared { timer, deadline, postmaster });
        let seen = shared.clone();
        std::thread::Builder::new()
            .name("deadman".into())
            .stack_size(256 * 1024)
            .spawn(move || watch(&seen, find))?;
        Ok(Deadman(shared))
    }

    /// This server may accept writes until the deadline.
    pub fn arm(&self, postmaster: Option<i32>, deadline: Millis) {
        self.0.postmaster.store(postmaster.unwrap_or(0), Ordering::SeqCst);
        if self.0.deadline.swap(deadline.0, Ordering::SeqCst) != deadline.0 {
            self.wake_at(deadline.0.saturating_sub(MARGIN_MS));
        }
    }

    pub fn disarm(&self) {
        self.0.deadline.store(0, Ordering::SeqCst);
    }

    /// A moment that has passed wakes the thread at once.
    fn wake_at(&self, moment: u64) {
        let at = Expiration::OneShot(Duration::from_millis(moment.max(1)).into());
        self.0.timer.set(at, TimerSetTimeFlags::TFD_TIMER_ABSTIME).expect("a timer takes any time");
    }
}

fn watch(shared: &Shared, find: impl Fn() -> Option<i32>) {
    loop {
        match shared.timer.wait() {
            Ok(()) => guard(shared, &find),
            Err(Errno::EINTR | Errno::ECANCELED) => {}
            Err(error) => {
                tracing::error!("the guard's timer cannot be read: {error}");
                std::thread::sleep(PERIOD);
                guard(shared, &find);
            }
        }
    }
}

/// Stops what runs until the deadline is moved on or long over.
fn guard(shared: &Shared, find: &impl Fn() -> Option<i32>) {
    loop {
        let deadline = shared.deadline.load(Ordering::SeqCst);
        let now = clock::now().0;
        if deadline == 0 || now + MARGIN_MS < deadline {
            return;
        }
        // The one that is known, should its data directory be out of reach.
        let known = shared.postmaster.swap(0, Ordering::SeqCst);
        stop(find().unwrap_or(known));
        if now >= deadline + LINGER_MS {
            let over = (Ordering::SeqCst, Ordering::SeqCst);
            let _ = shared.deadline.compare_exchange(deadline, 0, over.0, over.1);
        }
        std::thread::sleep(PERIOD);
    }
}

fn stop(postmaster: i32) {
    if postmaster <= 1 {
        return;
    }
    tracing::error!("the lock's deadline has come without a renewal: PostgreSQL is stopped");
    let children = children_of(postmaster);
    let _ = kill(Pid::from_raw(postmaster), Signal::SIGQUIT);
    std::thread::sleep(PATIENCE);
    if std::path::Path::new(&format!("/proc/{postmaster}")).exists() {
        for pid in std::iter::once(postmaster).chain(children) {
            let _ = kill(Pid::from_raw(pid), Signal::SIGKILL);
        }
    }
}

fn children_of(pid: i32) -> Vec<i32> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/task/{pid}/children"));
    text.unwrap_or_default().split_whitespace().filter_map(|p| p.parse().ok()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::Command;
    use std::time::Instant;

    #[test]
    fn a_deadline_that_is_not_moved_ends_the_process() {
        let deadman = Deadman::spawn(|| None).unwrap();
        let mut victim = Command::new("sleep").arg("60").spawn().unwrap();
        deadman.arm(Some(victim.id() as i32), clock::now() + MARGIN_MS + 300);
        let begin = Instant::now();
        let status = victim.wait().unwrap();
        assert!(!status.success());
        assert!(begin.elapsed() >= Duration::from_millis(200), "ended before its time");
        assert!(begin.elapsed() < Duration::from_secs(5));
    }

    #[test]
    fn a_server_that_nobody_knew_of_is_found() {
        let mut victim = Command::new("sleep").arg("60").spawn().unwrap();
        let pid = victim.id() as i32;
        let deadman = Deadman::spawn(move || Some(pid)).unwrap();
        deadman.arm(None, clock::now() + MARGIN_MS + 300);
        let begin = Instant::now();
        assert!(!victim.wait().unwrap().success());
        deadman.disarm();
        assert!(begin.elapsed() < Duration::from_secs(5));
    }

    #[test]
    fn a_deadline_that_is_moved_on_in_time_ends_nothing() {
        let deadman = Deadman::spawn(|| None).unwrap();
        let mut victim = Command::new("sleep").arg("60").spawn().unwrap();
        let pid = Some(victim.id() as i32);
        for _ in 0..10 {
            deadman.arm(pid, clock::now() + MARGIN_MS + 300);
            std::thread::sleep(Duration::from_millis(100));
            assert!(victim.try_wait().unwrap().is_none(), "ended before its deadline");
        }
        assert!(!victim.wait().unwrap().success(), "the last deadline counts");
    }

    #[test]
    fn a_disarmed_guard_does_nothing() {
        let deadman = Deadman::spawn(|| None).unwrap();
        let mut victim = Command::new("sleep").arg("60").spawn().unwrap();
        deadman.arm(Some(victim.id() as i32), clock::now() + MARGIN_MS + 300);
        deadman.disarm();
        std::thread::sleep(Duration::from_millis(700));
        assert!(victim.try_wait().unwrap().is_none());
        victim.kill().unwrap();
        victim.wait().unwrap();
    }
}
