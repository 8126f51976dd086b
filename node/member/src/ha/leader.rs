//! This member holds the lock and its PostgreSQL runs.

use super::action::{Action, Publish};
use super::facts::Facts;
use super::follow::{copies_slots, recovers_otherwise, uncopied_slots};
use super::observation::{Asked, Job, Process, StopHow};
use super::synchrony::sync_action;
use super::table::{Rule, act, rest, soon};
use topology::Seen;

/// A promotion waits this long for the first look at the slots of the server. One that does not
/// show them opens all the same.
const FIRST_LOOK_MS: u64 = 2_000;

pub(crate) const LEADER: &[Rule] = &[
    Rule::new(
        698,
        |f| f.o.is_primary() && f.is_demoted_cluster(),
        |_| act(Action::Begin(Job::Stop { how: StopHow::Demoted })),
        "this cluster is now configured as a standby cluster: the primary stops and continues as \
         standby leader",
    ),
    Rule::new(
        700,
        |f| f.o.is_primary() && !f.may_own(),
        |_| act(Action::Begin(Job::Stop { how: StopHow::Immediate })),
        "another region owns the formation, or it is not certain that this one does: the \
         primary stops",
    )
    .saying(|f| f.doubt()),
    Rule::new(
        701,
        |f| (f.is_opening() || f.is_promoting()) && !f.may_own(),
        |_| act(Action::Begin(Job::Stop { how: StopHow::Immediate })),
        "a server that starts as a primary or leaves recovery must not open in a region that does \
         not own",
    ),
    // A member that can still write takes over; if no member can, this one leads on.
    Rule::new(
        702,
        |f| (f.leads_on_failed_disk() || f.waits_on_failed_disk()) && !f.has_asked(),
        |_| act(Action::AskPeers),
        "the disk takes no files any more: asking whether another member can take over",
    )
    .saying(|f| f.disk_failed().map(str::to_string)),
    Rule::new(
        703,
        |f| {
            f.leads_on_failed_disk() && f.may_begin_planned() && f.successor(None).is_ok()
        },
        |f| {
            let how = if f.is_starting() { StopHow::Overdue } else { StopHow::Planned };
            act(Action::Begin(Job::Stop { how }))
        },
        "the disk takes no files any more and another member can take over: PostgreSQL stops",
    )
    .saying(|f| f.disk_failed().map(str::to_string)),
    Rule::new(
        704,
        |f| f.waits_on_failed_disk() && f.successor(None).is_ok(),
        |_| act(Action::ReleaseLock { publish: Publish::Nothing }),
        "the disk takes no files: releasing the lock so that another member can lead",
    )
    .saying(|f| f.disk_failed().map(str::to_string)),
    Rule::new(
        705,
        |f| f.stop_order().is_some() && f.may_own(),
        |_| act(Action::Begin(Job::Stop { how: StopHow::Fast })),
        "a region move: this group stops",
    ),
    // What an operator asks for by name does not wait for a long recovery. A switchover
    // waits for a leader that is well: it promises to lose nothing.
    Rule::new(
        706,
        |f| f.is_on_its_way() && f.may_own() && f.is_ordered_away() && !f.has_asked(),
        |_| act(Action::AskPeers),
        "a new leader was asked for while PostgreSQL starts or leaves recovery: asking whether \
         another member can take over",
    ),
    Rule::new(
        707,
        |f| {
            let able = f.successor(None).is_ok();
            f.is_on_its_way() && f.may_own() && f.is_ordered_away() && able
        },
        |_| act(Action::Begin(Job::Stop { how: StopHow::Overdue })),
        "a new leader was asked for while PostgreSQL starts or leaves recovery: it stops",
    ),
    Rule::new(
        708,
        |f| f.is_on_its_way() && f.may_own() && f.is_ordered_away(),
        |_| act(Action::ClearRequest),
        "no member can take over as asked",
    )
    .saying(|f| f.successor(None).err().map(|why| why.to_string())),
    // Before anything opens: what a promotion means for readers is told of slots that were seen.
    Rule::new(
        709,
        |f| f.o.is_standby() && !f.is_promoting() && f.is_lock_young_enough() && opens_unseen(f),
        |_| soon(20),
        "holds the lock: the logical slots of this server are looked at before it opens",
    )
    .until(
        "the look at the slots after this beat",
        "after two seconds the server opens all the same (731)",
    ),
    Rule::new(
        710,
        |f| f.is_on_its_way() && f.start_took_too_long() && !f.has_asked() && f.may_own(),
        |_| act(Action::AskPeers),
        "PostgreSQL takes longer than primary_start_timeout: asking whether another member can take \
         over",
    ),
    Rule::new(
        711,
        |f| {
            let able = f.successor(None).is_ok();
            f.is_on_its_way() && f.start_took_too_long() && f.may_own() && able
        },
        |_| act(Action::Begin(Job::Stop { how: StopHow::Overdue })),
        "PostgreSQL takes longer than primary_start_timeout and another member can take over",
    ),
    Rule::new(712, |f| f.is_starting(), |_| soon(50), "PostgreSQL is starting")
    .until(
        "PostgreSQL accepts connections",
        "`primary_start_timeout`: another member takes over if one can (711)",
    ),
    // It cannot open, and its own upstream has ended: the race asks for the token (899).
    Rule::new(
        713,
        |f| f.is_token_overdue(),
        |_| act(Action::ReleaseLock { publish: Publish::Nothing }),
        "holds the lock and lacks the region's token, of which nothing has come for a ttl: \
         releasing the lock so that a member that has it can lead",
    )
    .saying(|f| f.open().err().map(|why| why.to_string())),
    // PostgreSQL before 17 reads the files of slots only when it starts.
    Rule::new(
        714,
        |f| copies_remote_slots(f).is_some(),
        |_| act(Action::Begin(Job::Restart { as_primary: false })),
        "the remote leader has permanent logical slots that are missing here: this standby leader \
         restarts with copies of them",
    )
    .saying(copies_remote_slots),
    Rule::new(
        715,
        |f| matches!(&f.o.postgres.process, Process::Running(s) if s.role == Seen::Unknown),
        |_| soon(200),
        "PostgreSQL runs but did not answer; its role is not known",
    )
    .until(
        "PostgreSQL answers, or its process ends",
        "the lock is kept only as long as it is renewed; a server without an answer is fenced with it (20)",
    ),
    Rule::new(
        716,
        |f| f.o.memory.asked == Some(Asked::Restart) && f.may_begin_planned(),
        |f| act(Action::Begin(Job::Restart { as_primary: f.o.is_primary() })),
        "a restart was asked for",
    ),
    Rule::new(
        717,
        |f| f.may_own() && f.is_watchdog_ready(),
        |_| act(Action::ArmWatchdog),
        "the watchdog is armed: this member leads",
    ),
    Rule::new(
        718,
        |f| {
            let opens = f.o.is_primary() && f.may_own();
            opens && f.may_begin_planned() && f.watchdog_broken().is_some()
        },
        |_| act(Action::Begin(Job::Stop { how: StopHow::Planned })),
        "the watchdog is required and cannot be used: this primary stops",
    )
    .saying(|f| f.watchdog_broken()),
    Rule::new(
        719,
        |f| f.may_own() && f.watchdog_broken().is_some() && !f.o.is_primary(),
        |_| act(Action::ReleaseLock { publish: Publish::Nothing }),
        "watchdog required but unusable: releasing the lock so that another member can lead",
    )
    .saying(|f| f.watchdog_broken()),
    // A standby with the lock: the leader of a standby group.
    Rule::new(
        720,
        |f| f.o.is_standby() && !f.may_own() && f.is_diverged(),
        |_| act(Action::Begin(Job::Stop { how: StopHow::Fast })),
        "this member's WAL has diverged from the remote leader's timeline: it stops for pg_rewind",
    )
    .saying(|f| f.diverged_how()),
    Rule::new(
        721,
        |f| f.o.is_standby() && !f.may_own() && f.must_follow_another(),
        |f| act(Action::Follow(f.upstream())),
        "the remote leader changed",
    ),
    Rule::new(
        722,
        |f| f.o.is_standby() && !f.may_own() && f.is_quiet() && f.is_comparison_due(),
        |f| act(Action::CheckDivergence { with: f.remote().expect("just seen") }),
        "not streaming: checking whether this member's WAL has diverged from the remote leader's \
         timeline",
    ),
    Rule::new(
        723,
        |f| stands_before_gate(f) && f.has_gate_failed(),
        |_| act(Action::ReleaseLock { publish: Publish::Nothing }),
        "pre_promote failed: the lock is released",
    ),
    Rule::new(
        724,
        |f| stands_before_gate(f) && f.is_gate_due(),
        |_| act(Action::Begin(Job::PrePromote)),
        "holds the lock: pre_promote is asked before anything opens",
    ),
    Rule::new(
        725,
        |f| f.o.is_standby() && !f.may_own() && f.is_replay_paused(),
        |_| act(Action::ResumeReplay),
        "replay is paused: it is resumed, so that this group can follow",
    ),
    Rule::new(
        726,
        |f| !f.may_own() && recovers_otherwise(f).is_some(),
        |_| act(Action::Begin(Job::Restart { as_primary: false })),
        "the recovery settings in force differ from the configured ones: the standby leader restarts",
    )
    .saying(recovers_otherwise),
    Rule::new(
        727,
        |f| stands_before_gate(f) && f.is_lock_young_enough() && f.is_sync_due_before_opening(),
        |f| sync_action(f.sync_before_opening()),
        "holds the lock: choosing the synchronous standbys before it accepts writes",
    )
    .until(
        "the standbys that must have its commits confirm",
        "each step is tried again; the lock's end, or an operator's request, gives the lock to another member",
    ),
    // PostgreSQL does not leave recovery while replay stands still for want of a
    // setting; resumed, it ends and starts again with what its log demands.
    Rule::new(
        728,
        |f| stands_before_gate(f) && f.is_replay_paused(),
        |_| act(Action::ResumeReplay),
        "replay is paused: it is resumed before anything opens",
    ),
    Rule::new(
        729,
        |f| f.o.is_standby() && !f.may_own(),
        |_| rest(),
        "no action. I am the standby leader with the lock",
    )
    .at_rest()
    .saying(|f| f.doubt().or_else(|| f.why_not_streaming()).or_else(|| uncopied(f))),
    // A standby with the lock in the region that owns: open.
    Rule::new(730, |f| f.is_promoting(), |f| soon(f.promotion_pace_ms()), "leaving recovery")
        .until(
            "PostgreSQL has left recovery",
            "after primary_start_timeout its server is stopped for another member (710, 711)",
        )
        .saying(|f| f.what_holds_the_promotion()),
    Rule::new(
        731,
        |f| f.o.is_standby() && f.is_lock_young_enough() && f.open().is_ok(),
        |_| act(Action::Promote),
        "promoted self to leader by acquiring session lock",
    ),
    Rule::new(
        732,
        |f| f.o.is_standby() && f.is_lock_young_enough(),
        |_| soon(10),
        "holds the lock and may not open yet",
    )
    .until(
        "what the sentence names no longer stands in the way",
        "without the region's token the lock is released after a ttl (713); the lock's end, or an \
         operator's request, gives it to another member",
    )
    .saying(|f| f.open().err().map(|why| why.to_string())),
    Rule::new(
        733,
        |f| f.o.is_standby(),
        |_| soon(100),
        "the lock is about to end: it is renewed before anything opens",
    )
    .until(
        "the renewal of the lock (10)",
        "the lock ends and another member may lead",
    ),
    // The primary: who has what it acknowledges.
    Rule::new(
        734,
        |f| f.is_sync_changing(),
        |f| sync_action(f.sync_step()),
        "synchronous replication: updating the list of synchronous standbys by one step",
    )
    .saying(|f| f.sync_step_told()),
    Rule::new(
        735,
        |f| f.is_wal_wanted(),
        |_| act(Action::WriteWal),
        "synchronous replication: writing a WAL record, so that the standbys confirm it and all \
         commits before it",
    ),
    // An operator's request.
    Rule::new(
        739,
        |f| f.request().is_some() && !f.may_begin_planned(),
        |_| soon(100),
        "a new leader was asked for: waiting until this process has renewed the lock",
    )
    .until(
        "the lease that the lock hangs on is renewed (10)",
        "the store gets one `retry_timeout` to answer: then this primary stops (20)",
    ),
    Rule::new(
        740,
        |f| f.request().is_some() && !f.is_request_for_me(),
        |_| act(Action::ClearRequest),
        "the request is not for this leader, or asks for what is so already",
    ),
    Rule::new(
        741,
        |f| f.request().is_some() && !f.has_asked(),
        |_| act(Action::AskPeers),
        "a new leader was asked for: asking whether another member can take over",
    ),
    Rule::new(
        742,
        |f| f.request().is_some() && f.ready_successor().is_ok(),
        |_| act(Action::Begin(Job::Stop { how: StopHow::Planned })),
        "handing over: PostgreSQL stops, and the lock follows when the successor has everything",
    ),
    Rule::new(
        743,
        |f| f.request().is_some() && f.is_request_hopeless(),
        |_| act(Action::ClearRequest),
        "no member can take over as asked",
    )
    .saying(|f| f.ready_successor().err().map(|why| why.to_string())),
    Rule::new(
        744,
        |f| f.request().is_some(),
        |_| soon(50),
        "handing over: waiting for a successor that has what this leader has",
    )
    .until(
        "a successor has received what this leader had (742)",
        "the request is cleared after a bounded time (743) and this leader leads on",
    )
    .saying(|f| f.ready_successor().err().map(|why| why.to_string())),
    Rule::new(
        790,
        |f| f.sync_wait().is_some(),
        |f| soon(f.sync_wait().expect("just seen")),
        "no action. I am the leader with the lock; standbys have yet to confirm",
    )
    .until(
        "the standbys confirm what was written since",
        "each step is tried again (734, 735); commits wait as the mode demands",
    ),
    Rule::new(
        791,
        |f| f.is_waited_for(),
        |_| soon(1_000),
        "no action. I am the leader with the lock; commits wait for standbys",
    )
    .until(
        "a standby confirms, or others are named (734)",
        "commits wait as the mode demands; the member shows it",
    ),
    Rule::new(
        798,
        |f| f.o.is_primary() && f.view().is_none() && f.is_proven(),
        |_| rest(),
        "continue to run as a leader because failsafe mode is enabled and all members are \
         accessible",
    )
    .until(
        "the store answers, or the proof runs out",
        "every member is asked again; without their agreement this primary stops (20)",
    )
    .saying(super::lost::majority),
    Rule::new(799, |_| true, |_| rest(), "no action. I am the leader with the lock")
    .at_rest(),
];

/// The slots that only a restart brings to the leader of a standby region that is well otherwise.
fn copies_remote_slots(f: &Facts) -> Option<String> {
    let is_well = f.o.is_standby() && !f.is_diverged() && !f.must_follow_another();
    copies_slots(f).filter(|_| is_well && !f.may_own())
}

fn uncopied(f: &Facts) -> Option<String> {
    let names = uncopied_slots(f)?;
    Some(format!("it does not restart for copies of {names}: none can be made now"))
}

/// This process does not know which logical slots the server has that is about to open.
fn opens_unseen(f: &Facts) -> bool {
    let since = f.o.memory.slots_unseen_since;
    since.is_some_and(|at| f.o.now.since(at) < FIRST_LOOK_MS) && f.may_own() && f.open().is_ok()
}

fn stands_before_gate(f: &Facts) -> bool {
    f.o.is_standby() && f.may_own() && f.o.memory.promoting.is_none()
}
