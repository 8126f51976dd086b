//! What a disk that takes no files means to the rules.
//!
//! A full or read-only disk ends PostgreSQL sooner or later, and until then no
//! client can write. A leader says so itself: it asks the other members, and
//! releases the lock for one that can take over and whose disk takes files. If there
//! is none, it leads on as well as it can.
//!
//! Invariant: nothing is decided on one failed look, for a query may fill a disk
//! for a moment.

use super::Observation;
use super::facts::Facts;
use super::observation::Disk;

/// A disk that fails for this long is not just full for a moment.
const FAILS_MS: u64 = 800;

impl Observation {
    /// What a member tells the others of its disk.
    pub fn has_failed_disk(&self) -> bool {
        Facts::of(self).disk_failed().is_some()
    }
}

impl Facts<'_> {
    /// Why the data directory takes no files, and has not for a while.
    pub fn disk_failed(&self) -> Option<&str> {
        match &self.o.disk {
            Disk::Failing { since, why } if self.o.now.since(*since) >= FAILS_MS => Some(why),
            _ => None,
        }
    }

    /// A server that is or will be a primary here, on a disk that fails.
    pub fn leads_on_failed_disk(&self) -> bool {
        let runs = self.o.is_primary() || self.is_starting();
        runs && self.may_own() && self.disk_failed().is_some()
    }

    /// A standby with the lock, before its promotion or for as long as its
    /// cluster follows another one, on a disk that fails.
    pub fn waits_on_failed_disk(&self) -> bool {
        let waits = self.o.is_standby() && self.o.memory.promoting.is_none();
        waits && self.disk_failed().is_some()
    }
}
