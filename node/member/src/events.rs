//! What a worker's leader tells the coordinator's leader: Patroni's events.
//!
//! They come before what the store tells of the same change, so that the coordinator can
//! hold writers before their server stops. Nothing depends on their arrival.

use super::Member;
use crate::ha::Observation;
use crate::ha::observation::{Job, StopHow};
use topology::{MemberRecord, MemberRole};

/// One kind of event.
#[derive(Debug, PartialEq, Eq)]
pub struct EventRow {
    /// Shown on the page of rules; never reused.
    pub id: u16,
    /// What Patroni calls it.
    pub name: &'static str,
    /// The stop waits for the answer, for one `ttl` at most.
    pub is_awaited: bool,
    /// Why it is sent, and when.
    pub why: &'static str,
}

/// How long an answer is waited for that nothing depends on.
const NEWS_MS: u64 = 2_000;

impl EventRow {
    /// How long its sender waits for the answer.
    pub fn wait_ms(&self, ttl_ms: u64) -> u64 {
        if self.is_awaited { ttl_ms } else { NEWS_MS }
    }
}

const BEFORE_DEMOTE: usize = 0;
const BEFORE_PROMOTE: usize = 1;
const AFTER_PROMOTE: usize = 2;

pub const EVENTS: &[EventRow] = &[
    EventRow {
        id: 1810,
        name: "before_demote",
        is_awaited: true,
        why: "a worker's primary is about to stop in order, its checkpoint is written: the \
              coordinator holds the group's writers first; the stop waits for that, for one `ttl` \
              at most",
    },
    EventRow {
        id: 1820,
        name: "before_promote",
        is_awaited: false,
        why: "a worker's new leader is about to leave recovery: the coordinator may hold the \
              group's writers until it has",
    },
    EventRow {
        id: 1830,
        name: "after_promote",
        is_awaited: false,
        why: "the record of a worker's primary says that it runs, for the first time since it was \
              started: the coordinator enters it and resolves in-doubt transactions",
    },
];

impl Member {
    /// Before this job stops the server.
    pub(super) fn event_before(&self, job: &Job, seen: &Observation) -> Option<&'static EventRow> {
        let stops =
            matches!(job, Job::Stop { how: StopHow::Planned } | Job::Restart { as_primary: true });
        let leads = seen.holds_lock() && seen.is_primary() && seen.may_own();
        (stops && leads && seen.me.group.is_worker()).then_some(&EVENTS[BEFORE_DEMOTE])
    }

    pub fn event_of_promotion(&self, seen: &Observation) -> Option<&'static EventRow> {
        seen.me.group.is_worker().then_some(&EVENTS[BEFORE_PROMOTE])
    }

    /// `record`: as the store has it now; `started`: when the server was started.
    pub fn event_of_record(
        &mut self,
        seen: &Observation,
        record: &MemberRecord,
        started: Option<String>,
    ) -> Option<&'static EventRow> {
        let leads = seen.holds_lock() && seen.me.group.is_worker();
        if !leads || !record.is_running() || record.role != MemberRole::Primary {
            self.told_running = None;
            return None;
        }
        let is_news = started.is_some() && self.told_running != started;
        self.told_running = started;
        is_news.then_some(&EVENTS[AFTER_PROMOTE])
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ha::sample;
    use topology::{Group, MemberState, Millis};

    fn worker() -> (Member, Observation) {
        let mut seen = sample::leader();
        seen.me.group = Group(Some(1));
        (Member::new("n1".into(), 20, Millis(0)), seen)
    }

    #[test]
    fn an_orderly_stop_of_a_worker_is_told_before() {
        let (member, mut seen) = worker();
        let stop = |how| Job::Stop { how };
        let told = |seen: &Observation, job: &Job| member.event_before(job, seen).map(|e| e.name);
        let planned = stop(StopHow::Planned);
        assert_eq!(told(&seen, &planned), Some("before_demote"));
        assert_eq!(told(&seen, &Job::Restart { as_primary: true }), Some("before_demote"));
        assert_eq!(told(&seen, &stop(StopHow::Immediate)), None);
        assert_eq!(told(&seen, &Job::Restart { as_primary: false }), None);
        seen.me.group = Group(Some(0));
        assert_eq!(told(&seen, &planned), None);
        seen.me.group = Group::PLAIN;
        assert_eq!(told(&seen, &planned), None);
        assert_eq!(told(&sample::follower(), &planned), None);
    }

    #[test]
    fn only_a_stop_waits_for_its_answer_and_for_one_ttl_at_most() {
        let waits: Vec<u64> = EVENTS.iter().map(|row| row.wait_ms(30_000)).collect();
        assert_eq!(waits, [30_000, NEWS_MS, NEWS_MS]);
    }

    #[test]
    fn a_promotion_is_told_by_workers_alone() {
        let (member, mut seen) = worker();
        assert_eq!(member.event_of_promotion(&seen).map(|e| e.id), Some(1820));
        seen.me.group = Group(Some(0));
        assert!(member.event_of_promotion(&seen).is_none());
    }

    #[test]
    fn a_leader_that_runs_is_told_once_for_each_start() {
        let (mut member, seen) = worker();
        let record = |state: MemberState| MemberRecord {
            state: state.text().into(),
            role: MemberRole::Primary,
            ..MemberRecord::default()
        };
        let running = record(MemberState::Running);
        let first = || Some("12:00".to_string());
        assert!(member.event_of_record(&seen, &running, None).is_none(), "it does not answer");
        let event = member.event_of_record(&seen, &running, first());
        assert_eq!(event.map(|e| e.name), Some("after_promote"));
        assert!(member.event_of_record(&seen, &running, first()).is_none());
        // A crash in place that no record has shown.
        assert!(member.event_of_record(&seen, &running, Some("12:01".into())).is_some());
        let starting = record(MemberState::Starting);
        assert!(member.event_of_record(&seen, &starting, Some("12:01".into())).is_none());
        assert!(member.event_of_record(&seen, &running, Some("12:01".into())).is_some());
    }
}
