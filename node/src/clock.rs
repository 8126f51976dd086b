//! The steady clock of this machine.
//!
//! CLOCK_BOOTTIME counts while the machine sleeps: a daemon that was suspended
//! sees that its lock is over. A virtual machine that was paused does not get
//! the time back before its hypervisor says so; that is what a watchdog is for.

use nix::time::{ClockId, clock_gettime};
use topology::Millis;

pub fn now() -> Millis {
    let time = clock_gettime(ClockId::CLOCK_BOOTTIME).expect("Linux has CLOCK_BOOTTIME");
    Millis(time.tv_sec() as u64 * 1_000 + time.tv_nsec() as u64 / 1_000_000)
}

/// Milliseconds since 1970, for people and journals; never for deadlines.
pub fn unix_ms() -> u64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    since.map_or(0, |d| d.as_millis() as u64)
}
