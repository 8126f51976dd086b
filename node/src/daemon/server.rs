//! The local PostgreSQL as the daemon sees it: one look per beat, and quick
//! things that need no job.
//!
//! Here is what is known of it between two looks. `look` makes the look, `ask` has
//! the connection, `files` what the server reads, `log` what a comparison needs.
//! Invariant: its fields belong to these files alone; others get copies.

mod ask;
mod files;
mod log;
mod look;
mod writer;

use super::fresh::FreshStatus;
use super::rewind_ability::RewindAbility;
use super::work::{Closed, ServerJobs};
use crate::config::Settings;
use crate::deadman::Guarded;
use crate::postgres::monitor::Monitor;
use crate::postgres::{Instance, Permission, Postmaster, ServerStatus, Session, StopMode};
use member::ha::Receivers;
use member::ha::observation::{Ending, Rewind, ShutdownState};
use member::job_terms::JobTerms;
use serde_json::Value;
use standby::slots::Slot;
use standby::sync::ActingNames;
use std::sync::Arc;
use tokio::sync::watch;
use topology::{History, Millis, SystemId};

pub(super) struct Server {
    settings: Arc<Settings>,
    instance: Arc<Instance>,
    session: Option<Session>,
    monitor: Option<Monitor>,
    postmaster: Option<Postmaster>,
    starting_since: Option<Millis>,
    closing: watch::Sender<Option<Closed>>,
    quiet: watch::Sender<Option<Millis>>,
    cut: watch::Sender<bool>,
    system: Option<SystemId>,
    /// The history of the own timeline, once its file was read.
    history: Option<History>,
    /// For the API's own connection.
    reach: watch::Sender<Arc<Instance>>,
    rewind: RewindAbility,
    names: ActingNames,
    settling: writer::Settling,
    /// A job of ours is running.
    pub is_at_work: bool,
    /// Tells other processes that a daemon watches this data directory.
    watched: Option<std::fs::File>,
}

impl Server {
    pub(super) fn new(settings: Arc<Settings>) -> anyhow::Result<Server> {
        let instance = Arc::new(Instance::new(
            Arc::new(settings.postgresql.clone()),
            &settings.scope,
            &settings.name,
            settings.citus.clone(),
        ));
        Ok(Server {
            settings,
            reach: watch::Sender::new(instance.clone()),
            instance,
            session: None,
            monitor: None,
            postmaster: None,
            starting_since: None,
            closing: watch::Sender::new(None),
            quiet: watch::Sender::new(None),
            cut: watch::Sender::new(false),
            system: None,
            history: None,
            rewind: RewindAbility::default(),
            names: Default::default(),
            settling: Default::default(),
            is_at_work: false,
            watched: None,
        })
    }

    pub(super) fn take_settings(&mut self, settings: Arc<Settings>) {
        let postgresql = Arc::new(settings.postgresql.clone());
        self.instance = Arc::new(self.instance.with_settings(postgresql));
        if settings.postgresql.superuser != self.settings.postgresql.superuser {
            // The next connection shows whether the new login works.
            self.session = None;
        }
        self.settings = settings;
        self.rewind.forget();
        self.reach.send_replace(self.instance.clone());
    }

    /// A server runs on the data directory, as far as can be told.
    pub(super) fn may_run(&self) -> bool {
        !matches!(self.instance.postmaster(), Ok(None))
    }

    /// Where others reach the running server (`postgres/served.rs`).
    pub(super) fn served_at(&self) -> (String, u16) {
        self.instance.served_at(self.postmaster.as_ref().map(|postmaster| postmaster.pid))
    }

    pub(super) fn served_url(&self) -> String {
        self.instance.served_url(self.postmaster.as_ref().map(|postmaster| postmaster.pid))
    }

    /// Before anything is decided: ends the tools of an earlier daemon that still
    /// fill the data directory.
    pub(super) async fn end_leftovers(&self) {
        match self.instance.end_leftover_fillers().await {
            Ok(true) => tracing::warn!("a copy that an earlier daemon left at work was ended"),
            Ok(false) => {}
            Err(error) => tracing::error!("{error}"),
        }
    }

    /// As of the last beat.
    pub(super) fn status(&self) -> Option<&ServerStatus> {
        Some(&self.monitor.as_ref()?.status)
    }

    /// As of the last beat.
    pub(super) fn monitored(&self) -> Option<&Monitor> {
        self.monitor.as_ref()
    }

    /// What the guard thread stops.
    pub(super) fn guarded(&self) -> Option<Guarded> {
        self.postmaster.as_ref().map(guarded)
    }

    /// As of the last beat. A temporary slot ends with its session: it is left alone.
    pub(super) fn slots(&self) -> Vec<Slot> {
        let slots = self.monitor.iter().flat_map(|m| &m.slots);
        slots.filter(|slot| !slot.temporary).map(|slot| slot.seen()).collect()
    }

