//! The graph of members, groups, regions and stores, rebuilt from what was seen.
//!
//! Everything that reasons across groups asks this graph: which server a standby
//! leader follows, the order of a switch, drift, the pictures. It is made anew from
//! a `Scene` each time and never changed afterwards, so it cannot disagree with
//! what it was made from.
//!
//! | node | edges that leave it |
//! |---|---|
//! | member | BelongsTo its group, StreamsFrom its upstream member |
//! | group | BelongsTo its region; RoutesTo members (the coordinator's `pg_dist_node`) |
//! | region | none |
//! | store | BelongsTo its region (a witness has none), VotesFor a region |
//!
//! Invariant *unknown is not absent*: a region whose store was not read has a node
//! and no groups, and no finding says that its groups are missing.
//!
//! Absent on purpose: reading stores (the caller makes the scene), and what to
//! do about a finding (`standby` and `citus` hold those rules).

mod build;
mod check;
mod dot;
mod finding;
mod json;
mod order;
mod paths;
mod scene;
mod tree;

#[cfg(test)]
mod fixture;

pub use crate::report::RegionRole;
pub use finding::{Finding, Level};
pub use order::Circle;
pub use paths::re_root;
pub use scene::{Link, RegionScene, Route, Scene, SiteScene};

use crate::{Group, Lsn, MemberName, MemberRole, RegionName, Seen, Timeline};
use petgraph::Direction::{Incoming, Outgoing};
use petgraph::graph::{DiGraph, NodeIndex};
use petgraph::visit::EdgeRef;
use std::collections::BTreeMap;
use std::fmt;

/// Host and port.
pub type Address = (String, u16);

/// One member of the formation; names alone are only unique in their group.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Who {
    pub region: RegionName,
    pub group: Group,
    pub name: MemberName,
}

impl fmt::Display for Who {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.group {
            Group::PLAIN => write!(f, "{}/{}", self.region, self.name),
            group => write!(f, "{}/{group}/{}", self.region, self.name),
        }
    }
}

#[derive(Clone, Debug, PartialEq)]
pub enum Node {
    Region(RegionNode),
    Group(GroupNode),
    Member(Box<MemberNode>),
    Store(StoreNode),
}

#[derive(Clone, Debug, PartialEq)]
pub struct RegionNode {
    pub name: RegionName,
    pub role: Seen<RegionRole>,
    /// Epoch of the certificate it holds; `Known(None)`: it holds none.
    pub epoch: Seen<Option<u64>>,
    /// False: the policy lists it and its store was not read.
    pub is_seen: bool,
    /// What is known of it is from an earlier look.
    pub is_stale: bool,
    pub is_in_policy: bool,
    /// The region it follows, by the cheapest path to the owner.
    pub upstream: Option<RegionName>,
}

#[derive(Clone, Debug, PartialEq)]
pub struct GroupNode {
    pub region: RegionName,
    pub group: Group,
    /// Who holds the lock.
    pub leader: Option<MemberName>,
    /// The leader's last published position.
    pub optime: Option<Lsn>,
    /// The remote address `/config` names for a plain standby cluster.
    pub remote: Option<Address>,
    pub is_paused: bool,
}

#[derive(Clone, Debug, PartialEq)]
pub struct MemberNode {
    pub who: Who,
    /// It holds the lock of its group.
    pub is_leader: bool,
    /// `Unknown`: the lock names it and its record is not there.
    pub facts: Seen<Facts>,
    /// Bytes it has yet to receive. `Unknown` for members that need none, too.
    pub lag_bytes: Seen<u64>,
}

/// What a member says of itself, as far as the pictures and checks need it.
#[derive(Clone, Debug, PartialEq)]
pub struct Facts {
    pub address: Option<Address>,
    pub role: MemberRole,
    pub state: Option<String>,
    pub timeline: Option<Timeline>,
    pub position: Option<Lsn>,
}

