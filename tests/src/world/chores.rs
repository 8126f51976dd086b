//! What a daemon publishes beside its decisions: its record and, leading, the
//! position and the history of the group.

use super::World;
use super::postgres::Process;
use node::act::txn;
use node::dcs::Txn;
use node::ha::Observation;
use node::ha::observation::{DataDir, Job, ServerRole};
use topology::cluster::{Status, write_history};
use topology::{HistoryEntry, Lsn, MemberRecord, MemberRole, Seen};

impl World {
    /// The writes that are due after a beat.
    pub fn chores(&mut self, member: usize, seen: &Observation) -> Vec<Txn> {
        if seen.view().is_none() || self.members[member].daemon.machine.lease.id.is_none() {
            return Vec::new();
        }
        let mut txns: Vec<Txn> = self.record_due(member, seen).into_iter().collect();
        if seen.holds_lock() {
            txns.extend(self.failsafe_due(member, seen));
            txns.extend(self.status_due(member, seen));
            txns.extend(self.forgotten_due(member, seen));
            txns.extend(self.history_due(member, seen));
            txns.extend(self.sync_due(member, seen));
            txns.extend(self.rewired_due(member, seen));
        }
        txns
    }

    fn record_due(&mut self, member: usize, seen: &Observation) -> Option<Txn> {
        let m = &mut self.members[member];
        let lease = m.daemon.machine.lease.id?;
        let record = record_of(m, seen);
        let there = seen.view()?.members.get(&m.name);
        let on_lease = there.is_some_and(|t| t.lease == lease);
        let positions_only =
            on_lease && there.is_some_and(|t| same_but_position(&t.value, &record));
        let young = seen.now.since(m.daemon.recorded_at) < m.daemon.machine.dynamic.loop_wait_ms;
        if on_lease && there.is_some_and(|t| t.value == record) || positions_only && young {
            return None;
        }
        m.daemon.recorded_at = seen.now;
        let revision = there.map(|t| t.revision);
        Some(txn::member(&m.keys, &m.name, lease, record.write(), revision))
    }

    fn status_due(&mut self, member: usize, seen: &Observation) -> Option<Txn> {
        let m = &mut self.members[member];
        let lease = m.daemon.machine.lease.id?;
        let server = seen.server().filter(|s| s.lsn.0 > 0)?;
        if !std::mem::take(&mut m.daemon.machine.status_due) {
            return None;
        }
        let status = Status { optime: server.lsn, ..Status::default() };
        txn::status(&m.keys, lease, &status, seen.view()?)
    }

    /// What a store forgot is written again.
    fn forgotten_due(&self, member: usize, seen: &Observation) -> Vec<Txn> {
        let m = &self.members[member];
        let (Some(lease), Some(view), Some(system)) =
            (m.daemon.machine.lease.id, seen.view(), seen.system())
        else {
            return Vec::new();
        };
        let (revision, id) = (view.initialize.as_ref().map(|i| i.revision), system.0.clone());
        let named = view.initialize.as_ref().is_some_and(|i| i.value.is_some());
        let initialize =
            (!named).then(|| txn::as_leader_on(&m.keys, lease, m.keys.initialize(), id, revision));
        let text = m.daemon.machine.dynamic.raw.to_string();
        let config = view
            .config
            .is_none()
            .then(|| txn::as_leader_on(&m.keys, lease, m.keys.config(), text, None));
        initialize.into_iter().chain(config).collect()
    }

    fn history_due(&mut self, member: usize, seen: &Observation) -> Option<Txn> {
        let m = &self.members[member];
        let lease = m.daemon.machine.lease.id?;
        let timeline = seen.server()?.timeline?;
        let view = seen.view()?;
        let known = view.history.is_some() && view.timeline() == timeline;
        if !seen.is_primary() || known {
            return None;
        }
        let forks = m.server.log.history().forks;
        let entries: Vec<_> = forks.into_iter().map(entry).collect();
        Some(txn::as_leader(&m.keys, lease, m.keys.history(), write_history(&entries)))
    }
}

fn entry(fork: topology::timeline::Fork) -> HistoryEntry {
    HistoryEntry {
        timeline: fork.parent,
        switch: fork.switch,
        reason: fork.reason,
        at: None,
        new_leader: None,
    }
}

fn record_of(m: &super::member::Member, seen: &Observation) -> MemberRecord {
    let server = seen.server().filter(|s| s.lsn.0 > 0 && seen.job.is_none());
    let unready = seen.is_primary() && m.clock.read(m.server.checkpoint_at) > seen.now;
    MemberRecord {
        checkpoint_after_promote: (unready && seen.holds_lock()).then_some(false),
        conn_url: Some(format!("postgres://{}:5432/postgres", m.host())),
        api_url: Some(format!("http://{}:8008/patroni", m.host())),
        state: state_of(m, seen).into(),
        role: role_of(m, seen),
        tags: m.daemon.machine.memory.effective_tags(&m.tags).shown(),
        xlog_location: server.map(|s| Lsn(s.lsn.0)),
        timeline: server.and_then(|s| s.timeline),
        replication_state: seen.is_streaming().then(|| "streaming".to_string()),
        ..MemberRecord::default()
    }
}

fn state_of(m: &super::member::Member, seen: &Observation) -> &'static str {
    match seen.job.as_ref().map(|running| &running.job) {
        Some(Job::Bootstrap) => return "initializing new cluster",
        Some(Job::Clone { .. } | Job::Restore | Job::Rebuild { .. }) => return "creating replica",
        Some(Job::Stop { .. }) => return "stopping",
        Some(Job::Restart { .. }) => return "restarting",
        Some(Job::StartPrimary | Job::StartStandby { .. }) => return "starting",
        Some(Job::Recover | Job::Rewind { .. } | Job::PrePromote) | None => {}
    }
    match m.server.process {
        Process::Up(_) | Process::Stopping { .. } => "running",
        Process::Starting(_) => "starting",
        Process::Down => "stopped",
    }
}

fn role_of(m: &super::member::Member, seen: &Observation) -> MemberRole {
    let role = seen.server().map(|s| &s.role);
    match role {
        Some(Seen::Known(ServerRole::Primary)) => MemberRole::Primary,
        Some(Seen::Known(ServerRole::Standby { .. }))
            if m.daemon.machine.memory.promoting.is_some() =>
        {
            MemberRole::Promoted
        }
        Some(Seen::Known(ServerRole::Standby { .. })) if seen.holds_lock() && !seen.may_own() => {
            MemberRole::StandbyLeader
        }
        Some(Seen::Known(ServerRole::Standby { .. })) => MemberRole::Replica,
        _ if !matches!(seen.postgres.data, DataDir::Valid { .. }) => MemberRole::Uninitialized,
        _ if seen.holds_lock() => MemberRole::Primary,
        _ => MemberRole::Replica,
    }
}

fn same_but_position(a: &MemberRecord, b: &MemberRecord) -> bool {
    let bare = |record: &MemberRecord| MemberRecord { xlog_location: None, ..record.clone() };
    bare(a) == bare(b)
}
