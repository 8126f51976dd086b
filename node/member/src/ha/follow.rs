//! Another member holds the lock and PostgreSQL runs here.

use super::action::Action;
use super::facts::Facts;
use super::observation::{Asked, Job, Process, StopHow};
use super::table::{Rule, act, rest, soon};
use topology::Seen;

pub(crate) const FOLLOW: &[Rule] = &[
    Rule::new(
        900,
        |f| f.o.is_primary(),
        |_| act(Action::Begin(Job::Stop { how: StopHow::Immediate })),
        "another member holds the lock: this primary stops at once",
    ),
    Rule::new(
        902,
        |f| f.is_promoting(),
        |_| act(Action::Begin(Job::Stop { how: StopHow::Immediate })),
        "another member holds the lock: a promotion that runs is stopped with its server",
    ),
    Rule::new(
        905,
        |f| f.is_opening(),
        |_| act(Action::Begin(Job::Stop { how: StopHow::Immediate })),
        "another member holds the lock: a server that starts as a primary must not open",
    ),
    // A standby that has diverged may never accept a connection: it waits for log of
    // a history that it has left.
    Rule::new(
        906,
        |f| f.is_start_slow() && f.is_comparison_due(),
        |f| act(Action::CheckDivergence { with: f.leader_source().expect("just seen") }),
        "this standby takes long to start: checking whether its WAL has diverged from the \
         leader's timeline",
    ),
    Rule::new(
        907,
        |f| f.reinitialization().is_some(),
        |f| act(Action::Begin(f.reinitialization().expect("just seen"))),
        "reinitialize was asked for and there is a member to copy",
    ),
    Rule::new(
        908,
        |f| f.is_starting() && f.is_diverged(),
        |_| act(Action::Begin(Job::Stop { how: StopHow::Fast })),
        "this standby cannot finish its start because its WAL has diverged from the leader's \
         timeline: stopping it for pg_rewind",
    )
    .saying(|f| f.diverged_how()),
    Rule::new(
        909,
        |f| f.is_start_misdirected(),
        |f| act(Action::Follow(f.upstream())),
        "this standby is starting: setting primary_conninfo to follow the current leader",
    ),
    Rule::new(910, |f| f.is_starting(), |_| soon(200), "PostgreSQL is starting")
    .until(
        "PostgreSQL accepts connections, or ends",
        "recovery goes on for as long as it reads log; its own log tells how far it is",
    ),
    Rule::new(
        911,
        |f| matches!(&f.o.postgres.process, Process::Running(s) if s.role == Seen::Unknown),
        |_| soon(500),
        "PostgreSQL runs but did not answer; its role is not known",
    )
    .until(
        "PostgreSQL answers, or its process ends",
        "it serves as a standby as long as it lives; `matriarchctl restart` ends it",
    ),
    Rule::new(
        920,
        |f| f.o.memory.asked == Some(Asked::Restart) && f.is_awaited_by_commits(),
        |_| soon(200),
        "a restart was asked for: waiting until the leader counts on another standby",
    )
    .until(
        "the leader names another standby in `/sync`",
        "after two `loop_wait` the restart is done all the same (921)",
    ),
    Rule::new(
        921,
        |f| f.o.memory.asked == Some(Asked::Restart),
        |_| act(Action::Begin(Job::Restart { as_primary: false })),
        "a restart was asked for",
    ),
    Rule::new(
        930,
        |f| f.is_diverged(),
        |_| act(Action::Begin(Job::Stop { how: StopHow::Fast })),
        "this log has left the leader's history: it stops to be rewound",
    )
    .saying(|f| f.diverged_how()),
    Rule::new(
        932,
        |f| f.leaves_leader() && f.is_awaited_by_commits(),
        |_| soon(200),
        "the tags of this synchronous standby name another source: waiting until the leader has replaced \
         it in `/sync`",
    )
    .until(
        "the leader names another standby in `/sync`",
        "after two `loop_wait` this standby leaves the leader all the same (934)",
    )
    .saying(|f| f.why_leaving()),
    Rule::new(
        934,
        |f| f.leaves_leader() && f.must_follow_another(),
        |f| act(Action::Follow(f.upstream())),
        "this standby no longer streams from the leader: its tags name another source",
    )
    .saying(|f| f.why_leaving()),
    Rule::new(
        935,
        |f| f.is_upstream_away() && f.upstream().is_some() && f.must_follow_another(),
        |f| act(Action::Follow(f.upstream())),
        "the member that `replicatefrom` names has no record: the leader is followed",
    ),
    Rule::new(
        936,
        |f| f.o.is_standby() && f.is_replay_paused(),
        |_| act(Action::ResumeReplay),
        "replay is paused: it is resumed, so that this server can follow",
    ),
    Rule::new(
        937,
        |f| f.o.is_standby() && f.is_on_detour() && f.must_follow_another(),
        |f| act(Action::Follow(f.upstream())),
        "no WAL arrives through the member that `replicatefrom` names: the leader is followed until \
         that member has streamed for three loops",
    ),
    Rule::new(
        938,
        |f| f.o.is_standby() && f.must_detach(),
        |_| act(Action::Follow(None)),
        "the leader changed and commits may wait for this standby: it stops streaming until its log was \
         compared with the new leader's timeline",
    ),
    Rule::new(
        939,
        |f| f.is_fit_due(),
        |f| act(Action::CheckDivergence { with: f.leader_source().expect("just seen") }),
        "comparing this standby's log with the new leader's timeline before it streams: commits may \
         wait for this standby",
    ),
    Rule::new(
        940,
        |f| f.must_follow_another(),
        |f| act(Action::Follow(f.upstream())),
        "the leader changed",
    ),
    Rule::new(
        941,
        |f| recovers_otherwise(f).is_some() && f.is_awaited_by_commits(),
        |_| soon(200),
        "a restart is due: waiting until the leader counts on another standby",
    )
    .until(
        "the leader names another standby in `/sync`",
        "after two `loop_wait` the restart is done all the same (942)",
    )
    .saying(recovers_otherwise),
    Rule::new(
        942,
        |f| recovers_otherwise(f).is_some(),
        |_| act(Action::Begin(Job::Restart { as_primary: false })),
        "the recovery settings in force differ from the configured ones: the standby restarts",
    )
    .saying(recovers_otherwise),
    Rule::new(
        943,
        |f| copies_slots(f).is_some() && f.is_awaited_by_commits(),
        |_| soon(200),
        "a restart for copies of logical slots is due: waiting until the leader counts on another \
         standby",
    )
    .until(
        "the leader names another standby in `/sync`",
        "after two `loop_wait` the restart is done all the same (944)",
    )
    .saying(copies_slots),
    // PostgreSQL before 17 reads the files of slots only when it starts.
    Rule::new(
        944,
        |f| copies_slots(f).is_some(),
        |_| act(Action::Begin(Job::Restart { as_primary: false })),
        "the leader has permanent logical slots that are missing here: this standby restarts with \
         copies of them",
    )
    .saying(copies_slots),
    Rule::new(
        945,
        |f| f.is_first_sight(),
        |f| act(Action::CheckDivergence { with: f.leader_source().expect("just seen") }),
        "new leader: checking whether this member's WAL has diverged from its timeline",
    ),
    Rule::new(
        950,
        |f| f.is_quiet() && f.is_comparison_due(),
        |f| act(Action::CheckDivergence { with: f.leader_source().expect("just seen") }),
        "not streaming: checking whether this member's WAL has diverged from the leader's timeline",
    ),
    Rule::new(
        960,
        |f| f.is_fit_awaited(),
        |_| soon(200),
        "waiting to compare this standby's log with the leader's timeline: it streams once they \
         match",
    )
    .until(
        "the leader's record shows that it is open, and its history can be read (939)",
        "the leader is asked again every second; a leader that does not open loses the lock, and \
         the log is compared with the next one",
    )
    .saying(|f| f.why_uncompared()),
    Rule::new(
        996,
        |f| uncopied_slots(f).is_some(),
        |_| rest(),
        "no action. Permanent logical slots of the leader are missing here and cannot be copied now: \
         this standby does not restart for them",
    )
    .until(
        "the slots can be copied (944)",
        "the standby follows without them; its record names them as missing",
    )
    .saying(uncopied_slots),
    Rule::new(
        998,
        |f| f.o.is_streaming(),
        |_| rest(),
        "no action. I am a secondary, and following a leader",
    )
    .at_rest(),
    Rule::new(999, |_| true, |_| soon(1_000), "a secondary, not streaming from the leader yet")
    .until(
        "the standby streams (998), or a comparison says that it cannot (950)",
        "it is compared again every ten seconds, and rewound or built anew when it has diverged",
    ),
];

/// The slots that only a restart brings: from a leader that runs, and is not about to stop.
pub(crate) fn copies_slots(f: &Facts) -> Option<String> {
    missing_slots(f).filter(|_| !f.o.memory.are_copies_refused)
}

pub(crate) fn uncopied_slots(f: &Facts) -> Option<String> {
    missing_slots(f).filter(|_| f.o.memory.are_copies_refused)
}

fn missing_slots(f: &Facts) -> Option<String> {
    let is_due = f.o.is_streaming() && !f.is_backing_off() && !f.is_paused();
    let can = f.slots_source().is_some() && f.request().is_none();
    f.o.memory.slots_to_copy.clone().filter(|_| is_due && can)
}

/// What of a standby's recovery only a restart puts right.
pub(crate) fn recovers_otherwise(f: &Facts) -> Option<String> {
    let server = f.o.server().filter(|_| f.o.is_standby() && !f.is_backing_off());
    server.and_then(|server| server.restart_due.clone())
}
