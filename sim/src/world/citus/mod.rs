//! A Citus formation: the coordinator's `pg_dist_node`, its copies on the workers, and
//! transactions over several groups.
//!
//! When a coordinator's daemon looks at the rows, and which statements follow, it is told
//! by the same functions as the daemon (`citus::registrar`, `citus::diff`); here the
//! statements are performed on the tables of the model. All of it draws from a source of
//! its own, so that a kind of worlds without Citus keeps its story.
//!
//! Absent on purpose: shards and their locks, poolers, secondaries in `pg_dist_node`.

pub mod resolve;
pub mod round;
pub mod tables;
pub mod transaction;

use super::postgres::{Kind, Mark, Waiting};
use super::region::CallId;
use super::rng::Rng;
use super::{Event, World};
use citus::NodeRow;
use std::collections::BTreeMap;
use std::sync::Arc;
use transaction::Transaction;

/// Bytes of a record of these tables.
const RECORD: u64 = 120;

/// What happens in a formation beside its servers.
#[derive(Clone, Debug)]
pub enum Turn {
    /// A client begins a transaction over several groups.
    Begin,
    /// Something that a transaction waits for may have come.
    GoOn(u32),
    /// The step of a round reaches the coordinator.
    Round { member: usize, life: u64, number: u64 },
    /// The maintenance daemons of Citus look after copies and transactions.
    Maintain,
    /// A server reads its files again.
    Reload { member: usize },
}

/// Distributed commits of these servers wait, by a call of an agent.
#[derive(Clone, Debug)]
struct Hold {
    agent: usize,
    life: u64,
    call: CallId,
    /// With the moment since which each is up: a restart ends the session.
    servers: Vec<(usize, u64)>,
}

#[derive(Clone, Debug)]
pub struct Formation {
    rng: Rng,
    /// What `pg_dist_node` holds since a record.
    contents: BTreeMap<u64, Arc<Vec<NodeRow>>>,
    /// The record that changed the coordinator's table last, on any server.
    pub newest: u64,
    pub transactions: Vec<Transaction>,
    /// The transaction that waits until the commit of a record is acknowledged.
    awaited: BTreeMap<u64, u32>,
    holds: Vec<Hold>,
}

impl Formation {
    pub fn new(seed: u64) -> Formation {
        Formation {
            rng: Rng::new(seed ^ 0x6369_7475_7300),
            contents: BTreeMap::new(),
            newest: 0,
            transactions: Vec::new(),
            awaited: BTreeMap::new(),
            holds: Vec::new(),
        }
    }

    /// Nothing fails by itself, and all delays are the middle of their ranges.
    pub fn calm() -> Formation {
        Formation { rng: Rng::calm(), ..Formation::new(0) }
    }
}

impl World {
    pub fn begin_citus(&mut self) {
        if self.citus.is_some() {
            self.after(500, Event::Citus(Turn::Begin));
            self.after(200, Event::Citus(Turn::Maintain));
        }
    }

    fn formation(&mut self) -> &mut Formation {
        self.citus.as_mut().expect("a world with Citus")
    }

    pub fn on_citus(&mut self, turn: Turn) {
        match turn {
            Turn::Begin => self.begin_transaction(),
            Turn::GoOn(number) => self.go_on_with_transaction(number),
            Turn::Round { member, life, number } => self.on_round(member, life, number),
            Turn::Maintain => self.maintain(),
            Turn::Reload { member } => {
                let server = &mut self.members[member].server;
                server.is_quarantined = server.quarantine_file;
            }
        }
    }

    /// Of a member of a Citus group.
    pub fn group_number(&self, member: usize) -> u32 {
        self.members[member].place.group.0.expect("a group of Citus")
    }

    /// `pg_dist_node` as that server has it.
    pub fn rows_at(&self, member: usize) -> Arc<Vec<NodeRow>> {
        let formation = self.citus.as_ref().expect("a world with Citus");
        let last = tables::rows(&self.members[member].server.log);
        last.and_then(|id| formation.contents.get(&id)).cloned().unwrap_or_default()
    }

