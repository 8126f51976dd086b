//! A restart that an operator asked for later becomes a request when its time has come.
//!
//! It is meant for the server that ran when it was asked for, and is kept by this process
//! alone: it is lost when that ends. Asked at every look at the server, before a table
//! decides. The first row that applies says what becomes of it.

use super::effect::RestartSight;
use super::schedule::{Due, due};
use super::{Level, Member};
use crate::ha::Observation;
use crate::ha::observation::{Asked, Process};
use crate::ha::restarts::Conditions;
use serde_json::{Map, Value};
use topology::MemberRole;

/// A restart that waits for its time.
#[derive(Clone, Debug, Default)]
pub struct RestartPlan {
    pub conditions: Conditions,
    /// How long the start may take.
    pub limit_ms: Option<u64>,
    /// When, as it is stored.
    pub at: String,
    /// As the member record shows it.
    pub body: Map<String, Value>,
    /// When the server was started for which it is meant.
    pub postmaster_start_time: String,
}

impl RestartPlan {
    fn shown(&self) -> Value {
        let mut shown = self.body.clone();
        let started = self.postmaster_start_time.clone();
        shown.insert("postmaster_start_time".to_string(), started.into());
        Value::Object(shown)
    }
}

/// What becomes of a plan.
pub struct Fate {
    /// Shown on the page of rules; never reused.
    pub id: u16,
    when: fn(&Sights) -> bool,
    then: Then,
    pub why: &'static str,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Then {
    Waits,
    /// It is forgotten, and the sentence is logged.
    Drops(Level),
    Asks,
}

/// What the rows go by.
struct Sights<'a> {
    plan: &'a RestartPlan,
    seen: &'a Observation,
    server: &'a RestartSight,
    due: Due,
    role: MemberRole,
    asked: Option<Asked>,
}

pub const PLANNED_RESTART: &[Fate] = &[
    Fate {
        id: 1510,
        when: |s| s.server.started.as_ref().is_some_and(|at| *at != s.plan.postmaster_start_time),
        then: Then::Drops(Level::Info),
        why: "PostgreSQL was restarted meanwhile: the scheduled restart is dropped",
    },
    Fate {
        id: 1520,
        when: |s| s.seen.dynamic.pause,
        then: Then::Waits,
        why: "paused: a scheduled restart is kept, and judged when the pause ends",
    },
    Fate {
        id: 1530,
        when: |s| matches!(s.due, Due::In(_)),
        then: Then::Waits,
        why: "the time of the scheduled restart has not come",
    },
    Fate {
        id: 1540,
        when: |s| matches!(s.due, Due::TooOld | Due::Unreadable),
        then: Then::Drops(Level::Warn),
        why: "the scheduled restart is out of date and is dropped",
    },
    // Only as long as row 1540 does not apply.
    Fate {
        id: 1550,
        when: |s| s.seen.job.is_some() || !matches!(s.seen.postgres.process, Process::Running(_)),
        then: Then::Waits,
        why: "a server that is busy or down is waited for, for one and a half `loop_wait`",
    },
    Fate {
        id: 1560,
        when: |s| !s.plan.conditions.hold_for(s.role, s.server.version, s.server.is_pending),
        then: Then::Drops(Level::Info),
        why: "the conditions of the scheduled restart are not satisfied",
    },
    Fate {
        id: 1570,
        when: |s| s.asked.is_some(),
        then: Then::Drops(Level::Warn),
        why: "the scheduled restart is dropped: a restart or a reinitialize that was asked for is \
              under way",
    },
    Fate { id: 1599, when: |_| true, then: Then::Asks, why: "the scheduled restart is due" },
];

/// The plan, and how long it has to wait as of the last look.
#[derive(Debug, Default)]
pub(super) struct Planned {
    plan: Option<RestartPlan>,
    pub due_in: Option<u64>,
}

impl Member {
    /// One at a time. The texts are answers of the REST API.
    pub fn plan_restart(&mut self, plan: RestartPlan) -> Result<String, String> {
        if self.planned.plan.is_some() {
            return Err("Another restart is already scheduled".into());
        }
        self.planned.plan = Some(plan);
        Ok("Restart scheduled".into())
    }

    pub fn forget_planned_restart(&mut self) -> Result<String, String> {
        match self.planned.plan.take() {
            Some(_) => Ok("scheduled restart deleted".into()),
            None => Err("no restarts are scheduled".into()),
        }
    }

    pub fn planned_restart(&self) -> Option<Value> {
        self.planned.plan.as_ref().map(RestartPlan::shown)
    }

