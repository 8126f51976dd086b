//! Putting one observation together.

use super::Daemon;
use crate::clock;
use crate::config::{ReplicaMethods, Settings};
use crate::dcs::keys::split_groups;
use crate::ha::facts::Facts;
use crate::ha::observation::{
    DataDir, Disk, Guarding, Job, Lock, Me, Postgres, Process, Rewind, Running, ServerRole,
};
use crate::ha::{Action, Observation, Outcome};
use crate::observe::lock;
use standby::switch::ownership::{Order, Ownership, order, ownership, without_region};
use std::collections::BTreeMap;
use std::sync::Arc;
use topology::{Group, GroupView, MemberRole, Seen};

/// What an action that took longer saw of the server is old.
const STALE_MS: u64 = 200;
/// From here on it is looked at who holds up a stop; most are over before.
const STOPS_LONG_MS: u64 = 500;

/// What the local copy of the store says, split by its readers.
pub(super) struct StoreView {
    pub group: Seen<GroupView>,
    pub groups: BTreeMap<Group, GroupView>,
    pub ownership: Ownership,
    pub order: Option<Order>,
    pub closed_workers: Vec<Group>,
}

impl Daemon {
    pub(super) async fn look(&mut self) -> Observation {
        self.reap();
        self.server.is_at_work = self.background.running().is_some();
        let postgres = self.server.look(clock::now()).await;
        let disk = self.look_at_disk(&postgres).await;
        let store = self.look_at_store();
        let mut seen = Observation {
            now: clock::now(),
            me: self.me(),
            lock: Lock::Unknown,
            store: store.group,
            postgres,
            job: self.running(),
            peers: None,
            ownership: store.ownership,
            watchdog: Guarding::Unwanted,
            disk,
            order: store.order,
            closed_workers: store.closed_workers,
            dynamic: self.dynamic.clone(),
            failsafe: Default::default(),
            history: self.server.own_history(),
            memory: self.memory.clone(),
        };
        self.chores.groups = store.groups;
        self.settle(&mut seen);
        seen
    }

    /// While an action of ours fills or empties the directory it may be full.
    async fn look_at_disk(&mut self, postgres: &Postgres) -> Disk {
        let at_rest = !matches!(postgres.process, Process::Running(_));
        let data_dir = &self.settings.postgresql.data_dir;
        if !matches!(postgres.data, DataDir::Valid { .. }) {
            self.disk = Default::default();
            return Disk::Well;
        }
        if self.background.running().is_some_and(|running| running.job.writes_the_data()) {
            return self.disk.known();
        }
        let failed = self.disk.again_ms() != u64::MAX;
        let disk = self.disk.look(data_dir, at_rest, clock::now()).await;
        if failed && disk == Disk::Well {
            // What failed for want of room need not wait for its next turn.
            self.memory.failed = None;
        }
        disk
    }

    /// After an action only what it may have changed is looked at.
    pub(super) async fn look_after(
        &mut self,
        mut seen: Observation,
        action: &Action,
        outcome: &Outcome,
    ) -> Observation {
        self.memory.fold(action, outcome, clock::now());
        if *action == Action::AskPeers {
            let empty = GroupView::default();
            let only = Facts::of(&seen).only_answer_that_counts();
            seen.peers = Some(self.ask_peers(seen.view().unwrap_or(&empty), only).await);
        } else {
            let store = self.look_at_store();
            seen.store = store.group;
            seen.ownership = store.ownership;
            seen.order = store.order;
            seen.closed_workers = store.closed_workers;
        }
        let slow = clock::now().since(seen.now) > STALE_MS;
        if slow || changes_server(action) {
            seen.postgres = self.server.look(clock::now()).await;
        }
        self.reap();
        seen.now = clock::now();
        seen.job = self.running();
        self.settle(&mut seen);
        seen
    }

