//! The tree of regions: which region each one follows when one owns the formation.
//!
//! Each region follows its neighbour on the cheapest path to the root; of equal
//! paths the one with fewer hops, then the neighbour whose name comes first.
//! So every agent that holds the same policy computes the same tree.
//!
//! Invariant *no circles*: hops are part of the distance, so a parent is always
//! nearer to the root than its child, even over links that cost nothing.
//!
//! Absent on purpose: which regions are alive. The caller leaves out the links
//! that must not be used.

use super::Link;
use crate::RegionName;
use crate::region::Policy;
use petgraph::algo::dijkstra;
use petgraph::graph::{NodeIndex, UnGraph};
use petgraph::visit::EdgeRef;
use std::collections::BTreeMap;
use std::ops::Add;

/// For each region the one it follows under `new_root`. Without links every
/// region reaches every other. The root has no entry, and neither has a region
/// from which no allowed path leads to the root.
pub fn re_root(
    policy: &Policy,
    links: Option<&[Link]>,
    new_root: &RegionName,
) -> BTreeMap<RegionName, RegionName> {
    let names: Vec<&RegionName> = policy.regions.iter().map(|region| &region.name).collect();
    tree(&names, links, new_root)
}

/// The same for regions that no policy lists.
pub(super) fn tree(
    names: &[&RegionName],
    links: Option<&[Link]>,
    root: &RegionName,
) -> BTreeMap<RegionName, RegionName> {
    let mut net = UnGraph::<RegionName, u64>::new_undirected();
    let mut places = BTreeMap::new();
    for name in names {
        places.entry(*name).or_insert_with(|| net.add_node((*name).clone()));
    }
    connect(&mut net, &places, links);
    let Some(start) = places.get(root) else {
        return BTreeMap::new();
    };
    let far = dijkstra(&net, *start, None, |edge| Distance::of(*edge.weight()));
    let parent = |at: NodeIndex| {
        let here = far.get(&at)?;
        let nearer = net.edges(at).filter_map(|edge| {
            let next = if edge.source() == at { edge.target() } else { edge.source() };
            let there = *far.get(&next)? + Distance::of(*edge.weight());
            (there == *here).then(|| &net[next])
        });
        nearer.min().cloned()
    };
    let others = places.iter().filter(|(name, _)| **name != root);
    others.filter_map(|(name, at)| Some(((*name).clone(), parent(*at)?))).collect()
}

fn connect(
    net: &mut UnGraph<RegionName, u64>,
    places: &BTreeMap<&RegionName, NodeIndex>,
    links: Option<&[Link]>,
) {
    let Some(links) = links else {
        let all: Vec<NodeIndex> = places.values().copied().collect();
        for (index, one) in all.iter().enumerate() {
            for other in &all[index + 1..] {
                net.add_edge(*one, *other, 1);
            }
        }
        return;
    };
    for link in links {
        let (one, other) = &link.between;
        if let (Some(one), Some(other)) = (places.get(one), places.get(other))
            && one != other
        {
            net.add_edge(*one, *other, link.cost.into());
        }
    }
}

/// Cost first, then hops.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
struct Distance {
    cost: u64,
    hops: u64,
}

impl Distance {
    fn of(cost: u64) -> Distance {
        Distance { cost, hops: 1 }
    }
}

impl Add for Distance {
    type Output = Distance;
    fn add(self, other: Distance) -> Distance {
        Distance {
            cost: self.cost.saturating_add(other.cost),
            hops: self.hops.saturating_add(other.hops),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn names(count: usize) -> Vec<RegionName> {
        (0..count).map(|n| RegionName::new(format!("r{n}"))).collect()
    }

    fn link(one: &str, other: &str, cost: u32) -> Link {
        Link { between: (one.into(), other.into()), cost }
    }

    fn policy(count: usize) -> Policy {
        let regions: Vec<_> = names(count)
            .iter()
            .map(|name| serde_json::json!({"name": name, "endpoints": []}))
            .collect();
        let text = serde_json::json!({"formation": "shop", "regions": regions});
        serde_json::from_value(text).unwrap()
    }

    /// The dumb twin: tries every path that visits no region twice.
    fn walk(
        links: &[Link],
        path: &mut Vec<RegionName>,
        far: (u64, u64),
        root: &RegionName,
        best: &mut Vec<((u64, u64), RegionName)>,
    ) {
        let here = path[path.len() - 1].clone();
        if &here == root {
            best.push((far, path[1].clone()));
            return;
        }
        for Link { between: (a, b), cost } in links {
            for (from, to) in [(a, b), (b, a)] {
                if from == &here && !path.contains(to) {
                    path.push(to.clone());
                    walk(links, path, (far.0 + u64::from(*cost), far.1 + 1), root, best);
                    path.pop();
                }
            }
        }
    }

    fn twin(count: usize, links: &[Link], root: &RegionName) -> BTreeMap<RegionName, RegionName> {
        let mut tree = BTreeMap::new();
        for name in names(count).into_iter().filter(|name| name != root) {
            let mut found = Vec::new();
            walk(links, &mut vec![name.clone()], (0, 0), root, &mut found);
            if let Some((_, parent)) = found.into_iter().min() {
                tree.insert(name, parent);
            }
        }
        tree
    }

    #[test]
    fn without_links_all_follow_the_root() {
        let tree = re_root(&policy(3), None, &"r1".into());
        assert_eq!(tree, [("r0".into(), "r1".into()), ("r2".into(), "r1".into())].into());
        assert!(re_root(&policy(3), None, &"nowhere".into()).is_empty());
    }

    #[test]
    fn a_third_region_cascades_from_the_nearer_standby() {
        let links = [link("r0", "r1", 5), link("r0", "r2", 9), link("r1", "r2", 1)];
        let tree = re_root(&policy(3), Some(&links), &"r0".into());
        assert_eq!(tree[&"r2".into()], "r1".into());
        let back = re_root(&policy(3), Some(&links), &"r2".into());
        assert_eq!(back[&"r0".into()], "r1".into());
    }

    #[test]
    fn a_region_without_a_path_has_no_entry_and_free_links_make_no_circle() {
        let links = [link("r0", "r1", 0), link("r1", "r0", 7), link("r0", "r9", 1)];
        let tree = re_root(&policy(3), Some(&links), &"r0".into());
        assert_eq!(tree, [("r1".into(), "r0".into())].into());
    }

    proptest! {
        #[test]
        fn the_tree_is_what_trying_every_path_finds(
            count in 1usize..6,
            drawn in proptest::collection::vec((0usize..6, 0usize..6, 0u32..4), 0..10),
            root in 0usize..6,
        ) {
            let links: Vec<Link> = drawn
                .iter()
                .filter(|(a, b, _)| *a < count && *b < count)
                .map(|(a, b, cost)| link(&format!("r{a}"), &format!("r{b}"), *cost))
                .collect();
            let root = RegionName::new(format!("r{}", root % count));
            prop_assert_eq!(
                re_root(&policy(count), Some(&links), &root),
                twin(count, &links, &root)
            );
        }
    }
}
