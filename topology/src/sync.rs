//! `/sync`: which members have what the leader acknowledged, in synchronous modes.
//!
//! The key outlives its leader: a member that races reads from it which members may
//! lead without losing anything. Without a leader in it no synchronous mode is in
//! force. Names are compared without regard to case, as PostgreSQL compares the
//! names of standbys.
//!
//! Absent on purpose: how the names get there (the modes themselves).

use crate::MemberName;
use serde_json::{Map, Value};

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SyncState {
    pub leader: Option<MemberName>,
    /// Sorted. In quorum mode these vote; each alone may lack something.
    pub standbys: Vec<MemberName>,
    /// How many others a candidate must not be behind; 0 in priority mode.
    pub quorum: u64,
}

impl SyncState {
    /// What a leader writes that has no synchronous standby.
    pub fn alone(leader: MemberName) -> SyncState {
        SyncState { leader: Some(leader), ..SyncState::default() }
    }

    /// What is no map means that no mode is in force.
    pub fn read(text: &str) -> SyncState {
        let Ok(Value::Object(map)) = serde_json::from_str(text) else {
            return SyncState::default();
        };
        let field = |key: &str| map.get(key).and_then(Value::as_str).unwrap_or("");
        let names = field("sync_standby").split(',').map(str::trim).filter(|n| !n.is_empty());
        let quorum = match map.get("quorum") {
            Some(Value::String(text)) => text.trim().parse().ok(),
            other => other.and_then(Value::as_u64),
        };
        SyncState {
            leader: Some(field("leader")).filter(|s| !s.is_empty()).map(MemberName::new),
            standbys: names.map(MemberName::new).collect(),
            // More than any group has means the same, and can be added to.
            quorum: quorum.unwrap_or(0).min(u32::MAX.into()),
        }
    }

    /// All three fields are always there; a missing leader or no standbys are `null`.
    pub fn write(&self) -> String {
        let mut standbys: Vec<&str> = self.standbys.iter().map(MemberName::as_str).collect();
        standbys.sort_unstable();
        let standbys = (!standbys.is_empty()).then(|| standbys.join(","));
        let leader = self.leader.as_ref().map(MemberName::as_str);
        let mut out = Map::new();
        out.insert("leader".into(), leader.into());
        out.insert("quorum".into(), self.quorum.into());
        out.insert("sync_standby".into(), standbys.into());
        Value::Object(out).to_string()
    }

    pub fn is_active(&self) -> bool {
        self.leader.is_some()
    }

    pub fn is_leader(&self, name: &MemberName) -> bool {
        self.leader.as_ref().is_some_and(|leader| same(leader, name))
    }

    pub fn is_standby(&self, name: &MemberName) -> bool {
        self.standbys.iter().any(|standby| same(standby, name))
    }

    /// The leader or one of its standbys: who may lead next.
    pub fn is_member(&self, name: &MemberName) -> bool {
        self.is_leader(name) || self.is_standby(name)
    }
}

fn same(one: &MemberName, other: &MemberName) -> bool {
    one.as_str().eq_ignore_ascii_case(other.as_str())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// In the order in which a real cluster went through them.
    const REAL: [&str; 3] = [
        r#"{"leader":"n1","quorum":0,"sync_standby":null}"#,
        r#"{"leader":"n1","quorum":0,"sync_standby":"n3"}"#,
        r#"{"leader":"n1","quorum":1,"sync_standby":"n2,n3"}"#,
    ];

    #[test]
    fn real_records_are_written_as_they_were_read() {
        for text in REAL {
            assert_eq!(SyncState::read(text).write(), text);
        }
        assert_eq!(SyncState::alone("n1".into()).write(), REAL[0]);
        let unsorted = SyncState {
            standbys: vec!["n3".into(), "n2".into()],
            quorum: 1,
            ..SyncState::alone("n1".into())
        };
        assert_eq!(unsorted.write(), REAL[2]);
    }

    #[test]
    fn names_are_compared_without_case_and_the_leader_is_a_member() {
        let sync = SyncState::read(r#"{"leader":"Node-1","sync_standby":"n2, N3","quorum":"1"}"#);
        assert!(sync.is_standby(&"n3".into()) && sync.is_standby(&"N2".into()));
        assert!(!sync.is_standby(&"node-1".into()) && sync.is_member(&"node-1".into()));
        assert!(!sync.is_member(&"n4".into()));
        assert_eq!(sync.quorum, 1);
    }

    #[test]
    fn without_a_leader_no_mode_is_in_force() {
        for text in ["", "x", "[]", "{}", r#"{"leader":null,"sync_standby":"a"}"#] {
            let sync = SyncState::read(text);
            assert!(!sync.is_active(), "{text}");
        }
        assert_eq!(SyncState::read("x"), SyncState::default());
    }
}
