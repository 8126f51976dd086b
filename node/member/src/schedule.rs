//! A scheduled switchover becomes a request when its time has come.
//!
//! The wall clock counts here and in no table: what a rule sees is a request that is
//! due, or none. One whose time has passed unserved by more than one and a half
//! `loop_wait` is too old to be carried out.

use crate::ha::Observation;
use jiff::Timestamp;
use topology::Seen;

/// What the time says of a scheduled request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Due {
    /// In this many milliseconds.
    In(u64),
    Now,
    TooOld,
    /// No moment with a time zone.
    Unreadable,
}

/// `now_ms`: the wall clock, in milliseconds since 1970.
pub(crate) fn due(at: &str, now_ms: u64, loop_wait_ms: u64) -> Due {
    let Ok(at) = at.parse::<Timestamp>() else { return Due::Unreadable };
    let at = u64::try_from(at.as_millisecond()).unwrap_or(0);
    match now_ms.checked_sub(at) {
        None => Due::In(at - now_ms),
        // In whole seconds, as tools reckon.
        Some(late) if late > loop_wait_ms * 3 / 2 / 1_000 * 1_000 => Due::TooOld,
        Some(_) => Due::Now,
    }
}

pub(crate) fn scheduled(seen: &Observation, unix_ms: u64) -> Option<Due> {
    let at = seen.view()?.request()?.scheduled_at.as_ref()?;
    Some(due(at, unix_ms, seen.dynamic.loop_wait_ms))
}

/// Shows a request whose time has come (or whose leader has already made
/// room for it) to the rules. Gives how long the others have to wait.
pub(super) fn make_due(seen: &mut Observation, unix_ms: u64) -> Option<u64> {
    let scheduled = scheduled(seen, unix_ms);
    let waits = match scheduled {
        Some(Due::In(ms)) => Some(ms),
        _ => None,
    };
    let Seen::Known(view) = &mut seen.store else { return waits };
    let is_met = view.leader.is_none() && view.is_handed_over();
    if let Some(failover) = view.failover.as_mut().filter(|_| scheduled == Some(Due::Now) || is_met)
    {
        failover.value.scheduled_at = None;
    }
    waits
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_is_due_for_one_and_a_half_loops() {
        let at = "2026-11-21T10:00:00+00:00";
        let base = at.parse::<Timestamp>().unwrap().as_millisecond() as u64;
        assert_eq!(due(at, base - 1_500, 10_000), Due::In(1_500));
        assert_eq!(due(at, base + 15_000, 10_000), Due::Now);
        assert_eq!(due(at, base + 15_001, 10_000), Due::TooOld);
        assert_eq!(due(at, base + 7_000, 5_000), Due::Now);
        assert_eq!(due(at, base + 7_001, 5_000), Due::TooOld);
        assert_eq!(due("2026-11-21 10:00:00+00:00", base, 10_000), Due::Now);
        assert_eq!(due("tomorrow", base, 10_000), Due::Unreadable);
    }
}
