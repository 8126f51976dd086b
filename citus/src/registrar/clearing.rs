//! What a lost leader has left on the other nodes, and what ends it.
//!
//! A leader that is frozen or cut off does not close its sessions with other nodes: what they
//! have locked stays locked there. And sessions of other nodes that wait for it hold the locks
//! of its group's shards. Both end where its row has got another address, on every node, before
//! in-doubt transactions are resolved.
//!
//! Absent on purpose: sessions with a server that is frozen while its machine answers. They
//! wait for its answer to a cancel, and no signal ends that.

use crate::statement::Limit;
use crate::{Address, COORDINATOR_GROUP, NodeRow, Statement};
use std::collections::BTreeMap;

/// Added to the age from which sessions are ended, so that those of the new leader go on.
const MARGIN_MS: u64 = 1_000;
/// How long another node's session may hold a shard of a lost group, then it is ended.
const COOLDOWN_MS: i32 = 1_000;
/// For taking these locks. A session that holds them longer cannot be ended from here.
const LOCKS_MS: u32 = 3_000;

/// A group whose row has got another address in this round.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lost {
    pub nodeid: i32,
    /// For how long its former leader has been gone.
    pub gone_ms: u64,
}

/// What is done on one node before it resolves what it has in doubt.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Clearing {
    /// One by one.
    pub ends: Vec<Statement>,
    /// A transaction that is rolled back: its locks end those that hold them.
    pub locks: Vec<Statement>,
}

/// A node that is to resolve its in-doubt transactions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Resolve {
    pub at: Address,
    pub first: Clearing,
    /// Its copy of the rows is in step. Else it is cleared alone: what a lost leader has locked there
    /// may be what keeps its copy behind.
    pub recovers: bool,
}

/// Groups whose primary row one of these statements changes, and since when each is known to
/// have lost its leader.
pub fn lost(
    moves: &[Statement],
    rows: &[NodeRow],
    gone_ms: &BTreeMap<u32, u64>,
) -> BTreeMap<u32, Lost> {
    let moved = |row: &&NodeRow| {
        let is_moved = |step: &Statement| matches!(step, Statement::UpdateNode { nodeid, .. } if *nodeid == row.nodeid);
        row.is_primary() && moves.iter().any(is_moved)
    };
    let lost = |row: &NodeRow| {
        let gone_ms = *gone_ms.get(&row.groupid)?;
        Some((row.groupid, Lost { nodeid: row.nodeid, gone_ms }))
    };
    rows.iter().filter(moved).filter_map(lost).collect()
}

/// On the leader of `group`.
pub fn clearing(lost: &BTreeMap<u32, Lost>, group: u32) -> Clearing {
    let others: Vec<(u32, Lost)> =
        lost.iter().filter(|(other, _)| **other != group).map(|(g, l)| (*g, *l)).collect();
    let ends = others.iter().map(|(_, lost)| Statement::EndSessionsOf {
        nodeid: lost.nodeid,
        older_ms: i32::try_from(lost.gone_ms + MARGIN_MS).unwrap_or(i32::MAX),
    });
    Clearing { ends: ends.collect(), locks: locks(&others, group) }
}

/// The change of the row has taken the same locks on the coordinator.
fn locks(lost: &[(u32, Lost)], group: u32) -> Vec<Statement> {
    let workers = lost.iter().filter(|(other, _)| *other != COORDINATOR_GROUP);
    let pauses: Vec<Statement> = workers
        .map(|(_, lost)| Statement::PauseNode { nodeid: lost.nodeid, cooldown_ms: COOLDOWN_MS })
        .collect();
    if group == COORDINATOR_GROUP || pauses.is_empty() {
        return Vec::new();
    }
    let mut steps = vec![Statement::Begin, Statement::SetLimit(Limit::Statement, LOCKS_MS)];
    steps.extend(pauses);
    steps.push(Statement::Rollback);
    steps
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::row;

    fn two_lost() -> BTreeMap<u32, Lost> {
        let rows = [row(1, 0, "c"), row(2, 1, "w"), row(3, 2, "x")];
        let to = |nodeid, host: &str| Statement::UpdateNode {
            nodeid,
            address: Address::new(host, 5432),
            cooldown_ms: 5,
        };
        let moves = [to(1, "c2"), to(2, "w2")];
        lost(&moves, &rows, &BTreeMap::from([(0, 500), (1, 20_000), (2, 9)]))
    }

    #[test]
    fn a_group_is_lost_where_its_row_moves() {
        let lost = two_lost();
        assert_eq!(lost[&1], Lost { nodeid: 2, gone_ms: 20_000 });
        assert_eq!(lost.keys().collect::<Vec<_>>(), [&0, &1]);
    }

    #[test]
    fn what_a_lost_leader_left_ends_on_all_nodes_but_its_own() {
        let ends = |group| clearing(&two_lost(), group).ends;
        let of = |nodeid, older_ms| Statement::EndSessionsOf { nodeid, older_ms };
        assert_eq!(ends(2), [of(1, 1_500), of(2, 21_000)]);
        assert_eq!(ends(1), [of(1, 1_500)]);
        assert_eq!(ends(0), [of(2, 21_000)]);
    }

    #[test]
    fn what_waits_for_a_lost_worker_ends_on_other_workers_and_nothing_is_kept_locked() {
        let locks = |group| clearing(&two_lost(), group).locks;
        assert!(locks(0).is_empty() && locks(1).is_empty());
        let steps = locks(2);
        assert_eq!(steps.first(), Some(&Statement::Begin));
        assert_eq!(steps[1], Statement::SetLimit(Limit::Statement, LOCKS_MS));
        assert!(matches!(steps[2], Statement::PauseNode { nodeid: 2, .. }));
        assert_eq!(steps[3..], [Statement::Rollback]);
    }
}
