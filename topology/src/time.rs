//! Moments on one machine's steady clock.
//!
//! Who reads the clock decides which one it is: the daemon uses
//! `CLOCK_BOOTTIME` (it counts while the machine sleeps), the simulator its
//! virtual clock. Two machines' values are never compared.

use std::fmt;
use std::ops::{Add, Sub};
use std::time::Duration;

/// Milliseconds since an arbitrary moment of this machine.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Millis(pub u64);

impl Millis {
    pub fn since(self, earlier: Millis) -> u64 {
        self.0.saturating_sub(earlier.0)
    }
}

impl Add<u64> for Millis {
    type Output = Millis;
    fn add(self, span: u64) -> Millis {
        Millis(self.0.saturating_add(span))
    }
}

impl Sub<u64> for Millis {
    type Output = Millis;
    fn sub(self, span: u64) -> Millis {
        Millis(self.0.saturating_sub(span))
    }
}

impl fmt::Display for Millis {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{:03}s", self.0 / 1000, self.0 % 1000)
    }
}

/// A span of time as people read it: seconds with one digit below ten.
pub fn span(time: Duration) -> String {
    let seconds = time.as_secs_f64();
    match seconds {
        _ if seconds < 0.1 => "less than 0.1 s".to_string(),
        _ if seconds < 9.95 => format!("{seconds:.1} s").replace(".0 s", " s"),
        _ => format!("{seconds:.0} s"),
    }
}
