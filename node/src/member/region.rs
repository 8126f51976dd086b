//! What the region's documents mean for this member, and what is remembered of them.

use super::Member;
use crate::ha::Observation;
use crate::ha::observation::Lock;
use standby::switch::LocalTopology;
use standby::switch::ownership::{Order, Ownership, order, ownership};
use std::collections::BTreeMap;
use topology::{Group, GroupView, MemberRole, RegionName};

impl Member {
    /// Invariant: an epoch that this process has seen verified is never gone back from.
    pub fn look_at_region(
        &mut self,
        local: &LocalTopology,
        region: &RegionName,
        group: Group,
    ) -> (Ownership, Option<Order>) {
        let ownership = ownership(local, region, group, self.epoch);
        if let Ownership::Owner { epoch, .. } = &ownership {
            self.epoch = self.epoch.max(Some(*epoch));
        }
        (ownership, order(local, region, group))
    }
}

/// This daemon may campaign to be its region's agent: its member leads, or no member does.
/// A formation's first certificate comes before its first leader.
pub fn may_campaign(seen: &Observation) -> bool {
    seen.holds_lock() || seen.lock == Lock::Free
}

/// Worker groups whose leader is not open for writes yet, while a region opens.
pub fn closed_workers(groups: &BTreeMap<Group, GroupView>, ownership: &Ownership) -> Vec<Group> {
    if !matches!(ownership, Ownership::Owner { opening: true, .. }) {
        return Vec::new();
    }
    let is_open = |view: &GroupView| {
        view.leader_record().is_some_and(|r| r.role == MemberRole::Primary && r.is_running())
    };
    let workers = groups.iter().filter(|(group, _)| group.0.is_some_and(|number| number > 0));
    workers.filter(|(_, view)| !is_open(view)).map(|(group, _)| *group).collect()
}
