//! Plans against the model, for random tables and random views of the groups.
//!
//! The dumb twin of `diff` is `expected`: it says where everything ends without
//! a thought about nodeids, order or uniqueness on the way. The pool of
//! addresses is small on purpose, so that rows trade places, stand in each
//! other's way and meet placeholders.

use crate::desired::{Desired, GroupNow, Groups, Wish, desired};
use crate::diff::{Blocked, Plan, Terms, diff};
use crate::model::{Model, row};
use crate::node::primary_of;
use crate::{Address, DEFAULT_CLUSTER, NodeRole, NodeRow, Statement};
use proptest::prelude::*;
use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};
use topology::RegionName;

/// What the table says about one node, without its number.
type Line = (u32, NodeRole, String, Address);

fn line(row: &NodeRow) -> Line {
    let cluster = row.nodecluster.clone();
    (row.groupid, row.noderole, cluster, row.address())
}

fn pool() -> Vec<Address> {
    let name = |n: usize| match n {
        12 => "h0-demoted".to_string(),
        13 => "h1-demoted".to_string(),
        n => format!("h{n}"),
    };
    (0..14).map(|n| Address::new(name(n), 5432)).collect()
}

/// Rows of groups 0 to 3 that the real table would accept.
fn tables() -> impl Strategy<Value = Vec<NodeRow>> {
    let kinds = prop::collection::vec((0..4u32, 0..9u8), 0..14);
    (kinds, Just(pool()).prop_shuffle()).prop_map(|(kinds, addresses)| {
        let mut rows: Vec<NodeRow> = Vec::new();
        for ((group, kind), address) in kinds.into_iter().zip(addresses) {
            let nodeid = i32::try_from(rows.len()).unwrap() + 1;
            let mut added = row(nodeid, group, &address.host);
            let (role, cluster) = match kind {
                0..=2 | 8 => (NodeRole::Primary, DEFAULT_CLUSTER),
                3 | 6 | 7 => (NodeRole::Secondary, DEFAULT_CLUSTER),
                4 => (NodeRole::Secondary, "b"),
                _ => (NodeRole::Unavailable, DEFAULT_CLUSTER),
            };
            let second = role == NodeRole::Primary && primary_of(&rows, group).is_some();
            added.noderole = if second { NodeRole::Secondary } else { role };
            added.nodecluster = cluster.to_string();
            (added.nodeisclone, added.isactive) = (kind == 6, kind < 6);
            rows.push(added);
        }
        rows
    })
}

fn groups() -> impl Strategy<Value = Groups> {
    let address = || prop::sample::select(pool());
    let members = prop::collection::vec(address(), 0..4);
    let now = (prop::option::weighted(0.85, address()), members).prop_map(|(leader, members)| {
        let secondaries =
            members.into_iter().filter(|member| Some(member) != leader.as_ref()).collect();
        GroupNow { leader, secondaries, ..GroupNow::default() }
    });
    prop::collection::btree_map(0..4u32, now, 0..5)
}

fn views() -> impl Strategy<Value = Desired> {
    let wish = (any::<bool>(), any::<bool>(), any::<bool>());
    (groups(), groups(), wish).prop_map(|(own, there, (secondaries, regions, back))| {
        let (owner, other) = if back { ("b", "a") } else { ("a", "b") };
        let wish = Wish {
            register_secondaries: secondaries,
            register_regions: regions,
            owner: Some(owner.into()),
            ..Wish::default()
        };
        desired(&own, &BTreeMap::from([(RegionName::new(other), there)]), &wish)
    })
}

