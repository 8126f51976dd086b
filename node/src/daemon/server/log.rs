//! Where the own log ends and the histories it is compared with.
//!
//! Invariant: a history is that of the timeline it was asked for; that of the own
//! timeline is read once, for its file does not change.

use super::Server;
use super::ask::HEARTBEAT;
use crate::daemon::local_end;
use crate::daemon::running::timeline_of;
use crate::ha::observation::{Following, Postgres, Process};
use crate::member::NoEnd;
use crate::postgres::history;
use standby::rewind::LocalEnd;
use std::time::Duration;
use topology::{History, Lsn, Seen};

/// pg_controldata and pg_waldump answer in a few hundredths of a second.
const END_MAX: Duration = Duration::from_secs(2);

impl Server {
    /// The end of the own log, with all that a comparison needs. `Unclear`: it
    /// cannot be read, and asking again gives the same.
    pub async fn local_end(&self, seen: &Postgres) -> Result<LocalEnd, NoEnd> {
        match &seen.process {
            Process::Stopped(Seen::Known(shutdown_state)) => {
                local_end::at_rest(&self.instance, shutdown_state).await
            }
            Process::Running(server) => local_end::running(&self.instance, server).await,
            Process::Starting { as_primary: false, .. } => {
                local_end::starting(&self.instance).await
            }
            _ => Err(NoEnd::NotNow("the end of the own log is not known".into())),
        }
    }

    /// The end that is published for a log whose end no standby has received. The lock is
    /// released after this call: a disk that hangs must not delay the release.
    pub async fn end_without_checkpoint(&self, checkpoint: Lsn) -> Lsn {
        let asked = self.instance.end_without_checkpoint(checkpoint);
        let why = match tokio::time::timeout(END_MAX, asked).await {
            Ok(Ok(lsn)) => return lsn,
            Ok(Err(error)) => error.to_string(),
            Err(_) => format!("not known within {END_MAX:?}"),
        };
        crate::log::warn(&format!("the record before the shutdown checkpoint: {why}"));
        checkpoint
    }

    /// The history of the timeline that the running server is on. Its file does
    /// not change.
    pub fn own_history(&mut self) -> Option<History> {
        let timeline = timeline_of(self.monitor.as_ref()?)?;
        if self.history.as_ref().is_none_or(|known| known.current != timeline) {
            let data_dir = &self.settings.postgresql.data_dir;
            self.history = local_end::own_history(data_dir, timeline);
        }
        self.history.clone()
    }

    /// The history of the server at that address, which must be a primary or
    /// stream from one. Asked as a standby would ask; where that is refused and
    /// pg_rewind is in use, as its user.
    pub async fn remote_history(
        &self,
        from: &Following,
        may_rewind: bool,
    ) -> Result<History, String> {
        let refused = match self.instance.peer_history(&from.host, from.port).await {
            Ok(history) => return Ok(history),
            Err(error) => error.with_causes(),
        };
        if !may_rewind {
            return Err(refused);
        }
        let asked = async {
            let login = self.instance.rewind_login().await?;
            let session = self.instance.peer(&from.host, from.port, login, HEARTBEAT).await?;
            let timeline = history::remote_timeline(&session).await?;
            history::remote(&session, timeline).await
        };
        let also = |error: crate::postgres::Error| {
            format!("{refused}; and as the user of pg_rewind: {}", error.with_causes())
        };
        asked.await.map_err(also)
    }
}
