//! Each finding is made by one change to a formation without findings.

use super::super::fixture::{g, policy, region, route, scene, standby, tagged};
use super::super::{Graph, Level, Link, RegionScene, Scene};
use super::*;
use crate::GroupView;
use crate::made_up::TakeSample;
use proptest::prelude::*;
use std::time::{Duration, Instant};

fn healthy() -> Scene {
    let groups = [g(0), g(1)];
    let mut seen = scene(&[region("a", &groups, 2), standby("b", &groups, 2)]);
    seen.policy = Some(policy(&["a", "b"]));
    seen.routes = Seen::Known(vec![route(0, "a-0-0"), route(1, "a-1-0")]);
    seen
}

fn findings(seen: &Scene) -> Vec<Finding> {
    Graph::build(seen).findings()
}

fn who(region: &str, group: Group, name: &str) -> Who {
    Who { region: region.into(), group, name: name.into() }
}

fn moved(record: &mut GroupView, name: &str, to: &str) {
    record.take_sample(
        &format!("members/{name}"),
        &format!(r#"{{"conn_url":"postgres://{to}/x"}}"#),
        2,
        1,
    );
}

#[test]
fn a_healthy_formation_has_no_findings() {
    assert_eq!(findings(&healthy()), []);
    assert_eq!(findings(&scene(&[])), []);
    assert_eq!(findings(&scene(&[region("a", &[Group::PLAIN], 3)])), []);
}

#[test]
fn a_region_that_was_not_seen_is_unknown_and_its_groups_are_not_missing() {
    let mut seen = healthy();
    seen.regions.pop();
    assert_eq!(findings(&seen), [Finding::RegionUnseen { region: "b".into() }]);
}

#[test]
fn a_group_that_is_not_there_is_missing_or_unknown_by_the_age_of_the_look() {
    let mut seen = healthy();
    seen.regions[1].groups.remove(&g(1));
    let (region, group) = (RegionName::new("b"), g(1));
    let missing = Finding::GroupMissing { region: region.clone(), group };
    assert_eq!(findings(&seen), [missing]);
    seen.regions[1].is_stale = true;
    assert_eq!(findings(&seen), [Finding::GroupUnknown { region, group }]);
}

#[test]
fn names_are_unique_across_regions_and_may_repeat_between_groups() {
    let mut seen = healthy();
    let taken = r#"{"conn_url":"postgres://new/x"}"#;
    seen.regions[0].groups.get_mut(&g(1)).unwrap().take_sample("members/a-0-1", taken, 2, 1);
    assert_eq!(findings(&seen), []);
    let taken = r#"{"conn_url":"postgres://newer/x"}"#;
    seen.regions[1].groups.get_mut(&g(1)).unwrap().take_sample("members/a-1-1", taken, 2, 1);
    let members = vec![who("a", g(1), "a-1-1"), who("b", g(1), "a-1-1")];
    assert_eq!(findings(&seen), [Finding::SameName { members }]);
}

#[test]
fn two_members_never_share_an_address() {
    let mut seen = healthy();
    moved(seen.regions[1].groups.get_mut(&g(0)).unwrap(), "b-0-1", "a-1-1:5432");
    let members = vec![who("a", g(1), "a-1-1"), who("b", g(0), "b-0-1")];
    let address = ("a-1-1".to_string(), 5432);
    assert_eq!(findings(&seen), [Finding::SameAddress { address, members }]);
}

#[test]
fn two_owners_are_an_error_and_the_lower_epoch_a_past_one() {
    let mut seen = healthy();
    seen.regions[1].role = Seen::Known(RegionRole::Primary);
    let graph = Graph::build(&seen);
    assert_eq!(graph.owner, None, "two claims of one epoch");
    let regions = vec![RegionName::new("a"), RegionName::new("b")];
    assert!(graph.findings().contains(&Finding::OwnersSeveral { regions }));
    seen.regions[1].epoch = Seen::Known(Some(8));
    assert_eq!(Graph::build(&seen).owner, Some("b".into()));
    seen.regions[1].role = Seen::Known(RegionRole::Standby);
    let graph = Graph::build(&seen);
    assert_eq!(graph.owner, None, "a newer epoch names somebody else");
    assert!(graph.findings().contains(&Finding::OwnerUnknown));
}

#[test]
fn regions_outside_the_policy_or_without_a_path_are_named() {
    let mut seen = healthy();
    seen.links = Some(Vec::new());
    let unlinked = Finding::RegionUnlinked { region: "b".into(), owner: "a".into() };
    assert_eq!(findings(&seen), [unlinked]);
    seen.links = Some(vec![Link { between: ("b".into(), "a".into()), cost: 4 }]);
    assert_eq!(findings(&seen), []);
    seen.policy = Some(policy(&["a"]));
    assert_eq!(findings(&seen), [Finding::RegionUnlisted { region: "b".into() }]);
}

#[test]
fn rows_that_name_no_leader_of_the_owner_are_drift() {
    let mut seen = healthy();
    let row = |host: &str| (host.to_string(), 5432);
    seen.routes = Seen::Known(vec![route(1, "b-1-0"), route(9, "x")]);
    let drift = Finding::RouteDrift {
        group: g(1),
        row: row("b-1-0"),
        leader: who("a", g(1), "a-1-0"),
        at: row("a-1-0"),
    };
    let stray = Finding::RouteStray { group: g(9) };
    assert_eq!(findings(&seen), [drift, stray, Finding::RouteMissing { group: g(0) }]);
}

#[test]
fn drift_is_not_claimed_where_the_leader_is_unknown() {
    let mut seen = healthy();
    seen.routes = Seen::Known(vec![route(0, "a-0-0"), route(1, "wrong")]);
    seen.regions[0].groups.get_mut(&g(1)).unwrap().take_sample("leader", "ghost", 2, 1);
    let why = "the leader's address is not known";
    assert_eq!(findings(&seen), [Finding::RouteUnchecked { group: g(1), why }]);
    seen.regions[0].is_stale = true;
    assert_eq!(findings(&seen), [unchecked("what is known of the owner is stale")]);
    seen.regions[0].is_stale = false;
    seen.regions[0].groups.get_mut(&g(1)).unwrap().leader = None;
    let leaderless = Finding::LeaderMissing { region: "a".into(), group: g(1) };
    assert!(findings(&seen).contains(&leaderless));
}

#[test]
fn plain_standby_clusters_that_follow_each_other_are_a_circle() {
    let mut one = region("a", &[Group::PLAIN], 1);
    let mut two = region("b", &[Group::PLAIN], 1);
    for (region, host) in [(&mut one, "b-default-0"), (&mut two, "a-default-0")] {
        let view = region.groups.get_mut(&Group::PLAIN).unwrap();
        let config = format!(r#"{{"standby_cluster":{{"host":"{host}","port":5432}}}}"#);
        view.take_sample("config", &config, 2, 0);
    }
    let plain = |region| who(region, Group::PLAIN, &format!("{region}-default-0"));
    let circle = Finding::Circle { members: vec![plain("a"), plain("b")] };
    assert!(findings(&scene(&[one, two])).contains(&circle));
}

#[test]
fn every_code_is_its_own_and_has_a_remedy() {
    let (region, group) = (RegionName::new("a"), g(1));
    let members = vec![who("a", g(1), "m")];
    let address: Address = ("h".into(), 1);
    let all = [
        Finding::OwnerUnknown,
        Finding::OwnersSeveral { regions: vec![region.clone()] },
        Finding::RegionUnseen { region: region.clone() },
        Finding::RegionUnlisted { region: region.clone() },
        Finding::RegionUnlinked { region: region.clone(), owner: region.clone() },
        Finding::GroupMissing { region: region.clone(), group },
        Finding::GroupUnknown { region: region.clone(), group },
        Finding::LeaderMissing { region, group },
        Finding::Circle { members: members.clone() },
        Finding::SameName { members: members.clone() },
        Finding::SameAddress { address: address.clone(), members: members.clone() },
        Finding::RouteDrift {
            group,
            row: address.clone(),
            leader: members[0].clone(),
            at: address,
        },
        Finding::RouteMissing { group },
        Finding::RouteStray { group },
        Finding::RouteUnchecked { group, why: "w" },
        unchecked("w"),
    ];
    let codes: BTreeSet<&str> = all.iter().map(Finding::code).collect();
    assert_eq!(codes.len(), all.len());
    assert!(all.iter().all(|finding| !finding.remedy().is_empty()));
    assert!(all.iter().any(|finding| finding.level() == Level::Error));
}

/// 500 groups x 2 regions x 3 members. The bound is far above what it takes:
/// it is here to catch a step that looks at all groups for every group.
#[test]
fn a_large_formation_is_quick() {
    let groups: Vec<Group> = (0..500).map(g).collect();
    let mut seen = scene(&[region("a", &groups, 3), standby("b", &groups, 3)]);
    seen.policy = Some(policy(&["a", "b"]));
    seen.routes = Seen::Known((0..500).map(|n| route(n, &format!("a-{n}-0"))).collect());
    let started = Instant::now();
    let graph = Graph::build(&seen);
    assert_eq!(graph.findings(), []);
    assert_eq!(graph.tree().len(), 1 + 2 + 1000 + 3000 + 1);
    assert_eq!(graph.open_order().unwrap().len(), 2);
    assert!(graph.json().to_string().len() + graph.dot().len() > 100_000);
    let took = started.elapsed();
    println!("3000 members: {took:?}");
    assert!(took < Duration::from_secs(3), "took {took:?}");
}

/// The dumb twin: from every member take as many steps as there are members.
fn goes_round(leader: &str, from: &[(String, String)]) -> BTreeSet<String> {
    let step = |name: &String| -> Option<String> {
        let wanted = &from.iter().find(|(member, _)| member == name)?.1;
        let is_there = wanted != name && from.iter().any(|(member, _)| member == wanted);
        (name != leader).then(|| if is_there { wanted.clone() } else { leader.to_string() })
    };
    let comes_back = |start: &String| {
        let mut at = step(start);
        (0..from.len()).any(|_| {
            let is_back = at.as_ref() == Some(start);
            at = at.as_ref().and_then(step);
            is_back
        })
    };
    from.iter().map(|(name, _)| name.clone()).filter(comes_back).collect()
}

proptest! {
    #[test]
    fn circles_are_what_walking_from_every_member_finds(
        wants in proptest::collection::vec(0usize..10, 1..9),
        leader in 0usize..10,
    ) {
        let name = |n: usize| format!("m{n}");
        let from: Vec<(String, String)> =
            wants.iter().enumerate().map(|(n, to)| (name(n), name(*to))).collect();
        let members: Vec<(&str, &str)> =
            from.iter().map(|(one, other)| (one.as_str(), other.as_str())).collect();
        let leader = name(leader);
        let mut only: RegionScene = region("a", &[], 0);
        only.groups.insert(Group::PLAIN, tagged(Some(&leader), &members));
        let graph = Graph::build(&scene(&[only]));
        let found: BTreeSet<String> = graph
            .findings()
            .into_iter()
            .filter_map(|f| match f { Finding::Circle { members } => Some(members), _ => None })
            .flatten()
            .map(|who| who.name.0)
            .collect();
        prop_assert_eq!(found, goes_round(&leader, &from));
        let ghost = usize::from(!from.iter().any(|(name, _)| *name == leader));
        prop_assert_eq!(graph.tree().len(), 3 + from.len() + ghost, "everybody once");
    }
}
