//! What others are told: the member record, and what the API answers from.

use super::{Daemon, look};
use crate::api::published::Published;
use crate::beat::Report;
use crate::clock;
use crate::ha::Observation;
use crate::ha::facts::Facts;
use crate::ha::observation::{DataDir, Guarding, Job, Process, ServerRole};
use standby::switch::ownership::Ownership;
use std::sync::Arc;
use topology::{MemberRecord, MemberRole, MemberState, Tags};

impl Daemon {
    /// The record of this member, as it should stand in the store.
    pub(super) fn record(&self, seen: &Observation) -> MemberRecord {
        let settings = &self.settings;
        let mut record = MemberRecord {
            conn_url: Some(settings.postgresql.conn_url()),
            api_url: Some(settings.restapi.api_url()),
            state: self.state(seen).text().to_string(),
            role: self.role(seen),
            version: crate::PATRONI_VERSION.to_string(),
            proxy_url: settings
                .postgresql
                .proxy_address
                .as_ref()
                .map(|a| format!("postgres://{a}/postgres")),
            tags: Tags(settings.tags.0.clone()),
            pause: self.dynamic.pause,
            ..MemberRecord::default()
        };
        if seen.holds_lock() && seen.may_own() && !self.chores.checkpoint.is_done() {
            record.checkpoint_after_promote = Some(false);
        }
        record.scheduled_restart = self.restart_plan.as_ref().map(|plan| plan.shown());
        if let Some(reasons) = self.server.pending_restart() {
            record.pending_restart = true;
            record.pending_restart_reason = Some(reasons);
        }
        // Others race by what they know of a member that is about to open.
        if seen.job.as_ref().is_none_or(|running| running.job == Job::PrePromote) {
            self.add_positions(seen, &mut record);
        }
        record
    }

    fn add_positions(&self, seen: &Observation, record: &mut MemberRecord) {
        let Some(server) = seen.server().filter(|s| s.lsn.0 > 0) else { return };
        record.xlog_location = Some(server.lsn);
        record.timeline = server.timeline;
        if let Some(ServerRole::Standby { .. }) = look::role_of(seen)
            && let Some(monitor) = self.server.monitor()
        {
            record.replay_lsn = monitor.replay;
            record.receive_lsn = monitor.receive;
            let state = crate::api::status::replication_state(&monitor, Some(&self.dynamic.raw));
            record.replication_state = state.map(str::to_string);
        }
    }

    pub(super) fn state(&self, seen: &Observation) -> MemberState {
        match seen.job.as_ref().map(|running| &running.job) {
            Some(Job::Bootstrap) => return self.state_of_bootstrap(seen),
            Some(Job::Clone { .. } | Job::Restore | Job::Rebuild { .. }) => {
                return MemberState::CreatingReplica;
            }
            Some(Job::Stop { .. }) => return MemberState::Stopping,
            Some(Job::Restart { .. }) => return MemberState::Restarting,
            Some(Job::StartPrimary | Job::StartStandby { .. }) => return MemberState::Starting,
            Some(Job::Recover | Job::Rewind { .. } | Job::PrePromote) | None => {}
        }
        match &seen.postgres.process {
            Process::Running(_) => MemberState::Running,
            Process::Starting { .. } => MemberState::Starting,
            Process::Stopped(_) => match &self.memory.failed {
                Some(failed) if is_start(&failed.job) => MemberState::StartFailed,
                _ if self.was_crash(seen) => MemberState::Crashed,
                _ => MemberState::Stopped,
            },
        }
    }

    fn state_of_bootstrap(&self, seen: &Observation) -> MemberState {
        let custom = self.settings.bootstrap.as_ref().is_some_and(|b| b.method.is_some());
        match (custom, seen.is_stopped()) {
            (true, true) => MemberState::RunningCustomBootstrap,
            (true, false) => MemberState::StartingAfterCustomBootstrap,
            (false, _) => MemberState::InitializingNewCluster,
        }
    }

