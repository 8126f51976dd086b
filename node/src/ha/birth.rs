//! The data directory is empty, or this member's new cluster is half made.
//!
//! Invariant *no destruction*: nothing here removes data; a failed bootstrap
//! is moved aside, and a clone only fills an empty directory.

use super::action::Action;
use super::facts::Facts;
use super::observation::{Bootstrapping, Job};
use super::table::{Rule, act, rest, soon};

pub const BIRTH: &[Rule] = &[
    Rule::new(
        500,
        |f| f.bootstrap() == Bootstrapping::Failed,
        |_| act(Action::GiveUpBootstrap),
        "the bootstrap failed: `/initialize` is given back, the data is moved aside",
    ),
    Rule::new(
        501,
        |f| f.bootstrap() == Bootstrapping::Built && !f.is_leader_elsewhere(),
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
        510,
        |f| f.bootstrap() == Bootstrapping::Claimed && !f.is_data_empty(),
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
        520,
        |f| f.o.holds_lock(),
        |_| act(Action::ReleaseLock { publish: None }),
        "there is no data here: the lock is released",
    ),
    Rule::new(
        530,
        |f| f.leader_source().is_some() && f.is_initialised() && !f.is_backing_off(),
        |f| act(Action::Begin(Job::Clone { from: f.leader_source().expect("just seen") })),
        "trying to bootstrap from leader",
    ),
    Rule::new(
        540,
        |f| may_claim(f) && (f.may_own() || f.remote().is_some()),
        |_| act(Action::ClaimInitialize),
        "nobody has initialised the cluster yet",
    ),
    Rule::new(
        550,
        |f| may_claim(f) && f.doubt().is_some(),
        |_| soon(1_000),
        "a new cluster waits until it is certain which region owns the formation",
    )
    .saying(|f| f.doubt()),
    Rule::new(
        560,
        |f| !f.o.me.may_initialise && f.is_initialize_absent(),
        |_| rest(),
        "there is no `bootstrap` section here: waiting for somebody else to initialise",
    ),
    Rule::new(599, |_| true, |_| soon(1_000), "waiting for leader to bootstrap"),
];

fn may_claim(f: &Facts) -> bool {
    f.is_initialize_absent()
        && f.is_lock_free()
        && f.o.me.may_initialise
        && !f.o.me.tags.nofailover()
        && f.bootstrap() == Bootstrapping::No
}
