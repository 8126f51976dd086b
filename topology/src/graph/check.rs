//! Is the formation what it should be?
//!
//! Invariant *unknown is not absent*: what follows from facts that are stale or
//! were never seen is a warning that names the gap, never an error.

use super::{Address, Edge, Finding, Graph, GroupNode, RegionNode, RegionRole, Route, Who};
use crate::{Group, MemberName, RegionName, Seen};
use petgraph::algo::kosaraju_scc;
use petgraph::graph::NodeIndex;
use petgraph::visit::EdgeFiltered;
use std::collections::{BTreeMap, BTreeSet};

impl Graph {
    /// Everything that is wrong or cannot be told, errors first.
    pub fn findings(&self) -> Vec<Finding> {
        let mut found: Vec<Finding> = self.owners().into_iter().collect();
        found.extend(self.regions().flat_map(|(_, region)| self.region_findings(region)));
        found.extend(self.groups_everywhere());
        found.extend(self.circles());
        found.extend(self.same_names());
        found.extend(self.same_addresses());
        found.extend(self.drift());
        found.sort_by_key(|finding| std::cmp::Reverse(finding.level()));
        found
    }

    fn owners(&self) -> Option<Finding> {
        let claims = |r: &RegionNode| !r.is_stale && r.role == Seen::Known(RegionRole::Primary);
        let claimants = self.regions().filter(|(_, region)| claims(region));
        let regions: Vec<RegionName> = claimants.map(|(_, r)| r.name.clone()).collect();
        if regions.len() > 1 {
            return Some(Finding::OwnersSeveral { regions });
        }
        (self.owner.is_none() && !self.regions.is_empty()).then_some(Finding::OwnerUnknown)
    }

    fn region_findings(&self, region: &RegionNode) -> Vec<Finding> {
        let mut found = Vec::new();
        let name = || region.name.clone();
        if !region.is_seen {
            found.push(Finding::RegionUnseen { region: name() });
        }
        if self.has_policy && !region.is_in_policy {
            found.push(Finding::RegionUnlisted { region: name() });
            return found;
        }
        let owner = self.owner.as_ref().filter(|owner| **owner != region.name);
        if let (Some(owner), None) = (owner, &region.upstream) {
            found.push(Finding::RegionUnlinked { region: name(), owner: owner.clone() });
        }
        found
    }

    fn groups_everywhere(&self) -> Vec<Finding> {
        let expected = self.group_numbers();
        let seen = self.regions().filter(|(_, region)| region.is_seen);
        seen.flat_map(|(at, region)| self.groups_of(at, region, &expected)).collect()
    }

    fn groups_of(
        &self,
        at: NodeIndex,
        region: &RegionNode,
        expected: &BTreeSet<Group>,
    ) -> Vec<Finding> {
        let groups = self.groups(at);
        let here: BTreeSet<Group> = groups.iter().map(|(_, node)| node.group).collect();
        let name = || region.name.clone();
        let missing = expected.difference(&here).map(|group| match region.is_stale {
            true => Finding::GroupUnknown { region: name(), group: *group },
            false => Finding::GroupMissing { region: name(), group: *group },
        });
        let leaderless = |group: &GroupNode| group.leader.is_none() && !region.is_stale;
        let leaderless = groups
            .iter()
            .filter(|(_, group)| leaderless(group))
            .map(|(_, group)| Finding::LeaderMissing { region: name(), group: group.group });
        missing.chain(leaderless).collect()
    }

    /// Members from which following the upstream leads back to themselves.
    fn circles(&self) -> Vec<Finding> {
        let streams = EdgeFiltered::from_fn(&self.net, |edge| *edge.weight() == Edge::StreamsFrom);
        // Kosaraju's algorithm keeps its own stack: a long cascade cannot
        // exhaust ours.
        let components = kosaraju_scc(&streams).into_iter();
        let mut circles: Vec<Vec<Who>> = components
            .filter(|nodes| nodes.len() > 1 || self.streams_from_itself(nodes[0]))
            .map(|nodes| self.names(&nodes))
            .collect();
        circles.sort();
        circles.into_iter().map(|members| Finding::Circle { members }).collect()
    }