/// The twin: every line of the table after a plan that nothing blocks.
fn expected(desired: &Desired, rows: &[NodeRow]) -> BTreeSet<Line> {
    let mut lines = BTreeSet::new();
    let is_kept = |group: u32| primary_of(rows, group).is_some_and(NodeRow::is_left_alone);
    for (&group, wanted) in &desired.groups {
        let primary = (NodeRole::Primary, DEFAULT_CLUSTER, &wanted.primary);
        let primary = (!is_kept(group)).then_some(primary);
        let others = wanted.secondaries.iter().flat_map(|(cluster, members)| {
            members.iter().map(move |member| (NodeRole::Secondary, cluster.as_str(), member))
        });
        for (role, cluster, address) in others.chain(primary) {
            let kept = |row: &NodeRow| row.groupid == group && row.is_left_alone();
            if !rows.iter().any(|row| kept(row) && &row.address() == address) {
                lines.insert((group, role, cluster.to_string(), address.clone()));
            }
        }
    }
    let mut wanted = desired.addresses();
    for (_, kept) in desired.groups.iter().filter(|(group, _)| is_kept(**group)) {
        wanted.remove(&kept.primary);
    }
    let mut left: BTreeSet<Address> = rows
        .iter()
        .filter(|row| row.is_primary() && !row.is_left_alone())
        .filter(|row| desired.groups.contains_key(&row.groupid))
        .map(NodeRow::address)
        .filter(|address| !wanted.contains(address) && !address.is_placeholder())
        .collect();
    for row in rows {
        let mut stays = line(row);
        match desired.groups.get(&row.groupid) {
            _ if row.is_left_alone() => drop(lines.insert(stays)),
            None => drop(lines.insert(stays)),
            Some(_) if row.is_primary() => {}
            Some(g) if row.is_secondary() && g.secondaries.contains_key(&row.nodecluster) => {}
            Some(_) if !wanted.contains(&row.address()) => drop(lines.insert(stays)),
            Some(_) if row.is_secondary() => {
                let old = primary_of(rows, row.groupid).map(NodeRow::address);
                if let Some(old) = old.and_then(|old| left.take(&old)) {
                    stays.3 = old;
                    lines.insert(stays);
                }
            }
            Some(_) => {}
        }
    }
    lines
}

/// Runs a plan as the node does; true when all of it was accepted.
fn apply(plan: &Plan, model: &mut Model) -> Result<(), String> {
    model.run(&plan.transaction())?;
    model.sync();
    model.run(&plan.after)
}

/// Something the plan may not move has an address it would need.
fn may_block(desired: &Desired, rows: &[NodeRow]) -> bool {
    let wanted = desired.addresses();
    let stays = |row: &NodeRow| !desired.groups.contains_key(&row.groupid) || row.is_left_alone();
    let in_the_way = rows.iter().any(|row| stays(row) && wanted.contains(&row.address()));
    let coordinator = desired.groups.contains_key(&0) || primary_of(rows, 0).is_some();
    in_the_way || !coordinator
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4_000))]

    #[test]
    fn a_plan_ends_where_the_twin_says(rows in tables(), desired in views()) {
        let plan = diff(&desired, &rows, &Terms::default());
        let mut model = Model::new(rows.clone());
        prop_assert_eq!(apply(&plan, &mut model), Ok(()));

        let after: BTreeSet<Line> = model.rows.iter().map(line).collect();
        if plan.blocked.is_empty() {
            prop_assert_eq!(after, expected(&desired, &rows));
        } else {
            prop_assert!(may_block(&desired, &rows), "{:?}", plan.blocked);
        }
    }

    #[test]
    fn primaries_and_unknown_groups_keep_their_rows(rows in tables(), desired in views()) {
        let plan = diff(&desired, &rows, &Terms::default());
        let mut model = Model::new(rows.clone());
        prop_assert_eq!(apply(&plan, &mut model), Ok(()));
        for before in &rows {
            let now = model.rows.iter().find(|row| row.nodeid == before.nodeid);
            if !desired.groups.contains_key(&before.groupid) || before.is_left_alone() {
                prop_assert_eq!(now, Some(before));
            } else if before.is_primary() {
                let now = now.expect("a primary row is for ever");
                prop_assert!(now.is_primary() && now.groupid == before.groupid);
            }
        }
    }

    #[test]
    fn nothing_is_left_for_a_second_plan(rows in tables(), desired in views()) {
        let mut model = Model::new(rows);
        let first = diff(&desired, &model.rows, &Terms::default());
        prop_assert_eq!(apply(&first, &mut model), Ok(()));
        let second = diff(&desired, &model.rows, &Terms::default());
        prop_assert!(second.is_empty(), "{:?}\nafter {:?}", second, first);
        prop_assert_eq!(second.blocked, first.blocked);
    }

    #[test]
    fn an_interrupted_plan_is_finished_by_the_next(
        rows in tables(), desired in views(), stop in 0..6usize,
    ) {
        let mut model = Model::new(rows.clone());
        let first = diff(&desired, &model.rows, &Terms::default());
        model.run(&first.transaction()).unwrap();
        model.sync();
        model.run(&first.after[..stop.min(first.after.len())]).unwrap();
        let second = diff(&desired, &model.rows, &Terms::default());
        prop_assert_eq!(apply(&second, &mut model), Ok(()));
        let third = diff(&desired, &model.rows, &Terms::default());
        prop_assert!(third.is_empty(), "{:?}", third);
    }
}

