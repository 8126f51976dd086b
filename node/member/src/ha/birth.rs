//! The data directory is empty, or this member's new cluster is half made.
//!
//! Invariant *no destruction*: nothing here removes data; a failed bootstrap
//! is moved aside, and a clone only fills a directory that is empty or that this
//! daemon has begun to fill.

use super::action::{Action, Publish};
use super::facts::{ENTRY_AGAIN_MS, Facts};
use super::observation::{Bootstrapping, DataDir, Job};
use super::table::{Rule, act, rest, soon};

pub(crate) const BIRTH: &[Rule] = &[
    Rule::new(
        500,
        |f| f.is_bootstrap_lost(),
        |_| act(Action::GiveUpBootstrap),
        "the bootstrap failed: releasing `/initialize` and moving the data directory aside",
    )
    .saying(|f| f.why_failed()),
    Rule::new(
        501,
        |f| {
            let built = f.bootstrap() == Bootstrapping::Built && !f.is_other_system();
            let is_first = !f.is_leader_elsewhere() && !f.has_data_elsewhere();
            built && is_first && !f.is_entry_refused()
        },
        |_| act(Action::FinishBootstrap),
        "the new cluster is entered into the store",
    ),
    Rule::new(
        505,
        |f| f.bootstrap() != Bootstrapping::No && f.is_leader_elsewhere(),
        |_| act(Action::GiveUpBootstrap),
        "another member leads a cluster already: the new one is moved aside",
    ),
    Rule::new(
        506,
        |f| f.bootstrap() == Bootstrapping::GivenUp,
        |_| act(Action::Exit(1)),
        "the bootstrap failed and was given up: see the log above and correct the settings",
    ),
    Rule::new(
        507,
        |f| f.bootstrap() != Bootstrapping::No && f.has_data_elsewhere(),
        |_| act(Action::GiveUpBootstrap),
        "other members have data and have come back: the new cluster is moved aside",
    ),
    Rule::new(
        508,
        |f| f.bootstrap() != Bootstrapping::No && f.is_other_system(),
        |_| act(Action::Exit(1)),
        "another cluster was entered under this name while a new one was made here: \
         `/initialize` names its system id; the data here stays as it is: move it away to join, \
         or give this member another scope",
    ),
    Rule::new(
        509,
        |f| f.is_half_made() && !f.has_no_data() && f.is_entry_refused(),
        |_| soon(ENTRY_AGAIN_MS),
        "the store did not take the new cluster: another member has claimed `/initialize`, or the \
         keys have just changed; it is tried again",
    )
    .until(
        "a read of the store shows whose cluster it is, or the next try succeeds",
        "it is tried again each time; another leader's cluster ends it (505)",
    ),
    Rule::new(
        510,
        |f| f.bootstrap() == Bootstrapping::Claimed && !f.has_no_data(),
        |_| act(Action::FinishBootstrap),
        "the new cluster is entered into the store",
    ),
    Rule::new(
        511,
        |f| f.bootstrap() == Bootstrapping::Claimed && f.may_own(),
        |_| act(Action::Begin(Job::Bootstrap)),
        "trying to bootstrap a new cluster",
    ),
    Rule::new(
        512,
        |f| f.bootstrap() == Bootstrapping::Claimed && f.remote().is_some() && !f.is_backing_off(),
        |f| act(Action::Begin(Job::Clone { from: f.remote().expect("just seen") })),
        "trying to bootstrap a standby group from the remote leader",
    ),
    Rule::new(
        513,
        |f| f.bootstrap() == Bootstrapping::Claimed && f.is_lock_free() && is_from_archive(f),
        |_| act(Action::Begin(Job::Restore)),
        "trying to bootstrap a standby cluster from its archive",
    ),
    Rule::new(
        520,
        |f| f.o.holds_lock(),
        |_| act(Action::ReleaseLock { publish: Publish::Nothing }),
        "there is no data here: the lock is released",
    ),
    Rule::new(
        530,
        |f| f.clone_source().is_some() && f.is_initialised() && !must_wait(f),
        |f| act(Action::Begin(Job::Clone { from: source(f).expect("just seen") })),
        "trying to bootstrap from leader",
    )
    .saying(from_which_member),
    Rule::new(
        531,
        |f| may_restore(f) && !f.is_backing_off(),
        |_| act(Action::Begin(Job::Restore)),
        "no member leads: trying to bootstrap from a backup",
    ),
    Rule::new(
        540,
        |f| may_claim(f) && (f.may_own() || f.remote().is_some() || is_from_archive(f)),
        |_| act(Action::ClaimInitialize),
        "no member has initialised the cluster yet",
    ),
    Rule::new(
        550,
        |f| may_claim(f) && f.doubt().is_some(),
        |_| soon(1_000),
        "a new cluster waits until it is certain which region owns the formation",
    )
    .until(
        "the agent of the region confirms which region owns the formation",
        "nothing is made here meanwhile; `matriarchctl region` shows what is missing",
    )
    .saying(|f| f.doubt()),
    Rule::new(
        555,
        |f| f.is_initialize_absent() && f.is_lock_free() && f.o.memory.knew_system,
        |_| soon(1_000),
        "the store has forgotten a cluster that this daemon knew: members with data enter it \
         again; for a new cluster start this daemon anew",
    )
    .until(
        "a member with data enters the cluster again, or the daemon is started anew",
        "no new cluster is made here, so that no data is forgotten",
    ),
    Rule::new(
        556,
        |f| f.is_initialize_absent() && f.is_lock_free() && f.has_data_elsewhere(),
        |_| soon(1_000),
        "no member has initialised the cluster and other members have data: waiting for them",
    )
    .until(
        "a member with data enters the cluster, or the records of all of them are gone",
        "when no member has data any more this member may claim the new cluster (540)",
    ),
    Rule::new(
        557,
        |f| f.is_initialize_absent() && f.is_lock_free() && f.is_made_elsewhere(),
        |_| soon(500),
        "no member has initialised the cluster and another member was about to: waiting for it",
    )
    .until(
        "the claim becomes a cluster, or its holder is gone for a ttl",
        "this member claims the new cluster itself (540)",
    ),
    Rule::new(
        560,
        |f| !f.o.me.may_initialise && f.is_initialize_absent(),
        |_| rest(),
        "there is no `bootstrap` section here: waiting for another member to initialise",
    )
    .until(
        "another member initialises the cluster",
        "this member has no `bootstrap` section: an operator adds one, or starts a member that has it",
    ),
    Rule::new(599, |_| true, |_| soon(1_000), "waiting for leader to bootstrap")
    .until(
        "a leader runs that can be copied (530), or a backup can be restored (531)",
        "the directory stays empty and the member shows that it waits",
    ),
];

