//! Taking a group out of the formation, on an operator's word.
//!
//! Absent on purpose: a group that is merely not in the store any more. Its rows stay,
//! because its shards do.

use crate::node::primary_of;
use crate::{COORDINATOR_GROUP, NodeRow, Statement};

/// Why a group cannot be taken out.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NoLeave {
    #[error("group 0 is the coordinator: without it there is no formation")]
    Coordinator,
    #[error("group {0} has no primary in pg_dist_node")]
    NotRegistered(u32),
    #[error("no other worker is there to take the shards of group {0}")]
    Last(u32),
}

/// One after the other, each its own transaction; safe to begin again at any point. The
/// worker forgets the formation before it is removed, because afterwards nothing reaches it.
pub fn leave(rows: &[NodeRow], group: u32) -> Result<Vec<Statement>, NoLeave> {
    if group == COORDINATOR_GROUP {
        return Err(NoLeave::Coordinator);
    }
    let primary = primary_of(rows, group).ok_or(NoLeave::NotRegistered(group))?;
    let takes = |row: &NodeRow| row.is_primary() && row.groupid != group && row.shouldhaveshards;
    if !rows.iter().any(takes) {
        return Err(NoLeave::Last(group));
    }
    let address = primary.address();
    let others = rows.iter().filter(|row| row.groupid == group && !row.is_primary());
    let others = others.map(|row| Statement::RemoveNode { address: row.address() });
    let mut steps = vec![Statement::DrainNode { address: address.clone() }];
    steps.extend(others);
    steps.push(Statement::StopSync { address: address.clone() });
    steps.push(Statement::RemoveNode { address });
    Ok(steps)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::row;
    use crate::{Address, NodeRole};

    #[test]
    fn shards_go_first_and_the_primary_last() {
        let mut standby = row(4, 2, "s");
        standby.noderole = NodeRole::Secondary;
        let rows = [row(1, 0, "c"), row(2, 1, "w"), row(3, 2, "x"), standby];
        let at = |host: &str| Address::new(host, 5432);
        let steps = [
            Statement::DrainNode { address: at("x") },
            Statement::RemoveNode { address: at("s") },
            Statement::StopSync { address: at("x") },
            Statement::RemoveNode { address: at("x") },
        ];
        assert_eq!(leave(&rows, 2), Ok(steps.to_vec()));
    }

    #[test]
    fn a_formation_keeps_its_coordinator_and_a_worker() {
        let rows = [row(1, 0, "c"), row(2, 1, "w")];
        assert_eq!(leave(&rows, 0), Err(NoLeave::Coordinator));
        assert_eq!(leave(&rows, 1), Err(NoLeave::Last(1)));
        assert_eq!(leave(&rows, 7), Err(NoLeave::NotRegistered(7)));
    }
}
