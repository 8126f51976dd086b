//! The store is silent and no lock of ours is known to hold.
//!
//! Nothing here grants the right to write; the right that all members agreed to stays
//! (310), also while that server recovers or does not answer. A former primary comes
//! back as a read-only standby that follows no server; which one to follow is known
//! when the store answers.

use super::action::Action;
use super::facts::Facts;
use super::observation::{End, Job};
use super::table::{Rule, act, soon};

pub(crate) const LOST: &[Rule] = &[
    Rule::new(
        300,
        |f| {
            f.o.is_stopped()
                && !f.has_no_data()
                && was_fenced(f)
                && !f.is_backing_off()
                && !f.is_paused()
        },
        |_| act(Action::Begin(Job::StartStandby { follow: None, target: None })),
        "the store is silent: serving reads only, until it answers",
    ),
    Rule::new(
        310,
        |f| f.o.may_write() && f.is_proven(),
        |_| soon(1_000),
        "continue to run as a leader because failsafe mode is enabled and all members are \
         accessible",
    )
    .until(
        "the store answers, or the proof runs out",
        "every member is asked again; without their agreement this primary stops (20)",
    )
    .saying(majority),
    Rule::new(399, |_| true, |_| soon(1_000), "the store does not answer; nothing can be decided")
        .until(
            "the store answers",
            "the member stays as it is; a primary was stopped before its lock ended (20)",
        ),
];

/// What `all members` means where a majority is enough.
pub(super) fn majority(f: &Facts) -> Option<String> {
    f.o.dynamic.failsafe_majority.then(|| "or a majority of them agrees".to_string())
}

/// Stopped by us when the lock ran out, so that reads may come back.
fn was_fenced(f: &Facts) -> bool {
    let ran = f.o.memory.lease_renewed.0 > 0;
    ran && (f.ended(End::Clean) || f.ended(End::Crashed) || f.ended(End::Standby))
}
