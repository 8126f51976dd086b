//! The groups of a region, as its own store shows them.

use crate::{GroupNow, Groups};
use std::collections::BTreeMap;
use topology::{Group, GroupView, MemberName, MemberRecord, MemberRole};

/// A leader that is not known to run as a primary is an unknown one; secondaries are the
/// other members that run and take readers.
pub fn groups_now(views: &BTreeMap<Group, GroupView>) -> Groups {
    let group = |(group, view): (&Group, &GroupView)| {
        let leads = |r: &&MemberRecord| r.role == MemberRole::Primary && r.is_running();
        let leader = view.leader_record().filter(leads).and_then(|record| record.address());
        let leader = leader.map(Into::into);
        Some((group.0?, GroupNow { leader, secondaries: secondaries(view) }))
    };
    views.iter().filter_map(group).collect()
}

fn secondaries(view: &GroupView) -> Vec<crate::Address> {
    let serves = |(name, record): &(&MemberName, &MemberRecord)| {
        Some(*name) != view.leader_name() && record.is_running() && !record.tags.noloadbalance()
    };
    let members = view.members.iter().map(|(name, member)| (name, &member.value));
    members.filter(serves).filter_map(|(_, record)| record.address().map(Into::into)).collect()
}
