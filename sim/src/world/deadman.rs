//! The last guard: stops the server when the lock's deadline comes.
//!
//! It lives in the daemon's process, so it is frozen and dies with it.

use super::{Event, World};
use node::deadman::{LINGER_MS, MARGIN_MS, PERIOD_MS};
use topology::Millis;

impl World {
    pub fn arm(&mut self, member: usize, deadline: Millis) {
        let m = &mut self.members[member];
        if m.daemon.armed == Some(deadline) {
            return;
        }
        m.daemon.armed = Some(deadline);
        let life = m.daemon.life;
        let at = m.clock.when(deadline - MARGIN_MS);
        self.at(at, Event::Deadman { member, life, deadline });
    }

    pub fn on_deadman(&mut self, member: usize, life: u64, deadline: Millis) {
        let daemon = &mut self.members[member].daemon;
        if !daemon.alive || daemon.life != life || daemon.armed != Some(deadline) {
            return;
        }
        if daemon.frozen {
            daemon.deferred.insert(0, Event::Deadman { member, life, deadline });
            return;
        }
        self.note_of(member, "the guard stops the server");
        self.stop_hard(member);
        // A server that was just being started is met as well.
        let end = self.members[member].clock.when(deadline + LINGER_MS);
        if self.now < end {
            self.after(PERIOD_MS, Event::Deadman { member, life, deadline });
        } else {
            self.members[member].daemon.armed = None;
        }
    }
}
