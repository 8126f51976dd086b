//! All that a daemon needs before its first beat: the copy of the store, the REST
//! API, the guard thread, the region agent.
//!
//! Invariant: nothing is decided here, and PostgreSQL is left as it is found; only
//! what an earlier daemon left at work beside it is ended.

use crate::api;
use crate::api::published::{ApiContext, Command, Published};
use crate::config::Settings;
use crate::daemon::failsafe::FailsafeState;
use crate::daemon::server::Server;
use crate::daemon::{Daemon, Decisions};
use crate::dcs::Store;
use crate::dcs::counted::Writes;
use crate::dcs::keys::Keys;
use crate::dcs::mirror::Mirror;
use crate::deadman::Deadman;
use crate::peers::Peers;
use crate::postgres::region_memory;
use crate::{clock, promises, region};
use anyhow::Context;
use member::Member;
use serde_json::Value;
use std::sync::Arc;
use tokio::sync::{mpsc, watch};
use topology::Dynamic;

const COMMANDS_MAX: usize = 64;

fn unborn(settings: &Settings, dynamic: &Dynamic, writes: &Arc<Writes>) -> Published {
    Published {
        name: settings.name.clone(),
        scope: settings.scope.clone(),
        state: topology::MemberState::Stopped,
        role: topology::MemberRole::Uninitialized,
        running: false,
        lock_until: None,
        monitor: None,
        view: None,
        groups: None,
        config: None,
        dcs_last_seen: 0,
        system_id: None,
        tags: settings.tags.clone(),
        pending_restart: None,
        scheduled_restart: None,
        paused: false,
        loop_wait_ms: dynamic.loop_wait_ms,
        ttl_ms: dynamic.ttl_ms,
        last_beat: clock::now(),
        standby_group: false,
        quarantined: false,
        failsafe_until: None,
        failsafe: None,
        maximum_lag_on_failover: dynamic.maximum_lag_on_failover,
        watchdog_failed: false,
        has_watchdog: false,
        disk_failed: false,
        logical_slots: Default::default(),
        slots: Default::default(),
        reason: None,
        log: Default::default(),
        citus: None,
        writes: writes.clone(),
    }
}

/// With what an earlier process of this member has kept on disk.
fn machine(settings: &Settings, dynamic: Dynamic) -> Member {
    let mut member = Member::new(settings.name.clone(), settings.minimum_ttl(), clock::now());
    member.dynamic = dynamic;
    let kept = promises::read_proof(&settings.postgresql.data_dir, &settings.name);
    member.take_kept_proof(kept, clock::now());
    if let Some(topology) = &settings.topology {
        let kept = region_memory::read(&settings.postgresql, &settings.name);
        member.take_region_memory(kept, &topology.policy.formation);
    }
    member
}

/// The decisions, for the API.
fn shown(decisions: Decisions) -> Arc<dyn Fn() -> Value + Send + Sync> {
    Arc::new(move || {
        let kept = decisions.lock().unwrap_or_else(|e| e.into_inner());
        Value::Array(kept.iter().cloned().collect())
    })
}

impl Daemon {
    pub(super) async fn set_up(
        settings: Arc<Settings>,
        (store, writes): (Arc<dyn Store>, Arc<Writes>),
        keys: Keys,
        mut server: Server,
    ) -> anyhow::Result<(Daemon, mpsc::Receiver<Command>)> {
        let mirror = Arc::new(Mirror::spawn(store.clone(), keys.watched()));
        let changes = mirror.subscribe();
        server.end_leftovers().await;
        let dynamic = server.first_dynamic();
        let settings = Arc::new(settings.with_cluster_wide_at_start(&dynamic.raw).0);
        server.take_settings(settings.clone());
        let (published, published_in) =
            watch::channel(Arc::new(unborn(&settings, &dynamic, &writes)));
        let (commands_out, commands) = mpsc::channel(COMMANDS_MAX);
        let lease_out = watch::Sender::new(None);
        let may_campaign = watch::Sender::new(false);
        let data_dir = &settings.postgresql.data_dir;
        let failsafe = FailsafeState::new(data_dir, &settings.name, dynamic.ttl_ms);
        let decisions = Decisions::default();
        let api = api::serve(ApiContext {
            settings: settings.clone(),
            store: store.clone(),
            mirror: mirror.clone(),
            keys: keys.clone(),
            published: published_in,
            commands: commands_out,
            fresh: Arc::new(server.fresh()),
            failsafe: failsafe.promises.clone(),
            decisions: shown(decisions.clone()),
            now: clock::now,
        });
        let api = api.await.context("the REST API cannot start")?;
        let member = machine(&settings, dynamic);
        let region_memory = watch::Sender::new(member.region_memory().cloned());
        if settings.topology.is_some() {
            region::spawn(region::RegionContext {
                settings: settings.clone(),
                store: store.clone(),
                keys: keys.clone(),
                lease: lease_out.subscribe(),
                holds_lock: may_campaign.subscribe(),
                memory: region_memory.subscribe(),
            });
        }
        let daemon = Daemon {
            peers: Peers::new(&settings)?,
            deadman: Deadman::spawn(server.finder()).context("the guard thread cannot start")?,
            watchdog: crate::watchdog::Watchdog::new(settings.watchdog.clone()),
            settings,
            store,
            keys,
            member,
            mirror,
            changes,
            server,
            background: Default::default(),
            beside: Default::default(),
            slot_work: Default::default(),
            disk: Default::default(),
            slot_warning: Default::default(),
            chores: Default::default(),
            failsafe,
            callbacks: crate::daemon::callback::Callbacks::new(),
            metadata: Default::default(),
            in_doubt: Default::default(),
            decisions,
            published,
            writes,
            lease_out,
            may_campaign,
            region_memory,
            memory_failed: false,
            replies: Vec::new(),
            last_rule: 0,
            heartbeat: Default::default(),
            name_proven: false,
            api: Arc::new(tokio::sync::Mutex::new(api)),
        };
        Ok((daemon, commands))
    }
}
