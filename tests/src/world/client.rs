//! Clients: they write to whoever accepts, and remember what was acknowledged.

use super::postgres::Kind;
use super::{Event, World};

#[derive(Clone, Debug, Default)]
pub struct Client {
    /// Records whose commit was acknowledged and may not be lost by the rules.
    pub acknowledged: Vec<u64>,
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
        let (id, size) = (self.record_id(), self.rng.range(60, self.plan.record_max));
        self.members[member].server.append(id, size, Kind::Commit);
        self.clients[group].writes += 1;
        // Nothing is promised for a server whose daemon is not there.
        if !self.members[member].is_unguarded(self.now) {
            self.clients[group].acknowledged.push(id);
        }
    }
}
