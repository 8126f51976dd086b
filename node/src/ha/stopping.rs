//! The daemon was told to end.
//!
//! Invariant: PostgreSQL is stopped before the lock is released, and the lock
//! is released before the process ends, so that a replica takes over at once.

use super::action::Action;
use super::facts::Facts;
use super::observation::{End, Job, StopHow};
use super::table::{Rule, act, soon};
use topology::Lsn;

/// How long the own successor may take to report the shutdown checkpoint. It
/// has it already in nearly all cases: the walsender waits for it.
const RECEIPT_MS: u64 = 2_000;

pub const STOPPING: &[Rule] = &[
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
        "the daemon ends: its half-made cluster is moved aside, `/initialize` is given back",
    ),
    Rule::new(
        210,
        |f| !f.o.is_stopped() && !f.is_data_empty(),
        |_| act(Action::Begin(Job::Stop { how: StopHow::Planned })),
        "the daemon ends: PostgreSQL stops first",
    ),
    Rule::new(
        220,
        |f| f.o.holds_lock() && f.ended(End::Clean) && !f.has_asked(),
        |_| act(Action::AskPeers),
        "has a replica received the shutdown checkpoint?",
    ),
    Rule::new(
        230,
        |f| f.o.holds_lock() && f.ended(End::Clean) && awaits_receipt(f),
        |_| soon(50),
        "waiting until a replica has the shutdown checkpoint",
    ),
    Rule::new(
        240,
        |f| f.o.holds_lock(),
        |f| act(Action::ReleaseLock { publish: received(f) }),
        "PostgreSQL is down: the lock is released for a replica",
    ),
    Rule::new(299, |_| true, |_| act(Action::Exit(0)), "the daemon ends"),
];

/// The end of the log, if somebody has all of it. Else the position stays as
/// it was reported: a limit that nobody meets would leave no leader at all.
fn received(f: &Facts) -> Option<Lsn> {
    let past = f.remains().filter(|r| r.end == End::Clean).map(|r| r.lsn)?;
    f.successor(Some(past)).ok().map(|_| past)
}

fn awaits_receipt(f: &Facts) -> bool {
    use standby::candidate::NoCandidate::NotThere;
    let past = f.remains().map(|r| r.lsn);
    f.handover_age() < RECEIPT_MS && matches!(f.successor(past), Err(NotThere { .. }))
}
