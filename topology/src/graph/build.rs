//! From a scene to a graph.
//!
//! The upstream of a member is what it is configured to follow, not what it
//! reports: for a replica its `replicatefrom` member or its leader, for a standby
//! leader the leader of the same group in the region above it. Circles are kept
//! as they were written, so that the check can name them.
//!
//! Invariant *no invented edge*: where the owner, the region above or a leader
//! is unknown there is no edge, and the pictures show `?`.

use super::RegionRole;
use super::scene::{RegionScene, Scene, SiteScene};
use super::{Edge, Facts, Graph, GroupNode, MemberNode, Node, RegionNode, StoreNode, Who, paths};
use crate::report::{GroupReport, MemberReport};
use crate::{Group, GroupView, MemberName, RegionName, Seen};
use petgraph::graph::{DiGraph, NodeIndex};
use std::collections::{BTreeMap, BTreeSet};

impl Graph {
    pub fn build(scene: &Scene) -> Graph {
        let mut graph = Graph {
            formation: scene.formation.clone(),
            owner: owner(&scene.regions),
            net: DiGraph::new(),
            regions: BTreeMap::new(),
            stores: BTreeMap::new(),
            addresses: BTreeMap::new(),
            routes: scene.routes.clone(),
            has_policy: scene.policy.is_some(),
        };
        graph.add_regions(scene);
        for site in sites(scene, &graph) {
            graph.add_store(&site);
        }
        graph.link_regions(scene);
        graph.add_routes();
        graph
    }

    fn add_regions(&mut self, scene: &Scene) {
        let listed: BTreeSet<&RegionName> =
            scene.policy.iter().flat_map(|p| &p.regions).map(|r| &r.name).collect();
        for region in &scene.regions {
            if !self.regions.contains_key(&region.name) {
                let at = self.add_region(seen_region(region, listed.contains(&region.name)));
                for (group, view) in &region.groups {
                    self.add_group(at, &region.name, *group, view);
                }
            }
        }
        for name in listed {
            if !self.regions.contains_key(name) {
                self.add_region(unseen_region(name));
            }
        }
    }

    fn add_region(&mut self, node: RegionNode) -> NodeIndex {
        let name = node.name.clone();
        let at = self.net.add_node(Node::Region(node));
        self.regions.insert(name, at);
        at
    }

    fn add_group(&mut self, region: NodeIndex, name: &RegionName, group: Group, view: &GroupView) {
        let at = self.net.add_node(Node::Group(group_node(name, group, view)));
        self.net.add_edge(at, region, Edge::BelongsTo);
        let report = GroupReport::of(view);
        let who = |member: &MemberName| Who { region: name.clone(), group, name: member.clone() };
        let mut places = BTreeMap::new();
        for member in &report.members {
            let node = member_node(who(member.name), view, Some(member));
            places.insert(member.name, self.add_member(at, node));
        }
        let ghost = view.leader_name().filter(|leader| !places.contains_key(*leader));
        if let Some(leader) = ghost {
            places.insert(leader, self.add_member(at, member_node(who(leader), view, None)));
        }
        for member in report.members.iter().filter(|member| member.streams()) {
            let upstream = member.upstream.and_then(|upstream| places.get(upstream));
            if let Some(upstream) = upstream {
                self.net.add_edge(places[member.name], *upstream, Edge::StreamsFrom);
            }
        }
    }

    fn add_member(&mut self, group: NodeIndex, node: MemberNode) -> NodeIndex {
        let address = node.facts.known().and_then(|facts| facts.address.clone());
        let at = self.net.add_node(Node::Member(Box::new(node)));
        self.net.add_edge(at, group, Edge::BelongsTo);
        if let Some(address) = address {
            self.addresses.entry(address).or_default().push(at);
        }
        at
    }

    fn add_store(&mut self, site: &SiteScene) {
        if self.stores.contains_key(&site.name) {
            return;
        }
        let region = self.regions.get(&site.name).copied();
        let store = StoreNode {
            site: site.name.clone(),
            is_witness: region.is_none(),
            vote: site.vote.clone(),
        };
        let voted = site.vote.known().and_then(Option::as_ref);
        let voted = voted.and_then(|name| self.regions.get(name)).copied();
        let at = self.net.add_node(Node::Store(store));
        self.stores.insert(site.name.clone(), at);
        for (target, kind) in [(region, Edge::BelongsTo), (voted, Edge::VotesFor)] {
            if let Some(target) = target {
                self.net.add_edge(at, target, kind);
            }
        }
    }

    /// Standby leaders stream from the region above theirs, or from where
    /// `/config` of a plain standby cluster points.
    fn link_regions(&mut self, scene: &Scene) {
        let tree = region_tree(scene, self.owner.as_ref());
        let mut wanted = Vec::new();
        for (at, region) in self.regions() {
            let above = tree.get(&region.name).filter(|_| follows(region));
            let above = above.and_then(|name| self.region(name));
            let sources: BTreeMap<Group, NodeIndex> = above
                .map(|(above, _)| self.groups(above).into_iter().map(|(g, n)| (n.group, g)))
                .into_iter()
                .flatten()
                .collect();
            for (group_at, group) in self.groups(at) {
                let source = sources.get(&group.group).and_then(|g| self.leader(*g));
                let source = source.map(|(at, _)| at).or_else(|| self.remote(group));
                if let (Some((leader, _)), Some(source)) = (self.leader(group_at), source) {
                    wanted.push((leader, source));
                }
            }
        }
        for (leader, source) in wanted {
            self.net.update_edge(leader, source, Edge::StreamsFrom);
            self.measure(leader, source);
        }
        self.name_upstreams(&tree);
    }

