//! What `pg_dist_node` should say.
//!
//! The leader of a group is its primary row, its other members are secondaries
//! of the cluster `default`; members of standby regions are secondaries of the
//! cluster that bears their region's name, invisible to the owner's readers.
//!
//! Invariant *unknown is not absent*: a group is part of the answer only if its
//! leader is known. Two groups that claim one address are both left out: one of
//! the views is wrong, and a row that names the wrong group's data loses writes.
//!
//! Absent on purpose: which region owns the formation. The caller passes the
//! owner's groups as `own`.

use crate::{Address, DEFAULT_CLUSTER};
use std::collections::{BTreeMap, BTreeSet};
use topology::RegionName;

/// One group of one region, as its store shows it now.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct GroupNow {
    /// The running leader; `None` when it is not known, which is not "no leader".
    pub leader: Option<Address>,
    /// Running members that may serve reads (no `noloadbalance`), sans leader.
    pub secondaries: Vec<Address>,
    /// An operator removes the group: no row of it is added.
    pub is_leaving: bool,
}

pub type Groups = BTreeMap<u32, GroupNow>;

/// What is registered besides primaries.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Wish {
    /// The owning region's own replicas, in the cluster `default`.
    pub register_secondaries: bool,
    /// Members of standby regions, in the cluster of their region's name.
    pub register_regions: bool,
    /// The owning region, where there are regions. Its name is no cluster any
    /// more: what a move left registered under it is cleared away.
    pub owner: Option<RegionName>,
    /// Poolers in front of groups: every node connects to a group through its own.
    pub poolers: BTreeMap<u32, Address>,
}

impl Wish {
    /// What the daemons keep: the replicas of their own region.
    pub fn own_replicas() -> Wish {
        Wish { register_secondaries: true, ..Wish::default() }
    }
}

/// The rows of one group that a plan is to bring about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DesiredGroup {
    pub primary: Address,
    /// Clusters whose secondaries are ours to arrange: exactly these addresses.
    /// A cluster that is not a key is not ours and stays as it is.
    pub secondaries: BTreeMap<String, BTreeSet<Address>>,
    /// A primary row follows the leader while it is there, and is not added.
    pub is_leaving: bool,
    /// Where every node's `pg_dist_poolinfo` sends connections for the group.
    pub pooler: Option<Address>,
}

/// Rows by group. A group that is not a key keeps its rows untouched.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Desired {
    pub groups: BTreeMap<u32, DesiredGroup>,
    /// Groups of the owner without a known leader.
    pub unknown: BTreeSet<u32>,
    /// Addresses that more than one group claims for its leader.
    pub contested: BTreeMap<Address, BTreeSet<u32>>,
}

impl Desired {
    /// Every address some row is to have.
    pub fn addresses(&self) -> BTreeSet<&Address> {
        self.groups
            .values()
            .flat_map(|group| {
                std::iter::once(&group.primary).chain(group.secondaries.values().flatten())
            })
            .collect()
    }
}

/// The rows for the owner's groups `own` and the standby regions `others`.
///
/// A region whose store did not answer must not be a key of `others`: its
/// members' rows then stay as they are.
pub fn desired(own: &Groups, others: &BTreeMap<RegionName, Groups>, wish: &Wish) -> Desired {
    let mut answer = primaries(own);
    let mut taken: BTreeSet<Address> = answer
        .groups
        .values()
        .map(|group| group.primary.clone())
        .chain(answer.contested.keys().cloned())
        .collect();
    for (number, group) in &mut answer.groups {
        group.pooler = wish.poolers.get(number).cloned();
        if wish.register_secondaries {
            let members = own.get(number).map_or(&[][..], |now| &now.secondaries);
            let rows = claim(members.iter(), &mut taken);
            group.secondaries.insert(DEFAULT_CLUSTER.to_string(), rows);
        }
    }
    if wish.register_regions {
        register_regions(&mut answer, others, &mut taken);
        clear_owner(&mut answer, wish.owner.as_ref());
    }
    answer
}

/// Groups with a known leader whose address no other group claims.
fn primaries(own: &Groups) -> Desired {
    let mut claims: BTreeMap<&Address, BTreeSet<u32>> = BTreeMap::new();
    for (number, group) in own {
        if let Some(leader) = &group.leader {
            claims.entry(leader).or_default().insert(*number);
        }
    }
    let mut answer = Desired::default();
    for (number, group) in own {
        match &group.leader {
            None => drop(answer.unknown.insert(*number)),
            Some(leader) if claims[leader].len() > 1 => {
                answer.contested.insert(leader.clone(), claims[leader].clone());
            }
            Some(leader) => {
                let rows = DesiredGroup {
                    primary: leader.clone(),
                    secondaries: BTreeMap::new(),
                    is_leaving: group.is_leaving,
                    pooler: None,
                };
                answer.groups.insert(*number, rows);
            }
        }
    }
    answer
}

