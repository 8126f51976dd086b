//! Clients: they write to any server that accepts commits, and remember what was
//! acknowledged.
//!
//! A commit is acknowledged when as many standbys have it as the server is set to
//! wait for (`synchronous.rs`): at once, later, or never.

use super::postgres::{Kind, Waiting};
use super::{Event, World};
use crate::check::synchronous::Word;
use topology::{SyncState, Version};

/// Sessions of one client; when all of them wait, the client writes nothing.
const WAITING_MAX: usize = 40;

#[derive(Clone, Debug, Default)]
pub struct Client {
    /// Records whose commit was acknowledged and may not be lost by the rules.
    pub acknowledged: Vec<u64>,
    /// Those of a synchronous mode that is still in force: no server opens without them.
    pub kept: Vec<u64>,
    /// `/sync`, while such a mode is in force.
    pub in_force: Option<SyncState>,
    /// `/sync` as it was when the mode was last off.
    pub void_version: Version,
    pub word: Option<Word>,
    /// The one by which the lock was won, also when another was given since.
    pub obeyed: Option<Word>,
    /// When the last one was acknowledged.
    pub acknowledged_at: u64,
    pub writes: u64,
}

impl World {
    pub fn on_write(&mut self, group: usize) {
        let pause = self.rng.range(40, 160);
        self.after(pause, Event::Write { group });
        let open: Vec<usize> = (0..self.members.len())
            .filter(|m| self.members[*m].place.client == group)
            .filter(|m| self.members[*m].server.accepts_commits())
            .collect();
        if open.is_empty() {
            return;
        }
        let member = self.rng.pick(&open);
        let waiting = self.members[member].server.waiting.len();
        if waiting >= WAITING_MAX || self.disk_fails(member) {
            return;
        }
        let (id, size) = (self.record_id(), self.rng.range(60, self.plan.record_max));
        let server = &mut self.members[member].server;
        server.append(id, size, Kind::Commit);
        server.waiting.push(Waiting { id, end: server.log.end() });
        self.clients[group].writes += 1;
        self.release_waiting(member);
        self.counts.waited += u64::from(!self.members[member].server.waiting.is_empty());
    }
}
