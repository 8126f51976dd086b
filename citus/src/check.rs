//! What an operator should know about `pg_dist_node`.
//!
//! Compares the rows with the desired ones and says each difference once, with
//! the object it is about and what to do. Repair is `diff`'s; most findings
//! vanish by themselves within a beat, and those that do not need a person.
//!
//! Invariant: the worst level of all findings is `Ok` exactly when there is
//! nothing to do for `diff` and nothing for a person.
//!
//! Absent on purpose: health of the nodes; the stores know more about that.

use crate::desired::{Desired, DesiredGroup};
use crate::diff::{Terms, diff};
use crate::node::{pooled, primary_of};
use crate::{COORDINATOR_GROUP, NodeRow};
use std::collections::{BTreeMap, BTreeSet};

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Level {
    Ok,
    Warning,
    Error,
}

#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Finding {
    pub level: Level,
    /// `group 1`, `row 4` or `pg_dist_node`.
    pub object: String,
    pub what: String,
    /// Empty where nothing is to be done.
    pub remedy: String,
}

const DISABLED: &str = "the node is disabled and its row is left alone until it is activated";
const BY_ITSELF: &str = "the coordinator's leader repairs it; if it stays, read that member's log";

/// All findings: groups by number, then rows by nodeid, then what is blocked.
pub fn check(desired: &Desired, rows: &[NodeRow]) -> Vec<Finding> {
    let mut found = Vec::new();
    for (&group, wanted) in &desired.groups {
        found.extend(of_group(group, wanted, rows));
    }
    found.extend(undecided(desired));
    found.extend(unlisted(desired, rows));
    found.extend(rows.iter().flat_map(of_row));
    found.extend(blocked(desired, rows));
    found
}

/// The worst of all; `Ok` for none.
pub fn worst(findings: &[Finding]) -> Level {
    findings.iter().map(|finding| finding.level).max().unwrap_or(Level::Ok)
}

/// A running rebalance: a failover of another group leaves it alone.
pub fn of_moves(count: i64) -> Option<Finding> {
    (count > 0).then(|| Finding {
        level: Level::Ok,
        object: "shards".to_string(),
        what: format!("{count} shard moves or splits are under way"),
        remedy: String::new(),
    })
}

/// A node must believe to be in its own group; no failover changes that.
pub fn of_local_group(expected: u32, found: u32) -> Option<Finding> {
    (expected != found).then(|| {
        error(
            "pg_dist_local_group",
            format!("says group {found}, this member is in group {expected}"),
            "register the member under its own group, or correct citus.group",
        )
    })
}

fn of_group(group: u32, wanted: &DesiredGroup, rows: &[NodeRow]) -> Vec<Finding> {
    let object = format!("group {group}");
    let mut found = Vec::new();
    match primary_of(rows, group) {
        None if wanted.is_leaving => {}
        None => found.push(error(
            &object,
            format!("has no primary row; its leader is {}", wanted.primary),
            BY_ITSELF,
        )),
        Some(row) if row.address() != wanted.primary => {
            let (here, leader) = (row.address(), &wanted.primary);
            let what = format!("queries go to {here}, the leader is {leader}");
            let remedy = if row.is_left_alone() { DISABLED } else { BY_ITSELF };
            found.push(error(&object, what, remedy));
        }
        Some(row) if redirected_elsewhere(row, wanted) => {
            let what = format!(
                "poolinfo `{}` sends queries elsewhere than the leader {}",
                row.poolinfo.as_deref().unwrap_or_default(),
                wanted.primary
            );
            let remedy = "correct if it names the group's pooler; else delete it";
            found.push(warning(&object, what, remedy));
        }
        Some(_) => {}
    }
    found.extend(of_clusters(&object, group, wanted, rows));
    if found.is_empty() {
        found.push(Finding {
            level: Level::Ok,
            object,
            what: match wanted.is_leaving {
                true => "is being removed".to_string(),
                false => format!("routes to its leader {}", wanted.primary),
            },
            remedy: String::new(),
        });
    }
    found
}

