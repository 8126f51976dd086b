//! Rounds on `pg_dist_node`, performed on the coordinator's table.
//!
//! When one is due, the daemon's own registrar says (`citus::registrar`), and what comes
//! after what, its machine of rounds (`citus::registrar::round`). A round runs beside the beats, as a task of its daemon: it ends with the daemon, and what it has not
//! committed is gone. Each step takes a while, a commit waits for the standbys that its
//! server is set to wait for, and an answer may be lost.
//!
//! Absent on purpose: pauses, no daemon of this world asks for one; locks of sessions, and what
//! ends them where a leader was lost.

use super::Turn;
use crate::world::{Event, World};
use citus::copies::NodeCopy;
use citus::model::Model;
use citus::registrar::clearing::Resolve;
use citus::registrar::round::{Answer, Machine, Step};
use citus::registrar::{Did, Ended, Round, Sight, Step as Due};
use citus::{Address, Known, NodeRow, Statement, Wish};
use member::ha::Observation;
use member::keeps_rows;
use std::collections::BTreeMap;

/// Percent of commits whose answer is lost.
const LOST: u64 = 3;
/// The longest wait of a statement.
const STATEMENT_MS: u64 = 60_000;
const PORT: u16 = 5432;

/// A round under way.
#[derive(Clone, Debug)]
pub struct RoundWork {
    machine: Machine,
    step: Step,
    number: u64,
    since: u64,
    /// Since when the server of its session is up.
    session: u64,
    /// When the step was first tried.
    began: u64,
    /// The open transaction.
    open: Option<Model>,
    /// The record whose commit is waited for.
    waits: Option<u64>,
}

/// What came of a step.
enum Came {
    Answer(Answer),
    /// It is looked at again.
    NotYet,
    /// The session is gone.
    Lost(&'static str),
}

impl World {
    /// Begins the round that is due.
    pub fn keep_rows(&mut self, member: usize, seen: &Observation) {
        if !self.members[member].place.group.is_coordinator() {
            return;
        }
        let sight = self.rows_sight(member, seen);
        match self.members[member].daemon.registrar.step(&sight) {
            Due::Round(round) => self.begin_round(member, round),
            Due::Rest => {}
            Due::Interrupt => {
                if let Some(mut work) = self.members[member].daemon.round.take()
                    && let Step::Over(ended) = work.machine.interrupt()
                {
                    self.round_over(member, ended);
                }
            }
            other => panic!("no daemon of this world asks for a pause: {other:?}"),
        }
    }

    fn rows_sight(&mut self, member: usize, seen: &Observation) -> Sight {
        let m = &mut self.members[member];
        let here = Address::new(m.host(), PORT);
        let site = m.daemon.mirror.site(&m.keys);
        let own = m.place.group.0.expect("a group of Citus");
        let moved = site.topology.journal().map(|journal| journal.groups.as_slice());
        let machine = &m.daemon.machine;
        let may_act = keeps_rows(seen);
        let (groups, whole) = Known { views: &site.groups, own, here, moved }.shown(may_act);
        Sight {
            now: seen.now,
            may_act,
            opening: machine.must_rewire(seen),
            whole,
            is_lock_left: false,
            in_tail: m.daemon.round.as_ref().is_some_and(|work| work.machine.is_in_tail()),
            has_copies: true,
            groups,
            loop_wait_ms: machine.dynamic.loop_wait_ms,
            retry_timeout_ms: machine.dynamic.retry_timeout_ms,
        }
    }

    fn begin_round(&mut self, member: usize, round: Round) {
        let (machine, step) = Machine::begin(round, &Wish::own_replicas());
        let (since, began) = (self.now, self.now);
        let m = &mut self.members[member];
        m.jobs += 1;
        let (number, session) = (m.jobs, m.server.since);
        let (open, waits) = (None, None);
        let work = RoundWork { machine, step, number, since, session, began, open, waits };
        m.daemon.round = Some(work);
        self.round_after(2, 30, member);
    }

