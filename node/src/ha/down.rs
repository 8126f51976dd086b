//! PostgreSQL is not running, and should be.
//!
//! Invariant *no regress*: a former primary is started only under the lock, or
//! as a standby whose history was compared with the leader's. A crashed one is
//! started as a standby: PostgreSQL refuses to stream across a fork, and
//! `follow.rs` compares as soon as it is quiet.

use super::action::Action;
use super::facts::Facts;
use super::observation::{Divergence, End, Job, Rebuild};
use super::table::{Rule, act, rest, soon};
use standby::switch::ownership::Ownership;

/// How long a candidate may take to report the shutdown checkpoint before the
/// old leader opens again.
const RECEIPT_MS: u64 = 10_000;

pub const DOWN: &[Rule] = &[
    // A region move stopped this group: sign, and wait for the decision.
    Rule::new(
        600,
        |f| f.stop_order().is_some() && f.o.holds_lock() && f.ended(End::Clean) && !f.has_signed(),
        |f| {
            act(Action::Sign {
                id: f.stop_order().expect("just seen").to_string(),
                lsn: f.remains().expect("just seen").lsn,
            })
        },
        "a region move: the end of this group's history is written down",
    ),
    Rule::new(
        601,
        |f| f.stop_order().is_some() && (f.o.holds_lock() || f.ended(End::Clean)),
        |_| rest(),
        "a region move: stopped until it is decided",
    ),
    Rule::new(
        605,
        |f| f.is_leader_elsewhere() && f.reinitialize_from().is_some(),
        |f| {
            act(Action::Begin(Job::Rebuild {
                from: f.reinitialize_from().expect("just seen"),
                why: f.reinitialize().expect("just seen"),
            }))
        },
        "reinitialize was asked for and there is a member to copy",
    ),
    // A switchover: the lock goes when the successor has everything.
    Rule::new(
        610,
        |f| is_handing_over(f) && !f.has_asked(),
        |_| act(Action::AskPeers),
        "has the successor received the shutdown checkpoint?",
    ),
    Rule::new(
        611,
        |f| is_handing_over(f) && f.successor(f.remains().map(|r| r.lsn)).is_ok(),
        |f| act(Action::ReleaseLock { publish: f.remains().map(|r| r.lsn) }),
        "the successor has everything: the lock is released",
    ),
    Rule::new(
        612,
        |f| is_handing_over(f) && f.handover_age() < RECEIPT_MS,
        |_| soon(20),
        "waiting until the successor has the shutdown checkpoint",
    )
    .saying(missing),
    Rule::new(
        613,
        is_handing_over,
        |_| act(Action::ClearRequest),
        "the successor did not receive the shutdown checkpoint: this member leads again",
    )
    .saying(missing),
    // Nothing starts as a primary on a machine that would not be reset.
    Rule::new(
        615,
        |f| leads(f) && f.is_watchdog_ready(),
        |_| act(Action::ArmWatchdog),
        "the watchdog is armed before PostgreSQL starts as a primary",
    ),
    Rule::new(
        616,
        |f| leads(f) && f.watchdog_broken().is_some(),
        |_| act(Action::ReleaseLock { publish: None }),
        "the watchdog is required and cannot be used: the lock goes to somebody whose can",
    )
    .saying(|f| f.watchdog_broken()),
    // The leader's server died.
    Rule::new(
        620,
        |f| leads(f) && fails_over_at_once(f) && !f.has_asked(),
        |_| act(Action::AskPeers),
        "primary_start_timeout is 0: can somebody take over?",
    ),
    Rule::new(
        621,
        |f| leads(f) && fails_over_at_once(f) && f.successor(None).is_ok(),
        |_| act(Action::ReleaseLock { publish: None }),
        "PostgreSQL died and somebody can take over: the lock is released",
    ),
    Rule::new(
        622,
        |f| leads(f) && is_start_hopeless(f) && !f.has_asked(),
        |_| act(Action::AskPeers),
        "PostgreSQL does not start: can somebody take over?",
    ),
    Rule::new(
        623,
        |f| leads(f) && is_start_hopeless(f) && f.successor(None).is_ok(),
        |_| act(Action::ReleaseLock { publish: None }),
        "PostgreSQL does not start and somebody can take over: the lock is released",
    )
    .saying(|f| f.why_failed()),
    Rule::new(
        630,
        |f| leads(f) && !f.is_backing_off() && f.ended(End::Standby),
        |_| act(Action::Begin(Job::StartStandby { follow: None })),
        "a standby that won the lock starts, to be promoted",
    ),
    Rule::new(
        631,
        |f| leads(f) && !f.is_backing_off() && f.remains().is_some(),
        |_| act(Action::Begin(Job::StartPrimary)),
        "PostgreSQL is down and this member holds the lock: it starts in place",
    ),
    // The leader of a standby group, or of a group nobody may open.
    Rule::new(
        640,
        |f| awaits_comparison(f) && f.is_comparison_due(),
        |f| act(Action::CheckDivergence { with: f.remote().expect("just seen") }),
        "has this log left the owner's history?",
    ),
    Rule::new(
        641,
        awaits_comparison,
        |_| soon(200),
        "a former primary waits until its log is compared with the owner's",
    ),
    Rule::new(
        645,
        |f| f.o.holds_lock() && !f.may_own() && f.is_diverged() && is_stuck(f),
        |_| act(Action::ReleaseLock { publish: None }),
        "this log has left the owner's history and is kept as it is: another member may lead here",
    )
    .saying(|f| f.diverged_how()),
    Rule::new(
        650,
        |f| f.is_diverged() && can_rewind(f) && !f.is_backing_off(),
        |f| act(Action::Begin(Job::Rewind { from: f.leader_source().expect("just seen") })),
        "this log has left the leader's history: it is rewound",
    )
    .saying(|f| f.diverged_how()),
    Rule::new(
        651,
        |f| f.is_diverged() && may_rebuild(f) && !f.is_backing_off(),
        |f| {
            act(Action::Begin(Job::Rebuild {
                from: f.clone_source().expect("just seen"),
                why: Rebuild::Diverged,
            }))
        },
        "this log has left the leader's history and the settings permit to build it anew",
    )
    .saying(|f| f.diverged_how()),
    Rule::new(
        652,
        |f| f.is_diverged() && is_stuck(f),
        |_| soon(5_000),
        "this log has left the leader's history and is kept as it is: set use_pg_rewind (with \
         data checksums or wal_log_hints), or reinitialize this member",
    )
    .saying(|f| f.diverged_how()),
    Rule::new(
        653,
        |f| f.is_diverged(),
        |_| soon(500),
        "this log has left the leader's history: waiting for the leader to rewind against",
    )
    .saying(|f| f.diverged_how()),
    // Data that was there before the cluster was.
    Rule::new(
        655,
        |f| f.is_lock_free() && f.is_initialize_absent() && may_enter(f),
        |_| act(Action::AdoptSystem),
        "the store does not know this cluster: its system id is entered",
    ),
    // A follower.
    Rule::new(
        660,
        |f| f.is_leader_elsewhere() && must_compare(f) && is_unchecked(f) && f.is_comparison_due(),
        |f| act(Action::CheckDivergence { with: f.leader_source().expect("just seen") }),
        "has this log left the leader's history?",
    ),
    Rule::new(
        661,
        |f| f.is_leader_elsewhere() && f.ended(End::Clean) && is_unchecked(f),
        |_| soon(200),
        "a former primary waits until its log is compared with the leader's",
    ),
    Rule::new(
        670,
        |f| f.is_control_unknown() || f.is_backing_off(),
        |_| soon(500),
        "PostgreSQL is down; it is tried again in a moment",
    )
    .saying(|f| f.why_failed()),
    Rule::new(
        680,
        |_| true,
        |f| act(Action::Begin(Job::StartStandby { follow: f.upstream() })),
        "PostgreSQL is down: it starts as a standby",
    ),
];

