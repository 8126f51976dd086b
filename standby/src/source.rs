//! Which server a standby follows.
//!
//! A replica follows its `replicatefrom` member if that one exists, else the
//! leader. The leader of a standby group follows the remote side; that answer
//! comes from the region's ownership and not from here.
//!
//! Invariant *no circles*: a chain of `replicatefrom` that comes back to this
//! member is not followed; the leader is.
//!
//! Absent on purpose: connection strings (see `node/src/postgres/conninfo.rs`).

use topology::{GroupView, MemberName, Tags, Timeline};

/// The member this one should stream from; `None` if none is known, or with `nostream`.
pub fn upstream<'a>(me: &MemberName, tags: &Tags, view: &'a GroupView) -> Option<&'a MemberName> {
    if tags.nostream() {
        return None;
    }
    let leader = view.leader_name().filter(|name| *name != me);
    let Some(wanted) = tags.replicatefrom() else {
        return leader;
    };
    let Some((name, _)) = view.members.get_key_value(&MemberName::new(wanted)) else {
        return leader;
    };
    if name == me || leads_back(me, name, view) { leader } else { Some(name) }
}

/// A running member that offers itself to be copied (tag `clonefrom`), neither
/// this one nor the leader. Members choose differently, and after `failures`
/// another one is chosen.
pub fn serves_clones<'a>(
    me: &MemberName,
    view: &'a GroupView,
    failures: u32,
) -> Option<&'a MemberName> {
    let serves = |name: &&MemberName| {
        let member = view.member(name);
        *name != me
            && view.leader_name() != Some(*name)
            && member.is_some_and(|m| m.is_running() && m.tags.clonefrom())
    };
    let helpers: Vec<&MemberName> = view.members.keys().filter(serves).collect();
    let spread: usize = me.as_str().bytes().map(usize::from).sum();
    let turn = spread.wrapping_add(failures as usize);
    (!helpers.is_empty()).then(|| helpers[turn % helpers.len()])
}

/// What a server shows that is one of several for the same purpose: hosts of a remote cluster,
/// of which one is to be compared with, or read by pg_rewind.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Rank {
    pub is_primary: bool,
    pub timeline: Timeline,
}

impl Rank {
    /// `at_least`: of the history that the own log was compared with. An older one is a
    /// server's that was left behind.
    pub fn is_left_behind(self, at_least: Option<Timeline>) -> bool {
        at_least.is_some_and(|least| self.timeline < least)
    }
}

/// A primary, else the server on the newest timeline; of equals the first. A former primary that
/// came back without its daemon is one too: of two primaries the newer timeline counts.
pub fn most_telling<T>(servers: impl IntoIterator<Item = (Rank, T)>) -> Option<T> {
    let better = |best: (Rank, T), other: (Rank, T)| if other.0 > best.0 { other } else { best };
    servers.into_iter().reduce(better).map(|(_, server)| server)
}

fn leads_back(me: &MemberName, start: &MemberName, view: &GroupView) -> bool {
    let mut at = start.clone();
    for _ in 0..=view.members.len() {
        if &at == me {
            return true;
        }
        if view.leader_name() == Some(&at) {
            return false;
        }
        match view.member(&at).and_then(|m| m.tags.replicatefrom()) {
            Some(next) => at = MemberName::new(next),
            None => return false,
        }
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::made_up::TakeSample;
    use serde_json::json;

    fn tags(from: &str) -> Tags {
        Tags(json!({"replicatefrom": from}).as_object().unwrap().clone())
    }

    fn view() -> GroupView {
        let mut view = GroupView::default();
        view.take_sample("leader", "l", 1, 1);
        view.take_sample("members/l", "{}", 1, 1);
        view.take_sample("members/a", r#"{"tags":{"replicatefrom":"b"}}"#, 1, 1);
        view.take_sample("members/b", r#"{"tags":{"replicatefrom":"a"}}"#, 1, 1);
        view.take_sample("members/c", "{}", 1, 1);
        view
    }

    #[test]
    fn the_leader_unless_a_member_is_named() {
        let me = MemberName::new("me");
        assert_eq!(upstream(&me, &Tags::default(), &view()), Some(&"l".into()));
        assert_eq!(upstream(&me, &tags("c"), &view()), Some(&"c".into()));
        assert_eq!(upstream(&me, &tags("gone"), &view()), Some(&"l".into()));
        assert_eq!(upstream(&"l".into(), &Tags::default(), &view()), None);
    }

    #[test]
    fn a_copy_is_taken_from_members_that_serve_for_it() {
        let mut view = view();
        assert_eq!(serves_clones(&"me".into(), &view, 0), None);
        let serving = r#"{"state":"running","tags":{"clonefrom":true}}"#;
        for name in ["l", "me", "a"] {
            view.take_sample(&format!("members/{name}"), serving, 1, 1);
        }
        view.take_sample("members/b", r#"{"state":"stopped","tags":{"clonefrom":true}}"#, 1, 1);
        assert_eq!(serves_clones(&"me".into(), &view, 0), Some(&"a".into()));
        view.take_sample("members/b", serving, 1, 1);
        let turn = |failures| serves_clones(&"me".into(), &view, failures);
        assert_ne!(turn(0), turn(1), "a source that failed is not asked for ever");
        assert_eq!(turn(0), turn(2));
    }

    #[test]
    fn a_circle_is_not_followed() {
        assert_eq!(upstream(&"a".into(), &tags("b"), &view()), Some(&"l".into()));
        // A circle of other members does not reach the leader either.
        assert_eq!(upstream(&"me".into(), &tags("a"), &view()), Some(&"l".into()));
    }

    #[test]
    fn of_several_servers_a_primary_counts_and_then_the_newest_timeline() {
        let rank = |timeline, is_primary| Rank { is_primary, timeline: Timeline(timeline) };
        let chosen =
            |ranks: &[Rank]| most_telling(ranks.iter().enumerate().map(|(at, rank)| (*rank, at)));
        assert_eq!(chosen(&[]), None);
        assert_eq!(chosen(&[rank(3, false), rank(2, true)]), Some(1));
        assert_eq!(chosen(&[rank(1, true), rank(2, true)]), Some(1));
        assert_eq!(chosen(&[rank(1, false), rank(2, false)]), Some(1));
        assert_eq!(chosen(&[rank(2, false), rank(2, false)]), Some(0));
        assert!(rank(1, true).is_left_behind(Some(Timeline(2))));
        assert!(!rank(2, false).is_left_behind(Some(Timeline(2))));
        assert!(!rank(1, false).is_left_behind(None));
    }
}
