//! A region beside the others: what it is to the formation, which of its groups have a
//! leader that runs, and how far it is behind the owner, by what leaders last published.

use crate::region::Certificate;
use crate::{Group, GroupView, Lsn, RegionName, Seen};
use std::collections::BTreeMap;

/// What a region is to the formation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RegionRole {
    Primary,
    Standby,
}

impl RegionRole {
    /// By the certificate that the region has accepted.
    pub fn of(region: &RegionName, accepted: &Certificate) -> RegionRole {
        if accepted.owner == *region { RegionRole::Primary } else { RegionRole::Standby }
    }

    pub fn text(self) -> &'static str {
        match self {
            RegionRole::Primary => "primary",
            RegionRole::Standby => "standby",
        }
    }
}

/// What a region is, beside what all stores together say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    Owner,
    /// Its store says that it owns the formation; a later epoch names another region.
    Claims,
    Standby,
    Unknown,
}

impl Standing {
    /// `owner`: by the highest epoch that was read.
    pub fn of(name: &RegionName, role: Seen<RegionRole>, owner: Option<&RegionName>) -> Standing {
        match role {
            Seen::Known(RegionRole::Primary) if owner == Some(name) => Standing::Owner,
            Seen::Known(RegionRole::Primary) => Standing::Claims,
            Seen::Known(RegionRole::Standby) => Standing::Standby,
            Seen::Unknown => Standing::Unknown,
        }
    }

    pub fn word(self) -> &'static str {
        match self {
            Standing::Owner => RegionRole::Primary.text(),
            Standing::Claims => "claims to be primary",
            Standing::Standby => RegionRole::Standby.text(),
            Standing::Unknown => "unknown",
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RegionReport {
    pub standing: Standing,
    /// Groups with a leader that runs.
    pub led: usize,
    pub groups: usize,
    /// Behind the owner, which is behind no region and has none.
    pub lag_bytes: Option<Seen<u64>>,
}

impl RegionReport {
    /// `owned`: the groups of the owner, where its store was read.
    pub fn of(
        standing: Standing,
        groups: &BTreeMap<Group, GroupView>,
        owned: Option<&BTreeMap<Group, GroupView>>,
    ) -> RegionReport {
        let is_led = |view: &&GroupView| view.leader_record().is_some_and(|l| l.is_running());
        let lag = || owned.map_or(Seen::Unknown, |owned| lag_bytes(owned, groups));
        RegionReport {
            standing,
            led: groups.values().filter(is_led).count(),
            groups: groups.len(),
            lag_bytes: (standing != Standing::Owner).then(lag),
        }
    }
}

/// Bytes between the ends of the log in `lead` and what `behind` has replayed, of the
/// group that is furthest behind. `Unknown` as soon as it is so of one group.
pub fn lag_bytes(
    lead: &BTreeMap<Group, GroupView>,
    behind: &BTreeMap<Group, GroupView>,
) -> Seen<u64> {
    let of_group = |(group, view): (&Group, &GroupView)| {
        let end = view.leader_record()?.xlog_location?;
        Some(replayed(behind.get(group)?)?.behind(end))
    };
    let lags: Option<Vec<u64>> = lead.iter().map(of_group).collect();
    lags.and_then(|lags| lags.into_iter().max()).map_or(Seen::Unknown, Seen::Known)
}

fn replayed(view: &GroupView) -> Option<Lsn> {
    let leader = view.leader_record()?;
    leader.replay_lsn.or(leader.xlog_location)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::made_up::TakeSample;

    fn groups(of: &[(u32, Option<u64>)]) -> BTreeMap<Group, GroupView> {
        let view = |lsn: Option<u64>| {
            let mut view = GroupView::default();
            view.take_sample("leader", "l", 1, 1);
            if let Some(lsn) = lsn {
                view.take_sample(
                    "members/l",
                    &format!(r#"{{"state":"running","xlog_location":{lsn}}}"#),
                    1,
                    1,
                );
            }
            view
        };
        of.iter().map(|(number, lsn)| (Group(Some(*number)), view(*lsn))).collect()
    }

    #[test]
    fn the_highest_epoch_says_which_of_two_claims_counts() {
        let [a, b] = ["a", "b"].map(RegionName::new);
        let primary = Seen::Known(RegionRole::Primary);
        let of = |role, owner| Standing::of(&a, role, owner);
        assert_eq!(of(primary, Some(&a)), Standing::Owner);
        assert_eq!(of(primary, Some(&b)), Standing::Claims);
        assert_eq!(of(Seen::Known(RegionRole::Standby), Some(&b)), Standing::Standby);
        assert_eq!(of(Seen::Unknown, Some(&a)).word(), "unknown");
    }

    #[test]
    fn an_owner_is_behind_no_region_and_a_leader_counts_while_it_runs() {
        let (lead, behind) = (groups(&[(0, Some(100))]), groups(&[(0, Some(90)), (1, None)]));
        let owner = RegionReport::of(Standing::Owner, &lead, Some(&lead));
        assert_eq!((owner.lag_bytes, owner.led, owner.groups), (None, 1, 1));
        let standby = RegionReport::of(Standing::Standby, &behind, Some(&lead));
        assert_eq!(standby.lag_bytes, Some(Seen::Known(10)));
        assert_eq!((standby.led, standby.groups), (1, 2));
        let alone = RegionReport::of(Standing::Standby, &behind, None);
        assert_eq!(alone.lag_bytes, Some(Seen::Unknown));
    }

    #[test]
    fn the_group_furthest_behind_counts_and_one_unknown_hides_all() {
        let lead = groups(&[(0, Some(100)), (1, Some(100))]);
        let found = |behind: &[(u32, Option<u64>)]| lag_bytes(&lead, &groups(behind));
        assert_eq!(found(&[(0, Some(90)), (1, Some(40))]), Seen::Known(60));
        assert_eq!(found(&[(0, Some(90)), (1, None)]), Seen::Unknown);
        assert_eq!(found(&[(0, Some(90))]), Seen::Unknown);
        assert_eq!(lag_bytes(&groups(&[]), &lead), Seen::Unknown);
    }
}