    /// As of the last beat: `wal_level` is logical.
    pub(super) fn decodes(&self) -> bool {
        self.monitor.as_ref().is_some_and(|monitor| monitor.wal_level == "logical")
    }

    pub(super) fn session(&self) -> Option<&Session> {
        self.session.as_ref()
    }

    /// Settings that wait for a restart: the server says so, or the data
    /// directory demanded more than is configured.
    pub(super) fn pending_restart(&self) -> Option<Value> {
        let monitor = self.monitor.as_ref()?;
        let reason = |old: &str, new: &str| serde_json::json!({"old_value": old, "new_value": new});
        let raised = self.instance.raised().into_iter().filter(|_| monitor.status.in_recovery);
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
    pub(super) async fn ended(&self) {
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

    pub(super) fn promote(&self) -> Result<(), String> {
        let postmaster = self.postmaster.as_ref().ok_or("PostgreSQL does not run")?;
        postmaster.promote().map_err(|e| e.to_string())
    }

    /// Finds the postmaster anew, for those who do not wait for a beat.
    pub(super) fn finder(&self) -> impl Fn() -> Option<Guarded> + Send + 'static {
        let instance = self.instance.clone();
        move || instance.postmaster().ok().flatten().as_ref().map(guarded)
    }

    /// An immediate stop without waiting: the next look sees what came of it.
    pub(super) fn stop_now(&self) {
        if let Ok(Some(postmaster)) = self.instance.postmaster()
            && let Err(error) = postmaster.stop(StopMode::Immediate)
        {
            tracing::error!("{error}");
        }
    }

    /// A stop begins: nothing is closed yet.
    pub(super) fn begin_stop(&self) {
        self.closing.send_replace(None);
        self.quiet.send_replace(None);
        self.cut.send_replace(false);
    }

    /// The running stop has ended every client.
    pub(super) fn is_quiet(&self) -> bool {
        self.quiet.borrow().is_some()
    }

    pub(super) fn watch_quiet(&self) -> watch::Receiver<Option<Millis>> {
        self.quiet.subscribe()
    }

    /// What the running stop has closed with.
    pub(super) fn closed(&self) -> Option<ShutdownState> {
        self.closing.borrow().as_ref().map(|closed| closed.shutdown_state.clone())
    }

    /// How far the running stop has come.
    pub(super) fn ending(&self) -> Ending {
        let receivers = self.postmaster.as_ref().map(Postmaster::receivers).unwrap_or_default();
        Ending {
            quiet_since: *self.quiet.borrow(),
            closed_since: self.closing.borrow().as_ref().map(|closed| closed.since),
            physical: receivers.physical.len(),
            logical: receivers.logical.len(),
        }
    }

    pub(super) fn end_receivers(&self, which: Receivers) {
        if let Some(postmaster) = &self.postmaster {
            postmaster.end_receivers(which == Receivers::All);
        }
    }

    /// The running stop waits for nothing any more.
    pub(super) fn cut_stop(&self) {
        self.cut.send_replace(true);
    }

    pub(super) fn watch_closing(&self) -> watch::Receiver<Option<Closed>> {
        self.closing.subscribe()
    }

    pub(super) fn instance(&self) -> Arc<Instance> {
        self.instance.clone()
    }

    pub(super) fn rewind_ability(&self) -> Rewind {
        self.rewind.answer()
    }

    /// After a pause anything may have been changed by hand.
    pub(super) fn look_anew(&mut self) {
        (self.system, self.history, self.session) = (None, None, None);
    }

    /// Keeps the data of a failed bootstrap so that the operator can find the cause.
    pub(super) async fn move_aside(&mut self) -> Result<(), String> {
        self.stop_now();
        if let Ok(Some(postmaster)) = self.instance.postmaster() {
            postmaster.wait_gone().await;
        }
        self.system = None;
        let to =
            self.instance.move_data_aside(&Permission::given_up()).map_err(|e| e.to_string())?;
        self.instance.end_fill().map_err(|e| e.to_string())?;
        tracing::error!("the data of the failed bootstrap is kept in {}", to.display());
        Ok(())
    }

    pub(super) fn jobs(&self, dynamic: Value, overrides: Vec<(String, String)>) -> ServerJobs {
        ServerJobs {
            settings: self.settings.clone(),
            instance: self.instance.clone(),
            dynamic,
            overrides,
            closing: self.closing.clone(),
            quiet: self.quiet.clone(),
            terms: JobTerms::default(),
            notice: None,
            cut: self.cut.subscribe(),
        }
    }

    pub(super) fn fresh(&self) -> FreshStatus {
        FreshStatus::new(self.reach.subscribe())
    }
}

fn guarded(postmaster: &Postmaster) -> Guarded {
    Guarded { pid: postmaster.pid, started: postmaster.started() }
}
