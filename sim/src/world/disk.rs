//! Disks that take no files, and what their servers do then.
//!
//! A full disk lets a running server live on the segments it has and lets none
//! start; a broken one ends all writes at once, and often the server too.
//!
//! Absent on purpose: the daemon's own files, and data that a disk loses.

use super::World;
use super::postgres::Process;
use member::DiskProbe;
use member::ha::observation::{Disk, Postgres};

/// Percent of running servers that a broken disk ends at once.
const PANICS: u64 = 30;

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

    /// The daemon writes its small file when its machine says so.
    pub fn look_at_disk(&mut self, member: usize, postgres: &Postgres) -> Disk {
        let fails = self.disk_fails(member);
        let m = &mut self.members[member];
        let now = m.clock.read(self.now);
        let (machine, job) = (&mut m.daemon.machine, m.daemon.job.as_ref().map(|work| &work.job));
        if machine.disk.probe(postgres, job, now) == DiskProbe::Now {
            let full = || Err("the disk takes no files".to_string());
            machine.disk_answered(if fails { full() } else { Ok(()) }, now);
        }
        machine.disk.known().clone()
    }
}
