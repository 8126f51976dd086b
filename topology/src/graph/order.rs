//! In which order the groups of a formation open in a switch.
//!
//! A group opens after every group it routes to: a coordinator that serves
//! before its workers do fails its clients. Groups of one wave go in parallel.
//! The way down is the same list backwards: the coordinator first turns its
//! clients away.
//!
//! Absent on purpose: what stopping and opening mean (`standby/src/switch`).

use super::{Edge, Graph, Node};
use crate::Group;
use petgraph::algo::toposort;
use petgraph::graph::{DiGraph, NodeIndex};
use petgraph::visit::EdgeRef;
use std::collections::{BTreeMap, BTreeSet};

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("group {group} routes to itself through other groups; correct pg_dist_node by hand")]
pub struct Circle {
    pub group: Group,
}

impl Graph {
    /// Waves of groups in the order in which they open.
    pub fn open_order(&self) -> Result<Vec<Vec<Group>>, Circle> {
        let groups = self.group_numbers();
        let mut routes = self.routed_groups();
        // Rows that could not be read are unknown, not absent: a coordinator is
        // assumed to route to every worker there is.
        if groups.contains(&Group::COORDINATOR) {
            let workers = groups.iter().filter(|group| **group != Group::COORDINATOR);
            routes.extend(workers.map(|worker| (Group::COORDINATOR, *worker)));
        }
        waves(&groups, &routes)
    }

    /// Pairs of groups with a route from the first to the second.
    fn routed_groups(&self) -> BTreeSet<(Group, Group)> {
        let routes = self.net.edge_references().filter(|e| *e.weight() == Edge::RoutesTo);
        let pair = |from: &Node, to: &Node| match (from, to) {
            (Node::Group(from), Node::Member(to)) => Some((from.group, to.who.group)),
            _ => None,
        };
        routes
            .filter_map(|e| pair(&self.net[e.source()], &self.net[e.target()]))
            .filter(|(from, to)| from != to)
            .collect()
    }
}

/// A group's wave is one after the latest wave it routes to.
fn waves(
    groups: &BTreeSet<Group>,
    routes: &BTreeSet<(Group, Group)>,
) -> Result<Vec<Vec<Group>>, Circle> {
    let mut net = DiGraph::<Group, ()>::new();
    let places: BTreeMap<Group, NodeIndex> =
        groups.iter().map(|group| (*group, net.add_node(*group))).collect();
    for (from, to) in routes {
        if let (Some(from), Some(to)) = (places.get(from), places.get(to)) {
            net.add_edge(*from, *to, ());
        }
    }
    let sorted = toposort(&net, None).map_err(|c| Circle { group: net[c.node_id()] })?;
    let mut depth = vec![0usize; net.node_count()];
    let mut waves: Vec<Vec<Group>> = Vec::new();
    for at in sorted.into_iter().rev() {
        let below = net.neighbors(at).map(|next| depth[next.index()] + 1);
        depth[at.index()] = below.max().unwrap_or(0);
        waves.resize(waves.len().max(depth[at.index()] + 1), Vec::new());
        waves[depth[at.index()]].push(net[at]);
    }
    waves.iter_mut().for_each(|wave| wave.sort());
    Ok(waves)
}

#[cfg(test)]
mod tests {
    use super::super::fixture::{region, scene};
    use super::*;
    use crate::Seen;
    use proptest::prelude::*;

    fn g(number: u32) -> Group {
        Group(Some(number))
    }

    #[test]
    fn workers_open_together_and_the_coordinator_after_them() {
        let mut seen = scene(&[region("a", &[g(0), g(1), g(2), g(3)], 2)]);
        let expected = vec![vec![g(1), g(2), g(3)], vec![g(0)]];
        assert_eq!(Graph::build(&seen).open_order().unwrap(), expected);
        seen.routes = Seen::Unknown;
        assert_eq!(Graph::build(&seen).open_order().unwrap(), expected);
    }

    #[test]
    fn a_plain_cluster_is_one_wave_and_nothing_is_none() {
        let seen = scene(&[region("a", &[Group::PLAIN], 1)]);
        assert_eq!(Graph::build(&seen).open_order().unwrap(), vec![vec![Group::PLAIN]]);
        assert!(Graph::build(&scene(&[])).open_order().unwrap().is_empty());
    }

    #[test]
    fn a_circle_of_routes_is_named() {
        let groups = BTreeSet::from([g(0), g(1), g(2)]);
        let circle = BTreeSet::from([(g(1), g(2)), (g(2), g(1))]);
        let error = waves(&groups, &circle).unwrap_err();
        assert!(error == Circle { group: g(1) } || error == Circle { group: g(2) });
    }

    proptest! {
        /// Routes go from lower to higher numbers, so there is no circle.
        #[test]
        fn no_group_opens_before_those_it_routes_to(
            drawn in proptest::collection::btree_set((0u32..8, 0u32..8), 0..20),
        ) {
            let groups: BTreeSet<Group> = (0..8).map(g).collect();
            let routes: BTreeSet<_> =
                drawn.into_iter().filter(|(a, b)| a < b).map(|(a, b)| (g(a), g(b))).collect();
            let waves = waves(&groups, &routes).unwrap();
            let wave = |group: Group| waves.iter().position(|w| w.contains(&group)).unwrap();
            for (from, to) in &routes {
                prop_assert!(wave(*from) > wave(*to));
            }
            for group in &groups {
                let targets = routes.iter().filter(|r| r.0 == *group).map(|r| wave(r.1) + 1);
                prop_assert_eq!(wave(*group), targets.max().unwrap_or(0), "waits for nothing");
            }
        }
    }
}
