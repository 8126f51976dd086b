//! One look at the data directory and the process on it, once per beat.
//!
//! Invariants: what could not be read is `Unknown`, never absent; a server that
//! does not answer may well accept writes; a postmaster that was seen and lives
//! runs on, whatever became of its directory.

use super::Server;
use crate::daemon::running::seen_server;
use crate::daemon::shutdown_state::{is_copy, is_standby_data, shutdown_state_of};
use crate::daemon::unwatched;
use crate::postgres::files::STANDBY_SIGNAL;
use crate::postgres::monitor::Monitor;
use crate::postgres::{ControlState, Error, Postmaster};
use member::ha::observation::{
    DataDir, End, Postgres, Process, Server as ServerSeen, ServerRole, ShutdownState,
};
use topology::{Lsn, Millis, Seen};

impl Server {
    pub(crate) async fn look(&mut self, now: Millis) -> Postgres {
        let data = self.look_at_data(now).await;
        if matches!(data, DataDir::Valid { .. }) {
            self.rewind.look(&self.instance, now).await;
        }
        let runs = self.find_running();
        if !matches!(data, DataDir::Valid { .. }) {
            if matches!(runs, Ok(true)) {
                (self.session, self.monitor) = (None, None);
                let (role, timeline, lsn) = (Seen::Unknown, None, Lsn(0));
                let replay_paused = false;
                let server = ServerSeen {
                    role,
                    timeline,
                    lsn,
                    replay_paused,
                    restart_due: None,
                    replication: None,
                };
                let process = Process::Running(server);
                return Postgres { data, process };
            }
            self.forget_process();
            return Postgres { data, process: Process::Stopped(Seen::Unknown) };
        }
        match runs {
            Ok(true) => {
                let process = self.look_at_running(now).await;
                Postgres { data, process }
            }
            Ok(false) => {
                self.forget_process();
                self.instance.end_orphans().await;
                Postgres { data, process: Process::Stopped(self.look_at_shutdown_state().await) }
            }
            Err(error) => {
                crate::log::error(&error.to_string());
                self.forget_process();
                Postgres { data, process: Process::Stopped(Seen::Unknown) }
            }
        }
    }

    /// By its lock file, or because the one that was seen lives without the file.
    fn find_running(&mut self) -> Result<bool, Error> {
        match self.instance.postmaster() {
            Ok(Some(postmaster)) => self.postmaster = Some(postmaster),
            _ if self.left_running().is_some() => {}
            answer => return answer.map(|_| false),
        }
        Ok(true)
    }

    /// A postmaster that was seen and lives, whatever became of its directory.
    pub(crate) fn left_running(&self) -> Option<Postmaster> {
        self.postmaster.clone().filter(|p| p.is_alive().unwrap_or(true))
    }

    fn forget_process(&mut self) {
        self.names = Default::default();
        self.session = None;
        self.monitor = None;
        self.postmaster = None;
        self.starting_since = None;
        self.history = None;
    }

    /// The control file is read once for a data directory that stays.
    async fn look_at_data(&mut self, now: Millis) -> DataDir {
        let there = self.settings.postgresql.data_dir.join("global/pg_control").is_file();
        let mark = self.instance.fill_mark();
        // A server that was seen and lives says more than a place that cannot be read.
        let is_unknown = mark.is_err() && self.left_running().is_some();
        let is_marked = !is_unknown && mark.map_or(true, |mark| mark.is_some());
        if let Some(system) = self.system.as_ref().filter(|_| there && !is_marked) {
            return DataDir::Valid { system: system.clone() };
        }
        self.system = None;
        if !self.is_at_work
            && let Err(error) = self.instance.forget_fill_of_running()
        {
            tracing::error!("{}", error.with_causes());
        }
        let state = match is_unknown {
            true => self.instance.content_state().await,
            false => self.instance.data_state().await,
        };
        let data = self.judge_data(self.data_of(state), now);
        if let DataDir::Valid { system } = &data {
            self.system = Some(system.clone());
            self.watched = None;
            self.watched = unwatched::watch(&self.settings.postgresql.data_dir);
        }
        data
    }

    async fn look_at_running(&mut self, now: Millis) -> Process {
        match self.ask().await {
            Ok(monitor) => {
                self.starting_since = None;
                let rests = monitor.checkpointer_rests;
                let acts = self.names.look(&monitor.synchronous_standby_names, rests, now);
                let mut server = seen_server(&monitor, acts);
                server.restart_due = self.recovers_otherwise(&monitor);
                self.monitor = Some(monitor);
                Process::Running(server)
            }
            Err(error) if self.is_starting(&error) => {
                let since = *self.starting_since.get_or_insert(now);
                self.monitor = None;
                let as_primary = !is_standby_data(&self.settings.postgresql.data_dir);
                Process::Starting { since, as_primary }
            }
            Err(error) => {
                crate::log::warn(&format!("PostgreSQL did not answer: {}", error.with_causes()));
                self.session = None;
                self.monitor = None;
                Process::Running(self.look_at_silent().await)
            }
        }
    }

    /// What only a restart puts right: PostgreSQL names the settings that wait
    /// for one, and without its signal a standby opens where its log ends.
    fn recovers_otherwise(&self, monitor: &Monitor) -> Option<String> {
        let signal = self.settings.postgresql.data_dir.join(STANDBY_SIGNAL);
        match signal.try_exists() {
            _ if !monitor.status.in_recovery => None,
            Ok(false) => Some(format!("there is no {STANDBY_SIGNAL}")),
            // A file that cannot be looked at is not known to be gone.
            _ => monitor.recovery_waits.first().map(|name| format!("{name} is another")),
        }
    }

    /// A server that has no connection left for us may well accept writes: the
    /// control file tells a primary in operation from everything else.
    async fn look_at_silent(&self) -> ServerSeen {
        match self.instance.control().await {
            Ok(control) if control.state == ControlState::InProduction => ServerSeen {
                role: Seen::Known(ServerRole::Primary),
                timeline: Some(control.timeline),
                lsn: Lsn(0),
                replay_paused: false,
                restart_due: None,
                replication: None,
            },
            _ => ServerSeen {
                role: Seen::Unknown,
                timeline: None,
                lsn: Lsn(0),
                replay_paused: false,
                restart_due: None,
                replication: None,
            },
        }
    }

    async fn look_at_shutdown_state(&mut self) -> Seen<ShutdownState> {
        let looked = async {
            // Asked before the control file is read: what has ended then is in it.
            let alive = self.instance.rewinder()?;
            let control = self.instance.control().await?;
            match alive {
                Some(pid) => Err(Error::StillRewinding(pid)),
                None => Ok((self.instance.is_half_rewound(&control)?, control)),
            }
        };
        match looked.await {
            Ok((half, control)) => {
                let data_dir = &self.settings.postgresql.data_dir;
                let mut shutdown_state = shutdown_state_of(&control, data_dir);
                shutdown_state.copied = is_copy(data_dir);
                if half {
                    shutdown_state.end = End::Half;
                }
                self.rewind.take(&control);
                Seen::Known(shutdown_state)
            }
            Err(Error::StillRewinding(_)) if self.is_at_work => Seen::Unknown,
            Err(error) => {
                crate::log::warn(&error.with_causes());
                Seen::Unknown
            }
        }
    }
}
