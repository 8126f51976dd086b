//! What others are told: the member record, and what the API answers from.

use super::{Daemon, look, state};
use crate::api::published::Published;
use crate::api::status::replication_state;
use crate::clock;
use crate::ha::facts::Facts;
use crate::ha::observation::{DataDir, Guarding, Job, ServerRole};
use crate::ha::{Observation, gate};
use crate::member::Report;
use crate::postgres::ServerStatus;
use standby::switch::ownership::Ownership;
use std::sync::Arc;
use topology::{Lsn, MemberRecord, MemberRole, MemberState, Millis};

impl Daemon {
    /// The record of this member, as it should stand in the store.
    pub(super) fn record(&self, seen: &Observation) -> MemberRecord {
        let settings = &self.settings;
        let mut record = MemberRecord {
            conn_url: Some(self.server.served_url()),
            api_url: Some(settings.restapi.api_url()),
            state: self.state(seen).text().to_string(),
            role: self.role(seen),
            version: crate::PATRONI_VERSION.to_string(),
            proxy_url: settings
                .postgresql
                .proxy_address
                .as_ref()
                .map(|a| format!("postgres://{a}/postgres")),
            tags: self.member.memory.effective_tags(&settings.tags).shown(),
            pause: self.member.dynamic.pause,
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
        record.reason = gate::refusal(&Facts::of(seen));
        add_positions(seen, self.server.status(), &mut record);
        record
    }

    fn state(&self, seen: &Observation) -> MemberState {
        let custom = self.settings.bootstrap.as_ref().is_some_and(|b| b.method.is_some());
        state::of(seen, &self.member.memory, custom)
    }

    pub(super) fn role(&self, seen: &Observation) -> MemberRole {
        match look::role_of(seen) {
            Some(ServerRole::Primary) => MemberRole::Primary,
            Some(ServerRole::Standby { .. }) if self.member.memory.promoting.is_some() => {
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

    /// A stopped server: what it was, by what it left behind. One that stopped
    /// because the daemon ends stays what it was.
    fn role_at_rest(&self, seen: &Observation) -> MemberRole {
        use crate::ha::observation::End;
        if let Some(was) = self.chores.ran_as.filter(|_| self.member.memory.stopping) {
            return was;
        }
        let clean = seen.shutdown_state().is_some_and(|r| r.end == End::Clean);
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
            monitor: self.server.status().cloned().map(Arc::new),
            config: view
                .as_ref()
                .and_then(|v| v.config.as_ref())
                .map(|c| Arc::new(c.value.raw.clone())),
            view: view.filter(|_| known || !self.is_store_forgotten()),
            groups: self
                .settings
                .group()
                .is_coordinator()
                .then(|| Arc::new(self.chores.groups.clone())),
            dcs_last_seen: self.store_seen(previous.dcs_last_seen),
            system_id: seen.system().cloned(),
            tags: self.member.memory.effective_tags(&self.settings.tags),
            pending_restart: self.server.pending_restart(),
            scheduled_restart: self.restart_plan.as_ref().map(|plan| plan.shown()),
            paused: self.member.dynamic.pause,
            loop_wait_ms: self.member.dynamic.loop_wait_ms,
            ttl_ms: self.member.dynamic.ttl_ms,
            last_beat: clock::now(),
            failsafe_until: self.failsafe_until(seen),
            failsafe: self.member.peer_set.known().map(Arc::new),
            standby_group: standby_region || self.member.dynamic.standby_cluster.is_some(),
            maximum_lag_on_failover: self.member.dynamic.maximum_lag_on_failover,
            watchdog_failed: matches!(seen.watchdog, Guarding::Broken(_)),
            reason: gate::refusal(&Facts::of(seen)),
            disk_failed: Facts::of(seen).disk_failed().is_some(),
            log: crate::log::counters(),
            writes: self.writes.clone(),
        };
        self.published.send_replace(Arc::new(published));
    }

    /// It answers when its watch or a read brings something, and when it takes a
    /// renewal: a store in which nothing happens is not away.
    fn store_seen(&self, before: u64) -> u64 {
        let (now, unix_ms) = (clock::now(), clock::unix_ms());
        let heard = self.mirror.snapshot().map(|view| {
            let age = view.confirmed.elapsed().as_millis() as u64;
            Millis(now.0.saturating_sub(age))
        });
        let proof = heard.max(self.member.lease.id.map(|_| self.member.lease.renewed));
        proof.map_or(before, |proof| last_seen(before, proof, now, unix_ms))
    }

    /// The last view of the store is valid for one ttl.
    fn is_store_forgotten(&self) -> bool {
        let last = self.published.borrow().dcs_last_seen;
        is_outdated(last, clock::unix_ms(), self.member.dynamic.ttl_ms)
    }
}

/// Where the log ends. While an action runs, its effect on the server is not known, and
/// the position is left out; except for `PrePromote`: in the leader race, other members
/// go by what they know of a member that is about to open.
fn add_positions(seen: &Observation, status: Option<&ServerStatus>, record: &mut MemberRecord) {
    let told = seen.job.as_ref().is_none_or(|running| running.job == Job::PrePromote);
    let Some(server) = seen.server().filter(|s| told && s.lsn.0 > 0) else { return };
    record.xlog_location = Some(server.lsn);
    record.timeline = server.timeline;
    if let (Some(ServerRole::Standby { .. }), Some(status)) = (look::role_of(seen), status) {
        let known = |lsn: Option<Lsn>| lsn.filter(|lsn| lsn.0 > 0);
        record.replay_lsn = known(status.replay);
        record.receive_lsn = known(status.receive);
        let state = replication_state(status, Some(&seen.dynamic.raw));
        record.replication_state = state.map(str::to_string);
    }
}

/// When the store was last known to answer, in seconds since 1970: `proof` on
/// the clock of this machine, which shows `now` at `unix_ms`.
fn last_seen(before: u64, proof: Millis, now: Millis, unix_ms: u64) -> u64 {
    before.max(unix_ms.saturating_sub(now.since(proof)) / 1_000)
}

/// What was read of the store is good for one ttl.
fn is_outdated(last_seen: u64, unix_ms: u64, ttl_ms: u64) -> bool {
    unix_ms > last_seen * 1_000 + ttl_ms
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::tests::standby;
    use crate::ha::observation::Process;
    use crate::ha::observation::Running;
    use crate::ha::sample;

    fn told(seen: &Observation, status: &ServerStatus) -> MemberRecord {
        let mut record = MemberRecord::default();
        add_positions(seen, Some(status), &mut record);
        record
    }

    #[test]
    fn a_leader_tells_its_position_and_a_standby_how_it_came_to_it() {
        let monitor = standby();
        let leader = told(&sample::leader(), &monitor);
        let (lsn, timeline) = (Some(Lsn(1_000)), Some(topology::Timeline(2)));
        assert_eq!((leader.xlog_location, leader.timeline), (lsn, timeline));
        assert_eq!(
            (leader.replay_lsn, leader.receive_lsn, leader.replication_state),
            Default::default()
        );
        let follows = told(&sample::follower(), &monitor);
        assert_eq!((follows.xlog_location, follows.timeline), (lsn, timeline));
        assert_eq!((follows.replay_lsn, follows.receive_lsn), (monitor.replay, monitor.receive));
        assert_eq!(follows.replication_state.as_deref(), Some("streaming"));
    }

    #[test]
    fn what_is_not_known_is_left_out() {
        let silent = ServerStatus { receiver_state: None, receive: Some(Lsn(0)), ..standby() };
        let mut seen = sample::follower();
        let record = told(&seen, &silent);
        assert_eq!((record.receive_lsn, record.replication_state), (None, None));
        let archive =
            serde_json::json!({"postgresql": {"recovery_conf": {"restore_command": "cp"}}});
        seen.dynamic = topology::Dynamic::read(&archive).expect("a good document");
        let record = told(&seen, &silent);
        assert_eq!(record.replication_state.as_deref(), Some("in archive recovery"));
        let Process::Running(server) = &mut seen.postgres.process else { panic!("it runs") };
        server.lsn = Lsn(0);
        assert_eq!(told(&seen, &silent), MemberRecord::default());
        seen.postgres.process = Process::Starting { since: seen.now, as_primary: false };
        assert_eq!(told(&seen, &silent), MemberRecord::default());
    }

    #[test]
    fn no_position_is_told_while_an_action_runs_but_before_a_promotion() {
        let during = |job: Job| {
            let mut seen = sample::follower();
            seen.job =
                Some(Running { job, since: seen.now, closed: None, ending: Default::default() });
            told(&seen, &standby()).xlog_location
        };
        assert_eq!(during(Job::Restart { as_primary: false }), None);
        assert_eq!(during(Job::Recover), None);
        assert_eq!(during(Job::PrePromote), Some(Lsn(1_000)));
    }

    #[test]
    fn the_store_was_seen_when_it_last_answered() {
        let now = Millis(50_000);
        assert_eq!(last_seen(0, Millis(49_900), now, 1_700_000_000_950), 1_700_000_000);
        // It is silent: the moment stays, however often it is asked.
        assert_eq!(last_seen(0, Millis(38_000), now, 1_700_000_000_000), 1_699_999_988);
        // The clock of the wall was set back.
        assert_eq!(last_seen(1_700_000_000, now, now, 1_600_000_000_000), 1_700_000_000);
    }

    #[test]
    fn what_was_read_is_good_for_one_ttl() {
        let good = |unix_ms| !is_outdated(1_700_000_000, unix_ms, 30_000);
        assert!(good(1_700_000_000_000) && good(1_700_000_030_000));
        assert!(!good(1_700_000_030_001));
        assert!(is_outdated(0, 1_700_000_000_000, 30_000), "nothing was ever read");
    }
}
