//! What is wrong with a formation, each thing under its own name.
//!
//! A finding says what, its remedy says what next; `code` is the word that
//! scripts and the JSON output use.

use super::{Address, Who};
use crate::{Group, RegionName};

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    Warning,
    Error,
}

impl Level {
    pub fn text(self) -> &'static str {
        match self {
            Level::Warning => "warning",
            Level::Error => "error",
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Finding {
    #[error("it is not known which region owns the formation")]
    OwnerUnknown,
    #[error("more than one region claims to own the formation: {}", list(regions))]
    OwnersSeveral { regions: Vec<RegionName> },
    #[error("region {region} is in the policy and was not seen; its groups are unknown")]
    RegionUnseen { region: RegionName },
    #[error("region {region} has members and is not in the policy")]
    RegionUnlisted { region: RegionName },
    #[error("region {region} has no allowed path to the owner {owner}")]
    RegionUnlinked { region: RegionName, owner: RegionName },
    #[error("region {region} has no group {group}, which other regions have")]
    GroupMissing { region: RegionName, group: Group },
    #[error("region {region} had no group {group} when it was last seen")]
    GroupUnknown { region: RegionName, group: Group },
    #[error("group {group} of region {region} has no leader")]
    LeaderMissing { region: RegionName, group: Group },
    #[error("these members stream from each other in a circle: {}", list(members))]
    Circle { members: Vec<Who> },
    #[error("these members have one name: {}", list(members))]
    SameName { members: Vec<Who> },
    #[error("these members have one address {}:{}: {}", address.0, address.1, list(members))]
    SameAddress { address: Address, members: Vec<Who> },
    #[error("pg_dist_node sends group {group} to {}:{}, its leader is {leader} at {}:{}",
        row.0, row.1, at.0, at.1)]
    RouteDrift { group: Group, row: Address, leader: Who, at: Address },
    #[error("pg_dist_node has no row for group {group}")]
    RouteMissing { group: Group },
    #[error("pg_dist_node has a row for group {group}, which the owner does not have")]
    RouteStray { group: Group },
    #[error("the row of group {group} in pg_dist_node cannot be checked: {why}")]
    RouteUnchecked { group: Group, why: &'static str },
    #[error("the rows of pg_dist_node cannot be checked: {why}")]
    RoutesUnchecked { why: &'static str },
}

impl Finding {
    pub fn level(&self) -> Level {
        use Finding::*;
        match self {
            OwnerUnknown
            | RegionUnseen { .. }
            | RegionUnlisted { .. }
            | GroupUnknown { .. }
            | LeaderMissing { .. }
            | RouteUnchecked { .. }
            | RoutesUnchecked { .. } => Level::Warning,
            OwnersSeveral { .. }
            | RegionUnlinked { .. }
            | GroupMissing { .. }
            | Circle { .. }
            | SameName { .. }
            | SameAddress { .. }
            | RouteDrift { .. }
            | RouteMissing { .. }
            | RouteStray { .. } => Level::Error,
        }
    }

    pub fn code(&self) -> &'static str {
        self.row().0
    }

    pub fn remedy(&self) -> &'static str {
        self.row().1
    }

    fn row(&self) -> (&'static str, &'static str) {
        use Finding::*;
        match self {
            OwnerUnknown => ("owner-unknown", "reach the other regions' stores and look again"),
            OwnersSeveral { .. } => {
                ("owners-several", "compare certificates with `region list`; the lower epoch stops")
            }
            RegionUnseen { .. } => ("region-unseen", "check the region's endpoints and its store"),
            RegionUnlisted { .. } => {
                ("region-unlisted", "add the region to the policy or stop its daemons")
            }
            RegionUnlinked { .. } => {
                ("region-unlinked", "add a link on a path to the owner to the policy")
            }
            GroupMissing { .. } => ("group-missing", "start the group's members in that region"),
            GroupUnknown { .. } => ("group-unknown", "reach the region's store and look again"),
            LeaderMissing { .. } => ("leader-missing", "see `explain` of the group's members"),
            Circle { .. } => ("circle", "change `replicatefrom` of one of them"),
            SameName { .. } => ("same-name", "rename all but one of them"),
            SameAddress { .. } => ("same-address", "correct `connect_address` of all but one"),
            RouteDrift { .. } => ("route-drift", "the coordinator's leader corrects it by itself"),
            RouteMissing { .. } => ("route-missing", "the coordinator's leader adds it by itself"),
            RouteStray { .. } => ("route-stray", "remove the node once no shard is on it"),
            RouteUnchecked { .. } => ("route-unchecked", "look again when the group has a leader"),
            RoutesUnchecked { .. } => ("routes-unchecked", "look again when the owner answers"),
        }
    }
}

fn list<T: ToString>(items: &[T]) -> String {
    items.iter().map(T::to_string).collect::<Vec<_>>().join(", ")
}
