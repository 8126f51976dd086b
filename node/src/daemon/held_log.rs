//! WAL that the stop of a standby must not remove.
//!
//! A standby's shutdown writes a restartpoint, which removes the WAL that no slot on this server needs.
//! That may include the WAL at which a logical slot begins that the next start copies here. So the
//! server is told to keep all WAL (`wal_keep_size`) before it stops; after the start the copied slot
//! keeps it.

use super::overrides::{ALL_WAL, WAL_KEEP_SIZE};
use super::work::{HEARTBEAT, ServerJobs, text};
use crate::postgres::{Postmaster, Session};
use std::time::Duration;
use tokio::time::{Instant, sleep, timeout};

/// A server that has not read its files by then is stopped all the same: the copy may be lost,
/// and the next restart for it waits longer.
const LIMIT: Duration = Duration::from_secs(3);
const GLANCE: Duration = Duration::from_millis(20);
const IN_FORCE: &str =
    "SELECT pg_catalog.current_setting('wal_keep_size') = $1::text AS is_in_force";

impl ServerJobs {
    /// The files that the start writes say again what they said before.
    pub(super) async fn hold_log(&self, postmaster: &Postmaster) {
        let held = match timeout(LIMIT, self.keep_all_log(postmaster)).await {
            Ok(held) => held,
            Err(_) => Err(format!("PostgreSQL has not read its files within {LIMIT:?}")),
        };
        if let Err(why) = held {
            tracing::warn!("the stop may remove WAL that copies of logical slots need: {why}");
        }
    }

    async fn keep_all_log(&self, postmaster: &Postmaster) -> Result<(), String> {
        let mut holding = self.clone();
        holding.overrides.push((WAL_KEEP_SIZE.to_string(), ALL_WAL.to_string()));
        holding.rewrite(self.terms.follow.as_ref()).await?;
        postmaster.reload().map_err(text)?;
        // A session that begins later has the settings of the postmaster, which passes them on.
        let until = Instant::now() + LIMIT;
        while !is_in_force(&self.instance.session(HEARTBEAT).await.map_err(text)?).await? {
            if Instant::now() >= until {
                return Err("another value stays in force".to_string());
            }
            sleep(GLANCE).await;
        }
        Ok(())
    }
}

async fn is_in_force(session: &Session) -> Result<bool, String> {
    let row = session.row("wal_keep_size", IN_FORCE, &[&ALL_WAL]).await.map_err(text)?;
    row.try_get(0).map_err(|_| "wal_keep_size is not known".to_string())
}