    fn round_after(&mut self, low: u64, high: u64, member: usize) {
        let ms = match &mut self.citus {
            Some(formation) => formation.rng.range(low, high),
            None => self.rng.range(low, high),
        };
        let daemon = &self.members[member].daemon;
        let Some(number) = daemon.round.as_ref().map(|work| work.number) else { return };
        let life = daemon.life;
        self.after(ms, Event::Citus(Turn::Round { member, life, number }));
    }

    pub fn on_round(&mut self, member: usize, life: u64, number: u64) {
        let daemon = &mut self.members[member].daemon;
        if !daemon.alive || daemon.life != life {
            return;
        }
        if daemon.frozen {
            let turn = Turn::Round { member, life, number };
            daemon.deferred.push(Event::Citus(turn));
            return;
        }
        let Some(mut work) = daemon.round.take_if(|work| work.number == number) else { return };
        if self.citus.is_none() {
            // A world without the tables of Citus: there is nothing to do.
            return self.round_over(member, Ended::Round(Did::ALL));
        }
        match self.do_step(member, &mut work) {
            Came::Answer(answer) => self.round_answered(member, work, answer),
            Came::NotYet => {
                self.members[member].daemon.round = Some(work);
                self.round_after(50, 100, member);
            }
            Came::Lost(why) => self.round_over(member, Ended::Failed(why.to_string())),
        }
    }

    fn round_answered(&mut self, member: usize, mut work: RoundWork, answer: Answer) {
        let step = work.machine.answer(self.now - work.since, answer);
        let (low, high) = match step {
            Step::Over(ended) => return self.round_over(member, ended),
            Step::Read { after_ms } => (after_ms, after_ms + 2),
            Step::ResolveHere(_) | Step::ResolveAt(_) | Step::ReadCopies(_) => (10, 200),
            Step::Run(_) | Step::Push(_) | Step::RunAt(..) => (1, 12),
        };
        (work.step, work.began) = (step, self.now);
        self.members[member].daemon.round = Some(work);
        self.round_after(low, high, member);
    }

    fn round_over(&mut self, member: usize, ended: Ended) {
        let m = &mut self.members[member];
        let now = m.clock.read(self.now);
        m.daemon.registrar.ended(now, ended);
        let told = m.daemon.registrar.take_told();
        self.counts.rounds += 1;
        told.iter().for_each(|text| self.note_of(member, text));
        self.wake_now(member);
    }

    fn do_step(&mut self, member: usize, work: &mut RoundWork) -> Came {
        let server = &self.members[member].server;
        if server.since != work.session || !self.takes_statements(member) {
            return Came::Lost("the session is gone");
        }
        if let Some(id) = work.waits {
            return self.wait_for_commit(member, work, id);
        }
        match work.step.clone() {
            Step::Read { .. } => Came::Answer(Answer::Rows(self.rows_at(member).to_vec())),
            Step::Run(statement) => self.run(member, work, &statement),
            Step::Push(push) => self.run(member, work, &push),
            Step::ResolveHere(_) => {
                self.resolve(member);
                Came::Answer(Answer::Resolved(true))
            }
            Step::ResolveAt(nodes) => {
                Came::Answer(Answer::Resolved(self.resolve_at(member, &nodes)))
            }
            Step::ReadCopies(leaders) => {
                Came::Answer(Answer::Copies(self.copies_at(member, &leaders)))
            }
            // No node of this world is redirected.
            Step::RunAt(..) | Step::Over(_) => Came::Answer(Answer::Done),
        }
    }

    fn wait_for_commit(&mut self, member: usize, work: &mut RoundWork, id: u64) -> Came {
        if self.is_waiting(member, id) {
            let is_late = self.now - work.began > STATEMENT_MS;
            return if is_late {
                Came::Lost("no answer within the deadline")
            } else {
                Came::NotYet
            };
        }
        work.waits = None;
        match self.formation().rng.percent(LOST) {
            true => Came::Lost("the connection broke"),
            false => Came::Answer(Answer::Done),
        }
    }

