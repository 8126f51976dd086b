//! Whether a stopped member's log must be rewound, whether it can be, and what permits
//! to build the member anew.
//!
//! Invariant: a log is thrown away only with a setting for the case: one for a log that
//! has left the history, one for a rewind that failed. Where nothing could be compared,
//! only a rewind that was made and failed counts.

use super::facts::Facts;
use super::observation::{Divergence, End, Job, Rewind, Shut};
use standby::switch::ownership::Ownership;

pub(super) fn must_rewind(f: &Facts) -> bool {
    f.is_diverged() && f.shutdown_state().is_some() || f.ended(End::Half)
}

/// The log has to be rewound and its server crashed; or it is not known whether
/// it has to, and an orderly stop leaves an end that is easy to read.
pub(super) fn needs_recovery(f: &Facts) -> bool {
    let abrupt = f.shutdown_state().is_some_and(|r| r.shut == Shut::Abrupt && r.end != End::Half);
    let unreadable = matches!(f.divergence(), Divergence::Unreadable(_));
    let unclear = unreadable || f.is_comparison_overdue() && !f.is_compared();
    let unclear = unclear && f.ended(End::Crashed) && !f.rewind_failed();
    abrupt && (f.is_diverged() && can_rewind(f) || unclear)
}

/// Neither rewound nor built anew: only an operator can go on.
pub(super) fn is_stuck(f: &Facts) -> bool {
    is_rewind_hopeless(f) && !is_rebuild_permitted(f)
}

pub(super) fn is_rewind_hopeless(f: &Facts) -> bool {
    why_hopeless(f).is_some()
}

fn why_hopeless(f: &Facts) -> Option<&'static str> {
    match f.o.me.rewind {
        Rewind::Off => Some("use_pg_rewind is off"),
        Rewind::NoProgram => Some("pg_rewind is not in bin_dir"),
        Rewind::NoHints => Some("there are neither data checksums nor wal_log_hints"),
        Rewind::Possible if f.recovery_failed() => Some("crash recovery failed, see the log"),
        Rewind::Possible if f.rewind_failed() => Some("pg_rewind failed, see the log"),
        Rewind::Possible if matches!(f.divergence(), Divergence::Alien(_)) => {
            Some("pg_rewind cannot tell two timelines of one number apart")
        }
        Rewind::Possible if f.shutdown_state().is_some_and(|r| r.shut == Shut::Minimal) => {
            Some("its log was reset or is minimal: there is nothing to rewind by")
        }
        Rewind::Possible if f.shutdown_state().is_some_and(|r| r.shut == Shut::InBackup) => {
            Some("a copy that was never finished cannot be rewound")
        }
        Rewind::Possible => None,
    }
}

pub(super) fn can_rewind(f: &Facts) -> bool {
    !is_rewind_hopeless(f) && f.rewind_source().is_some()
}

pub(super) fn may_rebuild(f: &Facts) -> bool {
    is_rebuild_permitted(f) && f.rewind_source().is_some()
}

/// A rewind that failed, or one that cannot be tried; the second not in a
/// cluster that follows another one, whose copies are all made from afar.
fn is_rebuild_permitted(f: &Facts) -> bool {
    let afar = f.o.ownership == Ownership::NoRegions && !f.may_own();
    let me = &f.o.me;
    match f.rewind_failed() {
        true => me.may_rebuild_failed || me.may_rebuild_diverged,
        false => me.may_rebuild_diverged && !afar,
    }
}

/// It is not known whether a log that could not be compared has diverged. It may be
/// discarded only after a rewind was tried and failed, and with the setting for that.
pub(super) fn may_rebuild_uncompared(f: &Facts) -> bool {
    let failed = f.o.memory.failed.as_ref();
    let rewound = failed.is_some_and(|failed| matches!(failed.job, Job::Rewind { .. }));
    rewound && f.rewind_failed() && f.o.me.may_rebuild_failed
}

pub(super) fn is_uncompared_for_good(f: &Facts) -> bool {
    f.is_given_up() && is_rewind_hopeless(f) && !may_rebuild_uncompared(f)
}

pub(super) fn how(f: &Facts) -> Option<String> {
    let half = || f.ended(End::Half).then(|| "a rewind did not come to its end".to_string());
    f.diverged_how().or_else(half)
}

pub(super) fn obstacle(f: &Facts) -> Option<String> {
    let how = how(f).or_else(|| f.why_uncompared()).unwrap_or_default();
    let why = why_hopeless(f).unwrap_or_default();
    let failed =
        f.o.memory.failed.as_ref().filter(|failed| matches!(failed.job, Job::Rewind { .. }));
    let said = failed.map(|failed| format!(": {}", failed.why)).unwrap_or_default();
    Some(format!("{how}; {why}{said}"))
}