    /// A planned restart is forgotten, or asked for, or waits.
    pub(super) fn judge_planned_restart(
        &mut self,
        seen: &Observation,
        unix_ms: u64,
        server: &RestartSight,
    ) {
        self.planned.due_in = None;
        let Some(plan) = self.planned.plan.take() else { return };
        let due = due(&plan.at, unix_ms, seen.dynamic.loop_wait_ms);
        let (role, asked) = (self.role(seen), self.memory.asked);
        let fate = fate(&Sights { plan: &plan, seen, server, due, role, asked });
        match fate.then {
            Then::Waits => {
                if let Due::In(ms) = due {
                    self.planned.due_in = (!seen.dynamic.pause).then_some(ms);
                }
                self.planned.plan = Some(plan);
            }
            Then::Drops(level) => self.note(level, fate.why),
            Then::Asks => {
                self.note(Level::Info, fate.why);
                self.memory.asked = Some(Asked::Restart);
                self.memory.start_limit_ms = plan.limit_ms;
            }
        }
    }
}

fn fate(sights: &Sights) -> &'static Fate {
    PLANNED_RESTART.iter().find(|row| (row.when)(sights)).expect("the last row always applies")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ha::observation::{Job, Running, StopHow};
    use crate::ha::sample;
    use topology::Millis;

    const STARTED: &str = "2026-11-21 09:00:00+00:00";
    const AT: &str = "2026-11-21T10:00:00+00:00";
    /// The moment of `AT`.
    const DUE_MS: u64 = 1_795_255_200_000;

    fn plan() -> RestartPlan {
        let (at, postmaster_start_time) = (AT.to_string(), STARTED.to_string());
        RestartPlan { at, postmaster_start_time, ..RestartPlan::default() }
    }

    fn server() -> RestartSight {
        RestartSight { started: Some(STARTED.into()), version: Some(180_000), is_pending: false }
    }

    struct Case {
        member: Member,
        seen: Observation,
        server: RestartSight,
        unix_ms: u64,
    }

    impl Case {
        /// A leader whose planned restart is due.
        fn due() -> Case {
            let seen = sample::leader();
            let mut member = Member::new("me".into(), 20, Millis(1));
            member.plan_restart(plan()).expect("it is the first");
            Case { member, seen, server: server(), unix_ms: DUE_MS }
        }

        /// The row that applies, and whether the plan is kept and the restart asked for.
        fn judged(mut self) -> (u16, bool, bool) {
            let plan = self.member.planned.plan.clone().expect("there is one");
            let due = due(&plan.at, self.unix_ms, self.seen.dynamic.loop_wait_ms);
            let (role, asked) = (self.member.role(&self.seen), self.member.memory.asked);
            let (seen, server) = (&self.seen, &self.server);
            let id = fate(&Sights { plan: &plan, seen, server, due, role, asked }).id;
            self.member.judge_planned_restart(&self.seen, self.unix_ms, &self.server);
            let is_asked = self.member.memory.asked == Some(Asked::Restart);
            (id, self.member.planned.plan.is_some(), is_asked)
        }
    }

    fn with(change: impl Fn(&mut Case)) -> (u16, bool, bool) {
        let mut case = Case::due();
        change(&mut case);
        case.judged()
    }

    #[test]
    fn every_row_fires_and_says_what_becomes_of_the_plan() {
        let (waits, drops) = ((true, false), (false, false));
        let row = |(id, is_kept, is_asked)| (id, (is_kept, is_asked));
        assert_eq!(row(with(|c| c.server.started = Some("later".into()))), (1510, drops));
        assert_eq!(row(with(|c| c.seen.dynamic.pause = true)), (1520, waits));
        assert_eq!(row(with(|c| c.unix_ms -= 1_500)), (1530, waits));
        assert_eq!(row(with(|c| c.unix_ms += 60_000)), (1540, drops));
        let busy = with(|c| {
            let (since, ending) = (c.seen.now, Default::default());
            let job = Job::Stop { how: StopHow::Fast };
            c.seen.job = Some(Running { job, since, closed: None, ending });
        });
        assert_eq!(row(busy), (1550, waits));
        let down = with(|c| c.seen.postgres.process = Process::Stopped(topology::Seen::Unknown));
        assert_eq!(row(down), (1550, waits));
        let only_pending = |c: &mut Case| {
            c.member.planned.plan.as_mut().expect("a plan").conditions.only_pending = true;
        };
        assert_eq!(row(with(only_pending)), (1560, drops));
        let asked = with(|c| c.member.memory.asked = Some(Asked::Reinitialize));
        assert_eq!(row(asked), (1570, drops));
        assert_eq!(row(with(|_| {})), (1599, (false, true)));
    }

    #[test]
    fn the_member_wakes_when_it_is_due_and_only_one_is_kept() {
        let mut case = Case::due();
        assert!(case.member.plan_restart(plan()).is_err());
        case.member.judge_planned_restart(&case.seen, DUE_MS - 1_500, &case.server);
        assert_eq!(case.member.planned.due_in, Some(1_500));
        assert!(case.member.sleep_ms(&case.seen, None, case.seen.now) <= 1_500);
        let shown = case.member.planned_restart().expect("it waits");
        assert_eq!(shown["postmaster_start_time"], STARTED);
        assert!(case.member.forget_planned_restart().is_ok());
        assert!(case.member.forget_planned_restart().is_err());
    }
}
