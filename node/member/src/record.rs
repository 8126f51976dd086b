//! What a member tells the others of itself: its record in the store.

use super::{Member, Particulars, state};
use crate::ha::facts::Facts;
use crate::ha::observation::{DataDir, End, Job, ServerRole};
use crate::ha::{Observation, gate};
use topology::{Lsn, MemberRecord, MemberRole, MemberState, RemoteEnd};

/// Why PostgreSQL does not run here, or does not stream from the remote side.
pub fn reason(seen: &Observation) -> Option<String> {
    let facts = Facts::of(seen);
    gate::refusal(&facts).or_else(|| facts.why_not_streaming())
}

/// The role a running server has, when it is known.
pub fn role_of(seen: &Observation) -> Option<&ServerRole> {
    seen.server().and_then(|server| server.role.known())
}

impl Member {
    /// The record of this member, as it should stand in the store.
    pub fn record(&self, seen: &Observation, about: &Particulars) -> MemberRecord {
        let mut record = MemberRecord {
            conn_url: Some(about.conn_url.clone()),
            api_url: Some(about.api_url.clone()),
            state: self.state(seen, about.custom_bootstrap).text().to_string(),
            role: self.role(seen),
            version: topology::member::PATRONI_VERSION.to_string(),
            proxy_url: about.proxy_url.clone(),
            tags: self.memory.effective_tags(&seen.me.tags).shown(),
            pause: self.dynamic.pause,
            scheduled_restart: self.planned_restart(),
            pending_restart: about.pending_restart.is_some(),
            pending_restart_reason: about.pending_restart.clone(),
            reason: reason(seen),
            logical_slots: self.logical_slots(),
            ..MemberRecord::default()
        };
        if seen.holds_lock() && seen.may_own() && !self.chores.checkpoint.is_done() {
            record.checkpoint_after_promote = Some(false);
        }
        add_positions(seen, about, &mut record);
        record
    }

    /// `custom`: a new cluster is made by an operator's command.
    pub fn state(&self, seen: &Observation, custom: bool) -> MemberState {
        state::of(seen, &self.memory, custom)
    }

    pub fn role(&self, seen: &Observation) -> MemberRole {
        match role_of(seen) {
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

    /// A stopped server: what it was, by what it left behind. One that stopped
    /// because the daemon ends stays what it was.
    fn role_at_rest(&self, seen: &Observation) -> MemberRole {
        if let Some(was) = self.ran_as.filter(|_| self.memory.stopping) {
            return was;
        }
        let clean = seen.shutdown_state().is_some_and(|end| end.end == End::Clean);
        match (seen.holds_lock(), clean) {
            (true, _) if seen.may_own() => MemberRole::Primary,
            (_, true) => MemberRole::Demoted,
            (_, false) => MemberRole::Replica,
        }
    }
}

/// Where the log ends. While an action runs, its effect on the server is not known, and
/// the position is left out; except for `PrePromote`: in the leader race, other members
/// go by what they know of a member that is about to open.
fn add_positions(seen: &Observation, about: &Particulars, record: &mut MemberRecord) {
    let told = seen.job.as_ref().is_none_or(|running| running.job == Job::PrePromote);
    let Some(server) = seen.server().filter(|s| told && s.lsn.0 > 0) else { return };
    record.xlog_location = Some(server.lsn);
    record.timeline = server.timeline;
    if let Some(ServerRole::Standby { .. }) = role_of(seen) {
        let known = |lsn: Option<Lsn>| lsn.filter(|lsn| lsn.0 > 0);
        record.replay_lsn = known(about.replay);
        record.receive_lsn = known(about.receive);
        record.replication_state = about.replication_state.clone();
        let leads = seen.holds_lock() && !seen.may_own();
        let is_known = about.remote != RemoteEnd::default();
        record.remote = (leads && is_known).then(|| about.remote.clone());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ha::observation::{Process, Running};
    use crate::ha::sample;

    fn streaming() -> Particulars {
        Particulars {
            replay: Some(Lsn(900)),
            receive: Some(Lsn(950)),
            replication_state: Some("streaming".into()),
            ..Particulars::default()
        }
    }

    fn told(seen: &Observation, about: &Particulars) -> MemberRecord {
        let mut record = MemberRecord::default();
        add_positions(seen, about, &mut record);
        record
    }

    #[test]
    fn a_leader_tells_its_position_and_a_standby_how_it_came_to_it() {
        let leader = told(&sample::leader(), &streaming());
        let (lsn, timeline) = (Some(Lsn(1_000)), Some(topology::Timeline(2)));
        assert_eq!((leader.xlog_location, leader.timeline), (lsn, timeline));
        assert_eq!(
            (leader.replay_lsn, leader.receive_lsn, leader.replication_state),
            Default::default()
        );
        let follows = told(&sample::follower(), &streaming());
        assert_eq!((follows.xlog_location, follows.timeline), (lsn, timeline));
        assert_eq!((follows.replay_lsn, follows.receive_lsn), (Some(Lsn(900)), Some(Lsn(950))));
        assert_eq!(follows.replication_state.as_deref(), Some("streaming"));
    }

    #[test]
    fn a_standby_leader_tells_what_the_remote_side_told() {
        let remote = RemoteEnd { lsn: Some(Lsn(1_100)), replayed_at: None };
        let about = Particulars { remote: remote.clone(), ..streaming() };
        let mut seen = sample::follower();
        assert_eq!(told(&seen, &about).remote, None, "a replica has a leader");
        let leader = sample::leader();
        (seen.lock, seen.dynamic) = (leader.lock, leader.dynamic);
        seen.dynamic.standby_cluster = Some(topology::dynamic::StandbyCluster {
            host: Some("far".into()),
            port: 5432,
            primary_slot_name: None,
        });
        assert_eq!(told(&seen, &about).remote, Some(remote));
    }

    #[test]
    fn what_is_not_known_is_left_out() {
        let silent = Particulars { receive: Some(Lsn(0)), replication_state: None, ..streaming() };
        let mut seen = sample::follower();
        let record = told(&seen, &silent);
        assert_eq!((record.receive_lsn, record.replication_state), (None, None));
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
            let (since, ending) = (seen.now, Default::default());
            seen.job = Some(Running { job, since, closed: None, ending });
            told(&seen, &streaming()).xlog_location
        };
        assert_eq!(during(Job::Restart { as_primary: false }), None);
        assert_eq!(during(Job::Recover), None);
        assert_eq!(during(Job::PrePromote), Some(Lsn(1_000)));
    }
}
