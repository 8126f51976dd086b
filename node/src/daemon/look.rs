//! Looking at the world for the machine.

use super::Daemon;
use crate::clock;
use crate::config::{ReplicaMethods, Settings};
use crate::dcs::keys::split_groups;
use crate::postgres::region_memory;
use member::ha::observation::{Disk, Job, Me, Postgres, Process, Rewind, Running};
use member::{DiskProbe, Look, RestartSight, Sight, StoreSight, closed_workers, is_slow_stop};
use standby::switch::ownership::{Order, Ownership, without_region};
use std::sync::Arc;
use topology::Seen;
use topology::acceptor::Acceptor;

impl Daemon {
    /// Looks at the world; what it means is decided in the machine.
    pub(super) async fn look(&mut self, look: Look) -> Sight {
        let ended = self.reap();
        self.server.is_at_work = self.background.running().is_some();
        let (store, server) = match look {
            Look::All => (true, true),
            Look::Again { store, server } => (store, server),
        };
        let postgres = if server { Some(self.server.look(clock::now()).await) } else { None };
        let disk = match &postgres {
            Some(postgres) if look == Look::All => Some(self.look_at_disk(postgres).await),
            _ => None,
        };
        let store = store.then(|| self.look_at_store());
        if let Some(view) = store.as_ref().and_then(|store| store.group.known()) {
            self.member.update_dynamic(view);
            self.carry_out_local();
        }
        Sight {
            unix_ms: clock::unix_ms(),
            me: self.me(),
            store,
            postgres,
            disk,
            job: self.running(),
            ended,
            watchdog: self.watchdog.state(&self.member.dynamic, clock::now()),
            history: self.server.own_history(),
            restart: self.restart_sight(),
        }
    }

    fn restart_sight(&self) -> RestartSight {
        let status = self.server.status();
        RestartSight {
            started: status.map(|status| status.postmaster_start_time.clone()),
            version: status.map(|status| status.server_version),
            is_pending: self.server.pending_restart().is_some(),
        }
    }

    async fn look_at_disk(&mut self, postgres: &Postgres) -> Disk {
        let running = self.background.running().map(|running| &running.job);
        let now = clock::now();
        match self.member.disk.probe(postgres, running, now) {
            DiskProbe::Forget => self.disk = Default::default(),
            DiskProbe::KeepKnown => {}
            DiskProbe::Now => {
                let at_rest = !matches!(postgres.process, Process::Running(_));
                let data_dir = &self.settings.postgresql.data_dir;
                if let Some(answer) = self.disk.try_file(data_dir, at_rest).await {
                    self.member.disk_answered(answer, now);
                }
            }
        }
        self.member.disk.known().clone()
    }

    /// The configuration of the cluster has changed.
    pub(super) fn config_changed(&mut self, ignored: &[String]) {
        for bad in ignored {
            tracing::warn!("{bad}; its default is used");
        }
        let settings = Arc::new(self.with_cluster_wide(&self.settings));
        if settings.postgresql != self.settings.postgresql {
            self.settings = settings.clone();
            self.server.take_settings(settings);
        }
    }

    /// The member's own settings, completed by what `/config` says.
    pub(super) fn with_cluster_wide(&self, own: &Settings) -> Settings {
        let (settings, warnings) = own.with_cluster_wide(&self.member.dynamic.raw);
        for warning in warnings {
            tracing::warn!("{warning}");
        }
        settings
    }

    fn running(&self) -> Option<Running> {
        let mut running = self.background.running().cloned()?;
        if matches!(running.job, Job::Stop { .. }) {
            running.closed = self.server.closed();
        }
        if is_slow_stop(&running, clock::now()) {
            running.ending = self.server.ending();
        }
        Some(running)
    }

    fn reap(&mut self) -> Option<(Job, Result<(), String>)> {
        let (job, result) = self.background.reap()?;
        match &result {
            Ok(()) => tracing::info!("done: {}", job.title()),
            Err(why) => tracing::error!("failed: {}: {why}", job.title()),
        }
        if job.writes_the_data() {
            self.server.own_work_ended();
        }
        self.answer_restart(&job, &result);
        Some((job, result))
    }

    fn me(&self) -> Me {
        let pg = &self.settings.postgresql;
        let dynamic_flag = |key: &str| {
            let value = self.member.dynamic.raw.get("postgresql").and_then(|p| p.get(key));
            value.and_then(topology::tags::parse_bool)
        };
        let either =
            |local: Option<bool>, key: &str| local.or_else(|| dynamic_flag(key)).unwrap_or(false);
        Me {
            name: self.settings.name.clone(),
            group: self.settings.group(),
            tags: self.settings.tags.clone(),
            may_initialise: self.settings.bootstrap.is_some(),
            may_restore: !ReplicaMethods::read(&self.settings.raw, &self.member.dynamic.raw)
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

    fn look_at_store(&mut self) -> StoreSight {
        let local = self.mirror.snapshot();
        let entries = local.as_ref().map_or(&[][..], |view| &view.snapshot.entries);
        let mut groups = split_groups(&self.keys.scope_prefix(), entries);
        let group = self.settings.group();
        let own = groups.get(&group).cloned().unwrap_or_default();
        groups.entry(group).or_default();
        let (ownership, order) = self.look_at_topology(entries);
        let closed_workers = closed_workers(&groups, &ownership);
        // The store counts as unknown until it is proven that no other daemon uses this
        // member name.
        let is_lost = local.as_ref().is_none_or(|view| view.lost);
        self.chores.groups = groups;
        StoreSight {
            group: if self.name_proven && !is_lost { Seen::Known(own) } else { Seen::Unknown },
            ownership,
            order,
            closed_workers,
            is_lost,
        }
    }

    fn look_at_topology(&mut self, entries: &[crate::dcs::KeyValue]) -> (Ownership, Option<Order>) {
        let local = crate::region::ownership::read(&self.keys, entries);
        let Some(topology) = &self.settings.topology else {
            return (without_region(&local), None);
        };
        let (region, group) = (topology.region.clone(), self.settings.group());
        if let Some(acceptor) = self.member.to_remember(&local, &topology.policy.formation) {
            self.keep_region_memory(acceptor);
        }
        let seen = self.member.look_at_region(&local, &region, group);
        self.chores.local_topology = local;
        seen
    }

    /// The disk knows what the store shows before the member acts on it.
    fn keep_region_memory(&mut self, acceptor: Acceptor) {
        let kept = region_memory::write(&self.settings.postgresql, &self.settings.name, &acceptor);
        match &kept {
            Ok(()) => self.member.remember(acceptor),
            Err(why) if self.memory_failed => tracing::debug!("not kept: {why}"),
            Err(why) => tracing::error!(
                "the region memory file could not be written, so this member opens in no new epoch: {why}"
            ),
        }
        self.memory_failed = kept.is_err();
        self.region_memory.send_replace(self.member.region_memory().cloned());
    }
}
