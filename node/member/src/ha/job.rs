//! While a long action runs: let it, unless what it was begun for is gone.
//!
//! Invariant: a rewind is cancelled only for the end of the daemon, after a moment in
//! which most come to their end. Half of one leaves a data directory that looks whole
//! and is not; its mark says so to the next daemon (`postgres/rewind_mark.rs`).

use super::action::{Action, Publish, Receivers, Step};
use super::facts::Facts;
use super::observation::{Job, Lock};
use super::table::{Rule, act, rest, soon};
use topology::MemberRole;

/// What a rewind has to come to its end once the daemon was told to end.
const REWIND_MS: u64 = 5_000;

pub(crate) const JOB: &[Rule] = &[
    Rule::new(
        100,
        |f| f.o.memory.stopping && !is_stop(f) && !is_rewind(f),
        |_| act(Action::CancelJob),
        "the daemon ends: the running action is cancelled",
    ),
    Rule::new(
        102,
        |f| f.o.memory.stopping && is_rewind(f) && f.stopping_ms() < REWIND_MS,
        |_| soon(100),
        "the daemon ends: pg_rewind has five seconds to come to its end",
    )
    .until(
        "the end of pg_rewind",
        "it is ended (103); the next daemon finds its mark and rewinds once more",
    ),
    Rule::new(
        103,
        |f| f.o.memory.stopping && is_rewind(f),
        |_| act(Action::CancelJob),
        "the daemon ends: pg_rewind takes too long and is stopped; the next daemon runs it again",
    ),
    Rule::new(
        110,
        |f| opens(f) && matches!(f.o.lock, Lock::Other(_)),
        |_| act(Action::CancelJob),
        "another member leads: this server must not start as a primary",
    ),
    Rule::new(
        112,
        |f| opens(f) && f.is_lock_free() && !f.is_paused(),
        |_| act(Action::CancelJob),
        "the lock is gone: this server must not start as a primary",
    ),
    Rule::new(
        114,
        |f| f.job() == Some(&Job::PrePromote) && !is_lock_good(f),
        |_| act(Action::CancelJob),
        "the lock is gone, or about to end: pre_promote is ended",
    ),
    Rule::new(
        120,
        |f| opens(f) && !f.may_own() && !f.is_paused(),
        |_| act(Action::CancelJob),
        "the region no longer owns the formation: this server must not start as a primary",
    ),
    Rule::new(
        130,
        |f| f.starts_to_lead() && took_too_long(f) && f.has_asked() && f.successor(None).is_ok(),
        |_| act(Action::CancelJob),
        "recovery in place took longer than primary_start_timeout and another member can take over",
    ),
    Rule::new(
        131,
        |f| f.starts_to_lead() && took_too_long(f) && !f.has_asked() && !f.is_paused(),
        |_| act(Action::AskPeers),
        "recovery in place took longer than primary_start_timeout: asking whether another member \
         can take over",
    ),
    // An operator's order is heard while a recovery runs.
    Rule::new(
        132,
        |f| is_ordered_away_from_start(f) && !f.has_asked(),
        |_| act(Action::AskPeers),
        "a new leader was asked for while PostgreSQL recovers in place: asking whether another \
         member can take over",
    ),
    Rule::new(
        133,
        |f| is_ordered_away_from_start(f) && f.successor(None).is_ok(),
        |_| act(Action::CancelJob),
        "a new leader was asked for while PostgreSQL recovers in place: it stops",
    ),
    Rule::new(
        134,
        is_ordered_away_from_start,
        |_| act(Action::ClearRequest),
        "no member can take over as asked",
    )
    .saying(|f| f.successor(None).err().map(|why| why.to_string())),
    Rule::new(
        140,
        is_source_gone,
        |_| act(Action::CancelJob),
        "the member that is being copied no longer leads or has left the store, and another \
         member leads: restarting the copy",
    )
    .saying(|f| Some(f.view()?.leader_name()?.to_string())),
    Rule::new(
        141,
        |f| matches!(f.job(), Some(Job::StartStandby { .. })) && f.is_start_misdirected(),
        |f| act(Action::Follow(f.upstream())),
        "the leader changed while this standby starts: setting primary_conninfo to follow the \
         new leader",
    ),
    // A planned stop whose postmaster lives on, for its archiver: nothing can be
    // written here any more.
    Rule::new(
        150,
        |f| f.is_closed_for_another() && !f.has_asked(),
        |_| act(Action::AskPeers),
        "PostgreSQL has shut down but still archives: asking whether a replica has received the \
         shutdown checkpoint",
    ),
    Rule::new(
        151,
        |f| f.is_closed_for_another() && f.successor(f.closed().map(|c| c.lsn)).is_ok(),
        |f| {
            let lsn = f.closed().expect("just seen").lsn;
            act(Action::ReleaseLock { publish: Publish::Handover(lsn, f.own_timeline()) })
        },
        "PostgreSQL has closed and still archives: the lock is released for a replica",
    ),
    Rule::new(
        152,
        |f| f.awaits_receivers(),
        |_| soon(100),
        "PostgreSQL has closed and still archives: no replica has the shutdown checkpoint yet",
    )
    .until(
        "a replica reports the shutdown checkpoint (151), or the postmaster ends",
        "the stop goes on without its receivers; then the rows of a stopped primary decide (230, 612)",
    )
    .saying(|f| f.what_replicas_lack()),
    Rule::new(
        153,
        |f| f.are_receivers_dispensable(),
        |_| act(Action::EndReceivers(Receivers::All)),
        "the shutdown checkpoint is written: the stop does not wait for the remaining receivers",
    )
    .saying(|f| f.who_stands_still()),
    Rule::new(
        154,
        |f| f.is_checkpoint_held_up(),
        |_| act(Action::EndReceivers(Receivers::Logical)),
        "the last client is gone and consumers of logical replication hold up the shutdown \
         checkpoint: their connections are ended",
    ),
    Rule::new(
        155,
        |f| f.is_stop_overdue(),
        |_| act(Action::CutStop),
        "the shutdown checkpoint is written, but the postmaster has not exited: the stop is forced",
    )
    .saying(|f| f.who_stands_still()),
    Rule::new(
        158,
        |f| f.is_closed_for_another(),
        |_| soon(100),
        "PostgreSQL has closed, and no replica gets the shutdown checkpoint any more",
    )
    .until(
        "the end of the postmaster",
        "a stop that takes too long is cut off (155)",
    )
    .saying(|f| f.what_replicas_lack()),
    Rule::new(199, |_| true, until_too_long, "an action is running")
    .until(
        "the end of the action; each has a limit of its own",
        "the rows above cancel one whose purpose is gone; `primary_start_timeout` bounds the start of a primary",
    ).saying(what),
];

