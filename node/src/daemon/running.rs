//! What an answer of the monitoring query means for a beat. Pure.
//!
//! Timeline: a primary's own; a standby's newest of what its receiver, its
//! control file and its log name, for none of them alone is always up to date.

use crate::postgres::conninfo;
use crate::postgres::monitor::{Monitor, Walsender};
use member::ha::observation::{Following, Server, ServerRole};
use standby::sync::{Replication, Sender, SyncRank};
use topology::{Lsn, MemberName, Seen, Timeline};

pub(super) fn seen_server(monitor: &Monitor, names_act: bool) -> Server {
    let role = if monitor.status.in_recovery {
        ServerRole::Standby {
            follows: following(monitor).map(Box::new),
            streaming: monitor.status.is_streaming(),
        }
    } else {
        ServerRole::Primary
    };
    let lsn = monitor.status.position().unwrap_or(Lsn(0));
    let timeline = timeline_of(monitor);
    // Before PostgreSQL 14 a standby that lacks something ends instead.
    let replay_paused = monitor.status.replay_paused && monitor.status.server_version >= 140_000;
    Server {
        role: Seen::Known(role),
        timeline,
        lsn,
        replay_paused,
        restart_due: None,
        replication: Some(replication(monitor, names_act)),
    }
}

pub(super) fn timeline_of(monitor: &Monitor) -> Option<Timeline> {
    match monitor.status.in_recovery {
        true => monitor.receiver_timeline.max(monitor.status.timeline),
        false => monitor.status.timeline,
    }
}

/// Who streams from it, for a primary's synchronous modes.
fn replication(monitor: &Monitor, is_acting: bool) -> Replication {
    Replication {
        lsn: monitor.status.position().unwrap_or(Lsn(0)),
        names: monitor.synchronous_standby_names.clone(),
        is_acting,
        commit: monitor.synchronous_commit.clone(),
        senders: monitor.status.replication.iter().map(sender).collect(),
    }
}

fn sender(seen: &Walsender) -> Sender {
    Sender {
        name: MemberName::new(&seen.application_name),
        streaming: seen.state.as_deref() == Some("streaming"),
        sync: match seen.sync_state.as_deref() {
            Some("sync") => SyncRank::Sync,
            Some("quorum") => SyncRank::Quorum,
            Some("potential") => SyncRank::Potential,
            _ => SyncRank::Async,
        },
        write: seen.write_lsn,
        flush: seen.flush_lsn,
        replay: seen.replay_lsn,
    }
}

/// The upstream server that the settings of a standby name.
pub(super) fn following(monitor: &Monitor) -> Option<Following> {
    let words = conninfo::parse(monitor.primary_conninfo.as_deref()?)?;
    let word = |key: &str| words.iter().find(|(k, _)| k == key).map(|(_, v)| v.clone());
    let (host, port) = conninfo::from_words(&word("host")?, word("port").as_deref());
    Some(Following {
        host,
        port,
        slot: monitor.primary_slot_name.clone().filter(|s| !s.is_empty()),
        database: word("dbname"),
        member: topology::MemberName::new(""),
    })
}
