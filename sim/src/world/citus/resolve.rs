//! In-doubt transactions and copies of `pg_dist_node`: what Citus does about them by
//! itself, and when it is told to.

use super::{Turn, tables};
use crate::world::postgres::{Kind, Mark};
use crate::world::{Event, World};
use citus::resolver::stale;
use citus::{Address, NodeRow, groups_now};
use member::ha::Observation;

/// Between two looks of the maintenance daemons.
const LOOKS_MS: (u64, u64) = (200, 700);
/// What is not resolved is tried again after this. Sooner than by the daemon, so that more tries
/// meet a change of leaders.
const AGAIN_MS: u64 = 3_000;

impl World {
    pub fn maintain(&mut self) {
        let pause = self.formation().rng.range(LOOKS_MS.0, LOOKS_MS.1);
        self.after(pause, Event::Citus(Turn::Maintain));
        for member in 0..self.members.len() {
            if !self.takes_statements(member) || self.leaves_transactions(member) {
                continue;
            }
            if self.members[member].place.group.is_coordinator() {
                // Those that could not be reached are tried again.
                let _ = self.send_copies(member);
            }
        }
    }

    /// A leader's daemon resolves what its group has in doubt; Citus itself is told not to.
    pub fn resolve_if_due(&mut self, member: usize, seen: &Observation) {
        let m = &mut self.members[member];
        let now = seen.now;
        let may_act = m.daemon.machine.may_resolve(seen);
        if !m.daemon.resolver.is_due(now, may_act) {
            return;
        }
        let groups = groups_now(&m.daemon.mirror.site(&m.keys).groups);
        let is_stale = stale(&self.rows_at(member), &groups).is_some();
        let resolves = !is_stale && self.takes_statements(member);
        if resolves {
            self.resolve(member);
        }
        self.members[member].daemon.resolver.ended(now, resolves, AGAIN_MS);
    }

    /// Each copy that is behind, where its worker can be reached. `Err`: one could not be.
    pub fn send_copies(&mut self, coordinator: usize) -> Result<(), String> {
        let rows = self.rows_at(coordinator);
        let behind: Vec<i32> =
            rows.iter().filter(|row| row.is_unsynced()).map(|row| row.nodeid).collect();
        let mut result = Ok(());
        for nodeid in behind {
            let sent = self.send_copy(coordinator, nodeid);
            result = result.and(sent);
        }
        result
    }

    /// The copy of this node, also if the table does not know that it is behind.
    pub fn send_copy_to(&mut self, coordinator: usize, address: &Address) -> Result<(), String> {
        let rows = self.rows_at(coordinator);
        let row = rows.iter().find(|row| row.is_primary() && row.address() == *address);
        let nodeid = row.ok_or_else(|| format!("{address} is not a node"))?.nodeid;
        self.send_copy(coordinator, nodeid)
    }

    fn send_copy(&mut self, coordinator: usize, nodeid: i32) -> Result<(), String> {
        let rows = self.rows_at(coordinator);
        let row = rows.iter().find(|row| row.nodeid == nodeid).ok_or("the row is gone")?;
        let worker = self.member_of(row).filter(|worker| self.can_connect(coordinator, *worker));
        let worker = worker.ok_or_else(|| format!("{} does not answer", row.nodename))?;
        let mut rows: Vec<NodeRow> = rows.to_vec();
        for row in rows.iter_mut().filter(|row| row.nodeid == nodeid) {
            row.metadatasynced = true;
        }
        if worker != coordinator {
            self.put_rows(worker, rows.clone());
        }
        self.put_rows(coordinator, rows);
        Ok(())
    }

    /// Resolves what this server's group has begun, on the servers that its own rows name:
    /// what it has decided to commit is committed there, all else is rolled back.
    pub fn resolve(&mut self, member: usize) {
        let group = self.group_number(member);
        let rows = self.rows_at(member);
        let others = rows.iter().filter(|row| row.is_primary() && row.groupid != group);
        let others: Vec<usize> = others.filter_map(|row| self.member_of(row)).collect();
        for other in others {
            if !self.can_connect(member, other) {
                continue;
            }
            for number in tables::prepared(&self.members[other].server.log) {
                if self.is_due_here(member, number) {
                    self.resolve_one(member, other, number);
                }
            }
        }
    }

    fn is_due_here(&self, member: usize, number: u32) -> bool {
        let formation = self.citus.as_ref().expect("a world with Citus");
        let transaction = &formation.transactions[number as usize];
        transaction.group == self.group_number(member) && !self.is_in_progress(number, member)
    }

    fn resolve_one(&mut self, member: usize, other: usize, number: u32) {
        let decided = tables::has(&self.members[member].server.log, Mark::Decided(number));
        let mark = if decided { Mark::Committed(number) } else { Mark::RolledBack(number) };
        let line = format!("resolves on {}: {mark:?}", self.members[other].name);
        self.note_of(member, &line);
        // Where a failover loses the history of this server, what it has resolved is lost too.
        let (client, log) = (self.members[member].place.client, &self.members[member].server.log);
        let promoted = log.records().iter().rfind(|record| record.kind == Kind::Promoted);
        let history = promoted.map(|record| (client, record.id));
        let transaction = self.transaction_mut(number);
        transaction.records.extend(history);
        self.finish_part(other, number, mark);
    }
}