    /// What follows from the rest, and what is remembered of it.
    fn settle(&mut self, seen: &mut Observation) {
        self.take_dynamic(seen.view());
        seen.dynamic = self.dynamic.clone();
        self.make_due(seen);
        self.apply_failsafe(seen);
        self.chores.ownership = Some(seen.ownership.clone());
        seen.lock = lock::read(&self.settings.name, &seen.store, &self.lease, self.held, seen.now);
        self.held = lock::is_relied_on(&seen.lock);
        seen.watchdog = self.watchdog.state(&self.dynamic, seen.now);
        self.update_proof(seen);
        self.forget_what_is_over(seen);
        self.apply_restart_plan(seen);
        seen.memory = self.memory.clone();
    }

    /// The cluster-wide configuration, if it can be read; else the one before
    /// stays. What is wrong with it is told once.
    fn take_dynamic(&mut self, view: Option<&GroupView>) {
        let Some(view) = view else { return };
        let broken = view.unreadable.iter().find(|(key, _)| key == "config");
        let broken = broken.map(|(_, why)| why.clone());
        if let Some(why) = broken.as_ref().filter(|_| self.chores.broken_config != broken) {
            tracing::error!("the configuration is kept as it was: {why}");
        }
        self.chores.broken_config = broken;
        let Some(config) = &view.config else { return };
        let wanted = config.value.with_minimum_ttl(self.settings.minimum_ttl());
        if self.dynamic != wanted {
            for bad in &config.value.ignored {
                tracing::warn!("{bad}; its default is used");
            }
            self.dynamic = wanted;
            let settings = Arc::new(self.with_cluster_wide(&self.settings));
            if settings.postgresql != self.settings.postgresql {
                self.settings = settings.clone();
                self.server.take_settings(settings);
            }
        }
    }

    /// The member's own settings, completed by what `/config` says.
    pub(super) fn with_cluster_wide(&self, own: &Settings) -> Settings {
        let (settings, warnings) = own.with_cluster_wide(&self.dynamic.raw);
        for warning in warnings {
            tracing::warn!("{warning}");
        }
        settings
    }

    fn forget_what_is_over(&mut self, seen: &Observation) {
        let upstream_streams = seen.is_streaming() || !seen.is_standby();
        match (upstream_streams, self.memory.quiet_since) {
            (true, _) => self.memory.quiet_since = None,
            (false, None) => self.memory.quiet_since = Some(seen.now),
            (false, Some(_)) => {}
        }
        self.memory.update_from(seen);
        self.answer_what_was_dropped();
        self.apply_end_of_pause();
        if seen.is_primary() {
            self.memory.promoting = None;
            self.memory.forget_comparison();
            self.memory.signed = None;
        }
        if seen.is_stopped() {
            self.memory.promoting = None;
        }
        if !seen.holds_lock() {
            self.memory.won_in_pause = false;
        }
    }

    /// By hand anything may have been changed.
    fn apply_end_of_pause(&mut self) {
        let ends = self.was_paused && !self.dynamic.pause;
        self.was_paused = self.dynamic.pause;
        if ends {
            tracing::info!("the pause is over: everything is looked at anew");
            self.server.look_anew();
            self.chores.applied = None;
            self.memory.forget_comparison();
        }
    }

    fn running(&self) -> Option<Running> {
        let mut running = self.background.running().cloned()?;
        if matches!(running.job, Job::Stop { .. }) {
            running.closed = self.server.closed();
        }
        let ends = matches!(running.job, Job::Stop { .. } | Job::Restart { .. });
        if ends && clock::now().since(running.since) >= STOPS_LONG_MS {
            running.ending = self.server.ending();
        }
        Some(running)
    }

    fn reap(&mut self) {
        let Some((job, result)) = self.background.reap() else { return };
        match &result {
            Ok(()) => tracing::info!("done: {}", job.title()),
            Err(why) => tracing::error!("failed: {}: {why}", job.title()),
        }
        self.memory.finish(&job, &result, clock::now());
        self.chores.job_ended(&job);
        if job.writes_the_data() {
            self.server.own_work_ended();
        }
        if result.is_ok() {
            self.expect_callback(&job);
        }
        self.answer_restart(&job, &result);
    }

