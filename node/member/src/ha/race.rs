//! No member holds the lock and PostgreSQL runs here.
//!
//! Choosing the healthiest is an algorithm (`standby/src/promotion.rs`), not a
//! row; this table says when it is asked.

use super::action::Action;
use super::facts::Facts;
use super::observation::{Job, Process, StopHow};
use super::table::{Rule, act, rest, soon};
use topology::Seen;

/// The row that leaves a standby alone in a store that may be the wrong one.
pub const UNKNOWN_STORE: u16 = 831;

pub const RACE: &[Rule] = &[
    Rule::new(
        800,
        |f| f.o.is_primary() && !f.may_own(),
        |_| act(Action::Begin(Job::Stop { how: StopHow::Immediate })),
        "a primary in a region that does not own the formation stops",
    )
    .saying(|f| f.doubt()),
    Rule::new(
        810,
        |f| f.o.is_primary() && f.is_initialize_absent(),
        |_| act(Action::AdoptSystem),
        "the store has forgotten this cluster: the running primary enters its system id",
    ),
    Rule::new(
        811,
        |f| f.o.is_primary() && is_current(f) && !f.is_other_history(),
        |_| act(Action::AcquireLock),
        "a running primary on the newest timeline takes the free lock",
    ),
    Rule::new(
        812,
        |f| f.o.is_primary() && !f.is_other_history(),
        |_| act(Action::Begin(Job::Stop { how: StopHow::Immediate })),
        "the group has a newer timeline: this primary stops",
    )
    .saying(|f| f.may_others_have_led_since().then(|| SINCE.to_string())),
    Rule::new(
        813,
        |f| f.o.is_primary(),
        |_| act(Action::Begin(Job::Stop { how: StopHow::Immediate })),
        "the group has another history under the same timeline: this primary stops",
    ),
    Rule::new(
        815,
        |f| f.is_opening() && !f.is_initialize_absent(),
        |_| act(Action::Begin(Job::Stop { how: StopHow::Immediate })),
        "no member holds the lock: a server that starts as a primary must not open",
    ),
    Rule::new(
        816,
        |f| f.is_promoting(),
        |_| act(Action::Begin(Job::Stop { how: StopHow::Immediate })),
        "the lock is gone: a promotion that runs is stopped with its server",
    ),
    Rule::new(820, |f| f.is_starting(), |_| soon(50), "PostgreSQL is starting").until(
        "PostgreSQL accepts connections, or ends",
        "another member may take the free lock meanwhile",
    ),
    Rule::new(
        821,
        |f| matches!(&f.o.postgres.process, Process::Running(s) if s.role == Seen::Unknown),
        |_| soon(200),
        "PostgreSQL runs but did not answer; its role is not known",
    )
    .until(
        "PostgreSQL answers, or its process ends",
        "another member may take the free lock meanwhile",
    ),
    Rule::new(
        UNKNOWN_STORE,
        |f| f.is_found_in_unknown_store(),
        |_| act(Action::Exit(1)),
        "`/initialize` names no system and a standby runs here: is this the right store? If it \
         is, stop this PostgreSQL and start the daemon again",
    ),
    Rule::new(
        832,
        |f| f.is_forgotten() && !f.enters_as_standby_cluster() && f.may_forgotten_lock_hold(),
        |_| soon(1_000),
        "the store has forgotten this cluster: a former leader may lead until its lock ends",
    )
    .until(
        "the last leader enters the cluster again, or its lock is over",
        "the system id is entered by this member (833)",
    ),
    Rule::new(
        833,
        |f| f.is_initialize_absent(),
        |_| act(Action::AdoptSystem),
        "`/initialize` is missing from the store: this cluster's system id is written",
    ),
    Rule::new(
        840,
        |f| f.o.me.tags.nofailover(),
        |_| rest(),
        "the tag nofailover keeps this member from leading",
    )
    .at_rest(),
    Rule::new(
        841,
        |f| f.stop_order().is_some(),
        |_| soon(500),
        "a region move runs: no member takes this lock until it is decided",
    )
    .until(
        "the move is decided or given up: the agent that drives it has a deadline for each step",
        "the order is withdrawn with the journal, and the race begins",
    ),
    Rule::new(
        842,
        |f| f.may_own() && f.watchdog_broken().is_some(),
        |_| soon(1_000),
        "the watchdog is required and cannot be used: this member does not lead",
    )
    .until("the watchdog can be armed", "other members may lead; the member shows what is broken")
    .saying(|f| f.watchdog_broken()),
    Rule::new(
        843,
        |f| f.disk_failed().is_some(),
        |_| soon(1_000),
        "the disk takes no files: this member does not lead",
    )
    .until("the disk takes files again", "other members may lead; the member shows what is broken")
    .saying(|f| f.disk_failed().map(str::to_string)),
    Rule::new(
        844,
        |f| f.may_another_member_have_more(),
        |_| soon(300),
        "all members have restarted: waiting for the former leader, which may have more WAL and \
         is still starting",
    )
    .until(
        "the members that are still starting run",
        "a ttl after the start of this daemon the race begins without them",
    ),
    Rule::new(
        845,
        |f| f.is_gate_shut(),
        |_| soon(1_000),
        "pre_promote failed a moment ago: this member does not race for a ttl",
    )
    .until("a ttl since pre_promote failed", "then this member races again"),
    Rule::new(
        846,
        |f| f.has_promotion_failed(),
        |_| soon(1_000),
        "a promotion here was given up a moment ago: this member does not race for a ttl",
    )
    .until("a ttl", "it races again; an operator may name it before"),
    Rule::new(
        847,
        |f| f.must_back_off(),
        |_| soon(300),
        "primary_race_backoff: waiting while WAL of the old leader still arrives",
    )
    .until(
        "no more of the old leader's log arrives",
        "the race begins when `primary_race_backoff` is over",
    ),
    Rule::new(
        848,
        |f| f.is_heir_by_name(),
        |_| act(Action::AcquireLock),
        "the lock is free and an operator named this member",
    ),
    // It may be the only one that can get there.
    Rule::new(
        849,
        |f| f.is_replay_paused() && f.reached_token().is_err(),
        |_| act(Action::ResumeReplay),
        "replay is paused short of the token (where the former owner's history ended): it is resumed, so \
         that this server can lead",
    ),
    Rule::new(
        850,
        |f| !f.has_asked(),
        |_| act(Action::AskPeers),
        "the lock is free: asking all members for their WAL positions",
    ),
    Rule::new(
        851,
        |f| f.race().is_ok(),
        |_| act(Action::AcquireLock),
        "the lock is free and this member is the healthiest",
    ),
    Rule::new(
        852,
        |f| f.must_ask_promises(),
        |_| act(Action::AskPromises),
        "a former leader may still lead on promises of a majority: asking the members that \
         `/failsafe` names for their promise",
    ),
    Rule::new(
        899,
        |_| true,
        |_| soon(300),
        "following a different leader because i am not the healthiest node",
    )
    .until(
        "a healthier member takes the lock, or this one becomes the healthiest (851)",
        "it is checked again in every beat; a member that left the store counts for one ttl",
    )
    .saying(|f| f.race().err().map(|why| why.to_string())),
];

const SINCE: &str = "another member may have led since, and have acknowledged what is not here";

fn is_current(f: &Facts) -> bool {
    f.is_timeline_current() && !f.may_others_have_led_since()
}