fn redirected_elsewhere(row: &NodeRow, wanted: &DesiredGroup) -> bool {
    let text = row.poolinfo.as_deref();
    let goal = wanted.pooler.as_ref().unwrap_or(&wanted.primary);
    text.is_some_and(|text| &pooled(text, &row.address()) != goal)
}

fn of_clusters(object: &str, group: u32, wanted: &DesiredGroup, rows: &[NodeRow]) -> Vec<Finding> {
    let mut found = Vec::new();
    for (cluster, members) in &wanted.secondaries {
        let here: BTreeSet<_> = rows
            .iter()
            .filter(|row| row.groupid == group && row.is_secondary())
            .filter(|row| &row.nodecluster == cluster)
            .map(NodeRow::address)
            .collect();
        for address in members.difference(&here) {
            let what = format!("secondary {address} is not registered in `{cluster}`");
            found.push(warning(object, what, BY_ITSELF));
        }
        for address in here.difference(members) {
            let what = format!("secondary {address} in `{cluster}` is no running member");
            found.push(warning(object, what, BY_ITSELF));
        }
    }
    found
}

/// Groups without a leader anybody knows, and leaders two groups claim.
fn undecided(desired: &Desired) -> Vec<Finding> {
    let unknown = desired.unknown.iter().map(|group| {
        let what = "has no known leader; its rows stay as they are".to_string();
        warning(&format!("group {group}"), what, "look at the group's members")
    });
    let contested = desired.contested.iter().map(|(address, groups)| {
        let groups: Vec<String> = groups.iter().map(u32::to_string).collect();
        error(
            &format!("groups {}", groups.join(", ")),
            format!("all say that {address} is their leader; their rows stay as they are"),
            "correct postgresql.connect_address of the members concerned",
        )
    });
    unknown.chain(contested).collect()
}

/// Groups in the table that no store knows.
fn unlisted(desired: &Desired, rows: &[NodeRow]) -> Vec<Finding> {
    let known = |group: &u32| {
        let contested = desired.contested.values().any(|groups| groups.contains(group));
        desired.groups.contains_key(group) || desired.unknown.contains(group) || contested
    };
    let groups: BTreeSet<u32> = rows.iter().map(|row| row.groupid).collect();
    let strange = groups.into_iter().filter(|group| !known(group));
    strange
        .map(|group| {
            let what = "is in pg_dist_node but not in the store".to_string();
            let remedy = "if it is gone for good: citus_drain_node, then citus_remove_node";
            warning(&format!("group {group}"), what, remedy)
        })
        .collect()
}

fn of_row(row: &NodeRow) -> Vec<Finding> {
    let object = format!("row {}", row.nodeid);
    let mut found = Vec::new();
    if row.address().is_placeholder() {
        let what = format!("has the placeholder {} for an address", row.address());
        found.push(error(&object, what, BY_ITSELF));
    }
    if row.is_primary() && !row.isactive {
        let what = format!("the primary of group {} is inactive", row.groupid);
        found.push(error(&object, what, "SELECT citus_activate_node(host, port)"));
    }
    if row.is_unsynced() {
        let what = format!("the copy of the table on {} is behind", row.address());
        let remedy = "wait a minute, then SELECT start_metadata_sync_to_all_nodes()";
        found.push(warning(&object, what, remedy));
    }
    if row.groupid == COORDINATOR_GROUP && row.is_primary() && row.nodename == "localhost" {
        let what = "the coordinator is registered as localhost; workers cannot reach it";
        let remedy = "set postgresql.connect_address to an address workers can reach";
        found.push(warning(&object, what.to_string(), remedy));
    }
    found
}

fn blocked(desired: &Desired, rows: &[NodeRow]) -> Vec<Finding> {
    let plan = diff(desired, rows, &Terms::default());
    plan.blocked
        .iter()
        .map(|why| error("pg_dist_node", why.to_string(), "see the groups named here"))
        .collect()
}

fn error(object: &str, what: String, remedy: &str) -> Finding {
    finding(Level::Error, object, what, remedy)
}

fn warning(object: &str, what: String, remedy: &str) -> Finding {
    finding(Level::Warning, object, what, remedy)
}

