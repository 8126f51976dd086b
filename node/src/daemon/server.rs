//! The local PostgreSQL as the daemon sees it: one look per beat, and quick
//! things that need no job.

use super::cache;
use super::fresh::FreshMonitor;
use super::local_end::{self, NoEnd};
use super::remains::{is_copy, is_standby_data, remains_of};
use super::rewind_ability::RewindAbility;
use super::running::{following, seen_server};
use super::work::{Hands, upstream};
use crate::config::Settings;
use crate::ha::observation::{
    DataDir, End, Following, Postgres, Process, Remains, Rewind, Server as ServerSeen, ServerRole,
};
use crate::postgres::files::STANDBY_SIGNAL;
use crate::postgres::monitor::{self, Monitor};
use crate::postgres::parameters::Role;
use crate::postgres::{
    ControlState, DataDirState, Error, Instance, Postmaster, Session, StopMode, Target, Written,
    difference, history, slots,
};
use serde_json::Value;
use standby::rewind::LocalEnd;
use standby::slots::{Slot, SlotStep};
use std::sync::Arc;
use tokio::sync::watch;
use topology::{Dynamic, History, Lsn, Millis, Seen, SystemId};

/// Application names that the field knows.
const HEARTBEAT: &str = "Patroni heartbeat";
const RESTAPI: &str = "Patroni restapi";

/// When a running server reads its files.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Reload {
    IfChanged,
    /// An operator asked for it, or it is not known what the server has read.
    Always,
}

pub(super) struct Server {
    settings: Arc<Settings>,
    instance: Arc<Instance>,
    session: Option<Session>,
    monitor: Option<Monitor>,
    postmaster: Option<Postmaster>,
    starting_since: Option<Millis>,
    closing: watch::Sender<Option<Remains>>,
    quiet: watch::Sender<bool>,
    system: Option<SystemId>,
    /// The history of the own timeline, once its file was read.
    history: Option<History>,
    /// How the API's own connection is made.
    reach: watch::Sender<Target>,
    /// What `patroni.dynamic.json` holds, as far as this process knows.
    saved: Value,
    rewind: RewindAbility,
    /// A job of ours is running.
    pub is_at_work: bool,
}

impl Server {
    pub fn new(settings: Arc<Settings>) -> anyhow::Result<Server> {
        let instance = Arc::new(Instance::new(
            Arc::new(settings.postgresql.clone()),
            &settings.scope,
            &settings.name,
            settings.citus.clone(),
        ));
        let target = instance.local_target(&settings.postgresql.database, RESTAPI);
        Ok(Server {
            settings,
            instance,
            session: None,
            monitor: None,
            postmaster: None,
            starting_since: None,
            closing: watch::Sender::new(None),
            quiet: watch::Sender::new(false),
            system: None,
            history: None,
            reach: watch::Sender::new(target),
            saved: Value::Null,
            rewind: RewindAbility::default(),
            is_at_work: false,
        })
    }

    pub fn take_settings(&mut self, settings: Arc<Settings>) {
        let postgresql = Arc::new(settings.postgresql.clone());
        self.instance = Arc::new(self.instance.with_settings(postgresql));
        if settings.postgresql.superuser != self.settings.postgresql.superuser {
            // The next connection shows whether the new login works.
            self.session = None;
        }
        self.settings = settings;
        self.rewind.forget();
        self.reach.send_replace(self.api_target());
    }

    /// A server runs on the data directory, as far as can be told.
    pub fn may_run(&self) -> bool {
        !matches!(self.instance.postmaster(), Ok(None))
    }

    fn api_target(&self) -> Target {
        self.instance.local_target(&self.settings.postgresql.database, RESTAPI)
    }