    fn run(&mut self, member: usize, work: &mut RoundWork, statement: &Statement) -> Came {
        let done = match statement {
            Statement::SyncAllNodes => self.send_copies(member),
            Statement::SyncNode { address } => self.send_copy_to(member, address),
            Statement::Begin => self.run_in(work.open.insert(self.table(member)), statement),
            _ if !is_of_all(statement) => self.run_in_table(member, work, statement),
            _ => match self.unreached(member, statement) {
                Some(silent) => Err(format!("{silent} does not answer")),
                None => self.run_in_table(member, work, statement),
            },
        };
        match done {
            Ok(()) if work.waits.is_some() => Came::NotYet,
            Ok(()) => Came::Answer(Answer::Done),
            Err(why) => Came::Answer(Answer::Failed(why)),
        }
    }

    fn table(&self, member: usize) -> Model {
        Model::new(self.rows_at(member).to_vec())
    }

    fn run_in(&self, table: &mut Model, statement: &Statement) -> Result<(), String> {
        table.run(std::slice::from_ref(statement))
    }

    /// A statement of the open transaction, or one that is its own.
    fn run_in_table(
        &mut self,
        member: usize,
        work: &mut RoundWork,
        statement: &Statement,
    ) -> Result<(), String> {
        let mut table = work.open.take().unwrap_or_else(|| self.table(member));
        self.run_in(&mut table, statement)?;
        if table.in_transaction() {
            work.open = Some(table);
        } else {
            let rows = table.rows;
            if is_of_all(statement) {
                self.put_copies(member, &rows);
            }
            work.waits = Some(self.put_rows(member, rows));
        }
        Ok(())
    }

    fn member_at_address(&self, address: &Address) -> Option<usize> {
        self.members.iter().position(|m| m.host() == address.host)
    }

    /// Rows come and go on all nodes at once: the first that does not answer.
    fn unreached(&self, member: usize, statement: &Statement) -> Option<Address> {
        let rows = self.rows_at(member);
        let new = match statement {
            Statement::AddPrimary { address, .. } => Some(address.clone()),
            _ => None,
        };
        let primaries = rows.iter().filter(|row| row.is_primary());
        let mut all = primaries.map(|row| row.address()).chain(new);
        let answers = |address: &Address| {
            let other = self.member_at_address(address);
            other.is_some_and(|other| self.can_connect(member, other))
        };
        all.find(|address| !answers(address))
    }

    fn put_copies(&mut self, coordinator: usize, rows: &[NodeRow]) {
        let primaries = rows.iter().filter(|row| row.is_primary());
        let workers: Vec<usize> = primaries.filter_map(|row| self.member_of(row)).collect();
        for worker in workers.into_iter().filter(|worker| *worker != coordinator) {
            self.put_rows(worker, rows.to_vec());
        }
    }

    /// What the leaders that answer say of themselves.
    fn copies_at(
        &self,
        member: usize,
        leaders: &BTreeMap<u32, Address>,
    ) -> BTreeMap<u32, NodeCopy> {
        let copy = |(group, address): (&u32, &Address)| {
            let there = self.member_at_address(address)?;
            let rows = self.can_connect(member, there).then(|| self.rows_at(there).to_vec())?;
            Some((*group, NodeCopy { group: *group, rows }))
        };
        leaders.iter().filter_map(copy).collect()
    }

    /// Each node resolves the transactions of its own group.
    fn resolve_at(&mut self, member: usize, nodes: &BTreeMap<u32, Resolve>) -> bool {
        let mut all = true;
        for node in nodes.values() {
            let there = self.member_at_address(&node.at);
            match there.filter(|there| self.can_connect(member, *there)) {
                // No session of this world outlives its leader.
                Some(there) if node.recovers => self.resolve(there),
                Some(_) => {}
                None => all = false,
            }
        }
        all
    }
}

/// It changes the table of every node.
fn is_of_all(statement: &Statement) -> bool {
    matches!(
        statement,
        Statement::AddPrimary { .. }
            | Statement::AddSecondary { .. }
            | Statement::RemoveNode { .. }
    )
}
