//! Which request of an operator is taken, and why another is not.
//!
//! Invariant: a restart or a reinitialize is remembered, one at a time, and the tables decide
//! what comes of it. A request that is refused changes nothing.

use super::Member;
use crate::ha::observation::{Asked, Job};

/// What an operator asks this member for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Request {
    /// `limit_ms`: how long its start may take, if that was said.
    Restart { limit_ms: Option<u64> },
    /// `force`: also while something else runs.
    Reinitialize { from_leader: bool, force: bool },
}

/// What is done with it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    Take,
    /// Once the running job is ended.
    TakeAfterCancel,
    /// What the caller is told.
    Refuse(String),
}

/// One kind of answer.
pub struct RequestRow {
    /// Shown on the page of rules; never reused.
    pub id: u16,
    when: fn(&Moment) -> bool,
    then: fn(&Moment) -> Verdict,
    pub why: &'static str,
}

struct Moment<'a> {
    request: Request,
    leads: bool,
    running: Option<&'a Job>,
    asked: Option<Asked>,
}

impl Moment<'_> {
    fn reinitializes(&self) -> bool {
        matches!(self.request, Request::Reinitialize { .. })
    }

    fn is_forced(&self) -> bool {
        matches!(self.request, Request::Reinitialize { force: true, .. })
    }

    fn in_progress(&self) -> Verdict {
        let title = self.running.map(Job::title).or(self.asked.map(Asked::title));
        Verdict::Refuse(format!("{} already in progress", title.unwrap_or_default()))
    }
}

/// The first row that matches decides.
pub const REQUESTS: &[RequestRow] = &[
    RequestRow {
        id: 2110,
        when: |m| m.reinitializes() && m.leads,
        then: |_| Verdict::Refuse("I am the leader, can not reinitialize".into()),
        why: "a reinitialize of the leader is refused: its data are the group's",
    },
    RequestRow {
        id: 2120,
        when: |m| m.reinitializes() && matches!(m.running, Some(Job::Rewind { .. })),
        then: |m| m.in_progress(),
        why: "a reinitialize is refused while pg_rewind runs, also a forced one: half a rewind is \
              worse than what was there before",
    },
    RequestRow {
        id: 2130,
        when: |m| m.is_forced() && m.running.is_some(),
        then: |_| Verdict::TakeAfterCancel,
        why: "a forced reinitialize ends the running action first",
    },
    RequestRow {
        id: 2140,
        when: |m| m.running.is_some(),
        then: |m| m.in_progress(),
        why: "an action runs: the request is refused",
    },
    RequestRow {
        id: 2150,
        when: |m| !m.reinitializes() && m.asked.is_some(),
        then: |m| m.in_progress(),
        why: "a restart is refused while another request waits to begin",
    },
    RequestRow {
        id: 2199,
        when: |_| true,
        then: |_| Verdict::Take,
        why: "the request is taken: the next beats carry it out",
    },
];

fn row(moment: &Moment) -> &'static RequestRow {
    REQUESTS.iter().find(|row| (row.when)(moment)).expect("the last row always matches")
}

impl Member {
    /// `running`: the job in the background slot, also one whose end was not looked at.
    pub fn judge_request(&self, request: Request, running: Option<&Job>) -> Verdict {
        let moment = Moment { request, leads: self.held, running, asked: self.memory.asked };
        (row(&moment).then)(&moment)
    }

    /// It is remembered for the next beats, in place of one that waits.
    pub fn take_request(&mut self, request: Request) {
        self.memory.asked = Some(match request {
            Request::Restart { limit_ms } => {
                self.memory.start_limit_ms = limit_ms;
                Asked::Restart
            }
            Request::Reinitialize { from_leader: true, .. } => Asked::ReinitializeFromLeader,
            Request::Reinitialize { .. } => Asked::Reinitialize,
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ha::observation::Following;
    use topology::Millis;

    const RESTART: Request = Request::Restart { limit_ms: Some(5_000) };

    fn reinitialize(force: bool) -> Request {
        Request::Reinitialize { from_leader: false, force }
    }

    fn rewind() -> Job {
        let from =
            Following { host: "h".into(), port: 1, slot: None, database: None, member: "a".into() };
        Job::Rewind { from }
    }

    /// The row that decides, as a member that does not lead.
    fn decides(request: Request, running: Option<&Job>, asked: Option<Asked>) -> u16 {
        row(&Moment { request, leads: false, running, asked }).id
    }

    #[test]
    fn every_row_decides_about_some_request() {
        let (forced, asked) = (reinitialize(true), Some(Asked::Restart));
        let leads = Moment { request: forced, leads: true, running: None, asked: None };
        assert_eq!(row(&leads).id, 2110);
        assert_eq!(decides(forced, Some(&rewind()), None), 2120);
        assert_eq!(decides(forced, Some(&Job::Recover), None), 2130);
        assert_eq!(decides(reinitialize(false), Some(&Job::Recover), None), 2140);
        assert_eq!(decides(RESTART, Some(&Job::Recover), None), 2140);
        assert_eq!(decides(RESTART, None, asked), 2150);
        assert_eq!(decides(RESTART, None, None), 2199);
        assert_eq!(decides(reinitialize(false), None, asked), 2199, "it comes instead");
        assert!(REQUESTS.is_sorted_by(|a, b| a.id < b.id));
    }

    #[test]
    fn the_caller_is_told_what_is_in_the_way_and_a_refusal_changes_nothing() {
        let mut member = Member::new("me".into(), 20, Millis(0));
        assert_eq!(member.judge_request(RESTART, None), Verdict::Take);
        member.take_request(RESTART);
        assert_eq!(member.memory.start_limit_ms, Some(5_000));
        let again = Request::Restart { limit_ms: None };
        let told = "restart already in progress".to_string();
        assert_eq!(member.judge_request(again, None), Verdict::Refuse(told));
        let told = "running pg_rewind already in progress".to_string();
        let refused = member.judge_request(reinitialize(true), Some(&rewind()));
        assert_eq!(refused, Verdict::Refuse(told));
        assert_eq!(member.memory.asked, Some(Asked::Restart));
        assert_eq!(member.memory.start_limit_ms, Some(5_000));
        member.take_request(Request::Reinitialize { from_leader: true, force: false });
        assert_eq!(member.memory.asked, Some(Asked::ReinitializeFromLeader));
        member.held = true;
        let refused = member.judge_request(reinitialize(true), None);
        assert_eq!(refused, Verdict::Refuse("I am the leader, can not reinitialize".into()));
    }
}
