//! Where the own log ends, as exactly as it can be known.
//!
//! A stopped server's log is read with pg_waldump; a running standby is asked
//! over the replication protocol, the only way to learn which timeline it
//! replays: a log that has left the history hears of newer ones all the time.

use super::shutdown_state::shutdown_state_of;
use crate::postgres::wal::{self, Place};
use crate::postgres::{Error, Instance, history};
use member::NoEnd;
use member::ha::observation::{End, Server, ShutdownState};
use standby::rewind::{LocalEnd, Tail};
use std::path::Path;
use std::time::Duration;
use topology::{History, Lsn, Timeline};

pub(super) async fn at_rest(
    instance: &Instance,
    shutdown_state: &ShutdownState,
) -> Result<LocalEnd, NoEnd> {
    let control = instance.control().await.map_err(|e| NoEnd::NotNow(e.to_string()))?;
    let place = Place {
        timeline: shutdown_state.timeline,
        lsn: shutdown_state.lsn,
        segment_bytes: control.wal_segment_bytes,
    };
    let (lsn, tail) = match shutdown_state.end {
        End::Clean => {
            (shutdown_state.lsn, Tail::Closed { end: end_of_clean(instance, place).await })
        }
        End::Standby | End::Half => (shutdown_state.lsn, Tail::Open),
        // From the last checkpoint's begin, or from where a promotion left the
        // log, whose new timeline has no earlier segments.
        End::Crashed => {
            let promoted = control.min_recovery_timeline > control.timeline;
            let lsn = if promoted { control.min_recovery } else { control.redo };
            let place = Place { lsn, ..place };
            let end = wal::log_end(&instance.settings, place).await;
            (end.map_err(|e| NoEnd::Unreadable(e.to_string()))?, Tail::Open)
        }
    };
    Ok(found(instance, shutdown_state.timeline, lsn, tail))
}

/// Of a standby that takes no connections yet: it must replay at least as far as its
/// control file says.
pub(super) async fn starting(instance: &Instance) -> Result<LocalEnd, NoEnd> {
    let control = instance.control().await.map_err(|e| NoEnd::NotNow(e.to_string()))?;
    let shutdown_state = shutdown_state_of(&control, &instance.settings.data_dir);
    match shutdown_state.end {
        End::Standby => {
            Ok(found(instance, shutdown_state.timeline, shutdown_state.lsn, Tail::Open))
        }
        End::Clean | End::Crashed | End::Half => {
            Err(NoEnd::NotNow("the end of a log in recovery is not known".into()))
        }
    }
}

async fn end_of_clean(instance: &Instance, place: Place) -> Option<Lsn> {
    match wal::checkpoint_end(&instance.settings, place).await {
        Ok(end) => Some(end),
        Err(error) => {
            crate::log::warn(&format!(
                "the end of the shutdown checkpoint cannot be read: {error}"
            ));
            None
        }
    }
}

pub(super) async fn running(instance: &Instance, server: &Server) -> Result<LocalEnd, NoEnd> {
    let (timeline, lsn) = match instance.replay_point().await {
        Ok(point) => point,
        Err(error) => guess(server, &error)?,
    };
    Ok(found(instance, timeline, lsn, Tail::Open))
}

/// All that a running standby has on the timeline that it replays: what is `replayed`, and
/// whole records behind it. They are replayed before it streams, and count as confirmed then.
/// Half a record does not: no walreceiver begins behind it.
pub(super) async fn whole(
    instance: &Instance,
    replayed: Lsn,
    limit: Duration,
) -> Result<LocalEnd, NoEnd> {
    let not_now = |error: Error| NoEnd::NotNow(format!("the end of the own log: {error}"));
    let (timeline, _) = instance.replay_point().await.map_err(not_now)?;
    let control = instance.control().await.map_err(not_now)?;
    let place = Place { timeline, lsn: replayed, segment_bytes: control.wal_segment_bytes };
    let asked = tokio::time::timeout(limit, wal::end_ahead(&instance.settings, place)).await;
    let silent = |_| NoEnd::NotNow(format!("the end of the own log: not read within {limit:?}"));
    let end = asked.map_err(silent)?.map_err(not_now)?;
    Ok(found(instance, timeline, end.max(replayed), Tail::Open))
}

/// Without a free walsender: what the statistics say.
fn guess(server: &Server, error: &Error) -> Result<(Timeline, Lsn), NoEnd> {
    tracing::debug!("the replayed timeline is guessed: {error}");
    let timeline = server.timeline.ok_or_else(|| NoEnd::NotNow(error.to_string()))?;
    Ok((timeline, server.lsn))
}

fn found(instance: &Instance, timeline: Timeline, lsn: Lsn, tail: Tail) -> LocalEnd {
    let history = own_history(&instance.settings.data_dir, timeline);
    LocalEnd { timeline, lsn, tail, history }
}

/// The history of a timeline as it lies here. A file without a line only keeps
/// a number from being taken, and tells nothing.
pub(super) fn own_history(data_dir: &Path, timeline: Timeline) -> Option<History> {
    let read = history::local(data_dir, timeline).ok()?;
    (timeline.0 <= 1 || !read.forks.is_empty()).then_some(read)
}