fn at(host: &str) -> Address {
    Address::new(host, 5432)
}

fn led(leaders: &[(u32, &str)]) -> Desired {
    let groups = leaders.iter().map(|(group, host)| {
        let leader = Some(at(host));
        let secondaries = Vec::new();
        (*group, GroupNow { leader, secondaries, ..GroupNow::default() })
    });
    desired(&groups.collect(), &BTreeMap::new(), &Wish::default())
}

fn update(nodeid: i32, host: &str) -> Statement {
    Statement::UpdateNode { nodeid, address: at(host), cooldown_ms: 10_000 }
}

#[test]
fn a_new_formation_registers_the_coordinator_first() {
    let plan = diff(&led(&[(0, "c"), (1, "w")]), &[], &Terms::default());
    assert_eq!(plan.transaction(), vec![]);
    let coordinator = Statement::SetCoordinatorHost { address: at("c") };
    let worker = Statement::AddPrimary { group: 1, address: at("w") };
    assert_eq!(plan.after, vec![coordinator, worker]);
}

#[test]
fn the_call_that_crashes_the_server_is_never_made() {
    let mut secondary = row(1, 0, "s");
    secondary.noderole = NodeRole::Secondary;
    let plan = diff(&led(&[(0, "c")]), &[secondary], &Terms::default());
    let added = Statement::AddPrimary { group: 0, address: at("c") };
    assert_eq!(plan.after, vec![added]);
}

#[test]
fn a_region_move_is_one_update_per_group_with_the_coordinator_last() {
    let rows = [row(1, 0, "a0"), row(2, 1, "a1"), row(3, 2, "a2")];
    let moved = led(&[(0, "b0"), (1, "b1"), (2, "b2")]);
    let plan = diff(&moved, &rows, &Terms::default());
    let expected = vec![update(2, "b1"), update(3, "b2"), update(1, "b0")];
    assert_eq!((plan.in_one_transaction, plan.after), (expected, vec![]));
}

#[test]
fn a_promoted_secondary_trades_places_over_a_placeholder() {
    let mut standby = row(3, 1, "w2");
    standby.noderole = NodeRole::Secondary;
    let rows = [row(1, 0, "c"), row(2, 1, "w1"), standby];
    let plan = diff(&led(&[(0, "c"), (1, "w2")]), &rows, &Terms::default());
    let expected = vec![update(3, "w2-demoted"), update(2, "w2"), update(3, "w1")];
    assert_eq!((plan.in_one_transaction, plan.after), (expected, vec![]));
}

#[test]
fn an_address_of_an_unknown_group_blocks_only_what_needs_it() {
    let rows = [row(1, 0, "c"), row(2, 1, "x"), row(3, 2, "y")];
    let plan = diff(&led(&[(0, "d"), (2, "x")]), &rows, &Terms::default());
    assert_eq!(plan.in_one_transaction, vec![update(1, "d")]);
    let blocked = Blocked::Occupied { group: 2, address: at("x"), nodeid: 2 };
    assert_eq!(plan.blocked, vec![blocked]);
}

