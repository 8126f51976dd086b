//! While a long action runs: let it, unless what it was begun for is gone.
//!
//! Invariant: a rewind is never cancelled. Half of one leaves a data directory
//! that looks whole and is not.

use super::action::Action;
use super::facts::Facts;
use super::observation::{Job, Lock};
use super::table::{Rule, act, rest};

pub const JOB: &[Rule] = &[
    Rule::new(
        100,
        |f| f.o.memory.stopping && !is_stop(f) && !is_rewind(f),
        |_| act(Action::CancelJob),
        "the daemon ends: the running action is cancelled",
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
        120,
        |f| opens(f) && !f.may_own() && !f.is_paused(),
        |_| act(Action::CancelJob),
        "the region no longer owns the formation: this server must not start as a primary",
    ),
    Rule::new(
        130,
        |f| {
            f.job() == Some(&Job::StartPrimary)
                && took_too_long(f)
                && f.has_asked()
                && f.successor(None).is_ok()
        },
        |_| act(Action::CancelJob),
        "recovery in place took longer than primary_start_timeout and somebody can take over",
    ),
    Rule::new(
        131,
        |f| {
            f.job() == Some(&Job::StartPrimary)
                && took_too_long(f)
                && !f.has_asked()
                && !f.is_paused()
        },
        |_| act(Action::AskPeers),
        "recovery in place took longer than primary_start_timeout: can somebody take over?",
    ),
    Rule::new(199, |_| true, |_| rest(), "an action is running").saying(what),
];

fn is_stop(f: &Facts) -> bool {
    matches!(f.job(), Some(Job::Stop { .. }))
}

fn is_rewind(f: &Facts) -> bool {
    matches!(f.job(), Some(Job::Rewind { .. }))
}

fn opens(f: &Facts) -> bool {
    matches!(f.job(), Some(Job::StartPrimary))
}

fn took_too_long(f: &Facts) -> bool {
    let since = f.o.job.as_ref().map(|j| j.since);
    since.is_some_and(|s| f.o.now.since(s) >= f.o.dynamic.primary_start_timeout_ms)
        && f.o.dynamic.primary_start_timeout_ms > 0
}

fn what(f: &Facts) -> Option<String> {
    f.job().map(|job| job.title().to_string())
}
