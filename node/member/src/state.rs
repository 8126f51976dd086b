//! The word for a member's state, in its record, in status bodies and metrics.
//!
//! The running action comes first, then the last failure. A stop that failed leaves
//! a server that runs: the failure is reported for one `loop_wait`, for by then the
//! stop was tried again or is no longer wanted. Pure.

use crate::ha::observation::{End, Failed, Job, Memory, Observation, Process};
use topology::MemberState;

/// `custom`: a new cluster is made by an operator's command.
pub(super) fn of(seen: &Observation, memory: &Memory, custom: bool) -> MemberState {
    if let Some(state) = seen.job.as_ref().and_then(|job| during(&job.job, seen, custom)) {
        return state;
    }
    let failed = memory.failed.as_ref();
    match &seen.postgres.process {
        Process::Running(_) if failed.is_some_and(|f| just_failed_to_stop(f, seen)) => {
            MemberState::StopFailed
        }
        Process::Running(_) => MemberState::Running,
        Process::Starting { .. } => MemberState::Starting,
        Process::Stopped(_) => match failed.and_then(|f| after_failure(&f.job, custom)) {
            Some(state) => state,
            None if was_crash(seen) && !memory.stopping => MemberState::Crashed,
            None => MemberState::Stopped,
        },
    }
}

fn during(job: &Job, seen: &Observation, custom: bool) -> Option<MemberState> {
    Some(match job {
        Job::Bootstrap => match (custom, seen.is_stopped()) {
            (true, true) => MemberState::RunningCustomBootstrap,
            (true, false) => MemberState::StartingAfterCustomBootstrap,
            (false, _) => MemberState::InitializingNewCluster,
        },
        Job::Clone { .. } | Job::Restore | Job::Rebuild { .. } => MemberState::CreatingReplica,
        Job::Stop { .. } => MemberState::Stopping,
        Job::Restart { .. } => MemberState::Restarting,
        Job::StartPrimary | Job::StartStandby { .. } => MemberState::Starting,
        Job::Recover | Job::RecoverStandby { .. } | Job::Rewind { .. } | Job::PrePromote => {
            return None;
        }
    })
}

fn after_failure(job: &Job, custom: bool) -> Option<MemberState> {
    match job {
        Job::Bootstrap if custom => Some(MemberState::CustomBootstrapFailed),
        Job::Bootstrap => Some(MemberState::InitdbFailed),
        Job::StartPrimary | Job::StartStandby { .. } => Some(MemberState::StartFailed),
        Job::Restart { .. } => Some(MemberState::RestartFailed),
        _ => None,
    }
}

fn just_failed_to_stop(failed: &Failed, seen: &Observation) -> bool {
    let age = seen.now.since(failed.at);
    matches!(failed.job, Job::Stop { .. }) && age <= seen.dynamic.loop_wait_ms
}

fn was_crash(seen: &Observation) -> bool {
    seen.shutdown_state().is_some_and(|shutdown_state| shutdown_state.end == End::Crashed)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ha::observation::{Running, Shut, ShutdownState, StopHow};
    use crate::ha::sample;
    use topology::{Lsn, Millis, Seen, Timeline};

    const STOP: Job = Job::Stop { how: StopHow::Fast };
    const RESTART: Job = Job::Restart { as_primary: true };
    const AT_REST: Process = Process::Stopped(Seen::Unknown);

    fn seen(job: Option<Job>, process: Process) -> Observation {
        let job = job.map(|job| Running {
            job,
            since: Millis(sample::NOW),
            closed: None,
            ending: Default::default(),
        });
        let mut seen = sample::leader();
        (seen.job, seen.postgres.process) = (job, process);
        seen
    }

    fn failed(job: Job) -> Memory {
        let (at, why) = (Millis(sample::NOW), "why".to_string());
        Memory { failed: Some(Failed { job, at, times: 1, why }), ..Memory::default() }
    }

    #[test]
    fn what_runs_has_its_word() {
        let starting = Process::Starting { since: Millis(1), as_primary: true };
        for (job, process, state) in [
            (None, sample::primary(), "running"),
            (None, starting, "starting"),
            (None, AT_REST, "stopped"),
            (Some(STOP), sample::primary(), "stopping"),
            (Some(RESTART), AT_REST, "restarting"),
            (Some(Job::StartPrimary), AT_REST, "starting"),
            (Some(Job::Restore), AT_REST, "creating replica"),
            (Some(Job::PrePromote), sample::primary(), "running"),
            (Some(Job::Bootstrap), AT_REST, "initializing new cluster"),
        ] {
            let seen = seen(job, process);
            assert_eq!(of(&seen, &Memory::default(), false).text(), state, "{:?}", seen.job);
        }
        let new = |process| of(&seen(Some(Job::Bootstrap), process), &Memory::default(), true);
        assert_eq!(new(AT_REST).text(), "running custom bootstrap script");
        assert_eq!(new(sample::primary()).text(), "starting after custom bootstrap");
    }

    #[test]
    fn what_failed_last_has_its_word_until_something_runs() {
        for (job, custom, state) in [
            (Job::Bootstrap, false, "initdb failed"),
            (Job::Bootstrap, true, "custom bootstrap failed"),
            (Job::StartPrimary, false, "start failed"),
            (RESTART, false, "restart failed"),
            (Job::Recover, false, "stopped"),
        ] {
            let memory = failed(job);
            assert_eq!(of(&seen(None, AT_REST), &memory, custom).text(), state);
            assert_eq!(of(&seen(None, sample::primary()), &memory, custom).text(), "running");
        }
    }

    #[test]
    fn a_crash_is_no_stop_unless_the_daemon_ends() {
        let shutdown_state = ShutdownState {
            end: End::Crashed,
            timeline: Timeline(2),
            copied: false,
            lsn: Lsn(1_000),
            shut: Shut::Abrupt,
        };
        let seen = seen(None, Process::Stopped(Seen::Known(shutdown_state)));
        assert_eq!(of(&seen, &Memory::default(), false), MemberState::Crashed);
        let ending = Memory { stopping: true, ..Memory::default() };
        assert_eq!(of(&seen, &ending, false), MemberState::Stopped);
    }

    #[test]
    fn a_failed_stop_is_told_while_it_is_news() {
        let mut seen = seen(None, sample::primary());
        assert_eq!(of(&seen, &failed(STOP), false), MemberState::StopFailed);
        seen.now = Millis(sample::NOW + seen.dynamic.loop_wait_ms + 1);
        assert_eq!(of(&seen, &failed(STOP), false), MemberState::Running);
        seen.postgres.process = AT_REST;
        assert_eq!(of(&seen, &failed(STOP), false), MemberState::Stopped);
    }
}
