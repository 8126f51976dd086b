//! The keys of a scope: where each thing lies in the store.
//!
//! Other programs read and write the same keys, so the layout is fixed:
//! `/NAMESPACE/SCOPE/` holds a plain cluster's keys or, with Citus, one
//! directory per group number. What is ours alone lies below `topology/`, which
//! those programs pass over.
//!
//! Absent on purpose: the values (see `topology::GroupView`).

use super::KeyValue;
use std::collections::BTreeMap;
use topology::{Group, GroupView, MemberName};

/// Keys that make up a group; a directory without any of them is no group.
const GROUP_KEYS: [&str; 8] =
    ["initialize", "config", "leader", "status", "failover", "sync", "history", "failsafe"];

/// What `Keys::document` calls them, in the order of `/metrics`.
pub const DOCUMENTS: [&str; 13] = [
    "leader",
    "members",
    "status",
    "config",
    "failover",
    "sync",
    "history",
    "initialize",
    "failsafe",
    "optime",
    "claim",
    "topology",
    "other",
];

const MEMBERS: &str = "members/";
const TOPOLOGY: &str = "topology/";
/// Below `topology/`, so that other programs pass over it.
const CLAIM: &str = "timeline/";
/// Where old releases keep the position that is in `status` today.
const LEGACY_OPTIME: &str = "optime/leader";

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Keys {
    pub namespace: String,
    pub scope: String,
    pub group: Group,
}

impl Keys {
    pub fn new(namespace: &str, scope: &str, group: Group) -> Keys {
        Keys { namespace: namespace.to_string(), scope: scope.to_string(), group }
    }

    /// The same scope, another group.
    pub fn for_group(&self, group: Group) -> Keys {
        Keys { group, ..self.clone() }
    }

    /// What a member's copy of the store holds: a coordinator sees all groups, a worker its own
    /// and the topology.
    pub fn watched(&self) -> Vec<String> {
        match self.group.is_worker() {
            true => vec![self.group_prefix(), self.topology_prefix()],
            false => vec![self.scope_prefix()],
        }
    }

    /// `/service/scope/`, or `/service/scope/1/` with Citus.
    pub fn group_prefix(&self) -> String {
        match self.group.0 {
            Some(number) => format!("{}{number}/", self.scope_prefix()),
            None => self.scope_prefix(),
        }
    }

    /// `/service/scope/`: all groups, and the topology.
    pub fn scope_prefix(&self) -> String {
        let words = self.namespace.split('/').chain(self.scope.split('/'));
        let mut prefix = String::from("/");
        for word in words.filter(|w| !w.is_empty()) {
            prefix.push_str(word);
            prefix.push('/');
        }
        prefix
    }

    pub fn topology_prefix(&self) -> String {
        self.scope_prefix() + TOPOLOGY
    }

    /// One of our own keys: `topology("register")`.
    pub fn topology(&self, key: &str) -> String {
        self.topology_prefix() + key
    }

    /// The document that a key belongs to: one of `DOCUMENTS`.
    pub fn document(&self, key: &str) -> &'static str {
        let prefix = self.scope_prefix();
        let Some(relative) = key.strip_prefix(&prefix) else { return "other" };
        let name = match split_key(relative) {
            _ if claim_of(relative).is_some() => "claim",
            None => "topology",
            Some((_, key)) if key.starts_with(MEMBERS) => "members",
            Some((_, LEGACY_OPTIME)) => "optime",
            Some((_, key)) => key,
        };
        DOCUMENTS.into_iter().find(|document| *document == name).unwrap_or("other")
    }

    /// The timeline that the group's next primary has claimed.
    pub fn claim(&self) -> String {
        self.topology(&format!("{CLAIM}{}", self.group.key()))
    }

    /// The lock that lets one pause of the formation be open.
    pub fn pause(&self) -> String {
        self.topology("pause")
    }

    fn key(&self, name: &str) -> String {
        self.group_prefix() + name
    }

    pub fn leader(&self) -> String {
        self.key("leader")
    }

    pub fn members_prefix(&self) -> String {
        self.key(MEMBERS)
    }

    pub fn member(&self, name: &MemberName) -> String {
        self.key(MEMBERS) + name.as_str()
    }

    pub fn initialize(&self) -> String {
        self.key("initialize")
    }

    pub fn config(&self) -> String {
        self.key("config")
    }

    pub fn status(&self) -> String {
        self.key("status")
    }

    /// Of old releases; written only while one of them is there.
    pub fn legacy_optime(&self) -> String {
        self.key(LEGACY_OPTIME)
    }

    pub fn failover(&self) -> String {
        self.key("failover")
    }

    pub fn sync(&self) -> String {
        self.key("sync")
    }

    pub fn history(&self) -> String {
        self.key("history")
    }

    pub fn failsafe(&self) -> String {
        self.key("failsafe")
    }
}

