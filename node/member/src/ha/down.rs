//! PostgreSQL is not running, and should be.
//!
//! Invariant *no regress*: a former primary, stopped or crashed, is started only
//! under the lock, or as a standby whose log was compared with the leader's. One
//! that cannot be compared in time is started as a standby only after a stop in
//! order: PostgreSQL itself lets such a log follow no history that it has left.
//! What a rewind left half way is not started at all.

mod conditions;

use super::action::{Action, Publish};
use super::observation::{End, Job, Rebuild};
use super::rewinding::{
    can_rewind, how, is_rewind_hopeless, is_stuck, is_uncompared_for_good, may_rebuild,
    may_rebuild_uncompared, must_rewind, needs_recovery, obstacle,
};
use super::table::{Rule, act, rest, soon};
use conditions::{
    awaits_comparison, crashed_without_leader, fails_over_at_once, is_handing_over,
    is_start_hopeless, is_uncompared, is_unguarded, leads, leaves_without_end, may_enter,
    may_lack_the_end, missing, must_compare, opens_in_place, start_as_standby, target,
    why_given_up,
};

/// How long a candidate may take to report the shutdown checkpoint before the
/// old leader opens again.
const RECEIPT_MS: u64 = 10_000;

pub(crate) const DOWN: &[Rule] = &[
    // A region move stopped this group: sign, and wait for the decision.
    Rule::new(
        600,
        |f| f.stop_order().is_some() && f.o.holds_lock() && f.ended(End::Clean) && !f.has_signed(),
        |f| {
            act(Action::Sign {
                id: f.stop_order().expect("just seen").to_string(),
                lsn: f.shutdown_state().expect("just seen").lsn,
            })
        },
        "a region move: the end of this group's history is written down",
    ),
    Rule::new(
        601,
        |f| f.stop_order().is_some() && (f.o.holds_lock() || f.ended(End::Clean)),
        |_| rest(),
        "a region move: stopped until it is decided",
    )
    .until(
        "the move is decided or given up: the agent that drives it has a deadline for each step",
        "the order is withdrawn with the journal, and the group starts again where it was",
    ),
    // A primary that stopped in order for want of a watchdog.
    Rule::new(
        602,
        |f| is_unguarded(f) && f.ended(End::Clean) && !f.has_asked(),
        |_| act(Action::AskPeers),
        "watchdog required but unusable: asking whether a replica has received all WAL",
    ),
    Rule::new(
        603,
        |f| is_unguarded(f) && f.ended(End::Clean) && f.awaits_receipt(),
        |_| soon(50),
        "the watchdog is required and cannot be used: waiting until a replica has the end of the \
         log",
    )
    .until("a replica tells that it has the end", "after two seconds the lock is released (616)"),
    Rule::new(
        605,
        |f| f.is_leader_elsewhere() && f.reinitialization().is_some(),
        |f| act(Action::Begin(f.reinitialization().expect("just seen"))),
        "reinitialize was asked for and there is a member to copy",
    ),
    // Before all that may open a server: the guard thread goes by the deadline.
    Rule::new(
        606,
        |f| leads(f) && !f.is_lock_renewed(),
        |_| soon(100),
        "the leader key is of an earlier process of this member: nothing opens before this \
         process has renewed it",
    )
    .until(
        "the renewal succeeds, or the store says that the key is gone",
        "after `retry_timeout` the server starts as a standby (680)",
    ),
    Rule::new(
        607,
        |f| f.o.holds_lock() && f.may_own() && f.ended(End::Half),
        |_| act(Action::ReleaseLock { publish: Publish::Nothing }),
        "a rewind of this data did not come to its end: the lock is released",
    ),
    // An operator's order is heard here too, and a handover whose stop left no
    // shutdown checkpoint is not tried again and again.
    Rule::new(
        608,
        |f| leaves_without_end(f) && !f.has_asked(),
        |_| act(Action::AskPeers),
        "PostgreSQL is down without a shutdown checkpoint and a new leader was asked for: asking \
         whether another member can take over",
    ),
    Rule::new(
        609,
        |f| leaves_without_end(f) && may_lack_the_end(f) && f.successor(None).is_ok(),
        |f| act(Action::ReleaseLock { publish: f.told() }),
        "a new leader was asked for and needs no shutdown checkpoint: the lock is released",
    ),
    // A switchover: the lock goes when the successor has everything.
    Rule::new(
        610,
        |f| is_handing_over(f) && !f.has_asked(),
        |_| act(Action::AskPeers),
        "handing over: asking whether the next leader has received the shutdown checkpoint",
    ),
    Rule::new(
        611,
        |f| is_handing_over(f) && f.successor(f.shutdown_state().map(|r| r.lsn)).is_ok(),
        |f| act(Action::ReleaseLock { publish: f.told() }),
        "the successor has everything: the lock is released",
    ),
    Rule::new(
        612,
        |f| is_handing_over(f) && f.handover_age() < RECEIPT_MS,
        |_| soon(20),
        "waiting until the successor has the shutdown checkpoint",
    )
    .until(
        "the candidate reports the shutdown checkpoint (611)",
        "after ten seconds the request is cleared and this member leads again (613)",
    )
    .saying(missing),
    Rule::new(
        613,
        is_handing_over,
        |_| act(Action::ClearRequest),
        "the successor did not receive the shutdown checkpoint: this member leads again",
    )
    .saying(missing),
    Rule::new(
        614,
        leaves_without_end,
        |_| act(Action::ClearRequest),
        "the handover is given up: this member leads again",
    )
    .saying(|f| Some(why_given_up(f))),
    // Nothing starts as a primary on a machine that would not be reset.
    Rule::new(
        615,
        |f| leads(f) && f.is_watchdog_ready(),
        |_| act(Action::ArmWatchdog),
        "the watchdog is armed before PostgreSQL starts as a primary",
    ),
    Rule::new(
        616,
        is_unguarded,
        |f| act(Action::ReleaseLock { publish: f.told() }),
        "watchdog required but unusable: releasing the lock so that another member can lead",
    )
    .saying(|f| f.watchdog_broken()),
    // A disk that takes no files lets no server start.
    Rule::new(
        617,
        |f| leads(f) && f.disk_failed().is_some() && !f.has_asked(),
        |_| act(Action::AskPeers),
        "the disk takes no files any more: asking whether another member can take over",
    )
    .saying(|f| f.disk_failed().map(str::to_string)),
    Rule::new(
        618,
        |f| leads(f) && f.disk_failed().is_some() && f.awaits_receipt(),
        |_| soon(50),
        "the disk takes no files any more: waiting until a replica has the end of the log",
    )
    .until(
        "a replica has the end of the log",
        "after a bounded time the lock goes to the most advanced member that answers (619)",
    )
    .saying(|f| f.disk_failed().map(str::to_string)),
    Rule::new(
        619,
        |f| leads(f) && f.disk_failed().is_some() && f.heir().is_ok(),
        |f| act(Action::ReleaseLock { publish: f.told() }),
        "the disk takes no files any more and another member can take over: the lock is released",
    )
    .saying(|f| f.disk_failed().map(str::to_string)),
    // The leader's server died.
    Rule::new(
        620,
        |f| leads(f) && fails_over_at_once(f) && !f.has_asked(),
        |_| act(Action::AskPeers),
        "primary_start_timeout is 0: asking whether another member can take over",
    ),
    Rule::new(
        621,
        |f| leads(f) && fails_over_at_once(f) && f.successor(None).is_ok(),
        |_| act(Action::ReleaseLock { publish: Publish::Nothing }),
        "PostgreSQL died and another member can take over: the lock is released",
    ),
    Rule::new(
        622,
        |f| leads(f) && is_start_hopeless(f) && !f.has_asked(),
        |_| act(Action::AskPeers),
        "PostgreSQL does not start: asking whether another member can take over",
    ),
    Rule::new(
        623,
        |f| leads(f) && is_start_hopeless(f) && f.heir().is_ok(),
        |f| act(Action::ReleaseLock { publish: f.told() }),
        "PostgreSQL does not start and another member can take over: the lock is released",
    )
    .saying(|f| f.why_failed()),
    Rule::new(
        630,
        |f| leads(f) && !f.is_backing_off() && f.ended(End::Standby),
        |_| act(Action::Begin(Job::StartStandby { follow: None, target: None })),
        "a standby that won the lock starts, to be promoted",
    ),
    Rule::new(
        631,
        |f| leads(f) && !f.is_backing_off() && f.shutdown_state().is_some() && f.is_cleared(),
        |_| act(Action::Begin(Job::StartPrimary)),
        "PostgreSQL is down and this member holds the lock: it starts in place",
    ),
    // The leader of a standby group, or of a group that no member may open.
    Rule::new(
        640,
        |f| awaits_comparison(f) && f.is_comparison_due(),
        |f| act(Action::CheckDivergence { with: f.remote().expect("just seen") }),
        "PostgreSQL is down: checking whether its WAL has diverged from the owner's timeline",
    ),
    Rule::new(
        641,
        |f| awaits_comparison(f) && !f.is_comparison_overdue(),
        |_| soon(200),
        "a former primary waits until its log is compared with the owner's",
    )
    .until(
        "the owner's leader answers and the end of this log can be read (640)",
        "after a minute a crashed log is recovered (647) and the server starts as a standby (680)",
    )
    .saying(|f| f.why_uncompared()),
    Rule::new(
        645,
        |f| f.o.holds_lock() && !f.may_own() && must_rewind(f) && is_stuck(f),
        |_| act(Action::ReleaseLock { publish: Publish::Nothing }),
        "this log has left the owner's history and is kept as it is: another member may lead here",
    )
    .saying(|f| f.diverged_how()),
    // Before crash recovery, which ends with a checkpoint of this member's own: on a
    // standby's log that is a record which no other member has, at a position that a later
    // leader may have passed.
    Rule::new(
        646,
        |f| needs_recovery(f) && f.ended(End::Standby) && !f.is_backing_off(),
        |f| {
            let timeline = f.shutdown_state().expect("it needs recovery").timeline;
            act(Action::Begin(Job::RecoverStandby { timeline }))
        },
        "a standby that crashed has left the leader's history: it is started without a source and \
         stopped in order, to be rewound",
    )
    .saying(|f| f.diverged_how()),
    Rule::new(
        647,
        |f| needs_recovery(f) && !f.ended(End::Standby) && !f.is_backing_off(),
        |_| act(Action::Begin(Job::Recover)),
        "a comparison or a rewind needs an orderly stop: crash recovery is done first",
    )
    .saying(how),
    Rule::new(
        648,
        |f| must_rewind(f) && f.is_leader_closed(),
        |_| soon(200),
        "this member's WAL has diverged from a leader that is not writable yet: no data is \
         discarded, because that leader may still release the lock",
    )
    .until(
        "the leader opens, or gives its lock back",
        "the next leader is compared with; a leader that does not open is bounded by \
         `primary_start_timeout`, and a doubt about ownership by the agent's next read of the other \
         regions",
    )
    .saying(how),
    Rule::new(
        649,
        |f| must_rewind(f) && can_rewind(f) && f.is_source_unready(),
        |_| soon(200),
        "waiting for the leader's checkpoint after its promotion, to rewind against it",
    )
    .until(
        "the leader's record says that its checkpoint is written",
        "the leader's record ends with its lease, and the next leader is compared with",
    )
    .saying(how),
    Rule::new(
        650,
        |f| must_rewind(f) && can_rewind(f) && !f.is_backing_off(),
        |f| act(Action::Begin(Job::Rewind { from: f.rewind_source().expect("just seen") })),
        "this log has left the leader's history: it is rewound",
    )
    .saying(how),
    Rule::new(
        651,
        |f| must_rewind(f) && is_rewind_hopeless(f) && may_rebuild(f) && !f.is_backing_off(),
        |f| {
            act(Action::Begin(Job::Rebuild {
                from: f.rebuild_source().expect("just seen"),
                why: Rebuild::Diverged,
            }))
        },
        "this log has left the leader's history and the settings permit to build it anew",
    )
    .saying(how),
    Rule::new(
        652,
        |f| must_rewind(f) && is_stuck(f),
        |_| soon(5_000),
        "this log has left the leader's history and is kept as it is: reinitialize this member, \
         or remove the obstacle",
    )
    .until(
        "`matriarchctl reinit`, a setting that permits a copy, or another leader",
        "the data stay as they are, and the member says what is in the way",
    )
    .saying(obstacle),
    Rule::new(
        653,
        must_rewind,
        |_| soon(500),
        "this log has left the leader's history: waiting for the leader to rewind against",
    )
    .until(
        "the leader answers as a running primary (650)",
        "its lock ends with its lease, and the next leader is compared with",
    )
    .saying(how),
    // It is not known whether this log fits, and the server can be neither recovered
    // nor started. A rewind changes nothing if the log fits.
    Rule::new(
        654,
        |f| {
            f.is_given_up()
                && can_rewind(f)
                && !f.is_leader_closed()
                && !f.is_source_unready()
                && !f.is_backing_off()
        },
        |f| act(Action::Begin(Job::Rewind { from: f.rewind_source().expect("just seen") })),
        "this log could not be compared with the leader's, and the server did not start: \
         trying pg_rewind, which changes nothing if the log fits",
    )
    .saying(|f| f.why_uncompared()),
    // Data that was there before the cluster was.
    Rule::new(
        655,
        |f| f.is_lock_free() && f.is_initialize_absent() && may_enter(f),
        |_| act(Action::AdoptSystem),
        "the store does not know this cluster: its system id is entered",
    ),
    Rule::new(
        656,
        |f| {
            f.is_given_up()
                && may_rebuild_uncompared(f)
                && f.rewind_source().is_some()
                && !f.is_leader_closed()
                && !f.is_backing_off()
        },
        |f| {
            act(Action::Begin(Job::Rebuild {
                from: f.rebuild_source().expect("just seen"),
                why: Rebuild::Diverged,
            }))
        },
        "this log could not be compared with the leader's, and the server did not start: \
         pg_rewind failed too, building it anew as the settings permit",
    )
    .saying(obstacle),
    Rule::new(
        657,
        |f| f.o.holds_lock() && is_uncompared_for_good(f),
        |_| act(Action::ReleaseLock { publish: Publish::Nothing }),
        "this log could not be compared with the owner's, and the server did not start: the lock is \
         released",
    )
    .saying(obstacle),
    Rule::new(
        658,
        is_uncompared_for_good,
        |_| soon(5_000),
        "this log could not be compared with the leader's, and the server did not start: \
         keeping the data; run matriarchctl reinit or remove the obstacle",
    )
    .until(
        "a comparison succeeds (660), `matriarchctl reinit`, or a setting that permits a copy",
        "the data stay as they are, and the member says what is in the way",
    )
    .saying(obstacle),
    Rule::new(
        659,
        |f| f.is_given_up(),
        |_| soon(500),
        "this log could not be compared with the leader's, and the server did not start: \
         waiting for a leader to rewind against",
    )
    .until(
        "the leader answers as a running primary (654), or a comparison succeeds (660)",
        "its lock ends with its lease, and the next leader is asked",
    )
    .saying(|f| f.why_uncompared()),
    // A follower.
    Rule::new(
        660,
        |f| {
            f.is_leader_elsewhere()
                && must_compare(f)
                && !f.is_compared()
                && f.is_comparison_due()
        },
        |f| act(Action::CheckDivergence { with: f.leader_source().expect("just seen") }),
        "PostgreSQL is down: checking whether its WAL has diverged from the leader's timeline",
    ),
    Rule::new(
        661,
        |f| f.is_leader_elsewhere() && is_uncompared(f) && !f.is_comparison_overdue(),
        |_| soon(200),
        "a former primary waits until its log is compared with the leader's",
    )
    .until(
        "the leader answers and the end of this log can be read (660)",
        "after a minute a crashed log is recovered (647) and the server starts as a standby (662)",
    )
    .saying(|f| f.why_uncompared()),
    Rule::new(
        662,
        |f| {
            f.is_leader_elsewhere()
                && is_uncompared(f)
                && f.ended(End::Clean)
                && !f.is_backing_off()
        },
        start_as_standby,
        "this log could not be compared with the leader's: it starts as a standby, and PostgreSQL \
         refuses to follow a history that it has left",
    )
    .saying(|f| f.why_uncompared()),
    Rule::new(
        664,
        |f| crashed_without_leader(f) && !f.is_alone() && f.is_election_young(),
        |_| soon(200),
        "no member leads yet: a crashed primary waits to be compared with the next leader",
    )
    .until(
        "another member takes the lock (660)",
        "after three seconds crash recovery is done without waiting (665)",
    ),
    Rule::new(
        665,
        |f| crashed_without_leader(f) && !f.is_backing_off() && !f.rewind_failed(),
        |_| act(Action::Begin(Job::Recover)),
        "no member leads: crash recovery runs first, so that the WAL of the members can be compared",
    ),
    // Before the start as a standby, which PostgreSQL refuses on such a log.
    Rule::new(
        667,
        opens_in_place,
        |_| act(Action::AcquireLock),
        "no standby can replay this member's WAL (pg_resetwal, or wal_level minimal) and there is \
         no other member: it takes the free lock, to start as a primary",
    ),
    Rule::new(
        670,
        |f| f.is_control_unknown() || f.is_backing_off(),
        |_| soon(500),
        "PostgreSQL is down; it is started again in a moment",
    )
    .until(
        "the time until the next try, which doubles up to 30 seconds",
        "it is tried again for ever; the member shows why the last try failed",
    )
    .saying(|f| f.why_failed()),
    Rule::new(
        680,
        |_| true,
        start_as_standby,
        "PostgreSQL is down: it starts as a standby",
    )
    .saying(target),
];