/// One acceptor: the store of a region, or of a witness.
#[derive(Clone, Debug, PartialEq)]
pub struct StoreNode {
    pub site: RegionName,
    pub is_witness: bool,
    /// The owner of the certificate it accepted; `Known(None)`: it accepted none.
    pub vote: Seen<Option<RegionName>>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Edge {
    StreamsFrom,
    BelongsTo,
    RoutesTo,
    VotesFor,
}

/// A formation as it was seen.
#[derive(Clone, Debug)]
pub struct Graph {
    pub formation: String,
    /// The region that certainly owns the formation; `None` when that is not known.
    pub owner: Option<RegionName>,
    pub net: DiGraph<Node, Edge>,
    regions: BTreeMap<RegionName, NodeIndex>,
    stores: BTreeMap<RegionName, NodeIndex>,
    addresses: BTreeMap<Address, Vec<NodeIndex>>,
    routes: Seen<Vec<Route>>,
    has_policy: bool,
}

impl Graph {
    pub fn regions(&self) -> impl Iterator<Item = (NodeIndex, &RegionNode)> {
        self.regions.values().filter_map(|at| match &self.net[*at] {
            Node::Region(region) => Some((*at, region)),
            _ => None,
        })
    }

    pub fn region(&self, name: &RegionName) -> Option<(NodeIndex, &RegionNode)> {
        let at = *self.regions.get(name)?;
        match &self.net[at] {
            Node::Region(region) => Some((at, region)),
            _ => None,
        }
    }

    /// Groups of a region by number.
    pub fn groups(&self, region: NodeIndex) -> Vec<(NodeIndex, &GroupNode)> {
        let inside = self.net.edges_directed(region, Incoming);
        let mut found: Vec<_> = inside
            .filter_map(|edge| match &self.net[edge.source()] {
                Node::Group(group) => Some((edge.source(), group)),
                _ => None,
            })
            .collect();
        found.sort_by_key(|(_, group)| group.group);
        found
    }

    /// Members of a group by name.
    pub fn members(&self, group: NodeIndex) -> Vec<(NodeIndex, &MemberNode)> {
        self.members_by(group, Edge::BelongsTo)
    }

    /// Who streams from this member, by region, group and name.
    pub fn downstream(&self, member: NodeIndex) -> Vec<(NodeIndex, &MemberNode)> {
        self.members_by(member, Edge::StreamsFrom)
    }

    /// The member that this one streams from.
    pub fn upstream(&self, member: NodeIndex) -> Option<(NodeIndex, &MemberNode)> {
        let mut edges = self.net.edges_directed(member, Outgoing);
        let at = edges.find(|edge| *edge.weight() == Edge::StreamsFrom)?.target();
        Some((at, self.member(at)?))
    }

    /// The group this member belongs to.
    pub fn group_of(&self, member: NodeIndex) -> Option<&GroupNode> {
        let mut edges = self.net.edges_directed(member, Outgoing);
        match &self.net[edges.find(|edge| *edge.weight() == Edge::BelongsTo)?.target()] {
            Node::Group(group) => Some(group),
            _ => None,
        }
    }

    pub fn leader(&self, group: NodeIndex) -> Option<(NodeIndex, &MemberNode)> {
        self.members(group).into_iter().find(|(_, member)| member.is_leader)
    }

    pub fn stores(&self) -> impl Iterator<Item = &StoreNode> {
        self.stores.values().filter_map(|at| match &self.net[*at] {
            Node::Store(store) => Some(store),
            _ => None,
        })
    }

    /// Every group number that some region is known to have.
    pub fn group_numbers(&self) -> std::collections::BTreeSet<Group> {
        let all = self.net.node_weights();
        all.filter_map(|node| match node {
            Node::Group(group) => Some(group.group),
            _ => None,
        })
        .collect()
    }

    fn member(&self, at: NodeIndex) -> Option<&MemberNode> {
        match &self.net[at] {
            Node::Member(member) => Some(member),
            _ => None,
        }
    }

    fn members_by(&self, at: NodeIndex, kind: Edge) -> Vec<(NodeIndex, &MemberNode)> {
        let edges = self.net.edges_directed(at, Incoming).filter(|edge| *edge.weight() == kind);
        let mut found: Vec<_> =
            edges.filter_map(|e| Some((e.source(), self.member(e.source())?))).collect();
        found.sort_by(|a, b| a.1.who.cmp(&b.1.who));
        found
    }
}
