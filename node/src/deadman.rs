//! The last guard of *one writer*: a thread that stops PostgreSQL when the
//! lock's deadline comes and the daemon has not extended it.
//!
//! The beat fences earlier (rule 20). This thread is for a beat that hangs, a
//! runtime that is stuck, a process that was frozen and wakes up late: it needs
//! nothing but a timer, two numbers and `kill`. The timer counts while the
//! machine is suspended, as the deadline does. A server that is only about to
//! start is looked for when the time has come.
//!
//! Invariant *the right process*: a signal goes to a process that began when the one
//! that was seen began: through a descriptor that no later process of the same
//! number can take over, or, where the kernel has none, after its start was compared
//! once more.

use crate::clock;
use crate::postgres::{Stat, listed_children};
use nix::errno::Errno;
use nix::sys::timerfd::{ClockId, Expiration, TimerFd, TimerFlags, TimerSetTimeFlags};
use rustix::process::{Pid, PidfdFlags, Signal, kill_process, pidfd_open, pidfd_send_signal};
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use topology::Millis;

/// Between an immediate stop and SIGKILL.
const PATIENCE: Duration = Duration::from_millis(500);
/// Looks this often once the time has come.
const PERIOD: Duration = Duration::from_millis(PERIOD_MS);
pub const PERIOD_MS: u64 = 100;
/// Before the deadline: an immediate stop and, if need be, a kill fit in.
pub const MARGIN_MS: u64 = 1_000;

/// After it: a server that was just being started is met as well.
pub const LINGER_MS: u64 = 2_000;

/// A process by its number and the moment it began, in ticks since boot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Guarded {
    pub pid: i32,
    pub started: u64,
}

struct Shared {
    timer: TimerFd,
    /// 0: not armed.
    deadline: AtomicU64,
    postmaster: Mutex<Option<Guarded>>,
}

#[derive(Clone)]
pub struct Deadman(Arc<Shared>);

impl Deadman {
    /// `find` tells the postmaster that runs now.
    pub fn spawn(find: impl Fn() -> Option<Guarded> + Send + 'static) -> std::io::Result<Deadman> {
        let timer = TimerFd::new(ClockId::CLOCK_BOOTTIME, TimerFlags::TFD_CLOEXEC)?;
        let (deadline, postmaster) = (AtomicU64::new(0), Mutex::new(None));
        let shared = Arc::new(Shared { timer, deadline, postmaster });
        let seen = shared.clone();
        std::thread::Builder::new()
            .name("deadman".into())
            .stack_size(256 * 1024)
            .spawn(move || watch(&seen, find))?;
        Ok(Deadman(shared))
    }

