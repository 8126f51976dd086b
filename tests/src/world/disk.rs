//! Disks that take no files, and what their servers do then.
//!
//! A full disk lets a running server live on the segments it has and lets none
//! start; a broken one ends all writes at once, and often the server too.
//!
//! Absent on purpose: the daemon's own files, and data that a disk loses.

use super::World;
use super::postgres::Process;
use node::ha::Observation;
use node::ha::disk::FAILS_MS;
use node::ha::observation::{DataDir, Disk, Job};
use topology::Millis;

/// Percent of running servers that a broken disk ends at once.
const PANICS: u64 = 30;
/// A disk that failed is looked at again after this.
const AGAIN_MS: u64 = 400;

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Health {
    #[default]
    Well,
    Full,
    Broken,
}

impl World {
    pub fn set_disk(&mut self, member: usize, health: Health) {
        self.members[member].disk = health;
        if health == Health::Broken && self.rng.percent(PANICS) {
            self.crash_server(member);
        }
    }

    /// Files cannot be written there, as things are.
    pub fn disk_fails(&self, member: usize) -> bool {
        let m = &self.members[member];
        match m.disk {
            Health::Well => false,
            Health::Full => !matches!(m.server.process, Process::Up(_)),
            Health::Broken => true,
        }
    }

    /// The daemon writes its small file.
    pub fn look_at_disk(&mut self, member: usize, seen: &Observation) -> Disk {
        let fails = self.disk_fails(member);
        let daemon = &mut self.members[member].daemon;
        let job = seen.job.as_ref().map(|running| &running.job);
        if !matches!(seen.postgres.data, DataDir::Valid { .. }) {
            daemon.disk_fails_since = None;
        } else if !job.is_some_and(Job::writes_the_data) {
            let before = daemon.disk_fails_since;
            daemon.disk_fails_since = fails.then(|| before.unwrap_or(seen.now));
            if before.is_some() && !fails {
                daemon.memory.failed = None;
            }
        }
        match daemon.disk_fails_since {
            Some(since) => Disk::Failing { since, why: "the disk takes no files".into() },
            None => Disk::Well,
        }
    }

    /// What the daemon tells the others of its disk.
    pub fn says_disk_failed(&self, member: usize) -> bool {
        let m = &self.members[member];
        let now = m.clock.read(self.now);
        m.daemon.disk_fails_since.is_some_and(|since: Millis| now.since(since) >= FAILS_MS)
    }

    pub fn disk_sleep_ms(&self, member: usize) -> u64 {
        let failing = self.members[member].daemon.disk_fails_since.is_some();
        if failing { AGAIN_MS } else { u64::MAX }
    }
}
