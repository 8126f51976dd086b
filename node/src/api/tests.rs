//! Tests of the API as a whole, and the material they are made from.

mod bodies;
mod endpoints;
mod failsafe;
mod formation;
mod health_table;
mod live;
mod member;
mod moves;
mod moves_in_sync;
mod reload;
mod resets;
mod slow_callers;
mod store_copy;
mod tls;

use super::published::{Published, ServerStatus};
use crate::config::{RestApi, Secret, Settings};
use crate::made_up::TakeSample;
use serde_json::{Value, json};
use std::sync::Arc;
use topology::{GroupView, Lsn, MemberRole, MemberState, Millis, SystemId, Tags, Timeline};

pub(crate) const NOW: Millis = Millis(100_000);
pub(crate) const TTL_MS: u64 = 30_000;

/// A group of three, led by n1.
pub(crate) fn view() -> GroupView {
    let mut view = GroupView::default();
    view.take_sample("leader", "n1", 1, 1);
    view.take_sample("status", r#"{"optime":67108960}"#, 1, 0);
    for (name, port) in [("n1", 8008), ("n2", 8009), ("n3", 8010)] {
        let record = json!({"api_url": format!("http://127.0.0.1:{port}/patroni"),
            "conn_url": "postgres://127.0.0.1:5361/postgres", "state": "running"});
        view.take_sample(&format!("members/{name}"), &record.to_string(), 1, 1);
    }
    view
}

pub(crate) fn published(name: &str) -> Published {
    let leads = name == "n1";
    Published {
        name: name.into(),
        scope: "golden".to_string(),
        state: MemberState::Running,
        role: if leads { MemberRole::Primary } else { MemberRole::Replica },
        running: true,
        lock_until: leads.then_some(NOW + TTL_MS),
        monitor: None,
        view: Some(Arc::new(view())),
        groups: None,
        config: Some(Arc::new(json!({"ttl": 30}))),
        dcs_last_seen: 1795208971,
        watchdog_failed: false,
        has_watchdog: false,
        citus: None,
        writes: Default::default(),
        disk_failed: false,
        logical_slots: Default::default(),
        slots: Default::default(),
        reason: None,
        system_id: SystemId::parse("7710375988543033523"),
        tags: Tags::default(),
        pending_restart: None,
        scheduled_restart: None,
        paused: false,
        loop_wait_ms: 10_000,
        ttl_ms: TTL_MS,
        last_beat: NOW - 5_000,
        standby_group: false,
        quarantined: false,
        failsafe_until: None,
        failsafe: None,
        maximum_lag_on_failover: 1 << 20,
        log: Default::default(),
    }
}

pub(crate) fn tags(value: Value) -> Tags {
    Tags(value.as_object().cloned().unwrap_or_default())
}

pub(crate) fn primary() -> ServerStatus {
    ServerStatus {
        in_recovery: false,
        timeline: Some(Timeline(1)),
        flushed: Some(Lsn(67108960)),
        receive: None,
        replay: None,
        replay_paused: false,
        replayed_at: None,
        replay_age_ms: None,
        receiver_state: None,
        latest_end: None,
        postmaster_start_time: "2026-11-20 21:56:45.432680+00:00".to_string(),
        server_version: 150018,
        replication: Vec::new(),
    }
}

pub(crate) fn standby() -> ServerStatus {
    ServerStatus {
        in_recovery: true,
        postmaster_start_time: "2026-11-20 21:56:50.690293+00:00".to_string(),
        flushed: None,
        receive: Some(Lsn(67108960)),
        replay: Some(Lsn(67108960)),
        receiver_state: Some("streaming".to_string()),
        ..primary()
    }
}

/// Settings of a member whose API listens on a free port of this machine.
pub(crate) fn settings(restapi: RestApi) -> Settings {
    Settings {
        scope: "golden".to_string(),
        namespace: "/service/".to_string(),
        name: "n1".into(),
        log: Default::default(),
        restapi: RestApi { listen_host: "127.0.0.1".to_string(), listen_port: 0, ..restapi },
        ctl: Default::default(),
        store: Default::default(),
        bootstrap: None,
        postgresql: Default::default(),
        watchdog: Default::default(),
        tags: Tags::default(),
        citus: None,
        topology: None,
        raw: Value::Null,
    }
}

pub(crate) fn login() -> crate::config::Credentials {
    crate::config::Credentials { username: "u".to_string(), password: Secret("p".to_string()) }
}
