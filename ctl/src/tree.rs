//! The order of members: by name, or as a tree with each member below its upstream.
//!
//! Invariant *every member once*: circles of `replicatefrom` and parents that do
//! not exist neither lose a member nor show one twice.

use std::collections::BTreeSet;
use topology::{GroupView, MemberName};

/// Members in the order of the table, each with the text of its name's cell.
pub fn order(view: &GroupView, is_tree: bool) -> Vec<(MemberName, String)> {
    if !is_tree {
        return view.members.keys().map(|name| (name.clone(), name.to_string())).collect();
    }
    let mut tree = Tree { view, done: BTreeSet::new(), lines: Vec::new() };
    let leader = view.leader_name().filter(|name| view.members.contains_key(*name));
    match leader {
        Some(leader) => tree.branch(leader, 0),
        None => tree.roots(),
    }
    let level = usize::from(leader.is_some());
    for name in view.members.keys() {
        tree.branch(name, level);
    }
    tree.lines
}

struct Tree<'a> {
    view: &'a GroupView,
    done: BTreeSet<MemberName>,
    lines: Vec<(MemberName, String)>,
}

impl Tree<'_> {
    fn branch(&mut self, name: &MemberName, level: usize) {
        if !self.done.insert(name.clone()) {
            return;
        }
        let label = match level {
            0 => name.to_string(),
            level => format!("{}+ {name}", "  ".repeat(level - 1)),
        };
        self.lines.push((name.clone(), label));
        for child in self.view.members.keys() {
            if self.parent(child) == Some(name) {
                self.branch(child, level + 1);
            }
        }
    }

    fn roots(&mut self) {
        for name in self.view.members.keys() {
            if self.parent(name).is_none() {
                self.branch(name, 0);
            }
        }
    }

    /// The member named by `replicatefrom` if it is there, else the leader.
    fn parent(&self, name: &MemberName) -> Option<&MemberName> {
        let leader = self.view.leader_name();
        if leader == Some(name) {
            return None;
        }
        let wanted = self.view.member(name)?.tags.replicatefrom();
        let named = self.view.members.keys().find(|m| Some(m.as_str()) == wanted && *m != name);
        named.or(leader)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn view(leader: Option<&str>, members: &[(&str, &str)]) -> GroupView {
        let mut view = GroupView::default();
        for (name, from) in members {
            let value = format!(r#"{{"role":"replica","tags":{{"replicatefrom":"{from}"}}}}"#);
            view.take(&format!("members/{name}"), &value, 1, 1);
        }
        if let Some(name) = leader {
            view.take("leader", name, 1, 1);
        }
        view
    }

    fn labels(view: &GroupView) -> Vec<String> {
        order(view, true).into_iter().map(|(_, label)| label).collect()
    }

    #[test]
    fn cascading_members_stand_below_their_source() {
        let view = view(Some("c"), &[("a", "b"), ("b", ""), ("c", "a"), ("d", "gone")]);
        assert_eq!(labels(&view), ["c", "+ b", "  + a", "+ d"]);
    }

    #[test]
    fn circles_and_missing_leaders_lose_nobody() {
        let circle = view(Some("c"), &[("a", "b"), ("b", "a"), ("c", "")]);
        assert_eq!(labels(&circle), ["c", "+ a", "  + b"]);
        let orphans = view(None, &[("a", "b"), ("b", "")]);
        assert_eq!(labels(&orphans), ["b", "+ a"]);
        let stale = view(Some("x"), &[("a", ""), ("b", "a")]);
        assert_eq!(labels(&stale).len(), 2);
    }
}