/// The member to copy, and what is replaced by that.
fn from_which_member(f: &Facts) -> Option<String> {
    let member = source(f)?.member;
    Some(match &f.o.postgres.data {
        DataDir::Half(what) => format!("{member}, over what this daemon has begun ({what})"),
        _ => member.to_string(),
    })
}

/// An operator who asks again does not wait for the next try.
fn must_wait(f: &Facts) -> bool {
    f.is_backing_off() && f.reinitialize().is_none()
}

fn source(f: &Facts) -> Option<super::observation::Following> {
    f.reinitialize_from().or_else(|| f.clone_source())
}

/// A cluster that exists, without a leader that could be copied.
fn may_restore(f: &Facts) -> bool {
    f.o.me.may_restore
        && f.is_initialised()
        && f.is_lock_free()
        && f.bootstrap() == Bootstrapping::No
}

fn is_from_archive(f: &Facts) -> bool {
    f.has_only_archive() && f.o.me.may_restore
}

fn may_claim(f: &Facts) -> bool {
    f.is_initialize_absent()
        && !f.o.memory.knew_system
        && !f.has_data_elsewhere()
        && !f.is_made_elsewhere()
        && f.is_lock_free()
        && f.o.me.may_initialise
        && !f.o.me.tags.nofailover()
        && f.bootstrap() == Bootstrapping::No
}
