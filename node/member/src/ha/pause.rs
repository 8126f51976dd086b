//! Paused: an operator is in charge.
//!
//! The lock follows the running primary; nothing is started, stopped or
//! promoted, except what an operator asks for by name.

use super::action::{Action, Publish};
use super::facts::Facts;
use super::observation::{Asked, DataDir, End, Job, StopHow};
use super::synchrony::sync_action;
use super::table::{Rule, act, rest, soon};
use topology::Timeline;

pub(crate) const PAUSE: &[Rule] = &[
    Rule::new(
        400,
        |f| f.is_other_system() && f.o.holds_lock(),
        |_| act(Action::ReleaseLock { publish: Publish::Nothing }),
        "the data directory belongs to another cluster: the lock is released",
    ),
    Rule::new(
        404,
        |f| {
            f.o.memory.asked == Some(Asked::Restart)
                && f.o.is_standby()
                && f.is_awaited_by_commits()
        },
        |_| soon(200),
        "a restart was asked for: waiting until the leader counts on another standby",
    )
    .until(
        "the leader names another standby in `/sync`",
        "after two `loop_wait` the restart is done all the same",
    ),
    Rule::new(
        405,
        |f| f.o.memory.asked == Some(Asked::Restart) && f.o.server().is_some(),
        |f| act(Action::Begin(Job::Restart { as_primary: f.o.is_primary() })),
        "a restart was asked for",
    ),
    Rule::new(
        406,
        |f| f.is_leader_elsewhere() && !is_empty(f) && f.reinitialization().is_some(),
        |f| act(Action::Begin(f.reinitialization().expect("just seen"))),
        "reinitialize was asked for and there is a member to copy",
    ),
    Rule::new(
        407,
        |f| is_start_asked(f) && f.ended(End::Standby),
        |_| act(Action::Begin(Job::Restart { as_primary: false })),
        "a restart of a stopped standby was asked for",
    ),
    Rule::new(
        408,
        |f| {
            let is_free = f.is_lock_free() && f.is_cleared();
            is_start_asked(f) && was_primary(f) && is_free && !f.is_other_system()
        },
        |_| act(Action::AcquireLock),
        "a restart of a stopped primary was asked for: it takes the free lock first",
    ),
    Rule::new(
        409,
        |f| {
            let may_open = f.is_lock_renewed() && !f.is_fence_due();
            is_start_asked(f) && was_primary(f) && may_open
        },
        |_| act(Action::Begin(Job::Restart { as_primary: true })),
        "a restart of a stopped primary was asked for",
    ),
    Rule::new(
        410,
        |f| {
            f.o.is_primary()
                && f.is_lock_free()
                && !f.is_other_system()
                && !f.may_others_have_led_since()
        },
        |_| act(Action::AcquireLock),
        "a running primary takes the free lock",
    ),
    Rule::new(
        415,
        |f| opens_on_request(f) && f.has_gate_failed(),
        |_| act(Action::ReleaseLock { publish: Publish::Nothing }),
        "pre_promote failed: the lock is released",
    ),
    Rule::new(
        416,
        |f| opens_on_request(f) && f.is_gate_due(),
        |_| act(Action::Begin(Job::PrePromote)),
        "an operator named this member as the new leader: pre_promote is asked",
    ),
    Rule::new(
        417,
        |f| opens_on_request(f) && f.is_lock_young_enough() && f.is_sync_due_before_opening(),
        |f| sync_action(f.sync_before_opening()),
        "an operator named this member: choosing the synchronous standbys before it accepts writes",
    )
    .until(
        "the standbys that must have its commits confirm",
        "each step is tried again; the lock's end, or another request, gives the lock to another member",
    ),
    Rule::new(
        419,
        |f| is_candidate(f) && !f.has_asked(),
        |_| act(Action::AskPeers),
        "an operator named this member as the new leader: asking the other members for their WAL \
         positions",
    ),
    Rule::new(
        420,
        |f| is_candidate(f) && f.race().is_ok(),
        |_| act(Action::AcquireLock),
        "an operator named this member as the new leader",
    ),
    Rule::new(
        421,
        |f| opens_on_request(f) && f.is_lock_young_enough() && f.open().is_ok(),
        |_| act(Action::Promote),
        "an operator named this member as the new leader",
    ),
    Rule::new(
        422,
        |f| f.is_promoting() && f.is_leader_elsewhere(),
        |_| act(Action::Begin(Job::Stop { how: StopHow::Immediate })),
        "another member holds the lock: a promotion that was asked for is stopped with its server",
    ),
    Rule::new(
        423,
        |f| is_candidate(f) && f.must_ask_promises(),
        |_| act(Action::AskPromises),
        "a former leader may still lead on promises of a majority: asking the members that \
         `/failsafe` names for their promise",
    ),
    Rule::new(
        430,
        |f| f.o.holds_lock() && f.o.is_standby() && f.may_own() && f.o.memory.promoting.is_none(),
        |_| act(Action::ReleaseLock { publish: Publish::Nothing }),
        "the lock is held by a member that is no primary",
    ),
    Rule::new(
        431,
        |f| f.o.holds_lock() && f.o.is_stopped(),
        |f| act(Action::ReleaseLock { publish: f.told() }),
        "PostgreSQL is down and is not started in pause: the lock is released",
    ),
    Rule::new(
        432,
        |f| {
            let is_awaited = is_start_asked(f) || f.is_lock_free() && is_wanted(f);
            f.stop_order().is_some() && !f.o.is_primary() && is_awaited
        },
        |_| soon(500),
        "a region move runs: what an operator asked of this group waits until the move is decided",
    )
    .until(
        "the move is decided or given up: the agent that drives it has a deadline for each step",
        "a restart that could not begin in time is given up; a request for another leader stays, and \
         can be taken back",
    ),
    Rule::new(
        434,
        |f| f.is_sync_changing(),
        |f| sync_action(f.sync_step()),
        "synchronous replication, also in pause: updating the list of synchronous standbys by \
         one step",
    )
    .saying(|f| f.sync_step_told()),
    Rule::new(
        435,
        |f| f.is_wal_wanted(),
        |_| act(Action::WriteWal),
        "synchronous replication: writing a WAL record, so that the standbys confirm it and all \
         commits before it",
    ),
    Rule::new(
        440,
        |f| leads_on_request(f) && !f.has_asked(),
        |_| act(Action::AskPeers),
        "an operator named a new leader: asking whether it can take over",
    ),
    Rule::new(
        441,
        |f| leads_on_request(f) && names_another(f) && f.ready_successor().is_ok(),
        |_| act(Action::Begin(Job::Stop { how: StopHow::Planned })),
        "handing over to the member an operator named",
    ),
    Rule::new(
        442,
        |f| leads_on_request(f) && (!names_another(f) || f.is_request_hopeless()),
        |_| act(Action::ClearRequest),
        "the request cannot be met in pause",
    )
    .saying(why_no_successor),
    Rule::new(
        443,
        leads_on_request,
        |_| soon(50),
        "handing over: waiting for a successor that has what this leader has",
    )
    .until(
        "the candidate has received what this leader had",
        "the request is cleared after a bounded time (442) and this leader leads on",
    )
    .saying(why_no_successor),
    // No member of such a group takes the lock in pause.
    Rule::new(
        444,
        |f| f.leads_standby_group() && f.request().is_some_and(|r| r.scheduled_at.is_none()),
        |_| act(Action::ClearRequest),
        "in pause a standby leader is not replaced: the request is cleared",
    ),
    Rule::new(
        456,
        |f| f.is_leader_elsewhere() && f.leaves_leader() && f.is_awaited_by_commits(),
        |_| soon(200),
        "the tags of this synchronous standby name another source: waiting until the leader has replaced \
         it in `/sync`",
    )
    .until(
        "the leader names another standby in `/sync`",
        "after two `loop_wait` this standby leaves the leader all the same (457)",
    )
    .saying(|f| f.why_leaving()),
    Rule::new(
        457,
        |f| f.is_leader_elsewhere() && f.leaves_leader() && f.must_follow_another(),
        |f| act(Action::Follow(f.upstream())),
        "this standby no longer streams from the leader: its tags name another source",
    )
    .saying(|f| f.why_leaving()),
    Rule::new(
        458,
        |f| f.o.is_standby() && f.is_leader_elsewhere() && f.must_detach(),
        |_| act(Action::Follow(None)),
        "the leader changed and commits may wait for this standby: it stops streaming until its log was \
         compared with the new leader's timeline",
    ),
    Rule::new(
        459,
        |f| f.is_leader_elsewhere() && f.is_fit_due(),
        |f| act(Action::CheckDivergence { with: f.leader_source().expect("just seen") }),
        "comparing this standby's log with the new leader's timeline before it streams: commits may \
         wait for this standby",
    ),
    Rule::new(
        460,
        |f| f.o.is_standby() && f.is_leader_elsewhere() && f.must_follow_another(),
        |f| act(Action::Follow(f.upstream())),
        "the leader changed",
    ),
    Rule::new(
        470,
        |f| {
            f.ended(End::Clean)
                && f.is_leader_elsewhere()
                && f.is_handing_over()
                && !f.is_backing_off()
        },
        |f| act(Action::Begin(Job::StartStandby { follow: f.upstream(), target: None })),
        "the handover is done: following the new leader",
    ),
    Rule::new(
        471,
        |f| {
            f.ended(End::Standby)
                && f.o.memory.rebuilt_in_pause
                && f.is_leader_elsewhere()
                && !f.is_backing_off()
        },
        |f| act(Action::Begin(Job::StartStandby { follow: f.upstream(), target: None })),
        "the copy that was asked for starts",
    ),
    Rule::new(
        480,
        |f| f.is_leader_elsewhere() && f.is_fit_awaited(),
        |_| soon(200),
        "paused: waiting to compare this standby's log with the leader's timeline: it streams once \
         they match",
    )
    .until(
        "the leader's record shows that it is open, and its history can be read (459)",
        "it is asked again every second; a log that has diverged is rewound when the pause ends",
    )
    .saying(|f| f.diverged_how().or_else(|| f.why_uncompared())),
    Rule::new(
        490,
        |f| f.sync_wait().is_some() || f.is_waited_for(),
        |f| soon(f.sync_wait().unwrap_or(1_000)),
        "paused: commits wait for standbys",
    )
    .until(
        "the standbys confirm, or others are named (434)",
        "commits wait as the operator's mode demands; the member shows it",
    ),
    Rule::new(499, |_| true, |_| rest(), "paused: an operator is in charge").at_rest(),
];

