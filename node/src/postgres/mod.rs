//! Everything that touches one PostgreSQL instance.
//!
//! `Instance` puts the files beside it together: settings in, a running server
//! out. It decides nothing: which member is primary, which server a standby
//! follows, what may be removed and when are rules of `ha/` and `standby/`.
//!
//! | file | what |
//! |---|---|
//! | controldata, data_dir, instance_data | what a data directory says about itself |
//! | mark, fill_mark, rewind_mark | what is under way in it |
//! | permission | why something in it may be removed, renamed or rewound |
//! | catalogue, judge, units | which settings there are, and their values |
//! | parameters, controlled, recovery, conninfo, files, configure | its configuration |
//! | process, procfs, socket, readiness, places | the postmaster, and what it needs around it |
//! | served | where it is reached |
//! | session, tls, libpq, pgpass, monitor, history, slots, users | SQL |
//! | slot_files, slot_state, slot_snapshot | copies of logical slots, for PostgreSQL before 17 |
//! | replication | what SQL does not tell |
//! | run, tools, method | PostgreSQL's programs, and an operator's |
//! | rewind, single_user, wal | what comes before and with a rewind |
//! | restored | the first start of what such a command made |
//! | archive | the operator's commands of the archive |
//! | archive_histories | histories of older timelines, brought into the archive |
//! | log_tail | why a server ended, in its own words |

pub mod archive;
mod archive_histories;
pub(crate) mod catalogue;
mod configure;
pub(crate) mod conninfo;
pub(crate) mod controldata;
mod controlled;
pub(crate) mod data_dir;
pub mod difference;
mod end;
mod entries;
pub(crate) mod error;
pub(crate) mod files;
pub(crate) mod fill_mark;
pub mod history;
mod init_sync;
mod instance_data;
mod judge;
pub mod libpq;
pub(crate) mod log_tail;
mod mark;
#[cfg(test)]
mod marks_test;
pub(crate) mod method;
pub mod monitor;
pub(crate) mod parameters;
pub(crate) mod permission;
pub mod pgpass;
mod places;
pub(crate) mod process;
mod procfs;
mod readiness;
pub(crate) mod recovery;
pub(crate) mod region_memory;
mod replication;
pub(crate) mod restored;
pub mod rewind;
pub mod rewind_mark;
pub(crate) mod run;
mod secrets;
mod served;
pub(crate) mod session;
pub(crate) mod single_user;
pub mod slot_files;
mod slot_snapshot;
mod slot_state;
pub mod slots;
mod socket;
mod spelling;
mod sslmode;
mod target;
pub(crate) mod timeline;
pub mod tls;
pub mod tools;
pub(crate) mod units;
pub mod users;
pub mod wal;
pub mod wal_kept;

pub use configure::Written;
pub use controldata::{ControlData, ControlState};
pub use data_dir::DataDirState;
pub use error::Error;
pub use monitor::{Monitor, ServerStatus};
pub use permission::{Permission, ProvenSource};
pub use process::{Postmaster, StopMode};
pub use procfs::{Stat, boot_id, listed_children};
pub use recovery::Upstream;
pub use replication::PeerLog;
pub use session::Session;
pub(crate) use target::TRUSTED;
pub use target::Target;

use crate::config::{
    Bootstrap, BootstrapMethod, Citus, CustomMethod, Login, Postgresql, ToolOption,
};
use files::Places;
use member::role::Role;
use rewind_mark::Named;
use serde_json::Value;
use slot_files::SlotFile;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};
use topology::{History, Lsn, MemberName, Timeline};

/// How often it is looked whether a starting server accepts connections; how often
/// it is asked is another matter (`readiness.rs`).
const READY_PACE: Duration = Duration::from_millis(20);

