//! Everything that touches one PostgreSQL instance.
//!
//! `Instance` puts the files beside it together: settings in, a running server
//! out. It decides nothing: who is primary, whom to follow, what may be removed
//! and when are rules of `ha/` and `standby/`.
//!
//! | file | what |
//! |---|---|
//! | controldata, data_dir | what a data directory says about itself |
//! | catalogue, judge, units | which settings there are, and their values |
//! | parameters, controlled, recovery, conninfo, files, configure | its configuration |
//! | process, procfs, socket | the postmaster |
//! | session, tls, monitor, history, slots, users | SQL |
//! | run, tools | PostgreSQL's programs |

pub mod catalogue;
mod configure;
pub mod conninfo;
pub mod controldata;
mod controlled;
pub mod data_dir;
pub mod error;
pub mod files;
pub mod history;
mod judge;
pub mod monitor;
pub mod parameters;
pub mod process;
mod procfs;
pub mod recovery;
mod run;
pub mod session;
pub mod slots;
mod socket;
pub mod tls;
pub mod tools;
pub mod units;
pub mod users;

pub use configure::Written;
pub use controldata::{ControlData, ControlState};
pub use data_dir::DataDirState;
pub use error::Error;
pub use monitor::Monitor;
pub use process::{Postmaster, StopMode};
pub use recovery::Upstream;
pub use session::{Session, Target};

use crate::config::{Bootstrap, Citus, Login, Postgresql};
use files::Places;
use parameters::Role;
use serde_json::Value;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use topology::MemberName;

/// How often a starting server is asked whether it accepts connections: often
/// at first, then less, for each refusal is a line in its log.
const READY_PACE: Duration = Duration::from_millis(20);
const READY_PACE_MAX: Duration = Duration::from_millis(500);

/// As what to start.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StartAs {
    Primary,
    /// Without an upstream: in recovery, from its own WAL and archive.
    Standby {
        upstream: Option<Upstream>,
    },
}

impl StartAs {
    fn role(&self) -> Role {
        match self {
            StartAs::Primary => Role::Primary,
            StartAs::Standby { upstream: Some(up) } if up.remote => Role::StandbyLeader,
            StartAs::Standby { .. } => Role::Replica,
        }
    }
}

/// What `wait_ready` saw last.
#[derive(Debug)]
pub enum Ready {
    Accepting(Session),
    /// Still in recovery or not listening yet. Why the last attempt failed.
    Starting(Error),
    Ended,
}

#[derive(Clone, Debug)]
pub struct Instance {
    pub settings: Arc<Postgresql>,
    pub scope: String,
    pub name: MemberName,
    pub citus: Option<Citus>,
    notes: Arc<configure::Notes>,
}

impl Instance {
    pub fn new(
        settings: Arc<Postgresql>,
        scope: &str,
        name: &MemberName,
        citus: Option<Citus>,
    ) -> Instance {
        let (scope, name) = (scope.to_string(), name.clone());
        Instance { settings, scope, name, citus, notes: Arc::default() }
    }

    /// The same instance with settings that were read again.
    pub fn with_settings(&self, settings: Arc<Postgresql>) -> Instance {
        Instance { settings, ..self.clone() }
    }

    // The data directory.

    pub async fn control(&self) -> Result<ControlData, Error> {
        controldata::read(&self.settings.tool("pg_controldata"), &self.settings.data_dir).await
    }

    pub async fn data_state(&self) -> DataDirState {
        data_dir::state(&self.settings.tool("pg_controldata"), &self.settings.data_dir).await
    }

    /// Refused while a server runs on it or when it is not PostgreSQL's.
    pub fn remove_data(&self) -> Result<(), Error> {
        self.refuse_running()?;
        data_dir::remove(&self.settings.data_dir)
    }

    pub fn move_data_aside(&self) -> Result<PathBuf, Error> {
        self.refuse_running()?;
        data_dir::move_aside(&self.settings.data_dir)
    }

    /// The data directory is ours alone: no server runs on it.
    fn refuse_running(&self) -> Result<(), Error> {
        Postmaster::clear_stale(&self.settings.data_dir, &self.settings.tool("postgres"))
    }

    // The process.

    pub fn postmaster(&self) -> Result<Option<Postmaster>, Error> {
        Postmaster::find(&self.settings.data_dir, &self.settings.tool("postgres"))
    }

    /// Only meant for when no postmaster runs.
    pub async fn end_orphans(&self) {
        Postmaster::end_orphans(&self.settings.data_dir, &self.settings.tool("postgres")).await;
    }