    /// This server may accept writes until the deadline.
    pub fn arm(&self, postmaster: Option<Guarded>, deadline: Millis) {
        *self.0.postmaster.lock().unwrap_or_else(PoisonError::into_inner) = postmaster;
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

fn watch(shared: &Shared, find: impl Fn() -> Option<Guarded>) {
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
fn guard(shared: &Shared, find: &impl Fn() -> Option<Guarded>) {
    loop {
        let deadline = shared.deadline.load(Ordering::SeqCst);
        let now = clock::now().0;
        if deadline == 0 || now + MARGIN_MS < deadline {
            return;
        }
        // The one that is known, should its data directory be out of reach.
        let known = shared.postmaster.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(postmaster) = find().or(known) {
            stop(postmaster);
        }
        if now >= deadline + LINGER_MS {
            let over = (Ordering::SeqCst, Ordering::SeqCst);
            let _ = shared.deadline.compare_exchange(deadline, 0, over.0, over.1);
        }
        std::thread::sleep(PERIOD);
    }
}

fn stop(postmaster: Guarded) {
    // It has ended, and its number may be another process's.
    let Some(process) = Held::of(postmaster) else { return };
    tracing::error!("the lock's deadline has come without a renewal: PostgreSQL is stopped");
    let children = children_of(postmaster.pid);
    process.signal(Signal::QUIT);
    std::thread::sleep(PATIENCE);
    // Held since before the wait: a process that has ended takes no signal.
    if process.signal(Signal::KILL) {
        for child in children {
            child.signal(Signal::KILL);
        }
    }
}

/// That very process, whatever becomes of its number.
struct Held {
    seen: Guarded,
    /// `None`: this kernel has no such descriptors.
    descriptor: Option<OwnedFd>,
}

impl Held {
    /// The descriptor is opened before the start is compared.
    fn of(seen: Guarded) -> Option<Held> {
        let descriptor = pidfd_open(Pid::from_raw(seen.pid)?, PidfdFlags::empty()).ok();
        let held = Held { seen, descriptor };
        (seen.pid > 1 && held.lives()).then_some(held)
    }

    fn lives(&self) -> bool {
        let stat = Stat::of(self.seen.pid).ok().flatten();
        stat.is_some_and(|stat| stat.lives && stat.started == self.seen.started)
    }

    /// False: it has ended.
    fn signal(&self, signal: Signal) -> bool {
        match (&self.descriptor, Pid::from_raw(self.seen.pid)) {
            (Some(descriptor), _) => pidfd_send_signal(descriptor, signal).is_ok(),
            (None, Some(pid)) => self.lives() && kill_process(pid, signal).is_ok(),
            (None, None) => false,
        }
    }
}

fn children_of(pid: i32) -> Vec<Held> {
    let child = |child: i32| {
        let stat = Stat::of(child).ok().flatten().filter(|stat| stat.parent == pid)?;
        Held::of(Guarded { pid: child, started: stat.started })
    };
    listed_children(pid).into_iter().filter_map(child).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::Command;
    use std::time::Instant;

    fn guarded(process: &std::process::Child) -> Guarded {
        let pid = process.id() as i32;
        let started = Stat::of(pid).unwrap().expect("it runs").started;
        Guarded { pid, started }
    }

    /// The number of a postmaster that has ended may be given to another process.
    #[test]
    fn n23_a_process_that_began_at_another_moment_is_left_alone() {
        let mut other = Command::new("sleep").arg("60").spawn().unwrap();
        let seen = Guarded { started: guarded(&other).started - 1, ..guarded(&other) };
        let deadman = Deadman::spawn(|| None).unwrap();
        deadman.arm(Some(seen), clock::now() + MARGIN_MS + 50);
        std::thread::sleep(PATIENCE + Duration::from_millis(500));
        assert!(other.try_wait().unwrap().is_none(), "another process was ended");
        let by_number = Held { seen, descriptor: None };
        assert!(!by_number.signal(Signal::KILL), "a number alone is no proof");
        // The same process, as it is, is stopped.
        deadman.arm(Some(guarded(&other)), clock::now() + MARGIN_MS + 51);
        assert!(!other.wait().unwrap().success());
    }

    #[test]
    fn a_deadline_that_is_not_moved_ends_the_process() {
        let deadman = Deadman::spawn(|| None).unwrap();
        let mut victim = Command::new("sleep").arg("60").spawn().unwrap();
        deadman.arm(Some(guarded(&victim)), clock::now() + MARGIN_MS + 300);
        let begin = Instant::now();
        let status = victim.wait().unwrap();
        assert!(!status.success());
        assert!(begin.elapsed() >= Duration::from_millis(200), "ended before its time");
        assert!(begin.elapsed() < Duration::from_secs(5));
    }

    #[test]
    fn a_server_that_the_daemon_did_not_know_is_found() {
        let mut victim = Command::new("sleep").arg("60").spawn().unwrap();
        let seen = guarded(&victim);
        let deadman = Deadman::spawn(move || Some(seen)).unwrap();
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
        let pid = Some(guarded(&victim));
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
        deadman.arm(Some(guarded(&victim)), clock::now() + MARGIN_MS + 300);
        deadman.disarm();
        std::thread::sleep(Duration::from_millis(700));
        assert!(victim.try_wait().unwrap().is_none());
        victim.kill().unwrap();
        victim.wait().unwrap();
    }
}