#[test]
fn disabled_nodes_clones_and_other_clusters_stay_as_they_are() {
    let secondary = |nodeid: i32, host: &str| {
        let mut row = row(nodeid, 1, host);
        row.noderole = NodeRole::Secondary;
        row
    };
    let mut clone = secondary(3, "clone");
    (clone.nodeisclone, clone.isactive) = (true, false);
    let mut disabled = secondary(4, "disabled");
    disabled.isactive = false;
    let mut elsewhere = secondary(5, "elsewhere");
    elsewhere.nodecluster = "reports".to_string();
    let mut off = row(6, 2, "off");
    off.isactive = false;
    let rows = [row(1, 0, "c"), row(2, 1, "w"), clone, disabled, elsewhere, off];
    let now = |leader: &str| GroupNow { leader: Some(at(leader)), ..GroupNow::default() };
    let groups = Groups::from([(0, now("c")), (1, now("w")), (2, now("new"))]);
    let wish = Wish { register_secondaries: true, ..Wish::default() };
    let plan = diff(&desired(&groups, &BTreeMap::new(), &wish), &rows, &Terms::default());
    assert_eq!(plan, Plan::default());
}

#[test]
fn an_unknown_coordinator_stops_additions_but_no_failover() {
    let plan = diff(&led(&[(1, "w2"), (2, "n")]), &[row(2, 1, "w1")], &Terms::default());
    assert_eq!(plan.in_one_transaction, vec![update(2, "w2")]);
    assert!(plan.after.is_empty());
    assert!(matches!(plan.blocked[0], Blocked::NoCoordinator { group: 2, .. }));
}

#[test]
fn a_large_formation_moves_in_a_blink() {
    let groups: Vec<(u32, String)> = (0..500).map(|g| (g, format!("a{g}"))).collect();
    let rows: Vec<NodeRow> =
        groups.iter().map(|(g, host)| row(i32::try_from(*g).unwrap() + 1, *g, host)).collect();
    // Each row moves to the address of the next one: one circle through all rows.
    let leaders: Vec<(u32, &str)> =
        (0..500usize).map(|g| (g as u32, groups[(g + 1) % 500].1.as_str())).collect();
    let plan = diff(&led(&leaders), &rows, &Terms::default());
    assert_eq!(plan.in_one_transaction.len(), 501);
    Model::new(rows).run(&plan.transaction()).unwrap();
}

/// 100 groups of three members, of which `moved` have a new leader.
fn hundred(moved: u32) -> (Vec<NodeRow>, Desired) {
    let host = |group: u32, member: u32| format!("g{group}-m{member}");
    let mut rows = Vec::new();
    let mut groups = Groups::new();
    for group in 0..100 {
        for member in 0..3 {
            let nodeid = i32::try_from(rows.len()).unwrap() + 1;
            let mut added = row(nodeid, group, &host(group, member));
            if member > 0 {
                added.noderole = NodeRole::Secondary;
            }
            rows.push(added);
        }
        let leads = u32::from(group >= 1 && group <= moved);
        let others = (0..3).filter(|member| *member != leads);
        let now = GroupNow {
            leader: Some(at(&host(group, leads))),
            secondaries: others.map(|member| at(&host(group, member))).collect(),
            ..GroupNow::default()
        };
        groups.insert(group, now);
    }
    let wish = Wish { register_secondaries: true, ..Wish::default() };
    (rows, desired(&groups, &BTreeMap::new(), &wish))
}

#[test]
fn a_hundred_groups_cost_statements_for_changed_rows_alone() {
    for moved in [0, 1, 7, 99] {
        let (rows, desired) = hundred(moved);
        let plan = diff(&desired, &rows, &Terms::default());
        // Two rows trade places over a placeholder.
        assert_eq!(plan.in_one_transaction.len(), 3 * moved as usize);
        assert!(plan.after.is_empty() && plan.blocked.is_empty());
    }
}

/// The fastest of some runs, for the machine may be busy with other things; a build without
/// optimisations takes a multiple.
#[test]
fn a_hundred_groups_of_three_members_are_reconciled_within_50_ms() {
    let (rows, wanted) = hundred(99);
    let mut model = Model::new(rows.clone());
    apply(&diff(&wanted, &rows, &Terms::default()), &mut model).expect("the model takes it");
    let once = || {
        let began = Instant::now();
        let (rows, desired) = hundred(99);
        assert!(!diff(&desired, &rows, &Terms::default()).is_empty());
        assert!(diff(&desired, &model.rows, &Terms::default()).is_empty());
        began.elapsed()
    };
    let fastest = (0..5).map(|_| once()).min().expect("five");
    let limit = Duration::from_millis(if cfg!(debug_assertions) { 250 } else { 50 });
    assert!(fastest < limit, "{fastest:?}");
}
