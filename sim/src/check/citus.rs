//! What must hold in a formation of Citus.
//!
//! - *rows of the own region*: no client of a coordinator writes by rows that name
//!   another region's servers, and nothing is committed by such rows.
//! - *no torn transaction*: one over several groups is committed in all of them or in
//!   none, unless a failover without synchronous replication has lost a part of it.
//! - *progress*: `pg_dist_node` and its copies name the leader of each group, and no
//!   transaction is left in doubt.

use super::Broken;
use crate::world::World;
use crate::world::citus::transaction::Transaction;
use crate::world::citus::{Formation, tables};
use crate::world::postgres::{Log, Mark};
use citus::NodeRow;
use std::collections::HashSet;

/// What is in doubt is resolved within this, once all is well.
const RESOLVED_MS: u64 = 40_000;

/// A client is about to write, on the servers that the rows name.
pub fn begins(world: &mut World, initiator: usize, parts: &[usize]) {
    let m = &world.members[initiator];
    // What a failover has lost of the table is written again by the next round.
    let newest = world.citus.as_ref().map_or(0, |formation| formation.newest);
    let is_known = m.server.log.contains(newest);
    let far = parts.iter().find(|part| world.members[**part].place.region != m.place.region);
    if let Some(far) = far.filter(|_| is_known && m.place.group.is_coordinator()) {
        let what = format!("{} writes on {}", m.name, world.members[*far].name);
        world.break_with("rows of the own region", what);
    }
}

/// A transaction is about to be decided.
pub fn decides(world: &mut World, number: u32) {
    let Some(formation) = &world.citus else { return };
    let transaction = &formation.transactions[number as usize];
    let initiator = &world.members[transaction.initiator];
    let is_far = |part: usize| world.members[part].place.region != initiator.place.region;
    let far = transaction.parts.iter().map(|part| part.member).find(|part| is_far(*part));
    if let Some(far) = far {
        let what = format!("{} commits on {}", initiator.name, world.members[far].name);
        world.break_with("rows of the own region", what);
    }
}

pub fn settled(world: &World, formation: &Formation) -> Result<(), Broken> {
    let stuck = |what: String| Broken { invariant: "progress", what };
    let leaders: Vec<usize> =
        (0..world.clients.len()).filter_map(|client| leader(world, client)).collect();
    let coordinator = leaders.iter().find(|m| world.members[**m].place.group.is_coordinator());
    let coordinator = *coordinator.ok_or_else(|| stuck("there is no coordinator".to_string()))?;
    if world.is_read_only(coordinator) {
        return Err(stuck(format!("{} is in quarantine", world.members[coordinator].name)));
    }
    let rows = world.rows_at(coordinator);
    for member in &leaders {
        names_leader(world, &rows, *member).map_err(stuck)?;
        let copy = world.rows_at(*member);
        let is_equal = copy.len() == rows.len()
            && copy.iter().zip(rows.iter()).all(|(a, b)| a.address() == b.address());
        if !is_equal {
            return Err(stuck(format!("the copy of {} is behind", world.members[*member].name)));
        }
        in_doubt(world, formation, *member).map_err(stuck)?;
    }
    torn(world, formation, &leaders)
}

/// A part that nothing has resolved for a while.
fn in_doubt(world: &World, formation: &Formation, member: usize) -> Result<(), String> {
    let m = &world.members[member];
    let is_old = |number: &u32| {
        let transaction = &formation.transactions[*number as usize];
        world.now - transaction.began > RESOLVED_MS
            && !world.is_in_progress(*number, transaction.initiator)
    };
    match tables::prepared(&m.server.log).into_iter().find(is_old) {
        Some(number) => Err(format!("transaction {number} stays in doubt on {}", m.name)),
        None => Ok(()),
    }
}

fn leader(world: &World, client: usize) -> Option<usize> {
    let mut members = world.members.iter();
    members.position(|m| m.place.client == client && m.server.accepts_commits())
}

fn names_leader(world: &World, rows: &[NodeRow], member: usize) -> Result<(), String> {
    let (group, host) = (world.group_number(member), world.members[member].host());
    let row = rows.iter().find(|row| row.is_primary() && row.groupid == group);
    let row = row.ok_or_else(|| format!("pg_dist_node lacks group {group}"))?;
    let is_right = row.nodename == host && !row.is_unsynced();
    is_right.then_some(()).ok_or_else(|| {
        format!("pg_dist_node names {} for group {group}, whose leader is {host}", row.nodename)
    })
}

/// Invariant *no torn transaction*.
fn torn(world: &World, formation: &Formation, leaders: &[usize]) -> Result<(), Broken> {
    let log = |member: &usize| &world.members[*member].server.log;
    let mut logs: Vec<Option<&Log>> = vec![None; world.clients.len()];
    let mut marks: Vec<HashSet<Mark>> = vec![HashSet::new(); world.clients.len()];
    for member in leaders {
        let client = world.members[*member].place.client;
        logs[client] = Some(log(member));
        marks[client] = log(member).marks().iter().map(|(_, mark)| *mark).collect();
    }
    let is_there = |(client, id): &(usize, u64)| logs[*client].is_some_and(|log| log.contains(*id));
    for (number, transaction) in formation.transactions.iter().enumerate() {
        let counts = transaction.records.iter().all(is_there);
        if counts && is_torn(world, transaction, number as u32, &marks) {
            let names = transaction.parts.iter().map(|p| world.members[p.member].name.as_str());
            let (names, from) = (names.collect::<Vec<_>>(), transaction.initiator);
            let from = &world.members[from].name;
            let what = format!("transaction {number} of {from} on {}", names.join(" and "));
            return Err(Broken { invariant: "no torn transaction", what });
        }
    }
    Ok(())
}

fn is_torn(world: &World, of: &Transaction, number: u32, marks: &[HashSet<Mark>]) -> bool {
    let there = |member: usize| &marks[world.members[member].place.client];
    let is_decided = there(of.initiator).contains(&Mark::Decided(number));
    let has = |member: usize, mark: Mark| there(member).contains(&mark);
    let is_committed = |member: usize| has(member, Mark::Committed(number));
    let is_open = |member: usize| {
        let is_over = is_committed(member) || has(member, Mark::RolledBack(number));
        has(member, Mark::Prepared(number)) && !is_over
    };
    let mut parts = of.parts.iter().map(|part| part.member);
    if parts.clone().any(is_open) {
        return false;
    }
    let agrees = parts.all(|member| is_committed(member) == is_decided);
    !agrees || of.is_acknowledged && !is_decided
}