    /// Writes the configuration and starts the server; does not wait for it.
    pub async fn start(
        &self,
        start_as: &StartAs,
        dynamic: &Value,
        overrides: &[(String, String)],
    ) -> Result<(Postmaster, Written), Error> {
        let (data_dir, postgres) = (&self.settings.data_dir, self.settings.tool("postgres"));
        if Postmaster::find(data_dir, &postgres)?.is_none() {
            Postmaster::end_all_orphans(data_dir, &postgres).await;
        }
        self.refuse_running()?;
        let places = Places::of(&self.settings);
        files::restore_backups(&places)?;
        let written = self.write_config(start_as, dynamic, overrides).await?;
        files::set_standby(&places, *start_as != StartAs::Primary)?;
        let given = written.effective.parameters.get("unix_socket_directories");
        let sockets = socket::dirs(given.map(String::as_str));
        socket::clear_stale(&sockets, self.settings.port, data_dir)?;
        if let Err(error) = crate::act::timeline::forget_reserved(&self.settings.data_dir) {
            tracing::warn!("reserved timelines in pg_wal: {error}");
        }
        let postmaster = Postmaster::start(&process::Launch {
            postgres: &self.settings.tool("postgres"),
            data_dir: &self.settings.data_dir,
            config_file: &places.conf(),
            options: &written.effective.command_line,
            log: None,
        })
        .await?;
        Ok((postmaster, written))
    }

    /// Waits until the server takes connections, at most `limit`.
    pub async fn wait_ready(
        &self,
        postmaster: &Postmaster,
        application_name: &str,
        limit: Duration,
    ) -> Result<Ready, Error> {
        let until = tokio::time::Instant::now() + limit;
        let mut pace = READY_PACE;
        loop {
            let error = match self.session(application_name).await {
                Ok(session) => {
                    files::save_backups(&Places::of(&self.settings))?;
                    return Ok(Ready::Accepting(session));
                }
                Err(error) => error,
            };
            if !postmaster.is_alive()? {
                return Ok(Ready::Ended);
            }
            if tokio::time::Instant::now() >= until {
                return Ok(Ready::Starting(error));
            }
            tokio::time::sleep(pace).await;
            pace = (pace * 3 / 2).min(READY_PACE_MAX);
        }
    }

    // SQL.

    /// The local server, as superuser, to the maintenance database.
    pub async fn session(&self, application_name: &str) -> Result<Session, Error> {
        self.session_in(&self.settings.database, application_name).await
    }

    pub async fn session_in(&self, database: &str, name: &str) -> Result<Session, Error> {
        Session::connect(&self.local_target(database, name)).await
    }

    /// How the daemon reaches its own server.
    pub fn local_target(&self, database: &str, name: &str) -> Target {
        let settings = &self.settings;
        let (host, port) = self.local_address();
        let host = self.socket_dir(port).unwrap_or(host);
        let mut target = Target::new(&host, port, &settings.superuser, database, name);
        target.unrecorded = true;
        target
    }

    /// A peer, as `login`.
    pub async fn peer(
        &self,
        host: &str,
        port: u16,
        login: &Login,
        name: &str,
    ) -> Result<Session, Error> {
        Session::connect(&Target::new(host, port, login, &self.settings.database, name)).await
    }

    /// Where the server listens: another `listen` counts from its restart on.
    fn local_address(&self) -> (String, u16) {
        let settings = &self.settings;
        let wanted = settings.local_host().to_string();
        match process::listening(&settings.data_dir) {
            Some((host, port)) if port != settings.port => {
                (if is_elsewhere(&host, &[]) { host } else { "localhost".to_string() }, port)
            }
            Some((host, port)) if is_elsewhere(&host, &settings.listen_hosts) => (host, port),
            _ => (wanted, settings.port),
        }
    }

    fn socket_dir(&self, port: u16) -> Option<String> {
        if !self.settings.use_unix_socket {
            return None;
        }
        let given = self.settings.parameters.get("unix_socket_directories");
        socket::dir_of(given, port).map(|dir| dir.display().to_string())
    }

    // PostgreSQL's programs.

    pub async fn initdb(&self, bootstrap: &Bootstrap) -> Result<(), Error> {
        tools::initdb(&self.settings, bootstrap).await
    }

    /// Into the empty data directory; clear it before and after a failure.
    pub async fn basebackup(&self, host: &str, port: u16) -> Result<(), Error> {
        let major = self.catalogue().await?.major;
        tools::basebackup(&self.settings, tools::Source { host, port }, major).await
    }

    /// Of a stopped server. `restore_wal`: a restore_command is configured.
    pub async fn rewind(&self, host: &str, port: u16, restore_wal: bool) -> Result<(), Error> {
        self.refuse_running()?;
        let major = self.catalogue().await?.major;
        tools::rewind(&self.settings, tools::Source { host, port }, restore_wal, major).await
    }

    pub async fn crash_recovery(&self) -> Result<(), Error> {
        self.refuse_running()?;
        tools::crash_recovery(&self.settings).await
    }
}

/// A server that listens on one address which the settings no longer name.
fn is_elsewhere(host: &str, wanted: &[String]) -> bool {
    let everywhere = ["", "*", "0.0.0.0", "::"].contains(&host);
    !everywhere && !wanted.iter().any(|name| name == host)
}
