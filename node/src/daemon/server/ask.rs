//! The daemon's own connection: the monitoring question, and the few commands that
//! need no job.
//!
//! Invariant: a connection that broke is made anew once per question; there is no
//! other retry here, the next beat asks again.

use super::Server;
use crate::clock;
use crate::postgres::monitor::{self, Monitor};
use crate::postgres::{Error, Session, slots};
use standby::slots::{DropWhy, SlotStep};
use standby::sync::AwaitedNames;
use std::time::Duration;

/// The application name of the daemon's connection, which the field knows.
pub(super) const HEARTBEAT: &str = "Patroni heartbeat";

/// How often a setting is asked for that is about to change.
const SETTING_PACE: Duration = Duration::from_millis(10);

impl Server {
    /// A connection that broke since the last question is no failure yet.
    pub(super) async fn ask(&mut self) -> Result<Monitor, Error> {
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
    pub(super) fn is_starting(&self, error: &Error) -> bool {
        error.says_not_yet() || self.monitor.is_none() && error.is_no_answer()
    }

    pub(crate) async fn resume_replay(&self) -> Result<(), String> {
        let session = self.session.as_ref().ok_or("PostgreSQL does not answer")?;
        let done =
            session.execute("resume replay", "SELECT pg_catalog.pg_wal_replay_resume()").await;
        done.map_err(|e| e.to_string())
    }

    /// A reload wakes the process that recovers.
    pub(crate) async fn wake_recovery(&self) -> Result<(), String> {
        let session = self.session.as_ref().ok_or("PostgreSQL does not answer")?;
        let done = session.execute("wake recovery", "SELECT pg_catalog.pg_reload_conf()").await;
        done.map_err(|e| e.to_string())
    }

    /// Returns when the server shows these names of synchronous standbys and they
    /// act; or, in the end, what is missing.
    pub(crate) async fn until_names_act(&mut self, names: String) -> Result<(), String> {
        const SQL: &str = "SELECT pg_catalog.current_setting('synchronous_standby_names'), \
            EXISTS (SELECT FROM pg_catalog.pg_stat_activity WHERE backend_type = 'checkpointer' \
            AND wait_event IN ('CheckpointerMain', 'CheckpointWriteDelay'))";
        let awaited = AwaitedNames::new(names, clock::now());
        loop {
            let session = self.session.as_ref().ok_or("PostgreSQL does not answer")?;
            let row = session.row("names", SQL, &[]).await.map_err(|e| e.to_string())?;
            let shown: String = row.try_get(0).map_err(|e| e.to_string())?;
            let rests = row.try_get(1).map_err(|e| e.to_string())?;
            match awaited.look(&mut self.names, &shown, rests, clock::now()) {
                Some(done) => return done.map_err(|why| why.to_string()),
                None => tokio::time::sleep(SETTING_PACE).await,
            }
        }
    }

    /// A transaction that changes nothing and waits for no standby.
    pub(crate) async fn write_wal(&self) -> Result<(), String> {
        const SQL: &str = "BEGIN; SET LOCAL synchronous_commit TO off; \
            SELECT pg_catalog.txid_current(); COMMIT";
        let session = self.session.as_ref().ok_or("PostgreSQL does not answer")?;
        session.execute("a small WAL record", SQL).await.map_err(|e| e.to_string())
    }

    pub(crate) async fn change_slot(&self, step: &SlotStep) -> Result<(), String> {
        let session = self.session.as_ref().ok_or("PostgreSQL does not answer")?;
        let done = match step {
            SlotStep::CreatePhysical { name } => slots::create_physical(session, name).await,
            SlotStep::Drop { name, why: DropWhy::Skips } => slots::take(session, name).await,
            SlotStep::Drop { name, .. } => slots::drop(session, name).await,
            SlotStep::Advance { name, to } => slots::advance(session, name, *to).await,
            other => return Err(format!("this takes longer than a beat: {other}")),
        };
        done.map_err(|error| match slots::is_full(&error) {
            true => format!(
                "{}; all of max_replication_slots are in use: raise it",
                error.with_causes()
            ),
            false => error.with_causes(),
        })
    }
}
