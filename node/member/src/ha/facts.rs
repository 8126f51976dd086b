//! What follows from an observation, computed once, named, without deciding.
//!
//! Here is what many tables ask; what one subject needs has a file of its own.
//! Invariant: a fact reads the observation and other facts, and nothing else.

pub(crate) mod attach;
mod birth;
mod divergence;
mod lease;
mod majority;
mod start;
mod succession;
mod sync;

pub use birth::ENTRY_AGAIN_MS;
#[cfg(test)]
pub(crate) use lease::{ANSWERED_MS, RETRY_MAX_MS};

use super::observation::{DataDir, End, Job, Lock, Observation, Process, ShutdownState};
use standby::switch::ownership::{Order, Ownership};
use topology::{GroupView, Seen};

pub struct Facts<'a> {
    pub o: &'a Observation,
}

impl<'a> Facts<'a> {
    pub fn of(o: &'a Observation) -> Facts<'a> {
        Facts { o }
    }

    pub fn view(&self) -> Option<&'a GroupView> {
        self.o.view()
    }

    pub fn is_leader_elsewhere(&self) -> bool {
        matches!(self.o.lock, Lock::Other(_))
    }

    pub fn is_lock_free(&self) -> bool {
        self.o.lock == Lock::Free
    }

    pub fn is_paused(&self) -> bool {
        self.o.dynamic.pause
    }

    pub fn may_own(&self) -> bool {
        self.o.may_own()
    }

    /// Empty, or half filled by this daemon: to be filled, as far as that is due.
    pub fn has_no_data(&self) -> bool {
        matches!(self.o.postgres.data, DataDir::Empty | DataDir::Half(_))
    }

    pub fn is_data_unusable(&self) -> bool {
        matches!(self.o.postgres.data, DataDir::Refused(_) | DataDir::Damaged(_))
    }

    pub fn is_starting(&self) -> bool {
        matches!(self.o.postgres.process, Process::Starting { .. })
    }

    pub fn job(&self) -> Option<&'a Job> {
        self.o.job.as_ref().map(|running| &running.job)
    }

    /// Of a standby: it receives, and stands still.
    pub fn is_replay_paused(&self) -> bool {
        self.o.server().is_some_and(|server| server.replay_paused)
    }

    pub fn is_alone(&self) -> bool {
        self.view().is_some_and(|view| view.members.keys().all(|name| *name == self.o.me.name))
    }

    /// The store knows a newer timeline of the group than the own one.
    pub fn is_group_ahead(&self) -> bool {
        let group = self.view().map(GroupView::timeline);
        matches!((self.shutdown_state(), group), (Some(r), Some(group)) if r.timeline < group)
    }

    /// An action runs from whose end on the server may accept writes.
    pub fn will_open(&self) -> bool {
        matches!(self.job(), Some(Job::StartPrimary | Job::Restart { as_primary: true }))
    }

    pub fn shutdown_state(&self) -> Option<&'a ShutdownState> {
        self.o.shutdown_state()
    }

    /// What a running stop has closed with.
    pub fn closed(&self) -> Option<&'a ShutdownState> {
        self.o.job.as_ref()?.closed.as_ref()
    }

    pub fn ended(&self, end: End) -> bool {
        self.shutdown_state().is_some_and(|r| r.end == end)
    }

    /// An order of a region move that this group must obey.
    pub fn stop_order(&self) -> Option<&'a str> {
        match &self.o.order {
            Some(Order::StopAndSign { id }) => Some(id),
            None => None,
        }
    }

    pub fn has_signed(&self) -> bool {
        self.stop_order().is_some_and(|id| self.o.memory.signed.as_deref() == Some(id))
    }

    /// A primary without lock whose timeline is the group's newest.
    pub fn is_timeline_current(&self) -> bool {
        let group = self.view().map(GroupView::timeline);
        let mine = self.o.server().and_then(|s| s.timeline);
        matches!((mine, group), (Some(mine), Some(group)) if mine >= group)
    }

    /// A server that will open by itself, started by an earlier process or by
    /// another program.
    pub fn is_opening(&self) -> bool {
        self.o.is_opening()
    }

    pub fn is_control_unknown(&self) -> bool {
        matches!(self.o.postgres.process, Process::Stopped(Seen::Unknown))
    }

    pub fn doubt(&self) -> Option<String> {
        match &self.o.ownership {
            Ownership::Doubtful(why) => Some(why.clone()),
            _ => None,
        }
    }
}
