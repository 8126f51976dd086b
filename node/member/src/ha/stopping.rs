//! The daemon was told to end.
//!
//! Invariant: PostgreSQL is stopped before the lock is released, and the lock
//! is released before the process ends, so that a replica takes over at once.

use super::action::Action;
use super::facts::Facts;
use super::observation::{End, Job, StopHow};
use super::table::{Rule, act, soon};

pub(crate) const STOPPING: &[Rule] = &[
    Rule::new(
        200,
        |f| f.is_paused(),
        |_| act(Action::Exit(0)),
        "paused: PostgreSQL and the lock are left as they are",
    ),
    Rule::new(
        205,
        |f| f.is_half_made() && f.view().is_some(),
        |_| act(Action::GiveUpBootstrap),
        "the daemon ends during bootstrap: moving the unfinished data directory aside and \
         releasing `/initialize`",
    ),
    Rule::new(
        207,
        |f| f.o.is_standby() && f.is_awaited_by_commits(),
        |_| soon(200),
        "the daemon ends: waiting until the leader counts on another standby",
    )
    .until(
        "the leader names another standby in `/sync`",
        "after two `loop_wait` the member stops all the same, and commits wait for the leader's next choice",
    ),
    Rule::new(
        208,
        |f| f.o.is_primary() && f.is_leader_elsewhere(),
        |_| act(Action::Begin(Job::Stop { how: StopHow::Immediate })),
        "the daemon ends and another member leads: this primary stops at once",
    ),
    Rule::new(
        210,
        |f| !f.o.is_stopped() && !f.has_no_data(),
        |f| act(Action::Begin(Job::Stop { how: how_to_stop(f) })),
        "the daemon ends: PostgreSQL stops first",
    ),
    Rule::new(
        220,
        |f| f.o.holds_lock() && f.ended(End::Clean) && !f.has_asked(),
        |_| act(Action::AskPeers),
        "the daemon ends: asking whether a replica has received the shutdown checkpoint",
    ),
    Rule::new(
        230,
        |f| f.o.holds_lock() && f.ended(End::Clean) && f.awaits_receipt(),
        |_| soon(50),
        "waiting until a replica has the shutdown checkpoint",
    )
    .until(
        "a replica reports the shutdown checkpoint",
        "after a bounded time the lock is released with the end of the log (240)",
    ),
    Rule::new(
        240,
        |f| f.o.holds_lock(),
        |f| act(Action::ReleaseLock { publish: f.told() }),
        "PostgreSQL is down: the lock is released for a replica",
    ),
    Rule::new(299, |_| true, |_| act(Action::Exit(0)), "the daemon ends"),
];

/// A planned stop makes a checkpoint first, and clients write on meanwhile.
fn how_to_stop(f: &Facts) -> StopHow {
    if f.may_begin_planned() { StopHow::Planned } else { StopHow::Fast }
}
