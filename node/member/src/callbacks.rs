//! Callbacks: which event of PostgreSQL an operator's command is called for, and as which role.
//!
//! What is reported is what was seen: the role of a server that runs at rest, not the role
//! that it was intended to have. A change of the role replaces the event that came with it.
//! The first row that applies says which event is called, if any.

use super::{Local, Member, role_of};
use crate::ha::Observation;
use crate::ha::observation::{Bootstrapping, Job};
use topology::MemberRole;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    Start,
    Stop,
    Restart,
    Reload,
    RoleChange,
}

impl Event {
    /// Its key in the configuration, which is also the command's first argument.
    pub fn name(self) -> &'static str {
        match self {
            Event::Start => "on_start",
            Event::Stop => "on_stop",
            Event::Restart => "on_restart",
            Event::Reload => "on_reload",
            Event::RoleChange => "on_role_change",
        }
    }
}

/// One call of an operator's command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Callback {
    pub event: Event,
    pub role: MemberRole,
}

/// What has happened to the server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Happened {
    /// It runs in this role, and nothing is being done to it.
    Rests(MemberRole),
    Stopped,
    /// A promotion was accepted.
    Promoted,
    /// The lock was released because PostgreSQL could not be kept running here.
    GaveUp,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Calls {
    This(Event),
    /// The event that waits for a server at rest, if there is one.
    Waiting,
    Nothing,
}

/// Which event is called.
pub struct CallbackRow {
    /// Shown on the page of rules; never reused.
    pub id: u16,
    when: fn(&Callbacks, Happened) -> bool,
    calls: Calls,
    pub why: &'static str,
}

pub const CALLBACKS: &[CallbackRow] = &[
    CallbackRow {
        id: 1710,
        when: |_, happened| happened == Happened::Promoted,
        calls: Calls::This(Event::RoleChange),
        why: "a promotion was accepted: on_role_change, also where the member was a standby for \
              too short a time to be reported as one",
    },
    CallbackRow {
        id: 1720,
        when: |known, happened| happened == Happened::Stopped && known.role.is_some(),
        calls: Calls::This(Event::Stop),
        why: "the server was stopped: on_stop, with the role that was reported last",
    },
    CallbackRow {
        id: 1730,
        when: |known, happened| happened == Happened::GaveUp && known.leads(),
        calls: Calls::This(Event::RoleChange),
        why: "a leader could not be kept running and its lock is released: on_role_change, as \
              demoted",
    },
    CallbackRow {
        id: 1740,
        when: |known, happened| known.role.is_none() && happened.role().is_some(),
        calls: Calls::This(Event::Start),
        why: "the server runs, and no event was reported by this daemon yet: on_start",
    },
    CallbackRow {
        id: 1750,
        when: |known, happened| happened.role().is_some_and(|role| known.role != Some(role)),
        calls: Calls::This(Event::RoleChange),
        why: "the server runs in another role than the one reported last: on_role_change, in \
              place of the start, restart or reload that came with it",
    },
    CallbackRow {
        id: 1760,
        when: |known, happened| happened.role().is_some() && known.waiting.is_some(),
        calls: Calls::Waiting,
        why: "the server was started, restarted or reloaded and runs again: that is reported",
    },
    CallbackRow {
        id: 1799,
        when: |_, _| true,
        calls: Calls::Nothing,
        why: "nothing is to be reported",
    },
];

impl Happened {
    /// The role of a server at rest.
    fn role(self) -> Option<MemberRole> {
        match self {
            Happened::Rests(role) => Some(role),
            _ => None,
        }
    }
}

/// What was reported, and what waits to be.
#[derive(Clone, Debug, Default)]
pub(super) struct Callbacks {
    /// None before the first event.
    role: Option<MemberRole>,
    waiting: Option<Event>,
}

impl Callbacks {
    fn leads(&self) -> bool {
        matches!(self.role, Some(MemberRole::Primary | MemberRole::StandbyLeader))
    }

    /// Reported once the server is at rest. A reload says less than what else waits.
    fn expect(&mut self, event: Event) {
        if event != Event::Reload || self.waiting.is_none() {
            self.waiting = Some(event);
        }
    }

    fn happened(&mut self, what: Happened) -> Option<Callback> {
        let row = CALLBACKS.iter().find(|row| (row.when)(self, what)).expect("the last row fits");
        let event = match row.calls {
            Calls::This(event) => Some(event),
            Calls::Waiting => self.waiting,
            Calls::Nothing => None,
        };
        match what {
            Happened::Rests(role) => self.role = Some(role),
            Happened::Promoted => self.role = Some(MemberRole::Primary),
            Happened::GaveUp if self.leads() => self.role = Some(MemberRole::Demoted),
            Happened::GaveUp | Happened::Stopped => {}
        }
        if what != Happened::GaveUp {
            self.waiting = None;
        }
        Some(Callback { event: event?, role: self.role? })
    }
}

