//! The order of members: by name, or as a tree with each member below its upstream.
//!
//! The order is that of the report; here the member's name becomes the text of a cell.

use topology::report::{GroupReport, MemberReport};

/// Members in the order of the table, each with the text of its name's cell.
pub(crate) fn order<'a>(group: &GroupReport<'a>, is_tree: bool) -> Vec<(MemberReport<'a>, String)> {
    match is_tree {
        true => {
            group.cascade().into_iter().map(|(level, m)| (m.clone(), label(level, m))).collect()
        }
        false => group.members.iter().map(|m| (m.clone(), m.name.to_string())).collect(),
    }
}

/// Below the leader, or below a root, each level is two characters further in.
fn label(level: usize, member: &MemberReport) -> String {
    match level {
        0 => member.name.to_string(),
        level => format!("{}+ {}", "  ".repeat(level - 1), member.name),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::made_up::TakeSample;
    use topology::GroupView;

    fn view(leader: Option<&str>, members: &[(&str, &str)]) -> GroupView {
        let mut view = GroupView::default();
        for (name, from) in members {
            let value = format!(r#"{{"role":"replica","tags":{{"replicatefrom":"{from}"}}}}"#);
            view.take_sample(&format!("members/{name}"), &value, 1, 1);
        }
        if let Some(name) = leader {
            view.take_sample("leader", name, 1, 1);
        }
        view
    }

    fn labels(view: &GroupView) -> Vec<String> {
        order(&GroupReport::of(view), true).into_iter().map(|(_, label)| label).collect()
    }

    #[test]
    fn cascading_members_stand_below_their_source() {
        let view = view(Some("c"), &[("a", "b"), ("b", ""), ("c", "a"), ("d", "gone")]);
        assert_eq!(labels(&view), ["c", "+ b", "  + a", "+ d"]);
    }

    #[test]
    fn circles_and_missing_leaders_lose_no_member() {
        let circle = view(Some("c"), &[("a", "b"), ("b", "a"), ("c", "")]);
        assert_eq!(labels(&circle), ["c", "+ a", "  + b"]);
        let orphans = view(None, &[("a", "b"), ("b", "")]);
        assert_eq!(labels(&orphans), ["b", "+ a"]);
        let stale = view(Some("x"), &[("a", ""), ("b", "a")]);
        assert_eq!(labels(&stale).len(), 2);
    }
}