fn is_stop(f: &Facts) -> bool {
    matches!(f.job(), Some(Job::Stop { .. }))
}

fn is_ordered_away_from_start(f: &Facts) -> bool {
    let starts = f.starts_to_lead() && f.o.holds_lock() && !f.is_paused();
    starts && f.is_ordered_away()
}

fn is_rewind(f: &Facts) -> bool {
    matches!(f.job(), Some(Job::Rewind { .. }))
}

/// A copy of a member that led and leads no more, or that is gone. What comes from it
/// may have left the group's history. A replica that serves copies is well as long as
/// it is in the store.
fn is_source_gone(f: &Facts) -> bool {
    let Some(Job::Clone { from } | Job::Rebuild { from, .. }) = f.job() else { return false };
    let (Some(view), Some(leader)) = (f.view(), f.leader_source()) else { return false };
    let afar = f.remote().is_some_and(|remote| remote.member == from.member);
    let gone = view.member(&from.member).is_none_or(|m| m.role == MemberRole::Primary);
    f.is_leader_elsewhere() && leader.member != from.member && !afar && gone
}

/// In pause an operator may restart a primary that has no lock.
fn opens(f: &Facts) -> bool {
    f.job() == Some(&Job::StartPrimary) || f.will_open() && !f.is_paused()
}

fn is_lock_good(f: &Facts) -> bool {
    f.is_lock_young_enough() && f.may_own()
}

fn took_too_long(f: &Facts) -> bool {
    let since = f.o.job.as_ref().map(|j| j.since);
    since.is_some_and(|s| f.o.now.since(s) >= f.o.dynamic.primary_start_timeout_ms)
        && f.o.dynamic.primary_start_timeout_ms > 0
}

fn until_too_long(f: &Facts) -> Step {
    let limit = f.o.dynamic.primary_start_timeout_ms;
    match &f.o.job {
        Some(running) if f.starts_to_lead() && limit > 0 => {
            soon((running.since + limit).since(f.o.now).max(100))
        }
        _ => f.stop_again_ms().map_or_else(rest, soon),
    }
}

fn what(f: &Facts) -> Option<String> {
    f.job().map(|job| job.title().to_string())
}