/// All members of the standby regions, the standby leader like the others.
fn register_regions(
    answer: &mut Desired,
    others: &BTreeMap<RegionName, Groups>,
    taken: &mut BTreeSet<Address>,
) {
    let named = |region: &&RegionName| region.as_str() != DEFAULT_CLUSTER;
    for region in others.keys().filter(named) {
        for (number, now) in &others[region] {
            let (Some(group), Some(_)) = (answer.groups.get_mut(number), &now.leader) else {
                continue;
            };
            let rows = claim(now.leader.iter().chain(&now.secondaries), taken);
            group.secondaries.insert(region.to_string(), rows);
        }
    }
}

fn clear_owner(answer: &mut Desired, owner: Option<&RegionName>) {
    let Some(owner) = owner.filter(|name| name.as_str() != DEFAULT_CLUSTER) else {
        return;
    };
    for group in answer.groups.values_mut() {
        group.secondaries.insert(owner.to_string(), BTreeSet::new());
    }
}

/// Addresses that no other row has; the first claim stands.
fn claim<'a>(
    members: impl Iterator<Item = &'a Address>,
    taken: &mut BTreeSet<Address>,
) -> BTreeSet<Address> {
    members.filter(|address| taken.insert((*address).clone())).cloned().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(host: &str) -> Address {
        Address::new(host, 5432)
    }

    fn group(leader: Option<&str>, secondaries: &[&str]) -> GroupNow {
        GroupNow {
            leader: leader.map(at),
            secondaries: secondaries.iter().copied().map(at).collect(),
            is_leaving: false,
        }
    }

    fn set(hosts: &[&str]) -> BTreeSet<Address> {
        hosts.iter().copied().map(at).collect()
    }

    fn everything() -> Wish {
        let owner = Some("a".into());
        Wish { register_secondaries: true, register_regions: true, owner, ..Wish::default() }
    }

    #[test]
    fn only_primaries_by_default_and_unknown_leaders_are_left_out() {
        let own = Groups::from([(0, group(Some("a0"), &["a1"])), (1, group(None, &["w1"]))]);
        let answer = desired(&own, &BTreeMap::new(), &Wish::default());
        assert_eq!(answer.groups[&0].primary, at("a0"));
        assert!(answer.groups[&0].secondaries.is_empty());
        assert!(!answer.groups.contains_key(&1));
        assert_eq!(answer.unknown, BTreeSet::from([1]));
    }

    #[test]
    fn standby_regions_get_their_own_cluster() {
        let own = Groups::from([(0, group(Some("a0"), &["a1"]))]);
        let there = Groups::from([(0, group(Some("b0"), &["b1"])), (7, group(Some("x"), &[]))]);
        let others = BTreeMap::from([(RegionName::new("b"), there)]);
        let answer = desired(&own, &others, &everything());
        let clusters = &answer.groups[&0].secondaries;
        assert_eq!(clusters["default"], set(&["a1"]));
        assert_eq!(clusters["b"], set(&["b0", "b1"]));
        assert_eq!(clusters["a"], set(&[]), "the owner's name is no cluster");
        assert!(!answer.groups.contains_key(&7));
    }

    #[test]
    fn a_standby_group_without_a_known_leader_is_not_emptied() {
        let own = Groups::from([(0, group(Some("a0"), &[]))]);
        let there = Groups::from([(0, group(None, &["b1"]))]);
        let others = BTreeMap::from([(RegionName::new("b"), there)]);
        let answer = desired(&own, &others, &everything());
        assert!(!answer.groups[&0].secondaries.contains_key("b"));
    }

    #[test]
    fn an_address_two_groups_claim_moves_neither() {
        let own = Groups::from([(1, group(Some("x"), &[])), (2, group(Some("x"), &[]))]);
        let answer = desired(&own, &BTreeMap::new(), &everything());
        assert!(answer.groups.is_empty());
        assert_eq!(answer.contested[&at("x")], BTreeSet::from([1, 2]));
    }

    #[test]
    fn no_address_is_wanted_twice() {
        let own = Groups::from([
            (0, group(Some("a0"), &["a0", "w0", "s", "s"])),
            (1, group(Some("w0"), &["s", "a0"])),
        ]);
        let answer = desired(&own, &BTreeMap::new(), &everything());
        assert_eq!(answer.groups[&0].secondaries["default"], set(&["s"]));
        assert_eq!(answer.groups[&1].secondaries["default"], set(&[]));
    }
}