    /// The dynamic configuration before the store is read: the copy in the
    /// data directory, else what a new cluster would begin with.
    pub fn first_dynamic(&self) -> Dynamic {
        let data_dir = &self.settings.postgresql.data_dir;
        let first = self.settings.bootstrap.as_ref().map(|b| b.dcs.clone());
        for (place, raw) in [(cache::NAME, cache::read(data_dir)), ("bootstrap.dcs", first)] {
            match raw.map(|raw| Dynamic::read(&raw)) {
                Some(Ok(dynamic)) => return dynamic,
                Some(Err(why)) => tracing::error!("{place} is not used: {why}"),
                None => {}
            }
        }
        Dynamic::default()
    }

    /// Before anything is decided: nobody of an earlier daemon fills the data
    /// directory any more.
    pub async fn end_leftovers(&self) {
        match self.instance.end_leftover_fillers().await {
            Ok(true) => tracing::warn!("a copy that an earlier daemon left at work was ended"),
            Ok(false) => {}
            Err(error) => tracing::error!("{error}"),
        }
    }

    pub async fn look(&mut self, now: Millis) -> Postgres {
        let data = self.look_at_data().await;
        if matches!(data, DataDir::Valid { .. }) {
            self.rewind.look(&self.instance, now).await;
        }
        if !matches!(data, DataDir::Valid { .. }) {
            if self.left_running().is_some() {
                (self.session, self.monitor) = (None, None);
                let (role, timeline, lsn) = (Seen::Unknown, None, Lsn(0));
                let replay_paused = false;
                let server = ServerSeen { role, timeline, lsn, replay_paused, restart_due: None };
                let process = Process::Running(server);
                return Postgres { data, process };
            }
            self.forget_process();
            return Postgres { data, process: Process::Stopped(Seen::Unknown) };
        }
        match self.instance.postmaster() {
            Ok(Some(postmaster)) => {
                self.postmaster = Some(postmaster);
                let process = self.look_at_running(now).await;
                Postgres { data, process }
            }
            Ok(None) => {
                self.forget_process();
                self.instance.end_orphans().await;
                Postgres { data, process: Process::Stopped(self.look_at_remains().await) }
            }
            Err(error) => {
                tracing::error!("{error}");
                self.forget_process();
                Postgres { data, process: Process::Stopped(Seen::Unknown) }
            }
        }
    }

    /// A postmaster that was seen and lives, whatever became of its directory.
    pub fn left_running(&self) -> Option<Postmaster> {
        self.postmaster.clone().filter(|p| p.is_alive().unwrap_or(true))
    }

    fn forget_process(&mut self) {
        self.session = None;
        self.monitor = None;
        self.postmaster = None;
        self.starting_since = None;
        self.history = None;
    }

    /// The control file is read once for a data directory that stays.
    async fn look_at_data(&mut self) -> DataDir {
        let there = self.settings.postgresql.data_dir.join("global/pg_control").is_file();
        if let Some(system) = self.system.as_ref().filter(|_| there) {
            return DataDir::Valid { system: system.clone() };
        }
        self.system = None;
        match self.instance.data_state().await {
            // A base backup writes the control file last: without it there is
            // nothing yet that could be lost.
            DataDirState::Absent | DataDirState::Empty | DataDirState::Incomplete => DataDir::Empty,
            DataDirState::Valid { system, .. } => {
                self.system = Some(system.clone());
                DataDir::Valid { system }
            }
            DataDirState::OtherVersion { theirs, ours } => DataDir::Refused(format!(
                "it is of PostgreSQL {theirs}, the programs in postgresql.bin_dir are of {ours}: \
                 set bin_dir to those of {theirs}, or run pg_upgrade"
            )),
            DataDirState::Foreign(why) => DataDir::Refused(why),
            DataDirState::Unreadable(why) => DataDir::Damaged(why),
        }
    }

