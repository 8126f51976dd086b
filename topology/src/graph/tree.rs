//! The formation as lines of text: regions, groups, leaders, replicas.
//!
//! Invariants: every member is shown once, also in circles and below sources
//! that are gone; what is not known is `?`, what is from an earlier look says
//! `stale`; a name never breaks a line.
//!
//! Absent on purpose: colours and columns (`ctl` owns the terminal).

use super::{Facts, Graph, GroupNode, MemberNode, RegionNode, RegionRole, StoreNode};
use crate::report::{Role, Standing};
use crate::{MemberRole, RegionName, Seen};
use petgraph::graph::NodeIndex;
use std::collections::HashSet;

const UNKNOWN: &str = "?";

/// Deeper cascades are drawn at this level, or the text would grow with the
/// square of their length.
const LEVELS_MAX: usize = 40;

impl Graph {
    pub fn tree(&self) -> Vec<String> {
        let mut lines = vec![self.head()];
        for (at, region) in self.regions() {
            lines.push(indented(1, &region_line(region, self.owner.as_ref())));
            for (at, group) in self.groups(at) {
                lines.push(indented(2, &group_line(group, region)));
                self.member_lines(at, region, &mut lines);
            }
        }
        let votes: Vec<String> = self.stores().map(vote).collect();
        if !votes.is_empty() {
            lines.push(indented(1, &format!("votes: {}", votes.join(", "))));
        }
        lines
    }

    fn head(&self) -> String {
        let owner = self.owner.as_ref().map_or(UNKNOWN, RegionName::as_str);
        plain(&format!("{}: owner {owner}", self.formation))
    }

    /// Depth first from the leader, then from members that follow no member of this
    /// group, then from the members that are left: those follow each other in circles.
    fn member_lines(&self, group: NodeIndex, region: &RegionNode, lines: &mut Vec<String>) {
        let members = self.members(group);
        let inside: HashSet<NodeIndex> = members.iter().map(|(at, _)| *at).collect();
        let is_root = |at: NodeIndex| self.upstream(at).is_none_or(|(up, _)| !inside.contains(&up));
        let rank = |(at, member): &(NodeIndex, &MemberNode)| match (member.is_leader, is_root(*at))
        {
            (true, _) => 0,
            (false, true) => 1,
            (false, false) => 2,
        };
        let mut starts = members;
        starts.sort_by_key(rank);
        let mut shown = HashSet::new();
        for (start, _) in starts {
            let mut waiting = vec![(start, 3)];
            while let Some((at, level)) = waiting.pop() {
                let Some(member) = self.member(at).filter(|_| shown.insert(at)) else {
                    continue;
                };
                lines.push(indented(level, &self.member_line(at, member, region)));
                let below = self.downstream(at).into_iter().rev();
                let below = below.map(|(next, _)| next).filter(|next| inside.contains(next));
                waiting.extend(below.map(|next| (next, level + 1)));
            }
        }
    }

    fn member_line(&self, at: NodeIndex, member: &MemberNode, region: &RegionNode) -> String {
        let facts = member.facts.known();
        let role = member.role(region);
        let timeline = facts.and_then(|f| f.timeline).map_or(UNKNOWN.into(), |t| t.to_string());
        let state = facts.and_then(|f| f.state.as_deref()).unwrap_or(UNKNOWN);
        let mut words = vec![
            member.who.name.to_string(),
            role_text(role),
            state.into(),
            format!("TL {timeline}"),
            address(facts),
        ];
        if role != Role::Leader {
            words.push(format!("lag {}", size(&member.lag_bytes)));
        }
        if role == Role::StandbyLeader {
            let up = self.upstream(at).map(|(_, up)| up.who.to_string());
            words.push(format!("from {}", up.unwrap_or(UNKNOWN.into())));
        }
        words.extend(region.is_stale.then(|| "stale".into()));
        words.join("  ")
    }
}

impl MemberNode {
    /// What the member is to its group. The lock decides, not its own record.
    pub(super) fn role(&self, region: &RegionNode) -> Role {
        let says_so = self.facts.is_known_and(|f| f.role == MemberRole::StandbyLeader);
        let in_standby = region.role == Seen::Known(RegionRole::Standby);
        match self.is_leader {
            true if says_so || in_standby => Role::StandbyLeader,
            true => Role::Leader,
            false => Role::Replica,
        }
    }
}

pub(super) fn role_text(role: Role) -> String {
    role.word().replace('_', " ")
}

fn region_line(region: &RegionNode, owner: Option<&RegionName>) -> String {
    let role = match (Standing::of(&region.name, region.role, owner), &region.upstream) {
        (Standing::Standby, Some(up)) => format!("standby of {up}"),
        (Standing::Standby, None) => format!("standby of {UNKNOWN}"),
        (Standing::Unknown, _) => UNKNOWN.to_string(),
        (standing, _) => standing.word().to_string(),
    };
    let epoch = match region.epoch {
        Seen::Known(Some(epoch)) => epoch.to_string(),
        Seen::Known(None) => "none".into(),
        Seen::Unknown => UNKNOWN.into(),
    };
    let freshness = match (region.is_seen, region.is_stale) {
        (false, _) => ", not seen",
        (true, true) => ", stale",
        (true, false) => "",
    };
    format!("region {}: {role}, epoch {epoch}{freshness}", region.name)
}

