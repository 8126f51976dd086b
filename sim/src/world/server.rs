//! What a server does over time: starting, stopping, promoting, dying.

use super::postgres::{Kind, Process, Role};
use super::{Event, World};
use crate::check;
use member::ha::Outcome;
use member::ha::observation::End;

/// A planned change of a server's process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Turn {
    Up,
    StartFailed,
    Promoted,
    /// The checkpoint before a planned stop is done.
    Ready,
    /// The shutdown checkpoint is written.
    Checkpointed,
    Gone,
}

impl World {
    pub fn turn_after(&mut self, ms: u64, member: usize, turn: Turn) {
        let plan = self.members[member].server.plan;
        self.after(ms, Event::Server { member, plan, turn });
    }

    pub fn on_server(&mut self, member: usize, plan: u64, turn: Turn) {
        if self.members[member].server.plan != plan {
            return;
        }
        match turn {
            Turn::Up => self.come_up(member),
            Turn::StartFailed => {
                let end = self.members[member].server.end;
                self.members[member].server.go_down(end, self.now);
                self.job_over(member, Err("the server ended while it started".into()));
            }
            Turn::Promoted => self.promoted(member),
            Turn::Ready => self.stop_by_plan(member),
            Turn::Checkpointed => self.checkpointed(member),
            Turn::Gone => self.gone(member),
        }
    }

    pub fn start(&mut self, member: usize, role: Role) {
        let now = self.now;
        check::starting(self, member);
        self.install_copies(member, role);
        self.members[member].server.enter(Process::Starting(role), now);
        let server = &mut self.members[member].server;
        server.reserved = 0;
        server.names = server.names_file.clone();
        server.acting = server.names_file.clone();
        server.checkpoints_until = 0;
        server.is_quarantined = server.quarantine_file;
        let crashed = self.members[member].server.end == End::Crashed;
        let recovery = if crashed { self.rng.range(0, self.plan.recovery_max) } else { 0 };
        let fails = self.rng.percent(self.plan.start_fails) || self.disk_fails(member);
        let turn = if fails { Turn::StartFailed } else { Turn::Up };
        let ms = self.rng.range(60, 400) + recovery;
        self.turn_after(ms, member, turn);
    }

    fn come_up(&mut self, member: usize) {
        let Process::Starting(role) = self.members[member].server.process else {
            return;
        };
        self.members[member].server.enter(Process::Up(role), self.now);
        self.note_of(member, &format!("server is up as {role:?}"));
        if role == Role::Primary {
            check::restarted(self, member);
        }
        self.job_over(member, Ok(()));
    }

    pub fn promote(&mut self, member: usize, claimed: u32) -> Outcome {
        if !self.members[member].server.is_standby() {
            return Outcome::Failed("the server is no standby".into());
        }
        self.members[member].server.reserved = claimed - 1;
        let ms = self.rng.range(20, 250);
        self.turn_after(ms, member, Turn::Promoted);
        Outcome::Done
    }

    fn promoted(&mut self, member: usize) {
        let id = self.record_id();
        let checkpoint_at = self.now + self.rng.range(20, 2_000);
        let server = &mut self.members[member].server;
        if !server.is_standby() {
            return;
        }
        if self.disk_fails(member) {
            return self.crash_server(member);
        }
        self.wake_at(checkpoint_at + 1, member);
        let server = &mut self.members[member].server;
        server.append(id, 150, Kind::Promoted);
        server.enter(Process::Up(Role::Primary), self.now);
        server.follows = None;
        server.checkpoint_at = checkpoint_at;
        let timeline = server.log.timeline();
        self.note_of(member, &format!("server is a primary on timeline {timeline}"));
        check::promoted(self, member);
        self.wake_now(member);
    }

    /// Clients are gone; the shutdown checkpoint comes next.
    pub fn stop_fast(&mut self, member: usize) {
        match self.members[member].server.process {
            Process::Up(role) => {
                let soft = Process::Stopping { role, hard: false };
                self.members[member].server.enter(soft, self.now);
                let ms = self.rng.range(20, 250) + self.members[member].slow_stop;
                self.turn_after(ms, member, Turn::Checkpointed);
            }
            Process::Starting(_) => self.stop_hard(member),
            Process::Stopping { .. } => {}
            Process::Down => self.server_is_down(member),
        }
    }

    fn checkpointed(&mut self, member: usize) {
        let id = self.record_id();
        let primary = Process::Stopping { role: Role::Primary, hard: false };
        if self.members[member].server.process == primary {
            // Some have room for this last record, others have not.
            if self.disk_fails(member) && self.rng.percent(50) {
                return self.crash_server(member);
            }
            self.members[member].server.append(id, 104, Kind::Shutdown);
        }
        // An archiver with a backlog keeps the postmaster alive.
        let archives = self.rng.percent(10);
        let ms = if archives { self.rng.range(500, 5_000) } else { self.rng.range(5, 80) };
        self.turn_after(ms, member, Turn::Gone);
        if archives {
            self.wake_at(self.now + 400, member);
        }
    }

    pub fn stop_hard(&mut self, member: usize) {
        let server = &mut self.members[member].server;
        let role = match server.process {
            Process::Up(role) | Process::Stopping { role, .. } => role,
            Process::Starting(_) => {
                let end = server.hard_end();
                server.go_down(end, self.now);
                return self.after_down(member);
            }
            Process::Down => return self.server_is_down(member),
        };
        server.enter(Process::Stopping { role, hard: true }, self.now);
        let ms = self.rng.range(5, 60);
        self.turn_after(ms, member, Turn::Gone);
    }

    fn gone(&mut self, member: usize) {
        let end = match self.members[member].server.process {
            Process::Stopping { role: Role::Primary, hard: false } => {
                self.flush_to_standbys(member);
                End::Clean
            }
            _ => self.members[member].server.hard_end(),
        };
        self.members[member].server.go_down(end, self.now);
        self.note_of(member, &format!("server is down: {end:?}"));
        self.after_down(member);
    }

    fn after_down(&mut self, member: usize) {
        self.server_is_down(member);
        self.wake_now(member);
    }

    /// The postmaster dies from outside; the daemon sees its pid go.
    pub fn crash_server(&mut self, member: usize) {
        if self.members[member].server.process == Process::Down {
            return;
        }
        let end = self.members[member].server.hard_end();
        self.members[member].server.go_down(end, self.now);
        self.note_of(member, &format!("server crashed: {end:?}"));
        self.server_is_down(member);
        self.wake_now(member);
    }

    pub fn wake_now(&mut self, member: usize) {
        self.wake_at(self.now + 1, member);
    }
}
