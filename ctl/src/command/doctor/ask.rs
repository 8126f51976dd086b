//! Asks the store, every member and, where a superuser is configured, every server.
//!
//! A member that does not answer the first question is not asked the others: each has its
//! deadline, and a dead machine would take all of them.

use super::seen::{Clock, Seen, Told};
use crate::command::region;
use crate::command::reload::call;
use crate::rest::QUICK;
use crate::sql::{self, Place};
use crate::world::{Chosen, World};
use anyhow::Result;
use node::api::slots::SlotReport;
use node::config::Login;
use reqwest::Method;
use serde_json::Value;
use std::collections::BTreeMap;
use std::time::{Duration, Instant};

/// Reads of the store that are timed.
pub(super) const READS: usize = 5;
/// For a server's connection and its answer.
const SQL_WAIT_MAX: Duration = Duration::from_secs(10);
/// Those that should be the same on all members of a group.
const SETTINGS: &str = "SELECT name, setting FROM pg_catalog.pg_settings WHERE name IN (\
    'max_connections', 'max_worker_processes', 'max_wal_senders', 'max_prepared_transactions', \
    'max_locks_per_transaction', 'max_replication_slots', 'wal_level', 'wal_log_hints', \
    'data_checksums', 'track_commit_timestamp', 'archive_mode', 'shared_preload_libraries', \
    'max_slot_wal_keep_size', 'wal_segment_size', 'server_encoding')";

pub(super) async fn look(world: &mut World, scope: &str, group: Option<u32>) -> Result<Seen> {
    let mut slowest = Duration::ZERO;
    let mut cluster = None;
    for _ in 0..READS {
        let began = Instant::now();
        cluster = Some(world.read(scope, group).await?);
        slowest = slowest.max(began.elapsed());
    }
    let cluster = cluster.expect("it is read at least once");
    let mut members = Vec::new();
    for member in cluster.members() {
        members.push(ask(world, member).await);
    }
    let formation = match group {
        // The graph of one group would miss the others.
        Some(_) => Vec::new(),
        None => region::findings(world, scope).await?,
    };
    let store = &world.settings.store;
    let store_servers = (store.srv.is_none() && !store.use_proxies).then_some(store.hosts.len());
    let store_ms = u64::try_from(slowest.as_millis()).unwrap_or(u64::MAX);
    Ok(Seen { groups: cluster.groups, members, formation, store_ms, store_servers })
}

async fn ask(world: &World, member: Chosen) -> Told {
    let (status, date_s, clock) = status(world, &member).await;
    let answers = status.is_ok();
    Told {
        slots: if answers { slots(world, &member).await } else { None },
        watchdog: if answers { watchdog(world, &member).await } else { None },
        config: if answers { json(world, &member, "config").await } else { None },
        settings: match &world.settings.superuser {
            Some(login) => settings(&member, login).await,
            None => None,
        },
        member,
        status,
        date_s,
        clock,
    }
}

type Status = (Result<Value, String>, Option<u64>, Option<Clock>);

async fn status(world: &World, member: &Chosen) -> Status {
    let Some(url) = &member.record.api_url else {
        return (Err("it has published no API".into()), None, None);
    };
    match world.rest.timed(url, "patroni", QUICK).await {
        Err(silence) => (Err(silence.to_string()), None, None),
        Ok(timed) => {
            let clock = timed.date_ms.map(|at| Clock::of(at, timed.sent_ms, timed.got_ms));
            let date_s = timed.date_ms.and_then(|at| u64::try_from(at / 1000).ok());
            let status = match timed.reply.json() {
                status @ Value::Object(_) => Ok(status),
                _ => Err(format!("its answer makes no sense: {}", timed.reply.status)),
            };
            (status, date_s, clock)
        }
    }
}

async fn json(world: &World, member: &Chosen, endpoint: &str) -> Option<Value> {
    let reply = call(world, member, Method::GET, endpoint, None, QUICK).await.ok()?;
    (reply.status == 200).then(|| reply.json()).filter(Value::is_object)
}

/// From the metrics: only our daemon has this one.
async fn watchdog(world: &World, member: &Chosen) -> Option<bool> {
    let reply = call(world, member, Method::GET, "metrics", None, QUICK).await.ok()?;
    let line = reply.text.lines().find(|line| line.starts_with("matriarch_watchdog_usable{"))?;
    Some(line.rsplit(' ').next()? == "1")
}

async fn slots(world: &World, member: &Chosen) -> Option<Vec<SlotReport>> {
    serde_json::from_value(json(world, member, "slots").await?.get("slots")?.clone()).ok()
}

async fn settings(member: &Chosen, login: &Login) -> Option<BTreeMap<String, String>> {
    let (host, port) = member.record.address()?;
    let database = member.record.database().unwrap_or_else(|| "postgres".into());
    let asked = async {
        let session = sql::connect(&Place { host, port, database }, login, "").await.ok()?;
        let rows = session.rows("settings", SETTINGS, &[]).await.ok()?;
        rows.iter().map(|row| Some((row.try_get(0).ok()?, row.try_get(1).ok()?))).collect()
    };
    tokio::time::timeout(SQL_WAIT_MAX, asked).await.ok()?
}