impl Member {
    fn report_event(&mut self, what: Happened) {
        let callback = self.callbacks.happened(what);
        self.local.extend(callback.map(Local::CallBack));
    }

    /// A job has done its work.
    pub(super) fn call_after_job(&mut self, job: &Job) {
        match job {
            Job::Stop { .. } => self.report_event(Happened::Stopped),
            Job::StartPrimary | Job::StartStandby { .. } => self.callbacks.expect(Event::Start),
            Job::Restart { .. } => self.callbacks.expect(Event::Restart),
            Job::Bootstrap
            | Job::Clone { .. }
            | Job::Restore
            | Job::PrePromote
            | Job::Recover
            | Job::RecoverStandby { .. }
            | Job::Rewind { .. }
            | Job::Rebuild { .. } => {}
        }
    }

    pub(super) fn call_after_reload(&mut self) {
        self.callbacks.expect(Event::Reload);
    }

    pub(super) fn call_promoted(&mut self) {
        self.report_event(Happened::Promoted);
    }

    pub(super) fn call_given_up(&mut self) {
        self.report_event(Happened::GaveUp);
    }

    /// The server runs and nothing is being done to it.
    pub(super) fn call_at_rest(&mut self, seen: &Observation) {
        let is_new = self.memory.bootstrap != Bootstrapping::No;
        if !is_new && self.memory.promoting.is_none() && role_of(seen).is_some() {
            self.report_event(Happened::Rests(self.role(seen)));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use MemberRole::{Demoted, Primary, Replica, StandbyLeader};

    /// The row that applies, and the call.
    fn step(known: &mut Callbacks, what: Happened) -> (u16, Option<(Event, MemberRole)>) {
        let row = CALLBACKS.iter().find(|row| (row.when)(known, what)).expect("one applies");
        (row.id, known.happened(what).map(|call| (call.event, call.role)))
    }

    #[test]
    fn a_start_a_restart_a_reload_and_a_change_of_the_role_are_reported_once() {
        let mut known = Callbacks::default();
        assert_eq!(step(&mut known, Happened::Stopped), (1799, None));
        let rests = Happened::Rests;
        assert_eq!(step(&mut known, rests(Replica)), (1740, Some((Event::Start, Replica))));
        assert_eq!(step(&mut known, rests(Replica)), (1799, None));
        known.expect(Event::Restart);
        known.expect(Event::Reload);
        assert_eq!(step(&mut known, rests(Replica)), (1760, Some((Event::Restart, Replica))));
        known.expect(Event::Reload);
        let change = (1750, Some((Event::RoleChange, StandbyLeader)));
        assert_eq!(step(&mut known, rests(StandbyLeader)), change);
        assert_eq!(step(&mut known, rests(StandbyLeader)), (1799, None));
    }

    #[test]
    fn a_promotion_is_reported_at_once_and_a_demotion_when_the_server_rests() {
        let mut known = Callbacks::default();
        step(&mut known, Happened::Rests(Replica));
        let promoted = (1710, Some((Event::RoleChange, Primary)));
        assert_eq!(step(&mut known, Happened::Promoted), promoted);
        assert_eq!(step(&mut known, Happened::Stopped), (1720, Some((Event::Stop, Primary))));
        known.expect(Event::Start);
        let change = (1750, Some((Event::RoleChange, Replica)));
        assert_eq!(step(&mut known, Happened::Rests(Replica)), change);
    }

    #[test]
    fn a_leader_that_gives_up_is_reported_as_demoted_once() {
        let mut known = Callbacks::default();
        step(&mut known, Happened::Rests(Replica));
        assert_eq!(step(&mut known, Happened::GaveUp), (1799, None), "it led nothing");
        step(&mut known, Happened::Promoted);
        let demoted = (1730, Some((Event::RoleChange, Demoted)));
        assert_eq!(step(&mut known, Happened::GaveUp), demoted);
        assert_eq!(step(&mut known, Happened::GaveUp), (1799, None));
        known.expect(Event::Start);
        assert_eq!(
            step(&mut known, Happened::Promoted),
            (1710, Some((Event::RoleChange, Primary)))
        );
        assert_eq!(step(&mut known, Happened::Rests(Primary)), (1799, None));
    }

    #[test]
    fn ids_rise_and_the_last_row_fits_always() {
        assert!(CALLBACKS.windows(2).all(|pair| pair[0].id < pair[1].id));
        assert!((CALLBACKS[CALLBACKS.len() - 1].when)(&Callbacks::default(), Happened::GaveUp));
    }
}