    fn remote(&self, group: &GroupNode) -> Option<NodeIndex> {
        self.addresses.get(group.remote.as_ref()?)?.first().copied()
    }

    /// The lag of a standby leader. Positions of two moments are not compared:
    /// as soon as one side is stale the lag is unknown.
    fn measure(&mut self, leader: NodeIndex, source: NodeIndex) {
        let lag = self.member(leader).zip(self.member(source)).and_then(|(one, other)| {
            let is_fresh = |who: &Who| self.region(&who.region).is_some_and(|r| !r.1.is_stale);
            let both = is_fresh(&one.who) && is_fresh(&other.who);
            let at = one.facts.known()?.position?;
            let end = self.group_of(source)?.optime?;
            both.then(|| at.behind(end))
        });
        if let (Node::Member(member), Some(lag)) = (&mut self.net[leader], lag) {
            member.lag_bytes = Seen::Known(lag);
        }
    }

    fn name_upstreams(&mut self, tree: &BTreeMap<RegionName, RegionName>) {
        for (name, at) in &self.regions {
            if let Node::Region(region) = &mut self.net[*at] {
                region.upstream = tree.get(name).cloned();
            }
        }
    }

    fn add_routes(&mut self) {
        let Some(owner) = self.owner.as_ref().and_then(|owner| self.region(owner)) else {
            return;
        };
        let groups = self.groups(owner.0);
        let Some((from, _)) = groups.into_iter().find(|(_, g)| g.group.is_coordinator()) else {
            return;
        };
        let rows = self.routes.known().into_iter().flatten();
        let targets: BTreeSet<NodeIndex> = rows
            .filter_map(|row| self.addresses.get(&(row.host.clone(), row.port))?.first().copied())
            .collect();
        for target in targets {
            self.net.add_edge(from, target, Edge::RoutesTo);
        }
    }
}

/// The region that claims to be primary with the highest epoch anybody knows.
/// Two claims of one epoch, or a newer epoch elsewhere, leave the owner unknown.
fn owner(regions: &[RegionScene]) -> Option<RegionName> {
    let epoch = |region: &RegionScene| region.epoch.known().copied().flatten();
    let newest = regions.iter().map(epoch).max()?;
    let mut claims =
        regions.iter().filter(|r| r.role == Seen::Known(RegionRole::Primary) && epoch(r) == newest);
    let first = claims.next()?;
    claims.all(|other| other.name == first.name).then(|| first.name.clone())
}

/// A region whose role is not known, or that claims to be primary, is not said
/// to follow anybody.
fn follows(region: &RegionNode) -> bool {
    region.role == Seen::Known(RegionRole::Standby)
}

fn region_tree(scene: &Scene, owner: Option<&RegionName>) -> BTreeMap<RegionName, RegionName> {
    let Some(owner) = owner else {
        return BTreeMap::new();
    };
    let links = scene.links.as_deref();
    match &scene.policy {
        Some(policy) => paths::re_root(policy, links, owner),
        None => {
            let names: Vec<_> = scene.regions.iter().map(|region| &region.name).collect();
            paths::tree(&names, links, owner)
        }
    }
}

/// The sites of the scene, and the region's stores that it does not mention.
fn sites(scene: &Scene, graph: &Graph) -> Vec<SiteScene> {
    let listed = scene.policy.iter().flat_map(|_| graph.regions.keys());
    let silent = listed.map(|name| SiteScene { name: name.clone(), vote: Seen::Unknown });
    scene.sites.iter().cloned().chain(silent).collect()
}

fn seen_region(region: &RegionScene, is_in_policy: bool) -> RegionNode {
    RegionNode {
        name: region.name.clone(),
        role: region.role,
        epoch: region.epoch,
        is_seen: true,
        is_stale: region.is_stale,
        is_in_policy,
        upstream: None,
    }
}

fn unseen_region(name: &RegionName) -> RegionNode {
    RegionNode {
        name: name.clone(),
        role: Seen::Unknown,
        epoch: Seen::Unknown,
        is_seen: false,
        is_stale: true,
        is_in_policy: true,
        upstream: None,
    }
}

fn group_node(region: &RegionName, group: Group, view: &GroupView) -> GroupNode {
    let remote = view.config.as_ref().and_then(|c| c.value.standby_cluster.as_ref());
    GroupNode {
        region: region.clone(),
        group,
        leader: view.leader_name().cloned(),
        optime: view.status.as_ref().map(|status| status.value.optime),
        remote: remote.and_then(|at| Some((at.host.clone()?, at.port))),
        is_paused: view.is_paused(),
    }
}

/// `report`: `None` for a lock that names a member without a record.
fn member_node(who: Who, view: &GroupView, report: Option<&MemberReport>) -> MemberNode {
    let is_leader = view.leader_name() == Some(&who.name);
    MemberNode {
        who,
        is_leader,
        facts: report.map_or(Seen::Unknown, |report| Seen::Known(facts(report))),
        lag_bytes: report.map_or(Seen::Unknown, |report| report.position().lag_bytes),
    }
}

fn facts(report: &MemberReport) -> Facts {
    Facts {
        address: report.record.address(),
        role: report.record.role,
        state: Some(report.state.to_string()).filter(|text| !text.is_empty()),
        timeline: report.record.timeline,
        position: report.position().lsn.known().copied(),
    }
}
