//! How a server is stopped, and how long its orderly stop waits.
//!
//! PostgreSQL ends after its last checkpoint, its archiver and all receivers of its log. A
//! stop by a switchover or by the end of the daemon is ended by the rules of the running
//! job (153 to 155); others wait for a bounded time, by the rows here.
//!
//! Invariant: once a row has forced a stop, it ends within moments: the server is asked to
//! end at once, and killed after `QUIT_MS`.

use crate::ha::observation::{Job, StopHow};
use topology::{Dynamic, Millis, SyncMode};

/// A running stop is looked at again this often.
pub const GLANCE_MS: u64 = 500;
/// After SIGQUIT, before SIGKILL.
pub const QUIT_MS: u64 = 5_000;
/// After SIGKILL: a process that is left then waits in the kernel, most likely for its disk. The
/// stop has failed, and is decided again.
pub const KILLED_MS: u64 = 60_000;
/// After its last checkpoint a server waits until its standbys have received it, for
/// `wal_sender_timeout` if one is dead. A stop that hands over no lock waits this long.
const RECEIVERS_MS: u64 = 3_000;
/// A crashed standby that was started to end in order.
const RECOVERED_MS: u64 = 600_000;

/// What a stop consists of.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StopPlan {
    /// A checkpoint while clients still write: what is left for the shutdown is short.
    pub checkpoints: bool,
    /// The operator's `before_stop` command is run first.
    pub runs_command: bool,
    pub way: StopWay,
    /// Afterwards the end of the log is brought into the archive.
    pub archives_end: bool,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum StopWay {
    /// Without a checkpoint, and without waiting for anything.
    #[default]
    AtOnce,
    Orderly {
        patience: Patience,
        limit_ms: Option<u64>,
    },
}

/// What may delay a stop that has written its last checkpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Patience {
    /// The archiver and all receivers, until a rule ends the wait: another member takes
    /// the lock.
    Ordered,
    /// The archiver as well, beyond `RECEIVERS_MS`: another cluster needs the end of the log.
    Archiver,
    Receivers,
}

impl StopPlan {
    /// The stop that is a part of this job.
    pub(super) fn of(job: &Job, dynamic: &Dynamic, may_checkpoint: bool) -> StopPlan {
        match job {
            Job::Stop { how } => StopPlan::by(*how, dynamic, may_checkpoint),
            // Its standbys are back with it soon: none of them takes the lock.
            Job::Restart { as_primary } => StopPlan {
                checkpoints: *as_primary && may_checkpoint,
                ..StopPlan::by(StopHow::Fast, dynamic, may_checkpoint)
            },
            Job::RecoverStandby { .. } => {
                let limit_ms = Some(RECOVERED_MS);
                let way = StopWay::Orderly { patience: Patience::Receivers, limit_ms };
                StopPlan { way, ..StopPlan::default() }
            }
            // Its data are about to be removed.
            Job::Rebuild { .. } => StopPlan::default(),
            // A new cluster is stopped once, before it is open to all.
            _ => StopPlan {
                runs_command: false,
                ..StopPlan::by(StopHow::Fast, dynamic, may_checkpoint)
            },
        }
    }

    fn by(how: StopHow, dynamic: &Dynamic, may_checkpoint: bool) -> StopPlan {
        let orderly = |patience, limit_ms| StopWay::Orderly { patience, limit_ms };
        let ending = match how {
            StopHow::Planned => orderly(Patience::Ordered, limit_ms(dynamic)),
            StopHow::Fast => orderly(Patience::Receivers, limit_ms(dynamic)),
            StopHow::Demoted => orderly(Patience::Archiver, None),
            StopHow::Immediate | StopHow::Overdue => StopWay::AtOnce,
        };
        StopPlan {
            checkpoints: how == StopHow::Planned && may_checkpoint,
            runs_command: !how.is_immediate(),
            way: ending,
            archives_end: how == StopHow::Demoted,
        }
    }
}

