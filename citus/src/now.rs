//! The groups of a region, as its own store shows them.

use crate::{Address, GroupNow, Groups};
use std::collections::BTreeMap;
use topology::{Group, GroupView, MemberName, MemberRecord, MemberRole};

/// The key below `citus` in a group's `/config` that keeps its rows from being added.
pub const LEAVING: &str = "leaving";

/// A leader that is not known to run as a primary is an unknown one; secondaries are the
/// other members that run and take readers.
pub fn groups_now(views: &BTreeMap<Group, GroupView>) -> Groups {
    let group = |(group, view): (&Group, &GroupView)| {
        let leads = |r: &&MemberRecord| r.role == MemberRole::Primary && r.is_running();
        let leader = view.leader_record().filter(leads).and_then(|record| record.address());
        let leader = leader.map(Into::into);
        let is_leaving = is_leaving(view);
        let secondaries = if is_leaving { Vec::new() } else { secondaries(view) };
        Some((group.0?, GroupNow { leader, secondaries, is_leaving }))
    };
    views.iter().filter_map(group).collect()
}

/// The groups as the coordinator's leader knows them.
#[derive(Clone, Debug)]
pub struct Known<'a> {
    pub views: &'a BTreeMap<Group, GroupView>,
    /// The coordinator's group, and where its leader serves.
    pub own: u32,
    pub here: Address,
    /// The groups of the move that is under way.
    pub moved: Option<&'a [Group]>,
}

impl Known<'_> {
    /// The groups that the registrar goes by, and whether each has a leader. One that may not
    /// act is shown none.
    pub fn shown(self, may_act: bool) -> (Groups, bool) {
        let groups = match may_act {
            true => groups_led_here(self.views, self.own, self.here),
            false => Groups::new(),
        };
        let is_whole = is_whole(&groups, self.moved);
        (groups, is_whole)
    }
}

/// The same, with what is certain of the own group: its record may still tell of the
/// standby that this member was a moment ago.
fn groups_led_here(views: &BTreeMap<Group, GroupView>, own: u32, here: Address) -> Groups {
    let mut groups = groups_now(views);
    groups.entry(own).or_default().leader = Some(here);
    groups
}

/// Every group of the move (without one: every known group) has a leader.
fn is_whole(groups: &Groups, moved: Option<&[Group]>) -> bool {
    let leads = |now: Option<&GroupNow>| now.is_some_and(|now| now.leader.is_some());
    match moved {
        Some(moved) => moved.iter().filter_map(|group| group.0).all(|g| leads(groups.get(&g))),
        None => groups.values().all(|now| leads(Some(now))),
    }
}

/// `matriarchctl citus remove-group` has written so into the group's `/config`.
fn is_leaving(view: &GroupView) -> bool {
    let citus = view.config.as_ref().and_then(|config| config.value.raw.get("citus"));
    citus.and_then(|citus| citus.get(LEAVING)).and_then(|flag| flag.as_bool()) == Some(true)
}

fn secondaries(view: &GroupView) -> Vec<Address> {
    let serves = |(name, record): &(&MemberName, &MemberRecord)| {
        Some(*name) != view.leader_name() && record.is_running() && !record.tags.noloadbalance()
    };
    let members = view.members.iter().map(|(name, member)| (name, &member.value));
    members.filter(serves).filter_map(|(_, record)| record.address().map(Into::into)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::made_up::TakeSample;

    #[test]
    fn members_that_run_and_take_readers_are_secondaries() {
        let mut view = GroupView::default();
        view.take_sample("leader", "a", 1, 7);
        let member = |name: &str, state: &str, role: &str, tags: &str| {
            format!(
                r#"{{"conn_url":"postgres://{name}:5/x","state":"{state}","role":"{role}","tags":{tags}}}"#
            )
        };
        for (name, state, role, tags) in [
            ("a", "running", "primary", "{}"),
            ("b", "running", "replica", "{}"),
            ("c", "stopped", "replica", "{}"),
            ("d", "running", "replica", r#"{"noloadbalance":true}"#),
        ] {
            view.take_sample(&format!("members/{name}"), &member(name, state, role, tags), 1, 7);
        }
        let mut views = BTreeMap::from([(Group(Some(1)), view)]);
        let now = groups_now(&views);
        assert_eq!(now[&1].leader, Some(Address::new("a", 5)));
        assert_eq!(now[&1].secondaries, [Address::new("b", 5)]);
        // Between two leaders, and while it starts, the leader is not known.
        let view = views.get_mut(&Group(Some(1))).expect("just made");
        view.take_sample("members/a", &member("a", "starting", "primary", "{}"), 2, 7);
        assert_eq!(groups_now(&views)[&1].leader, None);
        views.get_mut(&Group(Some(1))).expect("just made").leader = None;
        assert_eq!(groups_now(&views)[&1].leader, None);
    }

    #[test]
    fn a_group_that_is_being_removed_says_so_in_its_configuration() {
        let mut view = GroupView::default();
        let member = |name: &str, role: &str| {
            format!(r#"{{"conn_url":"postgres://{name}:5/x","state":"running","role":"{role}"}}"#)
        };
        view.take_sample("leader", "a", 1, 7);
        view.take_sample("members/a", &member("a", "primary"), 1, 7);
        view.take_sample("members/b", &member("b", "replica"), 1, 7);
        view.take_sample("config", r#"{"ttl":30,"citus":{"leaving":true}}"#, 1, 7);
        let now = groups_now(&BTreeMap::from([(Group(Some(2)), view)]));
        assert!(now[&2].is_leaving && now[&2].secondaries.is_empty());
        assert_eq!(now[&2].leader, Some(Address::new("a", 5)), "its row still follows");
    }

    #[test]
    fn a_region_is_whole_when_every_group_of_the_move_has_a_leader() {
        let views = BTreeMap::from([(Group(Some(1)), GroupView::default())]);
        let groups = groups_led_here(&views, 0, Address::new("c", 5));
        assert_eq!(groups[&0].leader, Some(Address::new("c", 5)));
        let (own, both) = ([Group(Some(0))], [Group(Some(0)), Group(Some(1))]);
        let known = Known { views: &views, own: 0, here: Address::new("c", 5), moved: Some(&own) };
        assert_eq!(known.clone().shown(true), (groups.clone(), true));
        assert_eq!(known.shown(false), (Groups::new(), false));
        assert!(is_whole(&groups, Some(&own)));
        assert!(!is_whole(&groups, Some(&both)) && !is_whole(&groups, None));
    }
}
