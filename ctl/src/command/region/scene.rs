//! From what the stores said to the scene that the graph is built from.
//!
//! Invariant *pure*: nothing is asked here. Invariant *unknown is not absent*:
//! a region whose store gave no answer is shown as an agent remembers it, stale;
//! one that no agent remembers is left out, and the policy names it.
//!
//! Absent on purpose: the rows of `pg_dist_node` (see `formation`).

use super::sites::{Regions, Sites};
use node::region::ownership::Site;
use standby::switch::LocalTopology;
use std::collections::BTreeMap;
use topology::graph::{RegionRole, RegionScene, Scene, SiteScene};
use topology::region::{Certificate, PeerRegion, Policy};
use topology::{Group, GroupView, MemberRole, RegionName, Seen};

/// The name of the only region of a scope without regions.
pub const LOCAL: &str = "local";

/// A formation, from all its stores.
pub fn of_regions(regions: &Regions, sites: &Sites) -> Scene {
    let policy = stored_policy(sites).unwrap_or(&regions.policy);
    let seen = sites.0.iter().filter_map(|(name, site)| match site {
        Ok(site) => Some(read(name, site)),
        Err(_) => remembered(name, sites),
    });
    let vote = |(name, site): (&RegionName, &Result<Site, String>)| SiteScene {
        name: name.clone(),
        vote: match site {
            Ok(site) => vote(&site.topology).map(|vote| vote.map(|c| c.owner.clone())),
            Err(_) => Seen::Unknown,
        },
    };
    Scene {
        policy: Some(policy.clone()),
        regions: seen.collect(),
        sites: sites.0.iter().map(vote).collect(),
        ..Scene::new(&regions.formation)
    }
}

/// A scope without regions is its own formation of one.
pub fn of_scope(scope: &str, groups: BTreeMap<Group, GroupView>) -> Scene {
    let is_standby = groups.values().any(follows_another);
    let role = if is_standby { RegionRole::Standby } else { RegionRole::Primary };
    let only = RegionScene {
        name: LOCAL.into(),
        role: Seen::Known(role),
        epoch: Seen::Known(None),
        groups,
        is_stale: false,
    };
    Scene { regions: vec![only], ..Scene::new(scope) }
}

/// A standby cluster in the plain sense: `/config` names a remote leader.
fn follows_another(view: &GroupView) -> bool {
    let is_told = view.config.as_ref().is_some_and(|c| c.value.standby_cluster.is_some());
    is_told || view.leader_record().is_some_and(|leader| leader.role == MemberRole::StandbyLeader)
}

/// The policy in the store that has seen the latest epoch.
fn stored_policy(sites: &Sites) -> Option<&Policy> {
    let stored = sites.known().filter_map(|(_, site)| {
        let policy = &site.topology.policy.as_ref()?.value;
        Some((site.topology.accepted_epoch(), policy))
    });
    Some(stored.max_by_key(|(epoch, _)| *epoch)?.1)
}

/// `Known(None)`: the site has accepted nothing.
fn vote(local: &LocalTopology) -> Seen<Option<&Certificate>> {
    if local.vote_is_readable() { Seen::Known(local.accepted()) } else { Seen::Unknown }
}

fn read(name: &RegionName, site: &Site) -> RegionScene {
    let vote = vote(&site.topology);
    let role = match vote {
        Seen::Known(Some(accepted)) => Seen::Known(role(name, accepted)),
        _ => Seen::Unknown,
    };
    RegionScene {
        name: name.clone(),
        role,
        epoch: vote.map(|vote| vote.map(|accepted| accepted.epoch)),
        groups: site.groups.clone(),
        is_stale: false,
    }
}

fn role(name: &RegionName, accepted: &Certificate) -> RegionRole {
    if accepted.owner == *name { RegionRole::Primary } else { RegionRole::Standby }
}

/// A region out of reach, as the region with the latest epoch remembers it.
fn remembered(name: &RegionName, sites: &Sites) -> Option<RegionScene> {
    let notes = sites.known().filter_map(|(_, site)| {
        let peer = site.topology.peers.get(name)?;
        Some((site.topology.accepted_epoch(), peer))
    });
    let (_, peer) = notes.max_by_key(|(epoch, _)| *epoch)?;
    Some(RegionScene {
        name: name.clone(),
        role: role_out_of_reach(peer, sites),
        ..RegionScene::remembered(peer)
    })
}

/// What can be proved of a region that does not answer. Every new epoch is
/// first written into the owner's store: while that one says that it owns the
/// formation, no other region does. The other way round nothing follows.
fn role_out_of_reach(peer: &PeerRegion, sites: &Sites) -> Seen<RegionRole> {
    let newest = sites.newest().filter(|newest| peer.epoch.is_none_or(|e| e <= newest.epoch));
    let owner_says_so = newest.is_some_and(|newest| {
        let own = sites.0.get(&newest.owner).and_then(|site| site.as_ref().ok());
        own.and_then(|site| site.topology.accepted()) == Some(newest)
    });
    if owner_says_so { Seen::Known(RegionRole::Standby) } else { Seen::Unknown }
}
