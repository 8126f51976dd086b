//! What comes before everything: fencing, refusals, and staying alive.
//!
//! Invariant *one writer*: a server that may be writing without a lock that is
//! certainly ours is stopped here, before any other rule is asked.

use super::action::{Action, Publish};
use super::facts::Facts;
use super::observation::{Bootstrapping, DataDir, Job, StopHow};
use super::table::{Rule, act, rest, soon};
use topology::Seen;

/// The row that keeps the own lease alive: once in every loop.
pub const RENEW: u16 = 10;
/// The row that lets the other tables decide.
pub const PASS: u16 = 99;

/// A directory that cannot be read for this long is damaged.
const DAMAGED_MS: u64 = 1_000;

pub const GATE: &[Rule] = &[
    Rule::new(
        RENEW,
        |f| f.is_renewal_due() && !must_fence(f),
        |_| act(Action::Renew),
        "this member's lease is due for renewal",
    ),
    Rule::new(
        12,
        |f| f.must_ask_all() && !f.is_fence_due(),
        |_| act(Action::AskAll),
        "the store does not answer: asking all members to accept this leader in failsafe mode",
    ),
    Rule::new(
        20,
        must_fence,
        |f| match f.job() {
            Some(_) => act(Action::CancelJob),
            None => act(Action::Begin(Job::Stop { how: StopHow::Immediate })),
        },
        "the lock could not be renewed before its deadline: stopping PostgreSQL",
    ),
    Rule::new(
        21,
        |f| f.o.is_primary() && f.is_leader_elsewhere() && is_stopping_softly(f),
        |_| act(Action::CancelJob),
        "another member leads while this primary shuts down: an immediate stop replaces the \
         orderly one",
    ),
    Rule::new(
        22,
        |f| is_data_gone(f) && !f.o.is_stopped() && f.o.job.is_none(),
        |_| act(Action::Begin(Job::Stop { how: StopHow::Immediate })),
        "the data directory is gone from under a running server: it is stopped",
    ),
    Rule::new(
        23,
        |f| is_damage_young(f) && !f.o.is_stopped() && f.o.job.is_none(),
        |f| soon(DAMAGED_MS.saturating_sub(damaged_ms(f))),
        "the data directory of a running server cannot be read: it is read again before anything \
         is done",
    )
    .until(
        "the next look reads the directory again, within a second",
        "it is damaged: the server is stopped (22), or the member waits for an operator (31)",
    )
    .saying(refusal),
    Rule::new(
        25,
        |f| is_to_be_replaced(f) && f.o.job.is_none() && !f.o.memory.stopping,
        |f| act(Action::Begin(f.reinitialization().expect("just seen"))),
        "reinitialize was asked for and the data directory is damaged",
    ),
    Rule::new(
        30,
        |f| f.is_data_unusable() && f.o.holds_lock() && f.o.is_stopped(),
        |_| act(Action::ReleaseLock { publish: Publish::Nothing }),
        "the data directory cannot be used: releasing the lock so that another member can lead",
    )
    .saying(refusal),
    Rule::new(
        31,
        |f| f.is_data_unusable() && !f.o.memory.stopping && f.o.job.is_none(),
        // A restore by another program may come to its end.
        |_| soon(2_000),
        "the data directory cannot be used and is not touched",
    )
    .until(
        "an operator puts the directory right, or asks for `matriarchctl reinit` beside a leader",
        "the member stays as it is and shows why; nothing is touched",
    )
    .saying(refusal),
    Rule::new(
        40,
        |f| {
            f.is_other_system()
                && !f.is_paused()
                && !f.o.memory.stopping
                && f.o.job.is_none()
                && f.bootstrap() == Bootstrapping::No
        },
        |_| act(Action::Exit(1)),
        "the data directory belongs to another cluster: `/initialize` names another system id; \
         give this member its own data directory or scope",
    ),
    Rule::new(
        50,
        |f| f.has_promised() && f.o.holds_lock() && !f.o.is_primary() && f.o.job.is_none(),
        |_| act(Action::ReleaseLock { publish: Publish::Nothing }),
        "this member promised, in failsafe mode, to accept another leader: releasing the lock",
    ),
    Rule::new(
        52,
        |f| f.must_ask_promises_as_leader(),
        |_| act(Action::AskPromises),
        "holds the lock, and a former leader may still lead on promises of a majority: asking the \
         members that `/failsafe` names for their promise",
    ),
    Rule::new(
        53,
        |f| f.are_promises_overdue(),
        |_| act(Action::ReleaseLock { publish: Publish::Nothing }),
        "too few members of `/failsafe` promise: releasing the lock so that another member can \
         ask",
    )
    .saying(unpromised),
    Rule::new(PASS, |_| true, |_| rest(), "nothing stands in the way").at_rest(),
];