    async fn look_at_running(&mut self, now: Millis) -> Process {
        match self.ask().await {
            Ok(monitor) => {
                self.starting_since = None;
                let mut server = seen_server(&monitor);
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
                tracing::warn!("PostgreSQL did not answer: {error}");
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
        match signal.is_file() {
            _ if !monitor.in_recovery => None,
            false => Some(format!("there is no {STANDBY_SIGNAL}")),
            true => monitor.recovery_waits.first().map(|name| format!("{name} is another")),
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
            },
            _ => ServerSeen {
                role: Seen::Unknown,
                timeline: None,
                lsn: Lsn(0),
                replay_paused: false,
                restart_due: None,
            },
        }
    }

    /// A connection that broke since the last question is no failure yet.
    async fn ask(&mut self) -> Result<Monitor, Error> {
        let had_one = self.session.is_some();
        match self.ask_once().await {
            Err(error) if had_one && error.is_worth_another_try() => {
                tracing::debug!("PostgreSQL is asked again: {error}");
                self.session = None;
                self.ask_once().await
            }
            answer => answer,
        }
    }

    async fn ask_once(&mut self) -> Result<Monitor, Error> {
        if !self.session.as_ref().is_some_and(Session::is_usable) {
            self.session = Some(self.instance.session(HEARTBEAT).await?);
        }
        let session = self.session.as_ref().expect("just made");
        monitor::read(session).await
    }

    /// It has not answered since it was started, or says so itself.
    fn is_starting(&self, error: &Error) -> bool {
        error.says_not_yet() || self.monitor.is_none() && error.is_no_answer()
    }

    async fn look_at_remains(&mut self) -> Seen<Remains> {
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
                let mut remains = remains_of(&control, data_dir);
                remains.copied = is_copy(data_dir);
                if half {
                    remains.end = End::Half;
                }
                self.rewind.take(&control);
                Seen::Known(remains)
            }
            Err(Error::StillRewinding(_)) if self.is_at_work => Seen::Unknown,
            Err(error) => {
                tracing::warn!("{error}");
                Seen::Unknown
            }
        }
    }

    pub fn monitor(&self) -> Option<Monitor> {
        self.monitor.clone()
    }

    pub fn postmaster_pid(&self) -> Option<i32> {
        self.postmaster.as_ref().map(|p| p.pid)
    }

    pub fn slots(&self) -> Vec<Slot> {
        let slots = self.monitor.iter().flat_map(|m| &m.slots);
        // A temporary one goes with its session and is nobody's business.
        slots
            .filter(|s| !s.temporary)
            .map(|s| Slot {
                name: s.name.clone(),
                physical: s.slot_type == "physical",
                active: s.active,
                restart_lsn: s.restart_lsn,
                confirmed_flush: s.confirmed_flush,
            })
            .collect()
    }

    /// Settings that wait for a restart: the server says so, or the data
    /// directory demanded more than is configured.
    pub fn pending_restart(&self) -> Option<Value> {
        let monitor = self.monitor.as_ref()?;
        let reason = |old: &str, new: &str| serde_json::json!({"old_value": old, "new_value": new});
        let raised = self.instance.raised().into_iter().filter(|_| monitor.in_recovery);
        let mut reasons: serde_json::Map<String, Value> =
            raised.map(|(name, to)| (name, reason(&to.demanded, &to.configured))).collect();
        for pending in &monitor.pending_restart {
            let old = pending.old_value.as_deref().unwrap_or_default();
            let new = pending.new_value.as_deref().unwrap_or_default();
            reasons.insert(pending.name.clone(), reason(old, new));
        }
        (!reasons.is_empty()).then_some(Value::Object(reasons))
    }

    /// Waits for the end of the running postmaster; for ever when none runs.
    pub async fn ended(&self) {
        let Some(postmaster) = &self.postmaster else { return std::future::pending().await };
        match &self.session {
            // The connection ends the moment the server does.
            Some(session) => tokio::select! {
                () = session.closed() => {}
                () = postmaster.wait_exit() => {}
            },
            None => postmaster.wait_exit().await,
        }
    }

    pub fn promote(&self) -> Result<(), String> {
        let postmaster = self.postmaster.as_ref().ok_or("PostgreSQL does not run")?;
        postmaster.promote().map_err(|e| e.to_string())
    }

    /// Finds the postmaster anew, for those who do not wait for a beat.
    pub fn finder(&self) -> impl Fn() -> Option<i32> + Send + 'static {
        let instance = self.instance.clone();
        move || instance.postmaster().ok().flatten().map(|p| p.pid)
    }

    /// An immediate stop without waiting: the next look sees what came of it.
    pub fn stop_now(&self) {
        if let Ok(Some(postmaster)) = self.instance.postmaster()
            && let Err(error) = postmaster.stop(StopMode::Immediate)
        {
            tracing::error!("{error}");
        }
    }

    /// A stop begins: nothing is closed yet.
    pub fn begin_stop(&self) {
        self.closing.send_replace(None);
        self.quiet.send_replace(false);
    }

    /// The running stop has ended every client.
    pub fn is_quiet(&self) -> bool {
        *self.quiet.borrow()
    }

    pub fn watch_quiet(&self) -> watch::Receiver<bool> {
        self.quiet.subscribe()
    }

    /// What the running stop has closed with.
    pub fn closed(&self) -> Option<Remains> {
        self.closing.borrow().clone()
    }

    pub fn watch_closing(&self) -> watch::Receiver<Option<Remains>> {
        self.closing.subscribe()
    }

    pub async fn follow(
        &mut self,
        upstream: Option<&Following>,
        dynamic: &Value,
        overrides: &[(String, String)],
    ) -> Result<(), String> {
        let hands = self.hands(dynamic.clone(), overrides.to_vec());
        hands.rewrite(upstream).await?;
        let postmaster = self.postmaster.as_ref().ok_or("PostgreSQL does not run")?;
        postmaster.reload().map_err(|e| e.to_string())
    }

    /// As what it runs, for settings that depend on it.
    pub fn role(&self, dynamic: &Value) -> Option<Role> {
        let monitor = self.monitor.as_ref()?;
        if !monitor.in_recovery {
            return Some(Role::Primary);
        }
        let remote = following(monitor).is_some_and(|from| upstream(&from, dynamic).remote);
        Some(if remote { Role::StandbyLeader } else { Role::Replica })
    }

    /// Rewrites the files for the role it has. True: the server was told to
    /// read them, because something in them is another value.
    pub async fn apply_settings(
        &mut self,
        dynamic: &Value,
        overrides: &[(String, String)],
        reload: Reload,
    ) -> Result<bool, String> {
        let Some(monitor) = &self.monitor else { return Ok(false) };
        let hands = self.hands(dynamic.clone(), overrides.to_vec());
        let written = if monitor.in_recovery {
            let follows = following(monitor);
            hands.rewrite(follows.as_ref()).await?
        } else {
            hands.rewrite_primary().await?
        };
        if !(self.is_another(&written).await || reload == Reload::Always) {
            return Ok(false);
        }
        let postmaster = self.postmaster.as_ref().ok_or("PostgreSQL does not run")?;
        postmaster.reload().map_err(|e| e.to_string())?;
        Ok(true)
    }

    /// Somebody may have removed the password file of a standby.
    pub fn keep_pgpass(&self, dynamic: &Value) {
        let follows = self.monitor.as_ref().filter(|monitor| monitor.in_recovery);
        let Some(from) = follows.and_then(following) else { return };
        if let Err(error) = self.instance.keep_pgpass(&upstream(&from, dynamic)) {
            tracing::warn!("{error}");
        }
    }

    /// Do the files say something else than the server has in force?
    async fn is_another(&self, written: &Written) -> bool {
        let (true, Some(session)) = (written.changed, &self.session) else {
            return written.changed;
        };
        match difference::changes(session, &written.effective.parameters).await {
            Ok(changes) => {
                changes.iter().for_each(|change| tracing::info!("{change}"));
                written.beside_values || !changes.is_empty()
            }
            Err(error) => {
                tracing::warn!("what the new settings change is not known: {error}");
                true
            }
        }
    }

    /// Keeps the copy that a restarted daemon begins with up to date.
    pub fn save_dynamic(&mut self, dynamic: &Value) {
        if self.saved == *dynamic || dynamic.as_object().is_none_or(|map| map.is_empty()) {
            return;
        }
        match cache::write(&self.settings.postgresql.data_dir, dynamic) {
            Ok(()) => self.saved = dynamic.clone(),
            Err(error) => tracing::warn!("{} cannot be written: {error}", cache::NAME),
        }
    }

    pub async fn resume_replay(&self) -> Result<(), String> {
        let session = self.session.as_ref().ok_or("PostgreSQL does not answer")?;
        let done = session.execute("resume replay", "SELECT pg_wal_replay_resume()").await;
        done.map_err(|e| e.to_string())
    }

    pub async fn change_slot(&self, step: &SlotStep) -> Result<(), String> {
        let session = self.session.as_ref().ok_or("PostgreSQL does not answer")?;
        let done = match step {
            SlotStep::Create(name) => slots::create_physical(session, name).await,
            SlotStep::Drop(name) => slots::drop(session, name).await,
            SlotStep::Advance(name, to) => slots::advance(session, name, *to).await,
        };
        done.map_err(|e| e.to_string())
    }

    pub fn instance(&self) -> Arc<Instance> {
        self.instance.clone()
    }

    pub fn rewind_ability(&self) -> Rewind {
        self.rewind.answer()
    }

    /// The end of the own log, with all that a comparison needs. `Unclear`: it
    /// cannot be read, and asking again gives the same.
    pub async fn local_end(&self, seen: &Postgres) -> Result<LocalEnd, NoEnd> {
        match &seen.process {
            Process::Stopped(Seen::Known(remains)) => {
                local_end::at_rest(&self.instance, remains).await
            }
            Process::Running(server) => local_end::running(&self.instance, server).await,
            _ => Err(NoEnd::NotNow("the end of the own log is not known".into())),
        }
    }

    /// What a log of which nobody has the end is said to end with.
    pub async fn end_without_checkpoint(&self, checkpoint: Lsn) -> Lsn {
        match self.instance.end_without_checkpoint(checkpoint).await {
            Ok(lsn) => lsn,
            Err(error) => {
                tracing::warn!("the record before the shutdown checkpoint: {error}");
                checkpoint
            }
        }
    }

    /// The history of the timeline that the running server is on. Its file does
    /// not change.
    pub fn own_history(&mut self) -> Option<History> {
        let timeline = seen_server(self.monitor.as_ref()?).timeline?;
        if self.history.as_ref().is_none_or(|known| known.current != timeline) {
            let data_dir = &self.settings.postgresql.data_dir;
            self.history = local_end::own_history(data_dir, timeline);
        }
        self.history.clone()
    }

    /// After a pause anything may have been changed by hand.
    pub fn look_anew(&mut self) {
        (self.system, self.history, self.session) = (None, None, None);
    }

    /// The history of the server at that address, which must be a primary or
    /// stream from one.
    pub async fn remote_history(&self, from: &Following) -> Result<History, String> {
        let asked = async {
            let login = self.instance.rewind_login().await?;
            let session = self.instance.peer(&from.host, from.port, login, HEARTBEAT).await?;
            let timeline = history::remote_timeline(&session).await?;
            history::remote(&session, timeline).await
        };
        asked.await.map_err(|e| e.to_string())
    }

    /// A failed bootstrap is kept for whoever wants to know why.
    pub async fn move_aside(&mut self) -> Result<(), String> {
        self.stop_now();
        if let Ok(Some(postmaster)) = self.instance.postmaster() {
            postmaster.wait_exit().await;
        }
        self.system = None;
        let to = self.instance.move_data_aside().map_err(|e| e.to_string())?;
        tracing::error!("the data of the failed bootstrap is kept in {}", to.display());
        Ok(())
    }

    pub fn hands(&self, dynamic: Value, overrides: Vec<(String, String)>) -> Hands {
        Hands {
            settings: self.settings.clone(),
            instance: self.instance.clone(),
            dynamic,
            overrides,
            closing: self.closing.clone(),
            quiet: self.quiet.clone(),
        }
    }

    pub fn fresh(&self) -> FreshMonitor {
        FreshMonitor::new(self.reach.subscribe())
    }
}
