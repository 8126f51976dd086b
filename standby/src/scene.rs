//! From what the stores said to the scene that the graph is built from.
//!
//! `matriarchctl` asks the stores of all regions; a daemon has the copy of its own
//! and what its agent has noted of the others.
//!
//! Invariant *pure*: nothing is asked here. Invariant *unknown is not absent*:
//! a region whose store gave no answer is shown as an agent remembers it, stale;
//! one that no agent remembers is left out, and the policy names it.
//!
//! Absent on purpose: the rows of `pg_dist_node`, which only a server knows.

use crate::switch::LocalTopology;
use std::collections::BTreeMap;
use topology::graph::{RegionRole, RegionScene, Scene, SiteScene};
use topology::region::{Certificate, PeerRegion, Policy};
use topology::report::follows_another;
use topology::{Group, GroupView, RegionName, Seen};

/// The name of the only region of a scope without regions.
pub const LOCAL: &str = "local";

/// What the store of one region holds.
#[derive(Clone, Copy, Debug)]
pub struct Store<'a> {
    pub topology: &'a LocalTopology,
    pub groups: &'a BTreeMap<Group, GroupView>,
}

/// The stores of all regions; `Unknown`: not asked, or without an answer.
#[derive(Clone, Debug)]
pub struct Stores<'a>(pub BTreeMap<&'a RegionName, Seen<Store<'a>>>);

impl<'a> Stores<'a> {
    fn known(&self) -> impl Iterator<Item = &Store<'a>> {
        self.0.values().filter_map(Seen::known)
    }

    /// The certificate of the highest epoch that any store holds.
    fn newest(&self) -> Option<&'a Certificate> {
        let held = self.known().filter_map(|store| store.topology.accepted());
        held.max_by_key(|certificate| certificate.epoch)
    }
}

/// A formation, from all its stores. `configured`: the policy until a store has one.
pub fn of_stores(stores: &Stores, formation: &str, configured: &Policy) -> Scene {
    let policy = stored_policy(stores).unwrap_or(configured);
    let seen = stores.0.iter().filter_map(|(name, store)| match store {
        Seen::Known(store) => Some(read(name, store)),
        Seen::Unknown => remembered(name, stores),
    });
    Scene {
        policy: Some(policy.clone()),
        regions: seen.collect(),
        sites: stores.0.iter().map(|(name, store)| site(name, store)).collect(),
        ..Scene::new(formation)
    }
}

fn site(name: &RegionName, store: &Seen<Store>) -> SiteScene {
    let owner = |vote: Option<&Certificate>| vote.map(|certificate| certificate.owner.clone());
    let vote = match store {
        Seen::Known(store) => vote(store.topology).map(owner),
        Seen::Unknown => Seen::Unknown,
    };
    SiteScene { name: name.clone(), vote }
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

/// The policy in the store that has seen the latest epoch.
fn stored_policy<'a>(stores: &Stores<'a>) -> Option<&'a Policy> {
    let stored = stores.known().filter_map(|store| {
        let policy = &store.topology.policy.as_ref()?.value;
        Some((store.topology.accepted_epoch(), policy))
    });
    Some(stored.max_by_key(|(epoch, _)| *epoch)?.1)
}

/// `Known(None)`: the site has accepted nothing.
fn vote(local: &LocalTopology) -> Seen<Option<&Certificate>> {
    if local.vote_is_readable() { Seen::Known(local.accepted()) } else { Seen::Unknown }
}

fn read(name: &RegionName, store: &Store) -> RegionScene {
    let vote = vote(store.topology);
    let role = match vote {
        Seen::Known(Some(accepted)) => Seen::Known(RegionRole::of(name, accepted)),
        _ => Seen::Unknown,
    };
    RegionScene {
        name: name.clone(),
        role,
        epoch: vote.map(|vote| vote.map(|accepted| accepted.epoch)),
        groups: store.groups.clone(),
        is_stale: false,
    }
}

/// A region out of reach, as the region with the latest epoch remembers it.
fn remembered(name: &RegionName, stores: &Stores) -> Option<RegionScene> {
    let notes = stores.known().filter_map(|store| {
        let peer = store.topology.peers.get(name)?;
        Some((store.topology.accepted_epoch(), peer))
    });
    let (_, peer) = notes.max_by_key(|(epoch, _)| *epoch)?;
    Some(RegionScene {
        name: name.clone(),
        role: role_out_of_reach(peer, stores),
        ..RegionScene::remembered(peer)
    })
}

/// What can be proved of a region that does not answer. Every new epoch is
/// first written into the owner's store: while that one says that it owns the
/// formation, no other region does. The other way round nothing follows.
fn role_out_of_reach(peer: &PeerRegion, stores: &Stores) -> Seen<RegionRole> {
    let newest = stores.newest().filter(|newest| peer.epoch.is_none_or(|e| e <= newest.epoch));
    let owner_says_so = newest.is_some_and(|newest| {
        let own = stores.0.get(&newest.owner).and_then(Seen::known);
        own.and_then(|store| store.topology.accepted()) == Some(newest)
    });
    if owner_says_so { Seen::Known(RegionRole::Standby) } else { Seen::Unknown }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::made_up::TakeSample;
    use serde_json::{Value, json};
    use topology::graph::Graph;

    fn policy() -> Policy {
        let region = |name| json!({"name": name, "endpoints": ["h:1"]});
        serde_json::from_value(json!({"formation": "shop", "regions": [region("a"), region("b")]}))
            .unwrap()
    }

    /// The store of a region that has accepted `owner` for epoch 3 and noted the other.
    fn local(owner: &str, other: &str) -> LocalTopology {
        let certificate = json!({"epoch": 3, "ballot": 3, "owner": owner, "kind": "planned",
            "previous_hash": "", "groups": {}, "proof": "", "policy_hash": "", "at": ""});
        let register = json!({"promised": 3, "accepted": certificate}).to_string();
        let peer = json!({"region": other, "epoch": 3, "groups": {}}).to_string();
        LocalTopology::read([("register", &*register), (&format!("peers/{other}"), &peer)])
    }

    /// As a daemon of `me` sees it, which reads no other store.
    fn seen_by(me: &str, other: &str) -> Value {
        let (topology, groups) = (local("a", other), BTreeMap::from([(Group::PLAIN, view())]));
        let (me, other) = (RegionName::new(me), RegionName::new(other));
        let own = Seen::Known(Store { topology: &topology, groups: &groups });
        let stores = Stores([(&me, own), (&other, Seen::Unknown)].into());
        Graph::build(&of_stores(&stores, "shop", &policy())).json()
    }

    fn view() -> GroupView {
        let mut view = GroupView::default();
        view.take_sample("leader", "n1", 1, 1);
        view
    }

    #[test]
    fn the_owner_proves_that_the_other_region_stands_by() {
        let seen = seen_by("a", "b");
        assert_eq!(seen["owner"], "a");
        assert_eq!(
            (&seen["regions"][1]["role"], &seen["regions"][1]["is_stale"]),
            (&json!("standby"), &json!(true))
        );
    }

    #[test]
    fn a_standby_region_cannot_prove_that_the_owner_still_owns() {
        let seen = seen_by("b", "a");
        assert_eq!((&seen["owner"], &seen["regions"][0]["role"]), (&Value::Null, &Value::Null));
        assert_eq!(
            (&seen["regions"][1]["role"], &seen["regions"][1]["epoch"]),
            (&json!("standby"), &json!(3))
        );
        assert_eq!(seen["findings"][0]["code"], "owner-unknown");
    }
}