/// Programs of another version in `bin_dir` are no reason to stop a server that
/// runs: it goes on for as long as its lock does.
///
/// Empty is certain: the directory was looked into and holds no file. What cannot
/// be read, or lacks its control file, may be so for a moment.
fn is_data_gone(f: &Facts) -> bool {
    match f.o.postgres.data {
        DataDir::Empty => true,
        DataDir::Damaged(_) => !is_damage_young(f),
        _ => false,
    }
}

/// No moment is given to a primary without the lock.
fn is_damage_young(f: &Facts) -> bool {
    let damaged = matches!(f.o.postgres.data, DataDir::Damaged(_));
    let stray = f.o.is_primary() && !f.o.holds_lock();
    damaged && !stray && damaged_ms(f) < DAMAGED_MS
}

fn damaged_ms(f: &Facts) -> u64 {
    f.o.memory.damaged_since.map_or(0, |since| f.o.now.since(since))
}

fn unpromised(f: &Facts) -> Option<String> {
    f.open().err().map(|why| why.to_string())
}

/// What is wrong with the data directory, and what a person can do.
pub fn refusal(f: &Facts) -> Option<String> {
    match &f.o.postgres.data {
        DataDir::Refused(why) => Some(why.clone()),
        DataDir::Damaged(why) => Some(format!(
            "{why}; nothing here is removed. `matriarchctl reinit` builds this member anew from \
             the leader"
        )),
        _ => None,
    }
}

fn is_to_be_replaced(f: &Facts) -> bool {
    let damaged = matches!(f.o.postgres.data, DataDir::Damaged(_));
    damaged && f.is_leader_elsewhere() && f.reinitialization().is_some()
}

/// Fencing goes before renewing: a call to a silent store takes as long as the
/// fence budget, and would be tried again and again.
fn must_fence(f: &Facts) -> bool {
    let fences = !f.is_paused() && may_write(f) && f.is_fence_due();
    fences && !is_stopping_hard(f) && !is_in_the_making(f)
}

/// No other member knows a cluster that is not in the store yet: `/initialize` keeps others
/// from making one, and hours of recovery must not be lost because the store is silent.
fn is_in_the_making(f: &Facts) -> bool {
    matches!(f.job(), Some(Job::Bootstrap)) && !f.o.holds_lock()
}

/// A server that accepts writes, or may begin to at any moment. A lock holder's
/// server that does not answer may be a primary.
fn may_write(f: &Facts) -> bool {
    let starting = f.is_opening() || f.will_open();
    let silent = f.o.server().is_some_and(|s| s.role == Seen::Unknown) && f.o.holds_lock();
    let read_only = matches!(f.job(), Some(Job::StartStandby { .. }));
    f.o.is_primary() || f.o.memory.promoting.is_some() || starting || silent && !read_only
}

/// Clients may write on for as long as such a stop makes its first checkpoint.
fn is_stopping_softly(f: &Facts) -> bool {
    let is_soft = matches!(f.job(), Some(Job::Stop { how }) if !how.is_immediate());
    is_soft && f.closed().is_none() && !f.is_paused()
}

fn is_stopping_hard(f: &Facts) -> bool {
    matches!(f.job(), Some(Job::Stop { how }) if how.is_immediate())
}
