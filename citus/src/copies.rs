//! The copies of `pg_dist_node` on the workers, compared with the coordinator's table.
//!
//! Citus keeps the copies in step by itself and says in `metadatasynced` which are behind.
//! What that column does not show is a copy that another program has changed, and a worker
//! that was built anew and does not know its group.
//!
//! Absent on purpose: columns that differ between copies by design (`hasmetadata`,
//! `metadatasynced`), and redirections, which are each node's own.

use crate::{NodeRow, Statement};
use std::collections::BTreeMap;

/// What a metadata node says of itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeCopy {
    /// The group that it believes to be in.
    pub group: u32,
    pub rows: Vec<NodeRow>,
}

/// A push, as a transaction that waits for no lock for long, on no node: it makes tables of the
/// worker anew, and while it waits for a session there that hangs, all others wait behind it.
pub fn pushed(push: &Statement) -> Vec<Statement> {
    use Statement::{Begin, Commit, LimitLocks, SetEverywhere, SyncInTransaction};
    vec![Begin, SyncInTransaction, SetEverywhere, LimitLocks, push.clone(), Commit]
}

/// How the copy on the leader of `group` differs from the coordinator's `rows`; the first
/// difference.
pub fn difference(rows: &[NodeRow], group: u32, copy: &NodeCopy) -> Option<String> {
    if copy.group != group {
        return Some(format!("it believes to be in group {}", copy.group));
    }
    let here: BTreeMap<i32, String> = rows.iter().map(line).collect();
    let there: BTreeMap<i32, String> = copy.rows.iter().map(line).collect();
    let changed = here.iter().find(|(nodeid, text)| there.get(nodeid) != Some(text));
    if let Some((nodeid, text)) = changed {
        return Some(match there.get(nodeid) {
            Some(other) => format!("row {nodeid} is {other} instead of {text}"),
            None => format!("row {nodeid} ({text}) is missing"),
        });
    }
    let strange = there.iter().find(|(nodeid, _)| !here.contains_key(nodeid));
    strange.map(|(nodeid, text)| format!("row {nodeid} ({text}) is not the coordinator's"))
}

fn line(row: &NodeRow) -> (i32, String) {
    let (group, role, cluster) = (row.groupid, row.noderole, &row.nodecluster);
    (row.nodeid, format!("{role} {} of group {group} in `{cluster}`", row.address()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::row;

    fn said(change: impl FnOnce(&mut NodeCopy)) -> Option<String> {
        let rows = vec![row(1, 0, "c"), row(2, 1, "w")];
        let mut copy = NodeCopy { group: 1, rows: rows.clone() };
        change(&mut copy);
        difference(&rows, 1, &copy)
    }

    #[test]
    fn a_push_limits_its_locks_on_all_nodes_before_it_asks_for_one() {
        let steps = pushed(&Statement::SyncAllNodes);
        let at = |step: &Statement| steps.iter().position(|other| other == step).expect("a step");
        assert_eq!((at(&Statement::Begin), at(&Statement::Commit)), (0, steps.len() - 1));
        assert!(at(&Statement::SetEverywhere) < at(&Statement::LimitLocks));
        assert!(at(&Statement::LimitLocks) < at(&Statement::SyncAllNodes));
    }

    #[test]
    fn every_difference_is_named() {
        assert_eq!(said(|_| ()), None);
        assert_eq!(said(|copy| copy.rows[0].metadatasynced = false), None);
        for (change, text) in [
            ((|c| c.group = 0) as fn(&mut NodeCopy), "it believes to be in group 0"),
            (|c| c.rows[1].nodename = "x".into(), "row 2 is primary x:5432 of group 1"),
            (|c| drop(c.rows.pop()), "row 2 (primary w:5432 of group 1 in `default`) is missing"),
            (|c| c.rows.push(row(9, 3, "s")), "row 9 (primary s:5432 of group 3"),
        ] {
            let said = said(change).expect("a difference");
            assert!(said.starts_with(text), "{said}");
        }
    }
}
