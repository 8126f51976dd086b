//! Rounds on `pg_dist_node`, performed on the coordinator's table.
//!
//! A round runs beside the beats, as a task of its daemon: it ends with the daemon, and
//! what it has not committed is gone. Each step takes a while, a commit waits for the
//! standbys that its server is set to wait for, and an answer may be lost.

use super::Turn;
use crate::world::{Event, World};
use citus::model::Model;
use citus::{Address, NodeRow, Occasion, Round, RoundAnswer, Statement, Step, groups_led_here};
use member::ha::Observation;
use std::collections::BTreeMap;

/// Percent of commits whose answer is lost.
const LOST: u64 = 3;
/// The longest wait of a statement.
const STATEMENT_MS: u64 = 60_000;
const PORT: u16 = 5432;

/// A round under way.
#[derive(Clone, Debug)]
pub struct RoundWork {
    round: Round,
    step: Step,
    number: u64,
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
    Answer(RoundAnswer),
    /// It is looked at again.
    NotYet,
    Failed(String),
}

impl World {
    /// Begins the round that is due.
    pub fn keep_rows(&mut self, member: usize, seen: &Observation) {
        if self.citus.is_none() {
            return;
        }
        let here = Address::new(self.members[member].host(), PORT);
        let now = self.members[member].clock.read(self.now);
        let m = &mut self.members[member];
        if !member::keeps_rows(seen) {
            m.daemon.rounds.forget();
            return;
        }
        let site = m.daemon.mirror.site(&m.keys);
        let own = m.place.group.0.expect("a group of Citus");
        let groups = groups_led_here(&site.groups, own, here);
        let opening = m.daemon.machine.must_rewire(seen);
        let occasion = Occasion {
            now,
            loop_wait_ms: m.daemon.machine.dynamic.loop_wait_ms,
            groups: &groups,
            opening,
            moved: site.topology.journal().map(|journal| journal.groups.as_slice()),
        };
        if m.daemon.rounds.begin(&occasion) {
            let (round, step) = Round::begin(groups, opening);
            self.begin_round(member, round, step);
        }
    }

    fn begin_round(&mut self, member: usize, round: Round, step: Step) {
        let began = self.now;
        let m = &mut self.members[member];
        m.jobs += 1;
        let (number, session) = (m.jobs, m.server.since);
        let work = RoundWork { round, step, number, session, began, open: None, waits: None };
        m.daemon.round = Some(work);
        self.round_after(2, 30, member);
    }

    fn round_after(&mut self, low: u64, high: u64, member: usize) {
        let ms = self.formation().rng.range(low, high);
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
        match self.do_step(member, &mut work) {
            Came::Answer(answer) => self.round_answered(member, work, answer),
            Came::NotYet => {
                self.members[member].daemon.round = Some(work);
                self.round_after(50, 100, member);
            }
            Came::Failed(why) => {
                self.note_of(member, &format!("pg_dist_node is not up to date: {why}"));
                self.round_over(member, Err(()));
            }
        }
    }

    fn round_answered(&mut self, member: usize, mut work: RoundWork, answer: RoundAnswer) {
        let next = work.round.next(answer);
        for note in work.round.take_notes() {
            self.note_of(member, &format!("pg_dist_node: {note:?}"));
        }
        match next {
            Ok(Step::Over(done)) => self.round_over(member, Ok(done)),
            Ok(step) => {
                let (low, high) = match &step {
                    Step::Pause { ms } => (*ms, *ms),
                    Step::Recover(_) => (10, 200),
                    _ => (1, 12),
                };
                (work.step, work.began) = (step, self.now);
                self.members[member].daemon.round = Some(work);
                self.round_after(low, high, member);
            }
            Err(why) => {
                self.note_of(member, &format!("pg_dist_node is not up to date: {why}"));
                self.round_over(member, Err(()));
            }
        }
    }

    fn round_over(&mut self, member: usize, result: Result<citus::RoundDone, ()>) {
        let m = &mut self.members[member];
        let now = m.clock.read(self.now);
        m.daemon.rounds.ended(result, now);
        self.counts.rounds += 1;
        self.wake_now(member);
    }

    fn do_step(&mut self, member: usize, work: &mut RoundWork) -> Came {
        let server = &self.members[member].server;
        if server.since != work.session || !self.takes_statements(member) {
            return Came::Failed("the session is gone".to_string());
        }
        if let Some(id) = work.waits {
            return self.wait_for_commit(member, work, id);
        }
        match work.step.clone() {
            Step::Read => Came::Answer(RoundAnswer::Rows(self.rows_at(member).to_vec())),
            Step::Count(_) => {
                let behind = self.rows_at(member).iter().filter(|row| row.is_unsynced()).count();
                Came::Answer(RoundAnswer::Number(behind as i64))
            }
            Step::Run(statement) => self.run(member, work, &statement),
            Step::Recover(workers) => {
                self.resolve_all(member, &workers);
                Came::Answer(RoundAnswer::Done)
            }
            Step::Pause { .. } | Step::Over(_) => Came::Answer(RoundAnswer::Done),
        }
    }

    fn wait_for_commit(&mut self, member: usize, work: &mut RoundWork, id: u64) -> Came {
        if self.is_waiting(member, id) {
            let is_late = self.now - work.began > STATEMENT_MS;
            let late = || Came::Failed("no answer within the deadline".to_string());
            return if is_late { late() } else { Came::NotYet };
        }
        work.waits = None;
        match self.formation().rng.percent(LOST) {
            true => Came::Failed("the connection broke".to_string()),
            false => Came::Answer(RoundAnswer::Done),
        }
    }

    fn run(&mut self, member: usize, work: &mut RoundWork, statement: &Statement) -> Came {
        let done = match statement {
            Statement::SyncAllNodes => self.send_copies(member),
            Statement::Begin => self.run_in(work.open.insert(self.table(member)), statement),
            Statement::AddPrimary { address, .. } => match self.unreached(member, address) {
                Some(silent) => Err(format!("{silent} does not answer")),
                None => self.run_in_table(member, work, statement),
            },
            _ => self.run_in_table(member, work, statement),
        };
        match done {
            Ok(()) if work.waits.is_some() => Came::NotYet,
            Ok(()) => Came::Answer(RoundAnswer::Done),
            Err(why) => Came::Failed(why),
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
            if let Statement::AddPrimary { .. } = statement {
                self.put_copies(member, &rows);
            }
            work.waits = Some(self.put_rows(member, rows));
        }
        Ok(())
    }

    fn member_at_address(&self, address: &Address) -> Option<usize> {
        self.members.iter().position(|m| m.host() == address.host)
    }

    /// A new row is written on all nodes: the first that does not answer.
    fn unreached(&self, member: usize, new: &Address) -> Option<Address> {
        let rows = self.rows_at(member);
        let primaries = rows.iter().filter(|row| row.is_primary());
        let mut all = primaries.map(|row| row.address()).chain([new.clone()]);
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

    /// Each node resolves the transactions of its own group.
    fn resolve_all(&mut self, member: usize, workers: &BTreeMap<u32, Address>) {
        self.resolve(member);
        for address in workers.values() {
            let worker = self.member_at_address(address);
            if let Some(worker) = worker.filter(|worker| self.can_connect(member, *worker)) {
                self.resolve(worker);
            }
        }
    }
}