    fn me(&self) -> Me {
        let pg = &self.settings.postgresql;
        let dynamic_flag = |key: &str| {
            let value = self.dynamic.raw.get("postgresql").and_then(|p| p.get(key));
            value.and_then(topology::tags::parse_bool)
        };
        let either =
            |local: Option<bool>, key: &str| local.or_else(|| dynamic_flag(key)).unwrap_or(false);
        Me {
            name: self.settings.name.clone(),
            group: self.settings.group(),
            tags: self.settings.tags.clone(),
            may_initialise: self.settings.bootstrap.is_some(),
            may_restore: !ReplicaMethods::read(&self.settings.raw, &self.dynamic.raw)
                .without_source()
                .is_empty(),
            has_gate: pg.pre_promote.is_some(),
            rewind: match either(pg.use_pg_rewind, "use_pg_rewind") {
                true => self.server.rewind_ability(),
                false => Rewind::Off,
            },
            may_rebuild_diverged: either(
                pg.remove_data_directory_on_diverged_timelines,
                "remove_data_directory_on_diverged_timelines",
            ),
            may_rebuild_failed: either(
                pg.remove_data_directory_on_rewind_failure,
                "remove_data_directory_on_rewind_failure",
            ),
        }
    }

    pub(super) fn look_at_store(&mut self) -> StoreView {
        let local = self.mirror.snapshot();
        let entries = local.as_ref().map_or(&[][..], |view| &view.snapshot.entries);
        let mut groups = split_groups(&self.keys.scope_prefix(), entries);
        let group = self.settings.group();
        let own = groups.get(&group).cloned().unwrap_or_default();
        groups.entry(group).or_default();
        let (ownership, order) = self.look_at_topology(entries);
        let closed_workers = closed(&groups, &ownership);
        // A member name that another daemon may use must not be used.
        let known = self.name_proven && local.as_ref().is_some_and(|view| !view.lost);
        StoreView {
            group: if known { Seen::Known(own) } else { Seen::Unknown },
            groups,
            ownership,
            order,
            closed_workers,
        }
    }

    fn look_at_topology(&mut self, entries: &[crate::dcs::KeyValue]) -> (Ownership, Option<Order>) {
        let local = crate::region::ownership::read(&self.keys, entries);
        let Some(topology) = &self.settings.topology else {
            return (without_region(&local), None);
        };
        let group = self.settings.group();
        let owner = ownership(&local, &topology.region, group, self.epoch);
        if let Ownership::Owner { epoch, .. } = &owner {
            self.epoch = self.epoch.max(Some(*epoch));
        }
        let order = order(&local, &topology.region, group);
        self.chores.local_topology = local;
        (owner, order)
    }
}

fn changes_server(action: &Action) -> bool {
    matches!(
        action,
        Action::Promote
            | Action::Follow(_)
            | Action::ResumeReplay
            | Action::NameSync(_)
            | Action::WriteWal
    )
}

/// Worker groups whose leader is not open for writes yet.
fn closed(groups: &BTreeMap<Group, GroupView>, ownership: &Ownership) -> Vec<Group> {
    if !matches!(ownership, Ownership::Owner { opening: true, .. }) {
        return Vec::new();
    }
    let is_open = |view: &GroupView| {
        view.leader_record().is_some_and(|r| r.role == MemberRole::Primary && r.is_running())
    };
    let workers = groups.iter().filter(|(g, _)| g.0.is_some_and(|n| n > 0));
    workers.filter(|(_, view)| !is_open(view)).map(|(g, _)| *g).collect()
}

/// The role a running server has, when it is known.
pub(super) fn role_of(seen: &Observation) -> Option<&ServerRole> {
    match &seen.postgres.process {
        Process::Running(server) => server.role.known(),
        _ => None,
    }
}
