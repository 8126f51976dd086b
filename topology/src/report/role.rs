//! What a member is to its group.

use crate::{GroupView, MemberName, MemberRole, SyncMode};
use serde_json::Value;

/// What `/sync` says of a standby.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Duty {
    Sync,
    Quorum,
}

impl Duty {
    /// The word for it in status bodies and in `/cluster`.
    pub fn text(self) -> &'static str {
        match self {
            Duty::Sync => "sync_standby",
            Duty::Quorum => "quorum_standby",
        }
    }

    /// The duty of the standbys that `/sync` names, by `synchronous_mode`.
    fn of_mode(mode: Option<&Value>) -> Duty {
        let quorum = mode.and_then(Value::as_str).is_some_and(|m| m.eq_ignore_ascii_case("quorum"));
        if quorum { Duty::Quorum } else { Duty::Sync }
    }

    /// `config`: the document in the store. `None`: `/sync` does not name this member
    /// as a standby.
    pub fn of_standby(view: &GroupView, name: &MemberName, config: Option<&Value>) -> Option<Duty> {
        let sync = &view.sync.as_ref()?.value;
        let mode = config.and_then(|config| config.get("synchronous_mode"));
        (sync.is_active() && sync.is_standby(name)).then(|| Duty::of_mode(mode))
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    Leader,
    StandbyLeader,
    SyncStandby,
    QuorumStandby,
    Replica,
}

impl Role {
    /// The lock and `/sync` decide, not the member's own record: that one only tells
    /// whether the leader leads standbys, in a region that follows another one.
    pub fn of(view: &GroupView, name: &MemberName) -> Role {
        if view.leader_name() == Some(name) {
            return if follows_another(view) { Role::StandbyLeader } else { Role::Leader };
        }
        let config = view.config.as_ref().map(|config| &config.value.raw);
        match Duty::of_standby(view, name, config) {
            Some(Duty::Sync) => Role::SyncStandby,
            Some(Duty::Quorum) => Role::QuorumStandby,
            None => Role::Replica,
        }
    }

    /// The word for it in documents.
    pub fn word(self) -> &'static str {
        match self {
            Role::Leader => "leader",
            Role::StandbyLeader => "standby_leader",
            Role::SyncStandby => Duty::Sync.text(),
            Role::QuorumStandby => Duty::Quorum.text(),
            Role::Replica => "replica",
        }
    }

    /// It holds the lock.
    pub fn leads(self) -> bool {
        matches!(self, Role::Leader | Role::StandbyLeader)
    }
}

/// Either `/config` makes the cluster a standby, or its region is one.
pub fn follows_another(view: &GroupView) -> bool {
    let says_so = |leader: &crate::MemberRecord| leader.role == MemberRole::StandbyLeader;
    is_standby_cluster(view) || view.leader_record().is_some_and(says_so)
}

fn is_standby_cluster(view: &GroupView) -> bool {
    view.config.as_ref().is_some_and(|c| c.value.standby_cluster.is_some())
}

/// The mode `/config` asks for; a standby cluster has none.
pub fn synchronous_mode(view: &GroupView) -> SyncMode {
    let config = view.config.as_ref().filter(|_| !is_standby_cluster(view));
    config.map_or(SyncMode::Off, |c| c.value.synchronous_mode)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::made_up::TakeSample;

    fn role(keys: &[(&str, &str)], name: &str) -> Role {
        let mut view = GroupView::default();
        for (key, value) in keys {
            view.take_sample(key, value, 1, 1);
        }
        Role::of(&view, &name.into())
    }

    const SYNC: (&str, &str) = ("sync", r#"{"leader":"a","quorum":0,"sync_standby":"b"}"#);

    #[test]
    fn the_lock_decides_before_the_record() {
        let says_primary = ("members/b", r#"{"role":"primary"}"#);
        assert_eq!(role(&[("leader", "a"), says_primary], "a"), Role::Leader);
        assert_eq!(role(&[("leader", "a"), says_primary], "b"), Role::Replica);
        let follows = ("members/a", r#"{"role":"standby_leader"}"#);
        assert_eq!(role(&[("leader", "a"), follows], "a"), Role::StandbyLeader);
        assert_eq!(role(&[follows], "a"), Role::Replica);
        let cluster = ("config", r#"{"standby_cluster":{"host":"h"}}"#);
        assert_eq!(role(&[("leader", "a"), cluster], "a"), Role::StandbyLeader);
    }

    #[test]
    fn a_listed_standby_has_the_duty_of_the_mode() {
        let mode = |mode| ("config", mode);
        let on = mode(r#"{"synchronous_mode":true}"#);
        let quorum = mode(r#"{"synchronous_mode":"Quorum"}"#);
        assert_eq!(role(&[("leader", "a"), SYNC, on], "b"), Role::SyncStandby);
        assert_eq!(role(&[("leader", "a"), SYNC, quorum], "b"), Role::QuorumStandby);
        assert_eq!(role(&[("leader", "a"), SYNC, on], "c"), Role::Replica);
        let inactive = ("sync", r#"{"leader":null,"sync_standby":"b"}"#);
        assert_eq!(role(&[("leader", "a"), inactive, on], "b"), Role::Replica);
    }

    #[test]
    fn a_standby_cluster_has_no_synchronous_mode() {
        let mut view = GroupView::default();
        assert_eq!(synchronous_mode(&view), SyncMode::Off);
        view.take_sample("config", r#"{"synchronous_mode":"quorum"}"#, 1, 0);
        assert_eq!(synchronous_mode(&view), SyncMode::Quorum);
        let standby = r#"{"synchronous_mode":"quorum","standby_cluster":{"host":"h"}}"#;
        view.take_sample("config", standby, 2, 0);
        assert_eq!(synchronous_mode(&view), SyncMode::Off);
    }
}
