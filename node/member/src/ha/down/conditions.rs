//! When the rows of `down` apply.

use crate::ha::action::{Action, Step};
use crate::ha::facts::Facts;
use crate::ha::observation::{End, Job, Shut};
use crate::ha::table::act;
use standby::switch::ownership::Ownership;

/// A former primary, or a backup that was put here. The data of a standby may
/// lack what its primary has: that one enters the cluster. In a standby cluster
/// all data is of that kind.
pub(super) fn may_enter(f: &Facts) -> bool {
    let plain = f.o.ownership == Ownership::NoRegions;
    let led = f.shutdown_state().is_some_and(|r| r.end != End::Standby || r.copied);
    let copies = f.o.dynamic.standby_cluster.is_some() && f.shutdown_state().is_some();
    plain && f.o.system().is_some() && (led || copies)
}

pub(super) fn is_handing_over(f: &Facts) -> bool {
    f.is_handing_over() && f.o.holds_lock() && f.ended(End::Clean) && f.request().is_some()
}

/// Asked to give the lock away, and stopped in another way than in order; or asked by
/// name while it is down.
pub(super) fn leaves_without_end(f: &Facts) -> bool {
    let ended = f.is_handing_over() && f.ended(End::Clean);
    let asked = f.is_handing_over() && f.is_request_for_me() || f.is_ordered_away();
    leads(f) && asked && !ended && f.shutdown_state().is_some()
}

/// A failover by an operator accepts a loss of data; in a synchronous mode each member that may
/// lead has all that was acknowledged.
pub(super) fn may_lack_the_end(f: &Facts) -> bool {
    f.is_ordered_away() || f.is_sync_mode_in_force()
}

pub(super) fn why_given_up(f: &Facts) -> String {
    match f.successor(None) {
        Err(why) => why.to_string(),
        Ok(name) => format!("{name} may lack the end of the log, for the stop left no checkpoint"),
    }
}

pub(super) fn missing(f: &Facts) -> Option<String> {
    f.successor(f.shutdown_state().map(|r| r.lsn)).err().map(|why| why.to_string())
}

pub(super) fn is_unguarded(f: &Facts) -> bool {
    leads(f) && f.watchdog_broken().is_some()
}

/// Holds the lock, long enough to come, in a region that may be open.
pub(super) fn leads(f: &Facts) -> bool {
    f.o.holds_lock() && f.may_own() && f.stop_order().is_none() && !f.is_fence_due()
}

pub(super) fn fails_over_at_once(f: &Facts) -> bool {
    f.o.dynamic.primary_start_timeout_ms == 0 && f.ended(End::Crashed)
}

/// One failed start as a primary is enough where another member can lead.
pub(super) fn is_start_hopeless(f: &Facts) -> bool {
    let again = f.o.memory.failed.as_ref().is_some_and(|failed| failed.times >= 3);
    f.has_start_failed() || again
}

/// A former primary before it starts. Others tell by themselves when they run,
/// unless PostgreSQL refuses to start on a log that has left the history: that
/// is asked until the next try is due.
///
/// A crashed one, started as a standby, would replay its own log and go on with
/// whatever the archive has at that place, which may fit by chance.
pub(super) fn must_compare(f: &Facts) -> bool {
    let failed = f.o.memory.failed.as_ref();
    let refused = failed.is_some_and(|f| matches!(f.job, Job::StartStandby { .. }));
    was_primary(f)
        || refused && f.is_backing_off() && f.shutdown_state().is_some() && !f.ended(End::Half)
}

pub(super) fn start_as_standby(f: &Facts) -> Step {
    act(Action::Begin(Job::StartStandby { follow: f.upstream(), target: f.start_target() }))
}

/// Why it does not recover to the latest timeline.
pub(super) fn target(f: &Facts) -> Option<String> {
    let timeline = f.start_target()?;
    Some(format!(
        "to timeline {timeline}, the leader's: PostgreSQL found a history file above {:08X}.history, \
         in the archive or in pg_wal, that is not a child of this server's history",
        timeline.0
    ))
}

/// Another member may have taken over, or may do so while this server starts.
pub(super) fn crashed_without_leader(f: &Facts) -> bool {
    f.is_lock_free() && f.ended(End::Crashed) && (!f.is_alone() || f.is_group_ahead())
}

/// A primary that stopped in order, on the newest timeline, and cannot become a
/// standby first. No other member could lead, and none could have led since.
pub(super) fn opens_in_place(f: &Facts) -> bool {
    let minimal =
        f.shutdown_state().is_some_and(|r| r.shut == Shut::Minimal && r.end == End::Clean);
    let newest = !f.is_group_ahead() && !f.may_others_have_led_since();
    let free = f.is_lock_free() && f.is_alone() && f.is_initialised();
    let forgotten = f.is_forgotten() && f.may_forgotten_lock_hold();
    let able = !f.o.me.tags.nofailover()
        && f.watchdog_broken().is_none()
        && f.disk_failed().is_none()
        && f.stop_order().is_none();
    minimal && newest && free && !forgotten && able && f.may_own() && !f.is_backing_off()
}

fn was_primary(f: &Facts) -> bool {
    f.ended(End::Clean) || f.ended(End::Crashed)
}

/// Leads a group that another region owns, with a log of its own.
pub(super) fn awaits_comparison(f: &Facts) -> bool {
    f.o.holds_lock() && must_compare(f) && f.remote().is_some() && !f.is_compared()
}

pub(super) fn is_uncompared(f: &Facts) -> bool {
    was_primary(f) && !f.is_compared()
}