    fn was_crash(&self, seen: &Observation) -> bool {
        use crate::ha::observation::End;
        seen.remains().is_some_and(|r| r.end == End::Crashed) && !self.memory.stopping
    }

    pub(super) fn role(&self, seen: &Observation) -> MemberRole {
        match look::role_of(seen) {
            Some(ServerRole::Primary) => MemberRole::Primary,
            Some(ServerRole::Standby { .. }) if self.memory.promoting.is_some() => {
                MemberRole::Promoted
            }
            Some(ServerRole::Standby { .. }) if seen.holds_lock() && !seen.may_own() => {
                MemberRole::StandbyLeader
            }
            Some(ServerRole::Standby { .. }) => MemberRole::Replica,
            None if !matches!(seen.postgres.data, DataDir::Valid { .. }) => {
                MemberRole::Uninitialized
            }
            None => self.role_at_rest(seen),
        }
    }

    /// A stopped server: what it was, by what it left behind.
    fn role_at_rest(&self, seen: &Observation) -> MemberRole {
        use crate::ha::observation::End;
        let clean = seen.remains().is_some_and(|r| r.end == End::Clean);
        match (seen.holds_lock(), clean) {
            (true, _) if seen.may_own() => MemberRole::Primary,
            (_, true) => MemberRole::Demoted,
            (_, false) => MemberRole::Replica,
        }
    }

    pub(super) fn publish(&mut self, report: &Report) {
        let seen = &report.seen;
        let lock_until = seen.relied_until();
        let previous = self.published.borrow().clone();
        let view = seen.view().cloned().map(Arc::new).or_else(|| previous.view.clone());
        let known = seen.view().is_some();
        let standby_region = matches!(seen.ownership, Ownership::Standby { .. });
        let published = Published {
            name: self.settings.name.clone(),
            scope: self.settings.scope.clone(),
            state: self.state(seen),
            role: self.role(seen),
            running: seen.server().is_some(),
            lock_until,
            monitor: self.server.monitor().map(Arc::new),
            config: view
                .as_ref()
                .and_then(|v| v.config.as_ref())
                .map(|c| Arc::new(c.value.raw.clone())),
            view: if known || !self.is_store_forgotten() { view } else { None },
            groups: self
                .settings
                .group()
                .is_coordinator()
                .then(|| Arc::new(self.chores.groups.clone())),
            dcs_last_seen: if known { clock::unix_ms() / 1_000 } else { previous.dcs_last_seen },
            system_id: seen.system().cloned(),
            tags: self.settings.tags.clone(),
            pending_restart: self.server.pending_restart(),
            scheduled_restart: self.restart_plan.as_ref().map(|plan| plan.shown()),
            paused: self.dynamic.pause,
            loop_wait_ms: self.dynamic.loop_wait_ms,
            ttl_ms: self.dynamic.ttl_ms,
            last_beat: clock::now(),
            failsafe_until: self.failsafe_until(seen),
            failsafe: self.failsafe.audience.known().map(Arc::new),
            standby_group: standby_region || self.dynamic.standby_cluster.is_some(),
            maximum_lag_on_failover: self.dynamic.maximum_lag_on_failover,
            watchdog_failed: matches!(seen.watchdog, Guarding::Broken(_)),
            disk_failed: Facts::of(seen).disk_failed().is_some(),
            log: crate::log::counters(),
        };
        self.published.send_replace(Arc::new(published));
    }

    /// The last view of the store is valid for one ttl.
    fn is_store_forgotten(&self) -> bool {
        let last = self.published.borrow().dcs_last_seen;
        clock::unix_ms() / 1_000 > last + self.dynamic.ttl_ms / 1_000
    }
}

fn is_start(job: &Job) -> bool {
    matches!(job, Job::StartPrimary | Job::StartStandby { .. })
}
