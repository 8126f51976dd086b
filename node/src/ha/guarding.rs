//! What the watchdog of this machine means to the rules.

use super::facts::Facts;
use super::observation::Guarding;

impl Facts<'_> {
    pub fn is_watchdog_ready(&self) -> bool {
        self.o.watchdog == Guarding::Ready
    }

    /// Why the watchdog that is required cannot be used.
    pub fn watchdog_broken(&self) -> Option<String> {
        match &self.o.watchdog {
            Guarding::Broken(why) => Some(why.clone()),
            _ => None,
        }
    }
}
