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
