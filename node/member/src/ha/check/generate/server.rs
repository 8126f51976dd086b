//! The data directory, the process on it, and what may run beside it.
//!
//! An empty directory has no server, but one may be gone from under a server that
//! still runs.

use super::{Generator, NAMES, following, system};
use crate::ha::observation::{
    DataDir, End, Ending, Following, Job, Postgres, Process, Rebuild, Running, Server, ServerRole,
    Shut, ShutdownState, StopHow,
};
use standby::sync::{Confirmations, Policy, Replication, Sender, SyncRank};
use topology::timeline::Fork;
use topology::{History, Lsn, Seen, SyncMode, SyncState, Timeline};

/// A clean end has the most rules.
const ENDS: [End; 6] = [End::Clean, End::Clean, End::Clean, End::Standby, End::Crashed, End::Half];

impl Generator {
    pub(super) fn postgres(&mut self) -> Postgres {
        let data = match self.next() % 40 {
            0..=3 => DataDir::Empty,
            4 => DataDir::Half("a base backup of a".into()),
            5 => DataDir::Refused("foreign files".into()),
            6 => DataDir::Damaged("its control file is damaged".into()),
            7 => DataDir::Valid { system: system(2) },
            _ => DataDir::Valid { system: system(1) },
        };
        let process = match &data {
            DataDir::Valid { .. } => self.process(),
            // Gone from under a server that still runs.
            _ if self.percent(10) => Process::Running(Server {
                role: Seen::Unknown,
                timeline: None,
                lsn: Lsn(0),
                replay_paused: false,
                restart_due: None,
                replication: None,
            }),
            DataDir::Empty | DataDir::Half(_) | DataDir::Refused(_) | DataDir::Damaged(_) => {
                Process::Stopped(Seen::Unknown)
            }
        };
        Postgres { data, process }
    }

    pub(super) fn process(&mut self) -> Process {
        match self.next() % 10 {
            0 => Process::Starting { since: self.past(), as_primary: self.percent(50) },
            1..=6 => {
                let role = self.role();
                let timeline = self.pick(&[None, Some(1), Some(2), Some(3)]).map(Timeline);
                let lsn = self.lsn();
                let replay_paused = lsn == Lsn(1_001);
                let restart_due = self.percent(10).then(|| "a setting".to_string());
                let replication = self.replication();
                Process::Running(Server {
                    role,
                    timeline,
                    lsn,
                    replay_paused,
                    restart_due,
                    replication,
                })
            }
            7 if self.percent(30) => Process::Stopped(Seen::Unknown),
            _ => Process::Stopped(Seen::Known(self.shutdown_state())),
        }
    }

    fn shutdown_state(&mut self) -> ShutdownState {
        let end = self.pick(&ENDS);
        let shuts = match end {
            End::Clean => [Shut::Orderly; 3],
            End::Crashed => [Shut::Abrupt; 3],
            End::Standby | End::Half => [Shut::Orderly, Shut::Abrupt, Shut::InBackup],
        };
        let shut = self.pick(&shuts);
        let timeline = Timeline(self.pick(&[1, 1, 1, 2]));
        ShutdownState { end, timeline, copied: self.percent(10), lsn: self.lsn(), shut }
    }

    pub(super) fn lsn(&mut self) -> Lsn {
        Lsn(self.pick(&[900, 1_000, 1_000, 1_001, 5_000_000]))
    }

    pub(super) fn role(&mut self) -> Seen<ServerRole> {
        match self.next() % 10 {
            0 => Seen::Unknown,
            1..=4 => Seen::Known(ServerRole::Primary),
            _ => Seen::Known(ServerRole::Standby {
                follows: self
                    .pick(&[None, Some("a"), Some("b"), Some("remote")])
                    .map(|name| Box::new(Following { member: "".into(), ..following(name) })),
                streaming: self.percent(60),
            }),
        }
    }

    /// Standbys that stream, each up to somewhere.
    pub(super) fn replication(&mut self) -> Option<Replication> {
        let names = self.pick(&["", "", "a", "2 (a,b)", "ANY 1 (a,b)"]).to_string();
        let senders = [1, 2].iter().filter_map(|which| {
            let lsn = Some(self.lsn());
            let sync = self.pick(&[SyncRank::Async, SyncRank::Quorum, SyncRank::Sync]);
            let name = NAMES[*which].into();
            let sender =
                Sender { name, streaming: true, sync, write: lsn, flush: lsn, replay: lsn };
            self.percent(70).then_some(sender)
        });
        let (senders, is_acting) = (senders.collect(), self.percent(90));
        let replication =
            Replication { lsn: self.lsn(), names, is_acting, commit: "on".into(), senders };
        self.percent(90).then_some(replication)
    }

    /// Looked once or twice at some names.
    pub(super) fn confirmed(&mut self) -> Confirmations {
        let mut confirmed = Confirmations::default();
        let policy = Policy {
            mode: self.pick(&[SyncMode::On, SyncMode::Quorum]),
            strict: false,
            node_count: 1,
            maximum_lag: None,
        };
        for _ in 0..self.next() % 3 {
            let Some(seen) = self.replication() else { continue };
            confirmed.look(&seen, &SyncState::default(), &policy, self.past());
        }
        confirmed
    }

    pub(super) fn a_job(&mut self) -> Job {
        let from = following(self.pick(&["a", "b"]));
        self.pick(&[
            Job::Bootstrap,
            Job::Clone { from: from.clone() },
            Job::Restore,
            Job::StartPrimary,
            Job::StartPrimary,
            Job::StartStandby { follow: None, target: None },
            Job::StartStandby { follow: Some(from.clone()), target: None },
            Job::Stop { how: StopHow::Planned },
            Job::Stop { how: StopHow::Fast },
            Job::Stop { how: StopHow::Immediate },
            Job::Restart { as_primary: true },
            Job::Restart { as_primary: false },
            Job::PrePromote,
            Job::Recover,
            Job::RecoverStandby { timeline: Timeline(1) },
            Job::Rewind { from: from.clone() },
            Job::Rewind { from: from.clone() },
            Job::Rebuild { from, why: Rebuild::Diverged },
        ])
    }

    pub(super) fn job(&mut self) -> Option<Running> {
        self.percent(15).then(|| Running {
            job: self.a_job(),
            since: self.past(),
            closed: self.percent(30).then(|| self.shutdown_state()),
            ending: self.ending(),
        })
    }

    pub(super) fn ending(&mut self) -> Ending {
        Ending {
            quiet_since: self.maybe_past(50),
            closed_since: self.maybe_past(50),
            physical: self.pick(&[0, 0, 1]),
            logical: self.pick(&[0, 0, 2]),
        }
    }

    pub(super) fn own_history(&mut self) -> Option<History> {
        let current = self.pick(&[None, Some(1), Some(2), Some(2)])?;
        let switch = Lsn(self.pick(&[100, 100, 100, 700]));
        let fork = |n| Fork { parent: Timeline(n), switch, reason: String::new() };
        Some(History { current: Timeline(current), forks: (1..current).map(fork).collect() })
    }
}
