//! A scheduled request becomes a request when its time has come: a switchover
//! that stands in the store, or a restart that this daemon keeps.
//!
//! The wall clock is read here and nowhere in the rules: what they see is a
//! request that is due, or none. One whose time has passed unserved by more
//! than one and a half `loop_wait` is too old to surprise anybody with.

use super::Daemon;
use crate::act::txn;
use crate::api::restart::Request;
use crate::clock;
use crate::ha::Observation;
use crate::ha::observation::Asked;
use jiff::Timestamp;
use serde_json::Value;
use topology::Seen;

/// What the time says of a scheduled request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Due {
    /// In this many milliseconds.
    In(u64),
    Now,
    TooOld,
    /// No moment with a time zone.
    Unreadable,
}

fn due(at: &str, now_ms: u64, loop_wait_ms: u64) -> Due {
    let Ok(at) = at.parse::<Timestamp>() else { return Due::Unreadable };
    let at = u64::try_from(at.as_millisecond()).unwrap_or(0);
    match now_ms.checked_sub(at) {
        None => Due::In(at - now_ms),
        // In whole seconds, as tools reckon.
        Some(late) if late > loop_wait_ms * 3 / 2 / 1_000 * 1_000 => Due::TooOld,
        Some(_) => Due::Now,
    }
}

/// A restart that was asked for later. It is meant for the server that ran then.
pub(super) struct RestartPlan {
    request: Request,
    postmaster_start_time: String,
}

impl RestartPlan {
    /// As the member record shows it.
    pub fn shown(&self) -> Value {
        let mut shown = self.request.body.clone();
        let started = self.postmaster_start_time.clone();
        shown.insert("postmaster_start_time".to_string(), started.into());
        Value::Object(shown)
    }
}

impl Daemon {
    pub(super) fn schedule_restart(&mut self, request: Request) -> Result<String, String> {
        if self.restart_plan.is_some() {
            return Err("Another restart is already scheduled".into());
        }
        let started = self.server.status().map(|s| s.postmaster_start_time.clone());
        let postmaster_start_time = started.unwrap_or_default();
        self.restart_plan = Some(RestartPlan { request, postmaster_start_time });
        Ok("Restart scheduled".into())
    }

    pub(super) fn forget_restart(&mut self) -> Result<String, String> {
        match self.restart_plan.take() {
            Some(_) => Ok("scheduled restart deleted".into()),
            None => Err("no restarts are scheduled".into()),
        }
    }

    /// A scheduled restart is forgotten, or asked for, or waits.
    pub(super) fn apply_restart_plan(&mut self, seen: &Observation) {
        self.restart_in = None;
        let Some(plan) = &self.restart_plan else { return };
        let started = self.server.status().map(|s| &s.postmaster_start_time);
        if started.is_some_and(|started| *started != plan.postmaster_start_time) {
            tracing::info!("PostgreSQL was restarted meanwhile: the scheduled restart is dropped");
            self.restart_plan = None;
            return;
        }
        if self.dynamic.pause {
            return;
        }
        let at = plan.request.schedule.as_deref().unwrap_or_default();
        match due(at, clock::unix_ms(), self.dynamic.loop_wait_ms) {
            Due::In(ms) => self.restart_in = Some(ms),
            Due::TooOld | Due::Unreadable => {
                tracing::warn!("the scheduled restart is out of date and is dropped");
                self.restart_plan = None;
            }
            // A server that is busy is waited for, as long as the window lasts.
            Due::Now if self.background.running().is_some() || seen.server().is_none() => {}
            Due::Now => self.take_up_restart(seen),
        }
    }

    fn take_up_restart(&mut self, seen: &Observation) {
        let Some(plan) = self.restart_plan.take() else { return };
        let version = self.server.status().map(|s| s.server_version);
        let pending = self.server.pending_restart().is_some();
        if !plan.request.conditions.hold_for(self.role(seen), version, pending) {
            tracing::info!("the conditions of the scheduled restart are not satisfied");
            return;
        }
        tracing::info!("the scheduled restart is due");
        if let Some(asked) = self.memory.asked {
            tracing::warn!("the scheduled restart is dropped: {} is under way", asked.title());
            return;
        }
        self.memory.asked = Some(Asked::Restart);
        self.memory.start_limit_ms = plan.request.limit.map(|limit| limit.as_millis() as u64);
    }

    pub(super) fn scheduled(&self, seen: &Observation) -> Option<Due> {
        let at = seen.view()?.request()?.scheduled_at.as_ref()?;
        Some(due(at, clock::unix_ms(), self.dynamic.loop_wait_ms))
    }

    /// Shows a request whose time has come (or whose leader has already made
    /// room for it) to the rules.
    pub(super) fn make_due(&mut self, seen: &mut Observation) {
        let is_due = self.scheduled(seen) == Some(Due::Now);
        self.scheduled_in = match self.scheduled(seen) {
            Some(Due::In(ms)) => Some(ms),
            _ => None,
        };
        let Seen::Known(view) = &mut seen.store else { return };
        let is_met = view.leader.is_none() && view.is_handed_over();
        if let Some(failover) = view.failover.as_mut().filter(|_| is_due || is_met) {
            failover.value.scheduled_at = None;
        }
    }

    /// The leader forgets a request that is too old or makes no sense.
    pub(super) async fn forget_old_request(&mut self, seen: &Observation) {
        let is_old = matches!(self.scheduled(seen), Some(Due::TooOld | Due::Unreadable));
        let Some(view) = seen.view().filter(|_| is_old && !self.dynamic.pause) else { return };
        tracing::warn!("the scheduled switchover is out of date and is taken back");
        if let Some(txn) = txn::clear_request(&self.keys, view) {
            self.keep("/failover", txn).await;
        }
    }
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