fn finding(level: Level, object: &str, what: String, remedy: &str) -> Finding {
    Finding { level, object: object.to_string(), what, remedy: remedy.to_string() }
}

/// Findings by level, for a summary line.
pub fn count(findings: &[Finding]) -> BTreeMap<Level, usize> {
    let mut counted = BTreeMap::new();
    for finding in findings {
        *counted.entry(finding.level).or_insert(0) += 1;
    }
    counted
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::desired::{GroupNow, Groups, Wish, desired};
    use crate::model::row;
    use crate::{Address, NodeRole};

    fn wanted() -> Desired {
        let at = |host: &str| Address::new(host, 5432);
        let led = |host: &str, secondaries: Vec<Address>| GroupNow {
            leader: Some(at(host)),
            secondaries,
            ..GroupNow::default()
        };
        let groups = Groups::from([(0, led("c", vec![])), (1, led("w", vec![at("s")]))]);
        let wish = Wish::own_replicas();
        desired(&groups, &BTreeMap::new(), &wish)
    }

    fn good() -> Vec<NodeRow> {
        let mut standby = row(3, 1, "s");
        standby.noderole = NodeRole::Secondary;
        vec![row(1, 0, "c"), row(2, 1, "w"), standby]
    }

    fn after(change: impl FnOnce(&mut Vec<NodeRow>)) -> (Level, String) {
        let mut rows = good();
        change(&mut rows);
        let found = check(&wanted(), &rows);
        let text: Vec<String> = found
            .iter()
            .filter(|finding| finding.level > Level::Ok)
            .map(|finding| format!("{}: {}", finding.object, finding.what))
            .collect();
        (worst(&found), text.join("; "))
    }

    #[test]
    fn good_rows_are_ok_and_said_so() {
        assert_eq!(after(|_| ()), (Level::Ok, String::new()));
        assert_eq!(count(&check(&wanted(), &good()))[&Level::Ok], 2);
    }

    #[test]
    fn every_fault_has_its_finding() {
        type Change = fn(&mut Vec<NodeRow>);
        let faults: [(Change, Level, &str); 9] = [
            (|r| r[1].nodename = "x".into(), Level::Error, "group 1: queries go to x:5432"),
            (|r| drop(r.remove(0)), Level::Error, "group 0: has no primary row"),
            (|r| drop(r.remove(2)), Level::Warning, "group 1: secondary s:5432 is not"),
            (|r| r[2].nodename = "t".into(), Level::Warning, "t:5432 in `default` is no running"),
            (|r| r[1].metadatasynced = false, Level::Warning, "row 2: the copy"),
            (|r| r[1].isactive = false, Level::Error, "row 2: the primary of group 1 is inactive"),
            (|r| r.push(row(9, 9, "z")), Level::Warning, "group 9: is in pg_dist_node but"),
            (|r| r[1].poolinfo = Some("host=p".into()), Level::Warning, "poolinfo `host=p`"),
            (|r| r[1].nodename = "w-demoted".into(), Level::Error, "row 2: has the placeholder"),
        ];
        for (change, level, text) in faults {
            let (worst, said) = after(change);
            assert_eq!(worst, level, "{said}");
            assert!(said.contains(text), "`{text}` is not in `{said}`");
        }
    }

    #[test]
    fn what_is_unknown_is_said_not_guessed() {
        let mut desired = wanted();
        desired.groups.remove(&1);
        desired.unknown.insert(1);
        let found = check(&desired, &good());
        assert_eq!(worst(&found), Level::Warning);
        assert!(found.iter().any(|f| f.object == "group 1" && f.what.contains("no known")));
    }

    #[test]
    fn running_moves_are_reported_and_no_fault() {
        assert_eq!(of_moves(0), None);
        let finding = of_moves(2).expect("a finding");
        assert_eq!((finding.level, finding.object.as_str()), (Level::Ok, "shards"));
        assert!(finding.what.starts_with("2 shard moves"));
    }

    #[test]
    fn a_local_group_that_differs_is_an_error() {
        assert_eq!(of_local_group(1, 1), None);
        assert_eq!(of_local_group(1, 0).map(|f| f.level), Some(Level::Error));
    }
}