    /// Writes the table of one server; gives the record whose commit is waited for.
    fn put_rows(&mut self, member: usize, rows: Vec<NodeRow>) -> u64 {
        let id = self.write_mark(member, Mark::Nodes);
        let is_coordinator = self.members[member].place.group.is_coordinator();
        let formation = self.formation();
        formation.contents.insert(id, Arc::new(rows));
        if is_coordinator {
            formation.newest = id;
        }
        id
    }

    fn write_mark(&mut self, member: usize, mark: Mark) -> u64 {
        let id = self.record_id();
        let server = &mut self.members[member].server;
        server.append(id, RECORD, Kind::Citus(mark));
        server.waiting.push(Waiting { id, end: server.log.end() });
        self.release_waiting(member);
        id
    }

    fn is_waiting(&self, member: usize, id: u64) -> bool {
        self.members[member].server.waiting.iter().any(|waiting| waiting.id == id)
    }

    /// A server that takes statements which write.
    fn takes_statements(&self, member: usize) -> bool {
        self.members[member].server.accepts_commits() && !self.disk_fails(member)
    }

    /// A new session of one server on another.
    fn can_connect(&self, from: usize, to: usize) -> bool {
        self.is_linked(from, to) && self.takes_statements(to) && !self.members[to].server.mute
    }

    fn is_linked(&self, from: usize, to: usize) -> bool {
        from == to || self.links.between(super::links::Wire::Replication, from, to)
    }

    fn member_of(&self, row: &NodeRow) -> Option<usize> {
        self.members.iter().position(|m| m.host() == row.nodename)
    }

    /// The settings of a quarantine that are in force there.
    fn has_setting(&self, member: usize, name: &str, value: &str) -> bool {
        let server = &self.members[member].server;
        let settings = citus::quarantine(self.group_number(member), false);
        server.is_quarantined && settings.iter().any(|(n, v)| n == name && v == value)
    }

    pub fn is_read_only(&self, member: usize) -> bool {
        self.has_setting(member, "default_transaction_read_only", "on")
    }

    fn leaves_transactions(&self, member: usize) -> bool {
        self.has_setting(member, "citus.recover_2pc_interval", "-1")
    }

    /// The files of a server say whether it is in quarantine; it reads them when it
    /// starts, or a moment after it is told to.
    pub fn write_quarantine(&mut self, member: usize, is_quarantined: bool) {
        let server = &mut self.members[member].server;
        server.quarantine_file = is_quarantined;
        if self.citus.is_some() && server.is_quarantined != is_quarantined {
            let ms = self.formation().rng.range(1, 80);
            self.after(ms, Event::Citus(Turn::Reload { member }));
        }
    }

    /// No distributed commit of these servers is decided until the agent lets go. `None`: one
    /// does not answer.
    pub fn hold(
        &mut self,
        agent: usize,
        call: CallId,
        servers: Option<Vec<usize>>,
    ) -> Result<(), String> {
        let servers = servers.ok_or("a server does not answer")?;
        if servers.iter().any(|server| self.is_deciding(*server)) {
            return Err("canceling statement due to lock timeout".to_string());
        }
        let since = |server: &usize| (*server, self.members[*server].server.since);
        let with_session = servers.iter().map(since).collect();
        let life = self.members[agent].daemon.life;
        let hold = Hold { agent, life, call, servers: with_session };
        self.formation().holds.push(hold);
        servers.iter().for_each(|server| self.end_clients(*server));
        Ok(())
    }

    fn is_held(&self, member: usize) -> bool {
        let session = (member, self.members[member].server.since);
        let formation = self.citus.as_ref().expect("a world with Citus");
        formation.holds.iter().any(|hold| {
            let daemon = &self.members[hold.agent].daemon;
            let lasts = daemon.alive && daemon.life == hold.life;
            lasts && daemon.agent.holds_by(hold.call) && hold.servers.contains(&session)
        })
    }
}