/// The groups that were read, by their number; `Group::PLAIN` without Citus.
///
/// `prefix` is the scope's prefix, also when only one group was read. Unknown
/// keys and `topology/` are passed over; a group appears when it has a key of
/// its own.
pub fn split_groups(prefix: &str, entries: &[KeyValue]) -> BTreeMap<Group, GroupView> {
    let mut groups: BTreeMap<Group, GroupView> = BTreeMap::new();
    let mut legacy: BTreeMap<Group, &KeyValue> = BTreeMap::new();
    let mut claims: BTreeMap<Group, &KeyValue> = BTreeMap::new();
    for entry in entries {
        let relative = entry.key.strip_prefix(prefix);
        if let Some(group) = relative.and_then(claim_of) {
            claims.insert(group, entry);
        }
        let Some((group, key)) = relative.and_then(split_key) else {
            continue;
        };
        if key == LEGACY_OPTIME {
            legacy.insert(group, entry);
        } else if belongs_to_a_group(key) {
            let view = groups.entry(group).or_default();
            view.take(key, &entry.value, entry.version, entry.session);
        }
    }
    for (group, entry) in legacy {
        if let Some(view) = groups.get_mut(&group) {
            view.take(LEGACY_OPTIME, &entry.value, entry.version, entry.session);
        }
    }
    for (group, entry) in claims {
        if let Some(view) = groups.get_mut(&group) {
            view.take("claim", &entry.value, entry.version, entry.session);
        }
    }
    groups
}

fn claim_of(relative: &str) -> Option<Group> {
    relative.strip_prefix(TOPOLOGY)?.strip_prefix(CLAIM)?.parse().ok()
}

/// A key relative to the scope: its group, and the key relative to that.
fn split_key(relative: &str) -> Option<(Group, &str)> {
    if relative.starts_with(TOPOLOGY) {
        return None;
    }
    let numbered = relative.split_once('/').and_then(|(first, rest)| {
        let group: Group = first.parse().ok()?;
        (group != Group::PLAIN).then_some((group, rest))
    });
    Some(numbered.unwrap_or((Group::PLAIN, relative)))
}

fn belongs_to_a_group(key: &str) -> bool {
    let member = key.strip_prefix(MEMBERS).is_some_and(|n| !n.is_empty() && !n.contains('/'));
    member || GROUP_KEYS.contains(&key)
}

#[cfg(test)]
mod tests {
    use super::*;
    use topology::{Lsn, Session, Version};

    fn entry(key: &str, value: &str) -> KeyValue {
        let (key, value) = (key.to_string(), value.to_string());
        KeyValue {
            key,
            value,
            version: Version::of_store(7),
            created: Version::of_store(3),
            session: Some(Session::of_store(5)),
        }
    }

    fn numbered(number: u32) -> Group {
        Group(Some(number))
    }

    #[test]
    fn slashes_are_collapsed() {
        for namespace in ["/service/", "service", "//service//"] {
            let keys = Keys::new(namespace, "batman", Group::PLAIN);
            assert_eq!(keys.group_prefix(), "/service/batman/");
            assert_eq!(keys.leader(), "/service/batman/leader");
        }
        assert_eq!(Keys::new("/", "batman", Group::PLAIN).scope_prefix(), "/batman/");
        assert_eq!(Keys::new("/a/b/", "s", Group::PLAIN).scope_prefix(), "/a/b/s/");
    }

