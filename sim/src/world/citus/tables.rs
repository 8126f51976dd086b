//! What the tables of Citus hold on one server, by its log.
//!
//! `pg_dist_node`, prepared transactions and the decisions in `pg_dist_transaction` are
//! data: they go to standbys with the log, and are lost with its end.

use crate::world::postgres::{Log, Mark};
use std::collections::BTreeSet;

/// The record that wrote `pg_dist_node` last.
pub fn rows(log: &Log) -> Option<u64> {
    log.marks().iter().rev().find(|(_, mark)| *mark == Mark::Nodes).map(|(id, _)| *id)
}

pub fn has(log: &Log, mark: Mark) -> bool {
    log.marks().iter().rev().any(|(_, there)| *there == mark)
}

/// Transactions that are prepared and neither committed nor rolled back.
pub fn prepared(log: &Log) -> BTreeSet<u32> {
    let mut open = BTreeSet::new();
    for (_, mark) in log.marks() {
        match mark {
            Mark::Prepared(number) => drop(open.insert(*number)),
            Mark::Committed(number) | Mark::RolledBack(number) => drop(open.remove(number)),
            Mark::Nodes | Mark::Decided(_) => {}
        }
    }
    open
}
