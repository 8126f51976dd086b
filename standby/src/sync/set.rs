//! A set of names as PostgreSQL compares the names of standbys: without regard
//! to case.
//!
//! Each name keeps the spelling with which it came in first; two sets are equal
//! when their names are, however they are spelled.

use std::collections::BTreeMap;
use topology::MemberName;

#[derive(Clone, Debug, Default)]
pub struct NameSet(BTreeMap<String, MemberName>);

impl NameSet {
    pub fn contains(&self, name: &MemberName) -> bool {
        self.0.contains_key(&key(name))
    }

    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// For the sums of the quorum rules, which may go below zero on the way.
    pub fn count(&self) -> i64 {
        self.0.len() as i64
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// In the order of their lower case spelling.
    pub fn iter(&self) -> impl DoubleEndedIterator<Item = &MemberName> {
        self.0.values()
    }

    pub fn union(&self, other: &NameSet) -> NameSet {
        self.iter().chain(other.iter()).cloned().collect()
    }

    pub fn minus(&self, other: &NameSet) -> NameSet {
        self.iter().filter(|name| !other.contains(name)).cloned().collect()
    }

    pub fn common(&self, other: &NameSet) -> NameSet {
        self.iter().filter(|name| other.contains(name)).cloned().collect()
    }

    pub fn without(&self, name: &MemberName) -> NameSet {
        let mut left = self.clone();
        left.0.remove(&key(name));
        left
    }

    pub fn with(&self, name: &MemberName) -> NameSet {
        self.iter().chain([name]).cloned().collect()
    }

    pub fn is_within(&self, other: &NameSet) -> bool {
        self.iter().all(|name| other.contains(name))
    }

    /// The first `count` names.
    pub fn first(&self, count: i64) -> NameSet {
        self.iter().take(usize::try_from(count).unwrap_or(0)).cloned().collect()
    }

    /// The last `count` names.
    pub fn last(&self, count: i64) -> NameSet {
        self.iter().rev().take(usize::try_from(count).unwrap_or(0)).cloned().collect()
    }

    /// Sorted as they are spelled, which is how they are written.
    pub fn sorted(&self) -> Vec<MemberName> {
        let mut names: Vec<MemberName> = self.iter().cloned().collect();
        names.sort_unstable();
        names
    }

    /// The same names, each spelled as in `known` where it is there.
    pub fn spelled_as<'a>(&self, known: impl Iterator<Item = &'a MemberName>) -> NameSet {
        let mut out = self.clone();
        for name in known {
            if let Some(old) = out.0.get_mut(&key(name)) {
                old.clone_from(name);
            }
        }
        out
    }
}

impl PartialEq for NameSet {
    fn eq(&self, other: &NameSet) -> bool {
        self.0.keys().eq(other.0.keys())
    }
}

impl Eq for NameSet {}

impl std::hash::Hash for NameSet {
    fn hash<H: std::hash::Hasher>(&self, to: &mut H) {
        for key in self.0.keys() {
            key.hash(to);
        }
    }
}

impl FromIterator<MemberName> for NameSet {
    fn from_iter<I: IntoIterator<Item = MemberName>>(names: I) -> NameSet {
        let mut set = NameSet::default();
        for name in names {
            set.0.entry(key(&name)).or_insert(name);
        }
        set
    }
}

fn key(name: &MemberName) -> String {
    name.as_str().to_ascii_lowercase()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(names: &[&str]) -> NameSet {
        names.iter().map(|name| MemberName::from(*name)).collect()
    }

    #[test]
    fn names_are_the_same_in_upper_and_lower_case() {
        assert_eq!(set(&["A", "b", "a"]), set(&["B", "a"]));
        assert_eq!(set(&["A", "a"]).sorted(), vec![MemberName::from("A")]);
        assert!(set(&["a"]).is_within(&set(&["A", "b"])));
        assert!(set(&["a"]).minus(&set(&["A"])).is_empty());
        assert_eq!(set(&["a", "b"]).common(&set(&["B"])).len(), 1);
        assert!(set(&["a"]).without(&"A".into()).is_empty());
        assert_eq!(set(&["a", "B"]).with(&"b".into()).len(), 2);
    }

    #[test]
    fn the_order_is_that_of_the_names_and_the_spelling_that_of_the_members() {
        let names = set(&["b", "A", "c"]);
        assert_eq!(names.first(2), set(&["a", "b"]));
        assert_eq!(names.last(1), set(&["c"]));
        assert!(names.first(-1).is_empty());
        assert_eq!(set(&["b", "C"]).sorted(), vec!["C".into(), "b".into()]);
        let known = [MemberName::from("B")];
        assert_eq!(names.spelled_as(known.iter()).sorted(), ["A", "B", "c"].map(MemberName::from));
    }
}