    #[test]
    fn a_citus_group_lies_below_its_number() {
        let keys = Keys::new("/service/", "demo", numbered(0)).for_group(numbered(12));
        assert_eq!(keys.member(&MemberName::new("w1")), "/service/demo/12/members/w1");
        assert_eq!(keys.scope_prefix(), "/service/demo/");
        assert_eq!(keys.topology("register"), "/service/demo/topology/register");
    }

    #[test]
    fn every_key_is_of_a_document() {
        for group in [Group::PLAIN, numbered(3)] {
            let keys = Keys::new("/service/", "demo", group);
            for (key, document) in [
                (keys.leader(), "leader"),
                (keys.member(&"a".into()), "members"),
                (keys.status(), "status"),
                (keys.config(), "config"),
                (keys.failover(), "failover"),
                (keys.sync(), "sync"),
                (keys.history(), "history"),
                (keys.initialize(), "initialize"),
                (keys.failsafe(), "failsafe"),
                (keys.legacy_optime(), "optime"),
                (keys.claim(), "claim"),
                (keys.topology("peers/b"), "topology"),
                ("/elsewhere".to_string(), "other"),
            ] {
                assert_eq!(keys.document(&key), document, "{key}");
            }
        }
    }

    #[test]
    fn every_key_is_understood_by_the_reader() {
        let keys = Keys::new("/service/", "demo", numbered(2));
        let json = [
            (keys.config(), r#"{"ttl":30}"#),
            (keys.status(), r#"{"optime":5}"#),
            (keys.failover(), "{}"),
            (keys.sync(), r#"{"leader":"a"}"#),
            (keys.history(), "[]"),
            (keys.failsafe(), r#"{"a":"http://h/patroni"}"#),
            (keys.leader(), "a"),
            (keys.initialize(), "7300000000000000001"),
            (keys.member(&MemberName::new("a")), "{}"),
        ];
        let entries: Vec<_> = json.iter().map(|(k, v)| entry(k, v)).collect();
        let groups = split_groups(&keys.scope_prefix(), &entries);
        assert_eq!(groups.keys().collect::<Vec<_>>(), [&numbered(2)]);
        let view = &groups[&numbered(2)];
        assert!(view.config.is_some() && view.status.is_some() && view.failover.is_some());
        assert!(view.sync.is_some() && view.history.is_some() && view.failsafe.is_some());
        assert!(view.leader.is_some() && view.initialize.is_some());
        assert_eq!(view.members[&MemberName::new("a")].session, Some(Session::of_store(5)));
    }

    #[test]
    fn foreign_keys_make_no_group() {
        let entries = [
            entry("/service/demo/topology/register", "{}"),
            entry("/service/demo/topology/1/leader", "x"),
            entry("/service/demo/01/leader", "x"),
            entry("/service/demo/default/leader", "x"),
            entry("/service/demo/3/unknown", "x"),
            entry("/service/demo/members/a/deeper", "x"),
            entry("/service/other/leader", "x"),
        ];
        assert_eq!(split_groups("/service/demo/", &entries), BTreeMap::new());
    }

    #[test]
    fn a_plain_cluster_has_one_group_without_a_number() {
        let entries = [entry("/service/p/leader", "a"), entry("/service/p/optime/leader", "4711")];
        let groups = split_groups("/service/p/", &entries);
        assert_eq!(groups.len(), 1);
        assert_eq!(groups[&Group::PLAIN].leader_name(), Some(&MemberName::new("a")));
        assert_eq!(groups[&Group::PLAIN].optime(), Lsn(4711));
    }

    #[test]
    fn the_legacy_position_yields_to_status() {
        let entries =
            [entry("/service/p/optime/leader", "1"), entry("/service/p/status", r#"{"optime":2}"#)];
        assert_eq!(split_groups("/service/p/", &entries)[&Group::PLAIN].optime(), Lsn(2));
    }
}