/// Name of the short connection that asks for the replayed timeline.
const REPLAY: &str = "Patroni replay point";
/// And of the one that asks a peer for its history.
const HISTORY: &str = "Patroni history";
/// And of the one that hands a logical slot to the server's own worker.
const SLOTS: &str = "Matriarch slot work";

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
        slots: &[SlotFile],
    ) -> Result<(Postmaster, Written), Error> {
        self.make_room().await?;
        if let Some(mark) = rewind_mark::find(&self.settings)? {
            return Err(Error::HalfRewound(mark));
        }
        let places = Places::of(&self.settings);
        files::restore_backups(&places)?;
        let written = self.write_config(start_as, dynamic, overrides).await?;
        files::set_standby(&places, *start_as != StartAs::Primary)?;
        let data_dir = &self.settings.data_dir;
        let copied = slot_files::install(data_dir, slots, &written.effective.parameters)?;
        if !copied.is_empty() {
            tracing::info!("logical slots are copied from the leader: {}", copied.join(", "));
        }
        let postmaster = self.launch(&written).await?;
        Ok((postmaster, written))
    }

    /// Before a start, also of a single-user server: makes sure that no process works in the data directory.
    async fn make_room(&self) -> Result<(), Error> {
        let (data_dir, postgres) = (&self.settings.data_dir, self.settings.tool("postgres"));
        if Postmaster::find(data_dir, &postgres)?.is_none() {
            Postmaster::end_all_orphans(data_dir, &postgres).await;
        }
        self.refuse_running()
    }

    /// The directories of the sockets, made where they are missing. The program's own
    /// default may not be what counts: some file below ours may name another.
    async fn make_socket_dirs(&self, given: Option<&str>) -> Result<Vec<PathBuf>, Error> {
        if let Some(given) = given {
            let dirs = socket::dirs(Some(given), &self.settings.data_dir);
            places::make_for_sockets(&dirs)?;
            return Ok(dirs);
        }
        let catalogue = self.catalogue().await?;
        let built_in = catalogue.socket_directories.as_deref();
        let built_in = socket::dirs(built_in, &self.settings.data_dir);
        if let Err(error) = places::make_for_sockets(&built_in) {
            tracing::warn!("{}", error.with_causes());
        }
        Ok(built_in)
    }

    /// Starts the server with the configuration that was written.
    async fn launch(&self, written: &Written) -> Result<Postmaster, Error> {
        let data_dir = &self.settings.data_dir;
        let given = written.effective.parameters.get("unix_socket_directories");
        let sockets = self.make_socket_dirs(given.map(String::as_str)).await?;
        socket::clear_stale(&sockets, self.settings.port, data_dir)?;
        self.put_histories_right().await;
        Postmaster::start(&process::Launch {
            postgres: &self.settings.tool("postgres"),
            data_dir,
            config_file: &Places::of(&self.settings).conf(),
            options: &written.effective.command_line,
            log: None,
        })
        .await
    }

    /// Before a start: placeholders of timelines that were never begun go, and every
    /// number below the own timeline has a file, for members that will ask.
    async fn put_histories_right(&self) {
        let data_dir = &self.settings.data_dir;
        let mut done = timeline::forget_reserved(data_dir);
        if let (true, Ok(control)) = (done.is_ok(), self.control().await) {
            done =
                timeline::complete(data_dir, control.timeline.max(control.min_recovery_timeline));
        }
        if let Err(error) = done {
            tracing::warn!("history files in pg_wal: {error}");
        }
    }

    /// Waits until the server takes connections, at most `limit`.
    pub async fn wait_ready(
        &self,
        postmaster: &Postmaster,
        application_name: &str,
        limit: Duration,
    ) -> Result<Ready, Error> {
        let until = tokio::time::Instant::now() + limit;
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
            tokio::time::sleep(READY_PACE).await;
        }
    }

    // SQL.

    /// The local server, as superuser, to the maintenance database.
    pub async fn session(&self, application_name: &str) -> Result<Session, Error> {
        self.session_in(&self.settings.database, application_name).await
    }

    /// One that was refused a moment ago is refused here (`readiness.rs`).
    pub async fn session_in(&self, database: &str, name: &str) -> Result<Session, Error> {
        let target = self.local_target(database, name);
        let who = (target.login.username.as_str(), database);
        let sign = readiness::Sign::of(&self.settings.data_dir);
        self.notes.pacer().check(who, &sign, Instant::now())?;
        let answer = Session::connect(&target).await;
        self.notes.pacer().note(who, sign, Instant::now(), &answer);
        answer
    }

    /// The local server, for statements that may take as long as `limit`.
    pub async fn long_session(
        &self,
        database: &str,
        name: &str,
        limit: Duration,
    ) -> Result<Session, Error> {
        let target = Target { statement_limit: limit, ..self.local_target(database, name) };
        Session::connect(&target).await
    }

    /// PostgreSQL 17: no SQL sets it.
    pub async fn set_failover(&self, slot: &str) -> Result<(), Error> {
        let target = self.local_target(&self.settings.database, SLOTS);
        replication::set_failover(&target, slot).await
    }

    /// How the daemon reaches its own server.
    pub fn local_target(&self, database: &str, name: &str) -> Target {
        let settings = &self.settings;
        let (host, port) = self.local_address();
        let host = self.socket_dir(port).unwrap_or(host);
        let mut target = Target::new(&host, port, &settings.superuser, database, name);
        target.unrecorded = true;
        target.is_own = true;
        target
    }

    /// The timeline that the own server replays, and how far it has come.
    pub async fn replay_point(&self) -> Result<(Timeline, Lsn), Error> {
        replication::identify(&self.local_target(&self.settings.database, REPLAY)).await
    }

    /// The history of the timeline that a peer is on, asked as a standby would.
    pub async fn peer_history(&self, host: &str, port: u16) -> Result<History, Error> {
        let login = &self.settings.replication;
        let target = Target::new(host, port, login, &self.settings.database, HISTORY);
        replication::history(&target).await
    }

    /// The same with what decides whether to stream from there.
    pub async fn peer_log(
        &self,
        host: &str,
        port: u16,
        slot: Option<&str>,
    ) -> Result<PeerLog, Error> {
        let login = &self.settings.replication;
        let target = Target::new(host, port, login, &self.settings.database, HISTORY);
        replication::peer_log(&target, slot).await
    }

    /// Does a peer answer a question at all? A refusal is an answer.
    pub async fn peer_answers(&self, host: &str, port: u16) -> Result<(), Error> {
        match self.peer_history(host, port).await {
            Err(error) if error.is_no_answer() || error.is_of_the_way() => Err(error),
            _ => Ok(()),
        }
    }

    /// What the programs that fill or rewind this data directory have read and
    /// written so far; `None`: not known.
    pub fn bytes_of_tools(&self) -> Option<u64> {
        let of = |variable| procfs::with_variable(variable, &self.settings.data_dir);
        let tools = of(tools::FILLS).into_iter().chain(of(rewind::REWINDS));
        tools.map(procfs::bytes_moved).sum()
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

    // PostgreSQL's programs.

    pub async fn initdb(&self, bootstrap: &Bootstrap) -> Result<(), Error> {
        tools::initdb(&self.settings, bootstrap).await
    }

    /// Into the empty data directory; clear it before and after a failure.
    pub async fn basebackup(
        &self,
        host: &str,
        port: u16,
        options: &[ToolOption],
    ) -> Result<(), Error> {
        let major = self.catalogue().await?.major;
        let source = tools::Source { host, port };
        tools::basebackup(&self.settings, source, options, major).await
    }

    /// An operator's command in place of initdb.
    pub async fn bootstrap_by(&self, how: &BootstrapMethod) -> Result<(), Error> {
        method::bootstrap(&self.settings, &self.scope, how).await
    }

    /// An operator's command in place of pg_basebackup.
    pub async fn copy_by(
        &self,
        how: &CustomMethod,
        source: Option<(&str, u16)>,
    ) -> Result<(), Error> {
        let major = self.catalogue().await?.major;
        let source = source.map(|(host, port)| tools::Source { host, port });
        method::replica(&self.settings, &self.scope, how, source, major).await
    }

    /// Runs an operator's command with the way to the new, running server.
    pub async fn post_bootstrap(&self, command: &str) -> Result<(), Error> {
        let settings = &self.settings;
        let (host, port) = self.local_address();
        let host = self.socket_dir(port).unwrap_or(host);
        let target = tools::Source { host: &host, port };
        let major = self.catalogue().await?.major;
        let database = Some(settings.database.as_str());
        let connstring = tools::dsn(&settings.superuser, target, database, major);
        method::post_bootstrap(settings, command, target, &connstring).await
    }

    /// Of a server that was stopped in order. `from_primary`: the source has to
    /// accept writes.
    pub async fn rewind(
        &self,
        source: tools::Source<'_>,
        options: &[ToolOption],
        from_primary: bool,
        permission: &Permission,
    ) -> Result<(), Error> {
        self.refuse_running()?;
        tracing::info!("{} is rewound: {permission}", self.settings.data_dir.display());
        if let Some(pid) = self.rewinder()? {
            return Err(Error::StillRewinding(pid));
        }
        let (settings, major) = (&self.settings, self.catalogue().await?.major);
        single_user::archive_what_waits(settings).await;
        rewind::Rewinding { settings, source, options, from_primary, major }.run().await
    }

    /// A pg_rewind that outlived its daemon goes on alone. Before the mark is
    /// made it only reads. The mark names its process; a helper that a
    /// restore_command has left has the variable too, and rewinds nothing.
    pub fn rewinder(&self) -> Result<Option<i32>, Error> {
        let Some(mark) = rewind_mark::find(&self.settings)? else { return Ok(None) };
        match rewind_mark::process_of(&mark)? {
            Named::AtWork(pid) => return Ok(Some(pid)),
            Named::Ended => return Ok(None),
            Named::Nothing => {}
        }
        let tool = self.settings.tool("pg_rewind");
        let found = procfs::with_variable(rewind::REWINDS, &self.settings.data_dir);
        Ok(found.into_iter().find(|pid| procfs::runs_program(*pid, &tool)))
    }

    /// Did a rewind of this data directory not come to its end? One that was
    /// finished by itself is taken note of here.
    pub fn is_half_rewound(&self, control: &ControlData) -> Result<bool, Error> {
        let Some(mark) = rewind_mark::find(&self.settings)? else { return Ok(false) };
        let label = self.settings.data_dir.join("backup_label").is_file();
        let is_last_step = label && control.state == ControlState::InArchiveRecovery;
        if !is_last_step || !rewind_mark::is_of_this_boot(&mark)? {
            return Ok(true);
        }
        rewind_mark::settle(&self.settings)?;
        Ok(false)
    }

    /// Of a primary on `current`: gives every number below it a file, here and in the
    /// archive, where a recovery to the latest timeline looks for each of them.
    pub async fn complete_histories(
        &self,
        current: Timeline,
        dynamic: &Value,
    ) -> Result<(), Error> {
        let data_dir = &self.settings.data_dir;
        let done = timeline::complete(data_dir, current);
        done.map_err(Error::file("complete the histories in", data_dir))?;
        let below = (2..current.0).map(|number| timeline::file_name(Timeline(number)));
        let restore = recovery::restore_command(&self.settings, dynamic);
        let own = timeline::file_name(current);
        archive_histories::archive_histories(&self.settings, restore.as_deref(), &own, below).await
    }

    /// Brings the segment with the shutdown checkpoint into the archive: who
    /// follows this log by the archive alone gets its end nowhere else.
    pub async fn archive_end(&self) -> Result<(), Error> {
        let control = self.control().await?;
        let name =
            archive::segment_name(control.timeline, control.checkpoint, control.wal_segment_bytes);
        archive::archive_segment(&self.settings, &name).await
    }

    /// Where the log of a stopped primary ends but for its shutdown checkpoint.
    pub async fn end_without_checkpoint(&self, checkpoint: Lsn) -> Result<Lsn, Error> {
        let control = self.control().await?;
        let (timeline, segment_bytes) = (control.timeline, control.wal_segment_bytes);
        let place = wal::Place { timeline, lsn: checkpoint, segment_bytes };
        wal::before_switch(&self.settings, place).await
    }

    /// Whose settings the source of a rewind is asked with.
    pub async fn rewind_login(&self) -> Result<&Login, Error> {
        let major = self.catalogue().await?.major;
        Ok(rewind::login(&self.settings, major))
    }

    pub async fn crash_recovery(&self) -> Result<(), Error> {
        self.make_room().await?;
        single_user::recover(&self.settings).await
    }
}
