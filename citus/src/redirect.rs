//! Redirections: `pg_dist_poolinfo`.
//!
//! A redirection beats the address in a row, so one that still names the old
//! leader sends writes to it whatever the row says. The table is local to each
//! node and no sync corrects it: `redirections` is asked on every node, with
//! the rows that were read there.
//!
//! Where a pooler is configured for a group, every node goes through it. Otherwise
//! redirections are an operator's: none is made.

use crate::desired::Desired;
use crate::node::pooled;
use crate::{Address, NodeRow, Statement};
use std::collections::BTreeSet;

/// What happens to a redirection that names no node of the formation.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Poolers {
    /// A pooler in front of the group; it follows the leader by itself.
    #[default]
    Keep,
    /// After a move between regions it is the pooler of the wrong region.
    Remove,
}

/// What must change on the node the rows were read from.
pub fn redirections(desired: &Desired, rows: &[NodeRow], poolers: Poolers) -> Vec<Statement> {
    let mut nodes: BTreeSet<Address> = rows.iter().map(NodeRow::address).collect();
    nodes.extend(desired.addresses().into_iter().cloned());
    let redirect = |row: &NodeRow| {
        let nodeid = row.nodeid;
        let group = desired.groups.get(&row.groupid)?;
        let set = row.poolinfo.as_deref().map(|text| pooled(text, &row.address()));
        if let Some(pooler) = &group.pooler {
            let address = pooler.clone();
            return (set.as_ref() != Some(pooler))
                .then_some(Statement::SetPoolinfo { nodeid, address });
        }
        let (address, pooled) = (group.primary.clone(), set?);
        match poolers {
            _ if pooled == address => None,
            _ if nodes.contains(&pooled) => Some(Statement::SetPoolinfo { nodeid, address }),
            Poolers::Keep => None,
            Poolers::Remove => Some(Statement::DropPoolinfo { nodeid }),
        }
    };
    rows.iter().filter(|row| row.is_primary()).filter_map(redirect).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::desired::DesiredGroup;
    use crate::model::row;
    use std::collections::BTreeMap;

    fn asked(poolinfo: Option<&str>, poolers: Poolers) -> Vec<Statement> {
        let mut old = row(4, 1, "old");
        old.poolinfo = poolinfo.map(str::to_string);
        let group = DesiredGroup {
            primary: Address::new("new", 5432),
            secondaries: BTreeMap::new(),
            is_leaving: false,
            pooler: None,
        };
        let desired = Desired { groups: BTreeMap::from([(1, group)]), ..Desired::default() };
        redirections(&desired, &[row(1, 0, "c"), old], poolers)
    }

    #[test]
    fn a_redirection_to_a_node_follows_the_leader() {
        let address = Address::new("new", 5432);
        let fix = vec![Statement::SetPoolinfo { nodeid: 4, address }];
        assert_eq!(asked(Some("host=old port=5432"), Poolers::Keep), fix);
        assert_eq!(asked(Some("host=c"), Poolers::Remove), fix);
        assert_eq!(asked(Some("host=new"), Poolers::Remove), vec![]);
        assert_eq!(asked(None, Poolers::Remove), vec![]);
    }

    #[test]
    fn a_configured_pooler_is_set_and_kept_through_a_failover() {
        let pooler = Address::new("bouncer", 6432);
        let group = DesiredGroup {
            primary: Address::new("new", 5432),
            secondaries: BTreeMap::new(),
            is_leaving: false,
            pooler: Some(pooler.clone()),
        };
        let desired = Desired { groups: BTreeMap::from([(1, group)]), ..Desired::default() };
        let mut worker = row(4, 1, "old");
        let set = vec![Statement::SetPoolinfo { nodeid: 4, address: pooler }];
        for before in [None, Some("host=old port=5432"), Some("host=other port=1")] {
            worker.poolinfo = before.map(str::to_string);
            assert_eq!(redirections(&desired, &[worker.clone()], Poolers::Keep), set);
        }
        worker.poolinfo = Some("host='bouncer' port=6432".to_string());
        assert_eq!(redirections(&desired, &[worker], Poolers::Keep), vec![]);
    }

    #[test]
    fn a_pooler_stays_unless_the_region_moved() {
        let pooler = Some("host=bouncer port=6432");
        assert_eq!(asked(pooler, Poolers::Keep), vec![]);
        let removed = vec![Statement::DropPoolinfo { nodeid: 4 }];
        assert_eq!(asked(pooler, Poolers::Remove), removed);
    }
}
