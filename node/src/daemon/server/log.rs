//! Where the own log ends and the histories it is compared with.
//!
//! Invariant: a history is that of the timeline it was asked for; that of the own
//! timeline is read once, for its file does not change.

use super::Server;
use super::ask::HEARTBEAT;
use crate::daemon::local_end;
use crate::daemon::running::timeline_of;
use crate::postgres::{Error, PeerLog, conninfo, history};
use member::NoEnd;
use member::ha::observation::{Following, Postgres, Process};
use standby::rewind::LocalEnd;
use standby::source::{Rank, most_telling};
use std::time::Duration;
use tokio::task::JoinSet;
use topology::{History, Lsn, Seen};

/// pg_controldata and pg_waldump answer in a few hundredths of a second.
const END_MAX: Duration = Duration::from_secs(2);

impl Server {
    /// The end of the own log, with all that a comparison needs. `Unclear`: it
    /// cannot be read, and asking again gives the same.
    /// `whole`: of a running standby also what is not replayed yet.
    pub(crate) async fn local_end(&self, seen: &Postgres, whole: bool) -> Result<LocalEnd, NoEnd> {
        match &seen.process {
            Process::Stopped(Seen::Known(shutdown_state)) => {
                local_end::at_rest(&self.instance, shutdown_state).await
            }
            Process::Running(server) => {
                if !whole {
                    return local_end::running(&self.instance, server).await;
                }
                let replayed = self.monitor.as_ref().and_then(|monitor| monitor.status.replay);
                let unknown = || NoEnd::NotNow("the replayed position is not known".into());
                local_end::whole(&self.instance, replayed.ok_or_else(unknown)?, END_MAX).await
            }
            Process::Starting { as_primary: false, .. } => {
                local_end::starting(&self.instance).await
            }
            _ => Err(NoEnd::NotNow("the end of the own log is not known".into())),
        }
    }

    /// The end that is published for a log whose end no standby has received. The lock is
    /// released after this call: a disk that hangs must not delay the release.
    pub(crate) async fn end_without_checkpoint(&self, checkpoint: Lsn) -> Lsn {
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
    pub(crate) fn own_history(&mut self) -> Option<History> {
        let timeline = timeline_of(self.monitor.as_ref()?)?;
        if self.history.as_ref().is_none_or(|known| known.current != timeline) {
            let data_dir = &self.settings.postgresql.data_dir;
            self.history = local_end::own_history(data_dir, timeline);
        }
        self.history.clone()
    }

    /// What the server at that address says, which must be a primary or stream from one.
    /// Asked as a standby would ask; where that is refused and pg_rewind is in use, as its
    /// user. Of several servers the one that counts (`most_telling`).
    pub(crate) async fn remote_log(
        &self,
        from: &Following,
        slot: Option<&str>,
        may_rewind: bool,
    ) -> Result<PeerLog, String> {
        let mut asked = JoinSet::new();
        for (host, port) in conninfo::servers(&from.host, from.port) {
            let (instance, slot) = (self.instance.clone(), slot.map(str::to_string));
            asked.spawn(async move { instance.peer_log(&host, port, slot.as_deref()).await });
        }
        let (mut logs, mut refusals) = (Vec::new(), Vec::new());
        for answer in asked.join_all().await {
            match answer {
                Ok(log) => logs.push(log),
                Err(error) => refusals.push(error.with_causes()),
            }
        }
        let ranked = logs.into_iter().map(|log| (rank(&log), log));
        if let Some(log) = most_telling(ranked) {
            return Ok(log);
        }
        let refused = refusals.join("; ");
        match may_rewind {
            true => self.log_for_rewind(from).await.map_err(|why| {
                format!("{refused}; and as the user of pg_rewind: {}", why.with_causes())
            }),
            false => Err(refused),
        }
    }

    async fn log_for_rewind(&self, from: &Following) -> Result<PeerLog, Error> {
        let login = self.instance.rewind_login().await?;
        let session = self.instance.peer(&from.host, from.port, login, HEARTBEAT).await?;
        let in_recovery = Some(session.is_in_recovery().await?);
        let timeline = history::remote_timeline(&session).await?;
        let history = history::remote(&session, timeline).await?;
        Ok(PeerLog { history, in_recovery, has_slot: None })
    }
}

fn rank(log: &PeerLog) -> Rank {
    Rank { is_primary: log.in_recovery == Some(false), timeline: log.history.current }
}
