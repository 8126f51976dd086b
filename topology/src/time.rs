//! Moments on one machine's steady clock.
//!
//! Who reads the clock decides which one it is: the daemon uses
//! `CLOCK_BOOTTIME` (it counts while the machine sleeps), the simulator its
//! virtual clock. Two machines' values are never compared.

use std::fmt;
use std::ops::{Add, Sub};

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
