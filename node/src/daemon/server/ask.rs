//! The daemon's own connection: the monitoring question, and the few commands that
//! need no job.
//!
//! Invariant: a connection that broke is made anew once per question; there is no
//! other retry here, the next beat asks again.

use super::Server;
use crate::postgres::monitor::{self, Monitor};
use crate::postgres::{Error, Session, slots};
use standby::slots::SlotStep;

/// The application name of the daemon's connection, which the field knows.
pub(super) const HEARTBEAT: &str = "Patroni heartbeat";

/// How often a setting is asked for that is about to change.
const SETTING_PACE: std::time::Duration = std::time::Duration::from_millis(10);

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

    pub async fn resume_replay(&self) -> Result<(), String> {
        let session = self.session.as_ref().ok_or("PostgreSQL does not answer")?;
        let done = session.execute("resume replay", "SELECT pg_wal_replay_resume()").await;
        done.map_err(|e| e.to_string())
    }

    /// Returns when the setting has this value in the daemon's own session, which
    /// reads the files when any other does.
    pub async fn has_in_force(&self, name: &str, value: &str) -> Result<(), String> {
        const SQL: &str = "SELECT pg_catalog.current_setting($1)";
        let session = self.session.as_ref().ok_or("PostgreSQL does not answer")?;
        loop {
            let row = session.row("setting", SQL, &[&name]).await.map_err(|e| e.to_string())?;
            if row.try_get::<_, String>(0).is_ok_and(|found| found == value) {
                return Ok(());
            }
            tokio::time::sleep(SETTING_PACE).await;
        }
    }

    /// A transaction that changes nothing and waits for nobody.
    pub async fn write_wal(&self) -> Result<(), String> {
        const SQL: &str = "BEGIN; SET LOCAL synchronous_commit TO off; \
            SELECT pg_catalog.txid_current(); COMMIT";
        let session = self.session.as_ref().ok_or("PostgreSQL does not answer")?;
        session.execute("a small WAL record", SQL).await.map_err(|e| e.to_string())
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
}
