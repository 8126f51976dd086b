//! One region as its store tells it, and the leaders that it names.
//!
//! Plain values: which keys they are read from is known to `node::region`.

use super::LocalTopology;
use std::collections::BTreeMap;
use topology::{Group, GroupView, Lsn, MemberName, SystemId, Timeline};

/// One region as its store tells it.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Site {
    pub topology: LocalTopology,
    pub groups: BTreeMap<Group, GroupView>,
}

impl Site {
    /// The leaders of the site's groups, as far as they can be reached.
    pub fn leaders(&self) -> impl Iterator<Item = Target> {
        self.groups.iter().filter_map(|(group, view)| Target::leader_of(*group, view))
    }

    /// The leader of one group, if it can be reached.
    pub fn leader(&self, group: Group) -> Option<Target> {
        Target::leader_of(group, self.groups.get(&group)?)
    }
}

/// The leader of one group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    pub group: Group,
    pub member: MemberName,
    pub host: String,
    pub port: u16,
    pub api_url: Option<String>,
}

impl Target {
    /// The group's leader, if it has one with an address.
    pub fn leader_of(group: Group, view: &GroupView) -> Option<Target> {
        let (name, record) = (view.leader_name()?, view.leader_record()?);
        let (host, port) = record.address()?;
        let api_url = record.api_url.clone();
        Some(Target { group, member: name.clone(), host, port, api_url })
    }
}

/// How far a standby has replayed.
#[derive(Clone, Debug, PartialEq)]
pub struct Replayed {
    pub system_id: SystemId,
    pub timeline: Option<Timeline>,
    pub lsn: Lsn,
}