/// `primary_stop_timeout` holds in synchronous mode only: elsewhere what the last
/// checkpoint flushes to the replicas would be lost.
fn limit_ms(dynamic: &Dynamic) -> Option<u64> {
    let limit = dynamic.primary_stop_timeout_ms;
    (dynamic.synchronous_mode != SyncMode::Off && limit > 0).then_some(limit)
}

/// An orderly stop under way.
#[derive(Clone, Debug)]
pub struct OrderlyStop {
    patience: Patience,
    limit_ms: Option<u64>,
    begun: Millis,
    closed: Option<Millis>,
}

/// What is seen of it.
#[derive(Clone, Copy, Debug, Default)]
pub struct StopSight {
    /// The last checkpoint is written.
    pub is_closed: bool,
    pub has_receivers: bool,
    /// A rule has ended the wait (155).
    pub is_cut: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StopStep {
    Wait,
    /// Only they are ended: the archiver has its time.
    EndReceivers,
    /// The server is to end at once.
    Force,
}

/// One reason to wait no longer.
pub struct StopRow {
    /// Shown on the page of rules; never reused.
    pub id: u16,
    when: fn(&OrderlyStop, &Moment) -> bool,
    pub then: StopStep,
    pub why: &'static str,
}

struct Moment {
    sight: StopSight,
    /// Since the stop was asked for, and since its last checkpoint.
    age_ms: u64,
    closed_ms: u64,
}

/// The first row that matches decides.
pub const STOPS: &[StopRow] = &[
    StopRow {
        id: 2010,
        when: |stop, moment| stop.limit_ms.is_some_and(|limit| moment.age_ms >= limit),
        then: StopStep::Force,
        why: "the stop took longer than primary_stop_timeout: it is forced",
    },
    StopRow {
        id: 2020,
        when: |_, moment| moment.sight.is_cut,
        then: StopStep::Force,
        why: "a rule has ended the wait for receivers and archiver (155): the stop is forced",
    },
    StopRow {
        id: 2030,
        when: |stop, moment| {
            stop.patience == Patience::Receivers && moment.closed_ms >= RECEIVERS_MS
        },
        then: StopStep::Force,
        why: "the shutdown checkpoint is three seconds old: the stop no longer waits for standbys \
              that still receive WAL, and is forced",
    },
    StopRow {
        id: 2040,
        when: |stop, moment| {
            let is_late = moment.closed_ms >= 2 * RECEIVERS_MS;
            stop.patience == Patience::Archiver && is_late && moment.sight.has_receivers
        },
        then: StopStep::Force,
        why: "standbys that were told to end still receive WAL: the stop no longer waits for them, \
              and is forced",
    },
    StopRow {
        id: 2050,
        when: |stop, moment| {
            stop.patience == Patience::Archiver && moment.closed_ms >= RECEIVERS_MS
        },
        then: StopStep::EndReceivers,
        why: "another cluster needs the end of this log: the archiver has its time, the receivers \
              are ended",
    },
    StopRow {
        id: 2099,
        when: |_, _| true,
        then: StopStep::Wait,
        why: "the server writes its last checkpoint, or receivers and archiver have their time",
    },
];

impl OrderlyStop {
    pub fn begin(patience: Patience, limit_ms: Option<u64>, now: Millis) -> OrderlyStop {
        OrderlyStop { patience, limit_ms, begun: now, closed: None }
    }

    /// When its last checkpoint was seen.
    pub fn closed_since(&self) -> Option<Millis> {
        self.closed
    }

    /// Until the server has ended.
    pub fn look(&mut self, sight: StopSight, now: Millis) -> &'static StopRow {
        if sight.is_closed {
            self.closed.get_or_insert(now);
        }
        let closed_ms = self.closed.map_or(0, |at| now.since(at));
        let moment = Moment { sight, age_ms: now.since(self.begun), closed_ms };
        STOPS.iter().find(|row| (row.when)(self, &moment)).expect("the last row always matches")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn synchronous() -> Dynamic {
        Dynamic {
            synchronous_mode: SyncMode::On,
            primary_stop_timeout_ms: 5_000,
            ..Dynamic::default()
        }
    }

