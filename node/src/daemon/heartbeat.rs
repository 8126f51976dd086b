//! The line of every heartbeat, in the words that people's alerts look for:
//! `no action. I am (n1), the leader with the lock`.
//!
//! The line is logged once per `loop_wait`, and at once when it changes, unless two states
//! alternate. The line `Lock owner` precedes unusual ones only, or all of them at level DEBUG.

use super::Daemon;
use crate::clock;
use member::Report;
use member::ha::Observation;
use member::ha::observation::{Job, Lock, Process, ServerRole, StopHow};
use member::role_of;
use topology::{MemberName, MemberRole, Millis};

/// What was written last, and when.
#[derive(Default)]
pub(super) struct Heartbeat {
    line: String,
    at: Millis,
}

impl Daemon {
    pub(super) fn log_heartbeat(&mut self, report: &Report) {
        crate::log::situation(situation(report));
        let line = sentence(report, &self.settings.name);
        let is_new = line != self.heartbeat.line && crate::log::is_news(&line);
        let is_due = clock::now().since(self.heartbeat.at) + DUE_EARLY_MS
            >= self.member.dynamic.loop_wait_ms;
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

/// What is the same while a state lasts: who leads, what the server does, what runs.
fn situation(report: &Report) -> String {
    let seen = &report.seen;
    let leader = seen.view().and_then(|view| view.leader_name());
    let job = seen.job.as_ref().map(|running| running.job.title());
    let process = match &seen.postgres.process {
        Process::Running(_) => "running",
        Process::Starting { .. } => "starting",
        Process::Stopped(_) => "stopped",
    };
    let (known, paused) = (seen.view().is_some(), seen.dynamic.pause);
    let role = role_of(seen).map(std::mem::discriminant);
    format!("{leader:?} {job:?} {process} {role:?} {known} {paused} {}", seen.holds_lock())
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
    let Some(view) = seen.view() else { return without_store(report).to_string() };
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

/// The store is silent: what became of this member by that.
fn without_store(report: &Report) -> &'static str {
    let stops = Job::Stop { how: StopHow::Immediate };
    let fenced = report.seen.job.as_ref().is_some_and(|running| running.job == stops);
    match (fenced, report.why.as_str()) {
        (true, _) => "demoted self because DCS is not accessible and I was a leader",
        (false, why) if why.starts_with(LED_ON) => LED_ON,
        (false, _) => "DCS is not accessible",
    }
}

const LED_ON: &str =
    "continue to run as a leader because failsafe mode is enabled and all members are accessible";

/// What the rule said beyond that there is nothing to do: why not more is done.
fn reservation(why: &str) -> Option<&str> {
    let (_, reason) = why.strip_prefix("no action")?.split_once(": ")?;
    Some(reason)
}

fn at_rest(seen: &Observation, view: &topology::GroupView, me: &MemberName) -> Option<String> {
    let what = match (role_of(seen)?, &seen.lock) {
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
    use crate::made_up::TakeSample;
    use crate::samples as sample;
    use member::ha::observation::Running;
    use member::ha::{Step, decide};
    use topology::Seen;

    /// The line of a beat that saw this and found nothing more to do.
    fn line(seen: Observation) -> String {
        let decision = decide(&seen);
        let rests = matches!(decision.step, Step::Rest { .. });
        let (rule, why) = (decision.rule, decision.line());
        sentence(&Report { seen, rule, why, rests, at_most_ms: None, exit: None }, &"me".into())
    }

    fn with(mut seen: Observation, change: impl Fn(&mut Observation)) -> String {
        change(&mut seen);
        line(seen)
    }

    fn busy(job: Job) -> impl Fn(&mut Observation) {
        move |o| {
            o.job = Some(Running {
                job: job.clone(),
                since: o.now,
                closed: None,
                ending: Default::default(),
            })
        }
    }

    #[test]
    fn every_usual_moment_has_the_line_that_people_look_for() {
        let (leader, follower) = (sample::leader, sample::follower);
        assert_eq!(line(leader()), "no action. I am (me), the leader with the lock");
        let secondary = "no action. I am (me), a secondary, and following a leader (a)";
        assert_eq!(line(follower()), secondary);
        let of_standby = with(follower(), |o| {
            let Seen::Known(view) = &mut o.store else { panic!("the store is known here") };
            view.take_sample("members/a", r#"{"role":"standby_leader","state":"running"}"#, 1, 7);
        });
        let cascading = "no action. I am (me), a secondary, and following a standby leader (a)";
        assert_eq!(of_standby, cascading);
        let standby_leader = with(leader(), |o| {
            let upstream = serde_json::json!({"standby_cluster": {"host": "host-a",
                "port": 5432, "primary_slot_name": "me"}});
            o.dynamic = topology::Dynamic::read(&upstream).expect("a good document");
            o.postgres.process = sample::standby_of(Some("a"));
        });
        assert_eq!(standby_leader, "no action. I am (me), the standby leader with the lock");
        assert_eq!(
            with(leader(), busy(Job::Recover)),
            "updated leader lock during crash recovery in single-user mode"
        );
        assert_eq!(
            with(follower(), busy(Job::Restart { as_primary: false })),
            "restart in progress"
        );
    }

    #[test]
    fn in_pause_every_line_says_so() {
        let paused = |o: &mut Observation| o.dynamic.pause = true;
        assert_eq!(
            with(sample::leader(), paused),
            "PAUSE: no action. I am (me), the leader with the lock"
        );
        let stray = with(sample::follower(), |o| {
            paused(o);
            o.postgres.process = sample::primary();
        });
        assert_eq!(stray, "PAUSE: continue to run as primary without lock");
        let alone = with(sample::follower(), |o| {
            paused(o);
            o.lock = Lock::Free;
            let Seen::Known(view) = &mut o.store else { panic!("the store is known here") };
            view.leader = None;
        });
        assert_eq!(alone, "PAUSE: no action. I am (me)");
    }

    #[test]
    fn without_a_store_the_line_says_what_became_of_the_member() {
        let silent = |o: &mut Observation| {
            (o.store, o.lock) = (Seen::Unknown, Lock::Unknown);
            o.postgres.process = Process::Stopped(Seen::Unknown);
        };
        assert_eq!(with(sample::follower(), silent), "DCS is not accessible");
        let fenced = with(sample::leader(), |o| {
            silent(o);
            busy(Job::Stop { how: StopHow::Immediate })(o);
        });
        assert_eq!(fenced, "demoted self because DCS is not accessible and I was a leader");
        let proven = with(sample::leader(), |o| {
            o.store = Seen::Unknown;
            o.failsafe.proof = Some(o.now + 20_000);
        });
        assert_eq!(proven, LED_ON);
    }

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