/// There is nothing to replace. A copy that was begun may be asked for again.
fn is_empty(f: &Facts) -> bool {
    f.o.postgres.data == DataDir::Empty
}

fn is_start_asked(f: &Facts) -> bool {
    f.o.memory.asked == Some(Asked::Restart) && f.o.is_stopped() && !f.is_backing_off()
}

/// A primary of the newest timeline, in a region that may open. A timeline that another member
/// claimed counts: that one may have led before it could write `/history`.
fn was_primary(f: &Facts) -> bool {
    let Some(view) = f.view() else { return false };
    let others = view.claim.as_ref().map(|claim| &claim.value).filter(|c| c.by != f.o.me.name);
    let newest = view.timeline().max(others.map_or(Timeline(0), |claim| claim.timeline));
    let left = f.shutdown_state().filter(|r| r.end != End::Standby).map(|r| r.timeline);
    may_open(f) && left.is_some_and(|left| left >= newest)
}

/// In a region that owns the formation, and no move has told this group to stop: what it wrote
/// after its token was signed would be lost.
fn may_open(f: &Facts) -> bool {
    f.may_own() && f.stop_order().is_none()
}

fn is_candidate(f: &Facts) -> bool {
    f.o.is_standby() && f.is_lock_free() && is_wanted(f) && may_open(f) && !f.is_gate_shut()
}

fn opens_on_request(f: &Facts) -> bool {
    f.o.is_standby()
        && f.o.holds_lock()
        && f.o.memory.won_in_pause
        && f.o.memory.promoting.is_none()
        && may_open(f)
}

fn is_wanted(f: &Facts) -> bool {
    f.request().is_some_and(|r| r.candidate.as_ref() == Some(&f.o.me.name))
}

fn leads_on_request(f: &Facts) -> bool {
    f.is_lock_renewed() && f.o.is_primary() && f.request().is_some()
}

fn names_another(f: &Facts) -> bool {
    let me = &f.o.me.name;
    f.request().is_some_and(|r| {
        r.candidate.as_ref().is_some_and(|c| c != me) && r.leader.as_ref().is_none_or(|l| l == me)
    })
}

fn why_no_successor(f: &Facts) -> Option<String> {
    f.ready_successor().err().map(|why| why.to_string())
}