    fn stop(how: StopHow) -> StopPlan {
        StopPlan::of(&Job::Stop { how }, &synchronous(), true)
    }

    #[test]
    fn a_planned_stop_writes_a_checkpoint_first_where_the_disk_takes_it() {
        assert!(stop(StopHow::Planned).checkpoints);
        let job = Job::Stop { how: StopHow::Planned };
        assert!(!StopPlan::of(&job, &synchronous(), false).checkpoints);
        for how in [StopHow::Fast, StopHow::Demoted, StopHow::Immediate, StopHow::Overdue] {
            assert!(!stop(how).checkpoints, "{how:?}");
        }
        let restart = |as_primary| StopPlan::of(&Job::Restart { as_primary }, &synchronous(), true);
        assert!(restart(true).checkpoints && !restart(false).checkpoints);
        assert_eq!(restart(true).way, stop(StopHow::Fast).way, "it hands over no lock");
        assert!(stop(StopHow::Demoted).archives_end && !restart(true).archives_end);
        assert!(restart(true).runs_command && !stop(StopHow::Immediate).runs_command);
        assert_eq!(stop(StopHow::Overdue).way, StopWay::AtOnce);
    }

    #[test]
    fn only_a_synchronous_mode_has_a_limit_for_stops() {
        let limit_of = |plan: StopPlan| match plan.way {
            StopWay::Orderly { limit_ms, .. } => limit_ms,
            StopWay::AtOnce => panic!("it waits"),
        };
        assert_eq!(limit_of(stop(StopHow::Planned)), Some(5_000));
        assert_eq!(limit_of(stop(StopHow::Demoted)), None);
        let dynamic = Dynamic { synchronous_mode: SyncMode::Off, ..synchronous() };
        let job = Job::Stop { how: StopHow::Planned };
        assert_eq!(limit_of(StopPlan::of(&job, &dynamic, true)), None);
        let job = Job::RecoverStandby { timeline: topology::Timeline(1) };
        assert_eq!(limit_of(StopPlan::of(&job, &dynamic, true)), Some(RECOVERED_MS));
    }

    /// The rows that decide at these moments after the checkpoint.
    fn rows(patience: Patience, has_receivers: bool, moments: &[u64]) -> Vec<u16> {
        let mut stop = OrderlyStop::begin(patience, None, Millis(0));
        let sight = StopSight { has_receivers, ..StopSight::default() };
        assert_eq!(stop.look(sight, Millis(60_000)).id, 2099, "the checkpoint is not written");
        let sight = StopSight { is_closed: true, ..sight };
        moments.iter().map(|ms| stop.look(sight, Millis(70_000 + ms)).id).collect()
    }

    #[test]
    fn receivers_hold_up_a_stop_for_three_seconds_and_an_archiver_where_it_is_needed() {
        let at = [0, 2_999, 3_000, 6_000];
        assert_eq!(rows(Patience::Receivers, false, &at), [2099, 2099, 2030, 2030]);
        assert_eq!(rows(Patience::Archiver, false, &at), [2099, 2099, 2050, 2050]);
        assert_eq!(rows(Patience::Archiver, true, &at), [2099, 2099, 2050, 2040]);
        assert_eq!(rows(Patience::Ordered, true, &at), [2099; 4], "a rule ends that wait");
    }

    #[test]
    fn a_stop_is_forced_at_its_limit_and_by_a_rule() {
        let mut stop = OrderlyStop::begin(Patience::Ordered, Some(5_000), Millis(1_000));
        let sight = StopSight::default();
        assert_eq!(stop.look(sight, Millis(5_999)).then, StopStep::Wait);
        assert_eq!(stop.look(sight, Millis(6_000)).id, 2010);
        let cut = StopSight { is_cut: true, ..sight };
        assert_eq!(stop.look(cut, Millis(1_500)).id, 2020);
    }

    #[test]
    fn rows_are_in_order_and_the_last_one_matches() {
        assert!(STOPS.is_sorted_by(|a, b| a.id < b.id));
    }
}