/// A former primary, or a backup that was put here. The data of a standby may
/// lack what its primary has: that one enters the cluster. In a standby cluster
/// all data is of that kind.
fn may_enter(f: &Facts) -> bool {
    let plain = f.o.ownership == Ownership::NoRegions;
    let led = f.remains().is_some_and(|r| r.end != End::Standby || r.copied);
    let copies = f.o.dynamic.standby_cluster.is_some() && f.remains().is_some();
    plain && f.o.system().is_some() && (led || copies)
}

fn is_handing_over(f: &Facts) -> bool {
    f.is_handing_over() && f.o.holds_lock() && f.ended(End::Clean) && f.request().is_some()
}

fn missing(f: &Facts) -> Option<String> {
    f.successor(f.remains().map(|r| r.lsn)).err().map(|why| why.to_string())
}

/// Holds the lock, long enough to come, in a region that may be open.
fn leads(f: &Facts) -> bool {
    f.o.holds_lock() && f.may_own() && f.stop_order().is_none() && !f.is_fence_due()
}

fn fails_over_at_once(f: &Facts) -> bool {
    f.o.dynamic.primary_start_timeout_ms == 0 && f.ended(End::Crashed)
}

/// One start as a primary that failed is enough where somebody else can lead.
fn is_start_hopeless(f: &Facts) -> bool {
    let again = f.o.memory.failed.as_ref().is_some_and(|failed| failed.times >= 3);
    f.has_start_failed() || again
}

/// A former primary before it starts. Others tell by themselves when they run,
/// unless PostgreSQL refuses to start on a log that has left the history: that
/// is asked until the next try is due.
fn must_compare(f: &Facts) -> bool {
    let failed = f.o.memory.failed.as_ref();
    let refused = failed.is_some_and(|f| matches!(f.job, Job::StartStandby { .. }));
    f.ended(End::Clean) || refused && f.is_backing_off() && f.remains().is_some()
}

/// Leads a group that another region owns, with a log of its own.
fn awaits_comparison(f: &Facts) -> bool {
    f.o.holds_lock() && must_compare(f) && f.remote().is_some() && is_unchecked(f)
}

fn is_unchecked(f: &Facts) -> bool {
    *f.divergence() == Divergence::Unchecked
}

/// Neither rewound nor built anew: only an operator can go on.
fn is_stuck(f: &Facts) -> bool {
    is_rewind_hopeless(f) && !f.o.me.may_rebuild_diverged
}

fn is_rewind_hopeless(f: &Facts) -> bool {
    !f.o.me.may_rewind || f.rewind_failed()
}

fn can_rewind(f: &Facts) -> bool {
    !is_rewind_hopeless(f) && f.leader_source().is_some()
}

fn may_rebuild(f: &Facts) -> bool {
    f.o.me.may_rebuild_diverged && f.leader_source().is_some()
}
