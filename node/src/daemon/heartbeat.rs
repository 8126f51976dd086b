//! The line of every heartbeat, in the words that people's alerts look for:
//! `no action. I am (n1), the leader with the lock`.
//!
//! A beat follows every event; the line comes once per `loop_wait`, and at once
//! when it says something new. The line before it, who holds the lock, only
//! comes with an unusual one, or at level DEBUG.

use super::{Daemon, look};
use crate::beat::Report;
use crate::clock;
use crate::ha::Observation;
use crate::ha::observation::{Lock, ServerRole};
use topology::{MemberName, MemberRole, Millis};

/// What was written last, and when.
#[derive(Default)]
pub(super) struct Heartbeat {
    line: String,
    at: Millis,
}

impl Daemon {
    pub(super) fn log_heartbeat(&mut self, report: &Report) {
        let line = sentence(report, &self.settings.name);
        let is_new = line != self.heartbeat.line;
        let is_due =
            clock::now().since(self.heartbeat.at) + DUE_EARLY_MS >= self.dynamic.loop_wait_ms;
        if !is_new && !is_due {
            return;
        }
        let repeats = !is_new && self.settings.log.deduplicate_heartbeat_logs;
        let owner = report.seen.view().and_then(|view| view.leader_name());
        if is_owner_told(&line, tracing::enabled!(tracing::Level::DEBUG)) {
            let owner = owner.map_or("None", MemberName::as_str);
            tracing::info!("Lock owner: {owner}; I am {}", self.settings.name);
        }
        if !repeats {
            tracing::info!("{line}");
        }
        self.heartbeat = Heartbeat { line, at: clock::now() };
    }
}

/// A beat that comes a little early stands for the one that is due.
const DUE_EARLY_MS: u64 = 100;

fn is_owner_told(line: &str, debug: bool) -> bool {
    let usual = line.starts_with("no action. ") || line.starts_with("PAUSE: no action");
    debug || !usual
}

fn sentence(report: &Report, me: &MemberName) -> String {
    let prefix = if report.seen.dynamic.pause { "PAUSE: " } else { "" };
    format!("{prefix}{}", plain_sentence(report, me))
}

fn plain_sentence(report: &Report, me: &MemberName) -> String {
    let seen = &report.seen;
    let Some(view) = seen.view() else { return "DCS is not accessible".to_string() };
    if let Some(running) = &seen.job {
        let title = running.job.title();
        let held = format!("updated leader lock during {title}");
        return if seen.holds_lock() { held } else { format!("{title} in progress") };
    }
    let usual = if report.rests { at_rest(seen, view, me) } else { None };
    match (usual, reservation(&report.why)) {
        (Some(usual), Some(why)) => format!("{usual}: {why}"),
        (Some(usual), None) => usual,
        (None, _) => report.why.to_string(),
    }
}

/// What the rule said beyond that there is nothing to do: why not more is done.
fn reservation(why: &str) -> Option<&str> {
    let (_, reason) = why.strip_prefix("no action")?.split_once(": ")?;
    Some(reason)
}

fn at_rest(seen: &Observation, view: &topology::GroupView, me: &MemberName) -> Option<String> {
    let what = match (look::role_of(seen)?, &seen.lock) {
        (ServerRole::Primary, Lock::Mine { .. }) => "the leader with the lock".to_string(),
        (ServerRole::Primary, _) if seen.dynamic.pause => {
            return Some("continue to run as primary without lock".to_string());
        }
        (ServerRole::Standby { .. }, Lock::Mine { .. }) if !seen.may_own() => {
            "the standby leader with the lock".to_string()
        }
        (ServerRole::Standby { .. }, Lock::Other(leader)) => {
            let is_standby =
                view.leader_record().map(|r| r.role) == Some(MemberRole::StandbyLeader);
            let kind = if is_standby { "standby leader" } else { "leader" };
            format!("a secondary, and following a {kind} ({leader})")
        }
        _ if seen.dynamic.pause => return Some(format!("no action. I am ({me})")),
        _ => return None,
    };
    Some(format!("no action. I am ({me}), {what}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reason_to_hold_back_is_part_of_the_line() {
        let why = "no action. I am the standby leader with the lock: not confirmed: south";
        assert_eq!(reservation(why), Some("not confirmed: south"));
        assert_eq!(reservation("no action. I am the leader with the lock"), None);
        assert_eq!(reservation("PostgreSQL is down: it starts"), None);
    }

    #[test]
    fn the_lock_owner_is_told_with_unusual_lines_only() {
        assert!(!is_owner_told("no action. I am (n1), the leader with the lock", false));
        assert!(!is_owner_told("PAUSE: no action. I am (n1)", false));
        assert!(is_owner_told("no action. I am (n1), the leader with the lock", true));
        assert!(is_owner_told("bootstrap in progress", false));
        assert!(is_owner_told("PAUSE: continue to run as primary without lock", false));
    }
}
