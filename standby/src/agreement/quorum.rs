//! Which sets of sites decide.
//!
//! A majority of the sites chooses, and a majority must be read: two such sets always share a
//! site. With two sites that is both of them.

use std::collections::{BTreeMap, BTreeSet};
use topology::RegionName;
use topology::acceptor::Acceptor;
use topology::region::Policy;

/// Sites that were read just now, are readable, and are not older than anything remembered of
/// them.
pub type Heard<'a> = BTreeMap<RegionName, &'a Acceptor>;

/// The sites of a policy, and how many of them choose.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Quorums {
    sites: BTreeSet<RegionName>,
    enough: usize,
}

impl Quorums {
    pub fn of(policy: &Policy) -> Quorums {
        Quorums::majority(policy.regions.iter().map(|region| region.name.clone()).collect())
    }

    fn majority(sites: BTreeSet<RegionName>) -> Quorums {
        let enough = sites.len() / 2 + 1;
        Quorums { sites, enough }
    }

    pub fn sites(&self) -> &BTreeSet<RegionName> {
        &self.sites
    }

    /// Do these sites choose? Sites that the policy does not list do not count.
    pub fn choose<'a>(&self, set: impl IntoIterator<Item = &'a RegionName>) -> bool {
        let set: BTreeSet<_> = set.into_iter().filter(|name| self.sites.contains(name)).collect();
        set.len() >= self.enough
    }

    /// Is it enough to have read these sites?
    pub fn read<'a>(&self, set: impl IntoIterator<Item = &'a RegionName>) -> bool {
        self.choose(set)
    }

    /// Could the sites outside of `knowing` have chosen?
    pub fn may_hide(&self, knowing: &BTreeSet<RegionName>) -> bool {
        self.choose(self.sites.difference(knowing))
    }
}

#[cfg(test)]
impl Quorums {
    /// The first sites of `a`, `b`, `c`, ...
    pub(super) fn of_letters(count: usize) -> Quorums {
        let letters = ["a", "b", "c", "d", "e"];
        Quorums::majority(letters[..count].iter().map(|name| RegionName::from(*name)).collect())
    }

    /// A wrong number of sites chooses.
    pub(super) fn with_enough(self, enough: usize) -> Quorums {
        Quorums { enough, ..self }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn subset(quorums: &Quorums, bits: usize) -> BTreeSet<RegionName> {
        let is_in = |(at, _): &(usize, &RegionName)| bits & (1 << at) != 0;
        quorums.sites().iter().enumerate().filter(is_in).map(|(_, name)| name.clone()).collect()
    }

    #[test]
    fn two_sets_that_choose_or_read_share_a_site() {
        for count in 1..=5 {
            let quorums = Quorums::of_letters(count);
            for (one, other) in (0..1 << count).flat_map(|a| (0..1 << count).map(move |b| (a, b))) {
                let (one, other) = (subset(&quorums, one), subset(&quorums, other));
                let share = !one.is_disjoint(&other);
                assert!(share || !quorums.choose(&one) || !quorums.choose(&other));
                assert!(share || !quorums.choose(&one) || !quorums.read(&other));
            }
            assert!(quorums.choose(quorums.sites()) && !quorums.choose([]));
        }
    }

    #[test]
    fn what_could_be_hidden_is_what_the_other_sites_could_have_chosen() {
        for count in 1..=5 {
            let quorums = Quorums::of_letters(count);
            for bits in 0..1 << count {
                let knowing = subset(&quorums, bits);
                let others = subset(&quorums, !bits);
                assert_eq!(quorums.may_hide(&knowing), quorums.choose(&others));
                // To have read enough is to have read what was chosen.
                assert!(!quorums.read(&knowing) || !quorums.may_hide(&knowing));
            }
        }
    }

    #[test]
    fn sites_of_no_policy_do_not_count() {
        let quorums = Quorums::of_letters(2);
        let foreign = ["a", "x", "y"].map(RegionName::from);
        assert!(!quorums.choose(&foreign));
        assert!(quorums.may_hide(&foreign[1..].iter().cloned().collect()));
    }

    #[test]
    fn the_sites_are_those_of_the_policy() {
        let text = r#"{"formation":"f","regions":[{"name":"b","endpoints":[]},
            {"name":"a","endpoints":[]},{"name":"c","endpoints":[]}]}"#;
        let policy = serde_json::from_str(text).unwrap();
        assert_eq!(Quorums::of(&policy), Quorums::of_letters(3));
    }
}