    /// A standby cluster whose `/config` names its own leader.
    fn streams_from_itself(&self, at: NodeIndex) -> bool {
        self.net.edges_connecting(at, at).any(|edge| *edge.weight() == Edge::StreamsFrom)
    }

    fn names(&self, nodes: &[NodeIndex]) -> Vec<Who> {
        let members = nodes.iter().filter_map(|at| self.member(*at));
        let mut names: Vec<Who> = members.map(|member| member.who.clone()).collect();
        names.sort();
        names
    }

    /// A name must be unique across regions. Different groups of one region
    /// may share one: their slots and keys never meet.
    fn same_names(&self) -> Vec<Finding> {
        let mut holders: BTreeMap<&MemberName, Vec<&Who>> = BTreeMap::new();
        for member in self.net.node_indices().filter_map(|at| self.member(at)) {
            holders.entry(&member.who.name).or_default().push(&member.who);
        }
        let clash = |all: &Vec<&Who>| all.iter().any(|who| who.region != all[0].region);
        let clashes = holders.into_values().filter(clash);
        clashes.map(|all| Finding::SameName { members: sorted(all) }).collect()
    }

    fn same_addresses(&self) -> Vec<Finding> {
        let shared = self.addresses.iter().filter(|(_, nodes)| nodes.len() > 1);
        let finding = |(address, nodes): (&Address, &Vec<NodeIndex>)| Finding::SameAddress {
            address: address.clone(),
            members: self.names(nodes),
        };
        shared.map(finding).collect()
    }

    /// `pg_dist_node` against the leaders of the owner.
    fn drift(&self) -> Vec<Finding> {
        let is_citus = self.group_numbers().iter().any(|group| group.0.is_some());
        let rows = match &self.routes {
            Seen::Unknown if is_citus => return vec![unchecked("they could not be read")],
            Seen::Known(rows) if is_citus || !rows.is_empty() => rows,
            _ => return Vec::new(),
        };
        let owner = self.owner.as_ref().and_then(|name| self.region(name));
        match owner {
            None => vec![unchecked("it is not known which region owns the formation")],
            Some((_, region)) if region.is_stale => {
                vec![unchecked("what is known of the owner is stale")]
            }
            Some((at, _)) => self.drift_of(at, rows),
        }
    }

    fn drift_of(&self, owner: NodeIndex, rows: &[Route]) -> Vec<Finding> {
        let groups = self.groups(owner);
        let groups: BTreeMap<Group, NodeIndex> =
            groups.into_iter().map(|(at, node)| (node.group, at)).collect();
        let routed: BTreeSet<Group> = rows.iter().map(|row| row.group).collect();
        let missing = groups.keys().filter(|g| g.0.is_some() && !routed.contains(g));
        rows.iter()
            .filter_map(|row| self.row_drift(row, groups.get(&row.group).copied()))
            .chain(missing.map(|group| Finding::RouteMissing { group: *group }))
            .collect()
    }

    fn row_drift(&self, row: &Route, group: Option<NodeIndex>) -> Option<Finding> {
        let Some(at) = group else {
            return Some(Finding::RouteStray { group: row.group });
        };
        let unchecked = |why| Some(Finding::RouteUnchecked { group: row.group, why });
        let Some((_, leader)) = self.leader(at) else {
            return unchecked("the group has no leader");
        };
        let Some(at) = leader.facts.known().and_then(|facts| facts.address.clone()) else {
            return unchecked("the leader's address is not known");
        };
        let named = (row.host.clone(), row.port);
        (named != at).then(|| Finding::RouteDrift {
            group: row.group,
            row: named,
            leader: leader.who.clone(),
            at,
        })
    }
}

fn unchecked(why: &'static str) -> Finding {
    Finding::RoutesUnchecked { why }
}

fn sorted(all: Vec<&Who>) -> Vec<Who> {
    let mut names: Vec<Who> = all.into_iter().cloned().collect();
    names.sort();
    names
}

#[cfg(test)]
#[path = "check_tests.rs"]
mod tests;