fn group_line(group: &GroupNode, region: &RegionNode) -> String {
    let leader = match (&group.leader, region.is_stale) {
        (Some(_), _) => "",
        (None, false) => ", no leader",
        (None, true) => ", leader ?",
    };
    let paused = if group.is_paused { ", paused" } else { "" };
    let coordinator = if group.group.is_coordinator() { ", coordinator" } else { "" };
    format!("group {}{coordinator}{leader}{paused}", group.group)
}

fn vote(store: &StoreNode) -> String {
    let vote = match &store.vote {
        Seen::Known(Some(owner)) => owner.as_str(),
        Seen::Known(None) => "no region",
        Seen::Unknown => UNKNOWN,
    };
    let witness = if store.is_witness { " (witness)" } else { "" };
    format!("{}{witness} for {vote}", store.site)
}

fn address(facts: Option<&Facts>) -> String {
    let address = facts.and_then(|facts| facts.address.as_ref());
    address.map_or(UNKNOWN.into(), |(host, port)| format!("{host}:{port}"))
}

/// Bytes as people read them, rounded down.
fn size(bytes: &Seen<u64>) -> String {
    const UNITS: [&str; 4] = ["B", "kB", "MB", "GB"];
    let Seen::Known(bytes) = bytes else {
        return UNKNOWN.into();
    };
    let power = (0..3).take_while(|power| bytes >> (10 * (power + 1)) > 0).count();
    format!("{} {}", bytes >> (10 * power), UNITS[power])
}

fn indented(level: usize, text: &str) -> String {
    format!("{}{}", "  ".repeat(level.min(LEVELS_MAX)), plain(text))
}

/// Names and states come from stores: none of them moves the cursor.
fn plain(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { '?' } else { c }).collect()
}

#[cfg(test)]
mod tests {
    use super::super::fixture::{g, region, scene, standby, tagged};
    use super::*;
    use crate::made_up::TakeSample;
    use crate::{GroupView, Status};

    #[test]
    fn a_formation_of_two_regions_and_one_that_was_not_seen() {
        let mut west = standby("west", &[g(0), g(1)], 2);
        west.is_stale = true;
        let mut seen = scene(&[region("east", &[g(0), g(1)], 2), west]);
        seen.policy = Some(super::super::fixture::policy(&["east", "north", "west"]));
        let text = Graph::build(&seen).tree().join("\n");
        let expected = "\
shop: owner east
  region east: primary, epoch 7
    group 0, coordinator
      east-0-0  leader  running  TL 3  east-0-0:5432
        east-0-1  replica  streaming  TL 3  east-0-1:5432  lag 0 B
    group 1
      east-1-0  leader  running  TL 3  east-1-0:5432
        east-1-1  replica  streaming  TL 3  east-1-1:5432  lag 0 B
  region north: ?, epoch ?, not seen
  region west: standby of east, epoch 7, stale
    group 0, coordinator
      west-0-0  standby leader  streaming  TL 3  west-0-0:5432  lag ?  from east/0/east-0-0  stale
        west-0-1  replica  streaming  TL 3  west-0-1:5432  lag 0 B  stale
    group 1
      west-1-0  standby leader  streaming  TL 3  west-1-0:5432  lag ?  from east/1/east-1-0  stale
        west-1-1  replica  streaming  TL 3  west-1-1:5432  lag 0 B  stale
  votes: east for ?, north for ?, west for ?";
        assert_eq!(text, expected);
    }

    #[test]
    fn the_lag_of_a_standby_leader_is_measured_against_the_region_above() {
        let mut seen = scene(&[region("a", &[g(0)], 1), standby("b", &[g(0)], 1)]);
        let ahead = Status { optime: crate::Lsn(1000 + 5 * 1024), ..Status::default() };
        let view = seen.regions[0].groups.get_mut(&g(0)).unwrap();
        view.status.as_mut().unwrap().value = ahead;
        let text = Graph::build(&seen).tree().join("\n");
        assert!(text.contains("lag 5 kB  from a/0/a-0-0"), "{text}");
    }

    #[test]
    fn a_lock_without_a_record_and_empty_records_are_unknown() {
        let mut view = GroupView::default();
        view.take_sample("leader", "ghost", 1, 1);
        view.take_sample("members/m\n1", "garbage", 1, 1);
        let mut only = region("a", &[], 0);
        only.groups.insert(g(1), view);
        let lines = Graph::build(&scene(&[only])).tree();
        assert_eq!(lines[3], "      ghost  leader  ?  TL ?  ?");
        assert_eq!(lines[4], "        m?1  replica  ?  TL ?  ?  lag ?");
    }

    #[test]
    fn circles_are_shown_once_each_and_below_no_leader() {
        let mut only = region("a", &[], 0);
        let members = [("l", ""), ("x", "y"), ("y", "x"), ("z", "gone")];
        only.groups.insert(g(1), tagged(Some("l"), &members));
        let lines = Graph::build(&scene(&[only])).tree();
        let names: Vec<_> = lines[3..]
            .iter()
            .map(|l| l.split("  ").find(|w| !w.is_empty()))
            .map(Option::unwrap)
            .collect();
        assert_eq!(names, ["l", "z", "x", "y"]);
    }

    #[test]
    fn sizes_have_units() {
        let text = |n| size(&Seen::Known(n));
        assert_eq!(
            (text(0), text(1023), text(1024)),
            ("0 B".into(), "1023 B".into(), "1 kB".into())
        );
        assert_eq!((text(3 << 20), text(u64::MAX)), ("3 MB".into(), "17179869183 GB".into()));
        assert_eq!(size(&Seen::Unknown), "?");
    }
}
