//! The order in which each member stands below its upstream.
//!
//! Invariant *every member once*: circles of `replicatefrom` and an upstream that does
//! not exist neither lose a member nor show one twice.

use super::{GroupReport, MemberReport};
use crate::MemberName;
use std::collections::BTreeSet;

impl<'a> GroupReport<'a> {
    /// Members with the number of members above them: first the leader's branch, or
    /// without a leader those that follow no member, then all that are left.
    pub fn cascade(&self) -> Vec<(usize, &MemberReport<'a>)> {
        let mut walk = Walk { report: self, done: BTreeSet::new(), lines: Vec::new() };
        let leader = self.members.iter().find(|member| member.role.leads());
        match leader {
            Some(leader) => walk.branch(leader, 0),
            None => walk.roots(),
        }
        let level = usize::from(leader.is_some());
        for member in &self.members {
            walk.branch(member, level);
        }
        walk.lines
    }
}

struct Walk<'r, 'a> {
    report: &'r GroupReport<'a>,
    done: BTreeSet<&'r MemberName>,
    lines: Vec<(usize, &'r MemberReport<'a>)>,
}

impl<'r, 'a> Walk<'r, 'a> {
    fn branch(&mut self, member: &'r MemberReport<'a>, level: usize) {
        if !self.done.insert(member.name) {
            return;
        }
        self.lines.push((level, member));
        for below in &self.report.members {
            if below.upstream == Some(member.name) {
                self.branch(below, level + 1);
            }
        }
    }

    fn roots(&mut self) {
        for member in &self.report.members {
            if member.upstream.is_none() {
                self.branch(member, 0);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::GroupView;
    use crate::made_up::TakeSample;
    use proptest::prelude::*;

    fn view(leader: Option<u8>, sources: &[Option<u8>]) -> GroupView {
        let mut view = GroupView::default();
        for (name, source) in sources.iter().enumerate() {
            let source = source.map_or(String::new(), |source| source.to_string());
            let record = format!(r#"{{"tags":{{"replicatefrom":"{source}"}}}}"#);
            view.take_sample(&format!("members/{name}"), &record, 1, 1);
        }
        if let Some(leader) = leader {
            view.take_sample("leader", &leader.to_string(), 1, 1);
        }
        view
    }

    proptest! {
        #[test]
        fn every_member_stands_once_and_below_its_upstream(
            leader in prop::option::of(0..9u8),
            sources in prop::collection::vec(prop::option::of(0..9u8), 0..8),
        ) {
            let view = view(leader, &sources);
            let report = GroupReport::of(&view);
            let lines = report.cascade();
            let names: BTreeSet<_> = lines.iter().map(|(_, member)| member.name).collect();
            prop_assert_eq!(names.len(), lines.len());
            prop_assert_eq!(names.len(), report.members.len());
            for (at, (level, member)) in lines.iter().enumerate().filter(|(_, line)| line.0 > 1) {
                let above = lines[..at].iter().rfind(|line| line.0 == level - 1);
                prop_assert_eq!(above.map(|line| line.1.name), member.upstream);
            }
        }
    }
}
