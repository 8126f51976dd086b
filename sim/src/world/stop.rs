//! Stops of servers, as their jobs carry them out.
//!
//! How a stop is made and for what it waits, the machine decides (`member::stop`). Its daemon
//! looks at the stop again and again; a frozen or dead one does not, and the stop goes on.

use super::postgres::Process;
use super::server::Turn;
use super::{Event, World};
use member::stop::{GLANCE_MS, OrderlyStop, StopSight, StopStep, StopWay};

impl World {
    /// The stop that is a part of the running job.
    pub fn begin_stop(&mut self, member: usize) {
        let m = &self.members[member];
        let checkpoints = m.daemon.job.as_ref().is_some_and(|work| work.terms.stop.checkpoints);
        match checkpoints && m.server.accepts_commits() {
            true => {
                let ms = self.rng.range(5, 200);
                self.turn_after(ms, member, Turn::Ready);
            }
            false => self.stop_by_plan(member),
        }
    }

    /// What comes before it is done.
    pub fn stop_by_plan(&mut self, member: usize) {
        let now = self.members[member].clock.read(self.now);
        let Some(work) = &mut self.members[member].daemon.job else { return };
        let number = work.number;
        match work.terms.stop.way {
            StopWay::AtOnce => self.stop_hard(member),
            StopWay::Orderly { patience, limit_ms } => {
                work.stop = Some(OrderlyStop::begin(patience, limit_ms, now));
                self.after(GLANCE_MS, Event::StopLook { member, number });
                self.stop_fast(member);
            }
        }
    }

    pub fn on_stop_look(&mut self, member: usize, number: u64) {
        let daemon = &mut self.members[member].daemon;
        if daemon.frozen {
            return daemon.deferred.push(Event::StopLook { member, number });
        }
        if daemon.job.as_ref().is_some_and(|work| work.number == number) {
            self.look_at_stop(member);
        }
    }

    /// A rule has ended the wait.
    pub fn cut_stop(&mut self, member: usize) {
        if let Some(work) = &mut self.members[member].daemon.job {
            work.is_cut = true;
            self.look_at_stop(member);
        }
    }

    fn look_at_stop(&mut self, member: usize) {
        let has_receivers = self.receivers_of(member).next().is_some();
        let m = &mut self.members[member];
        let stops = matches!(m.server.process, Process::Stopping { hard: false, .. });
        let (now, is_closed) = (m.clock.read(self.now), m.server.closed().is_some());
        let Some(work) = m.daemon.job.as_mut().filter(|_| stops) else { return };
        let Some(stop) = &mut work.stop else { return };
        let row = stop.look(StopSight { is_closed, has_receivers, is_cut: work.is_cut }, now);
        let number = work.number;
        match row.then {
            StopStep::Wait => {}
            StopStep::EndReceivers => self.end_receivers(member),
            StopStep::Force => {
                self.note_of(member, &format!("{} (rule {})", row.why, row.id));
                return self.stop_hard(member);
            }
        }
        self.after(GLANCE_MS, Event::StopLook { member, number });
    }

    pub fn receivers_of(&self, member: usize) -> impl Iterator<Item = usize> {
        let streams = move |m: &usize| self.members[*m].server.streams_from == Some(member);
        (0..self.members.len()).filter(streams)
    }

    pub fn end_receivers(&mut self, member: usize) {
        let receivers: Vec<usize> = self.receivers_of(member).collect();
        for receiver in receivers {
            self.members[receiver].server.streams_from = None;
        }
        let server = &mut self.members[member].server;
        // A server that stops takes no new connection.
        server.has_ended_receivers = matches!(server.process, Process::Stopping { .. });
    }
}
