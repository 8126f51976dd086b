//! Transactions over several groups, as Citus commits them.
//!
//! The server that a client has connected to writes on the servers that its own rows
//! name. All of these prepare; then it commits with a record of its decision; then it
//! commits what they have prepared. What is left prepared in between is in doubt, until a
//! server of the same group resolves it by that record (`resolve.rs`).

use super::{Turn, tables};
use crate::check;
use crate::world::postgres::Mark;
use crate::world::{Event, World};

/// Between two transactions.
const PAUSE_MS: (u64, u64) = (100, 700);
/// Between two looks at what a transaction waits for.
const LOOK_MS: u64 = 100;
/// Percent of transactions that a client begins on the coordinator; the others begin on a worker.
const ON_COORDINATOR: u64 = 75;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    Working,
    Preparing,
    Deciding,
    /// Whatever is left is for those that resolve it.
    Over,
}

/// What one server has to do in it.
#[derive(Clone, Debug)]
pub struct Part {
    pub member: usize,
    /// Since when the server of the connection is up.
    session: u64,
    prepared: Option<u64>,
}

#[derive(Clone, Debug)]
pub struct Transaction {
    /// The group that decides.
    pub group: u32,
    pub initiator: usize,
    session: u64,
    /// On the true clock.
    pub began: u64,
    pub parts: Vec<Part>,
    stage: Stage,
    decided: Option<u64>,
    /// Everything that was written for it, with the group's client.
    pub records: Vec<(usize, u64)>,
    /// The client was told that it is committed.
    pub is_acknowledged: bool,
}

impl World {
    pub fn begin_transaction(&mut self) {
        let pause = self.formation().rng.range(PAUSE_MS.0, PAUSE_MS.1);
        self.after(pause, Event::Citus(Turn::Begin));
        let Some(initiator) = self.chosen_server() else { return };
        let Some(parts) = self.parts_of(initiator) else { return };
        check::citus::begins(self, initiator, &parts);
        if !parts.iter().all(|part| self.can_connect(initiator, *part)) {
            return;
        }
        let since = |member: usize| self.members[member].server.since;
        let part =
            |member: &usize| Part { member: *member, session: since(*member), prepared: None };
        let transaction = Transaction {
            group: self.group_number(initiator),
            initiator,
            session: since(initiator),
            began: self.now,
            parts: parts.iter().map(part).collect(),
            stage: Stage::Working,
            decided: None,
            records: Vec::new(),
            is_acknowledged: false,
        };
        let formation = self.formation();
        let number = formation.transactions.len() as u32;
        formation.transactions.push(transaction);
        self.go_on_after(2, 40, number);
    }

    /// A server that takes a client's writes, by the client's own knowledge of addresses.
    fn chosen_server(&mut self) -> Option<usize> {
        let on_coordinator = self.formation().rng.percent(ON_COORDINATOR);
        let members = 0..self.members.len();
        let open: Vec<usize> = members
            .filter(|m| self.members[*m].place.group.is_coordinator() == on_coordinator)
            .filter(|m| self.takes_statements(*m) && !self.members[*m].server.mute)
            .filter(|m| !self.is_read_only(*m))
            .collect();
        (!open.is_empty()).then(|| self.formation().rng.pick(&open))
    }

    /// The servers of the other worker groups, as the rows of this one name them.
    fn parts_of(&self, initiator: usize) -> Option<Vec<usize>> {
        let own = self.group_number(initiator);
        let rows = self.rows_at(initiator);
        let others = rows.iter().filter(|row| row.is_primary() && row.shouldhaveshards);
        let others = others.filter(|row| row.groupid != own);
        let parts: Option<Vec<usize>> = others.map(|row| self.member_of(row)).collect();
        parts.filter(|parts| !parts.is_empty())
    }

    fn go_on_after(&mut self, low: u64, high: u64, number: u32) {
        let ms = self.formation().rng.range(low, high);
        self.after(ms, Event::Citus(Turn::GoOn(number)));
    }

    fn transaction(&self, number: u32) -> &Transaction {
        &self.citus.as_ref().expect("a world with Citus").transactions[number as usize]
    }

    pub fn transaction_mut(&mut self, number: u32) -> &mut Transaction {
        &mut self.formation().transactions[number as usize]
    }

    /// Its session lives, so no other one may resolve it.
    pub fn is_in_progress(&self, number: u32, member: usize) -> bool {
        let transaction = self.transaction(number);
        transaction.stage != Stage::Over
            && transaction.initiator == member
            && self.has_session(member, transaction.session)
    }

    fn has_session(&self, member: usize, since: u64) -> bool {
        let server = &self.members[member].server;
        server.accepts_commits() && server.since == since
    }

    fn reaches(&self, from: usize, part: &Part) -> bool {
        self.has_session(part.member, part.session)
            && self.is_linked(from, part.member)
            && !self.disk_fails(part.member)
    }

    pub fn go_on_with_transaction(&mut self, number: u32) {
        let transaction = self.transaction(number);
        let (initiator, session) = (transaction.initiator, transaction.session);
        let stage = transaction.stage;
        if stage == Stage::Over {
            return;
        }
        if !self.has_session(initiator, session) {
            self.transaction_mut(number).stage = Stage::Over;
            return;
        }
        let broken = transaction.parts.iter().any(|part| !self.reaches(initiator, part));
        match stage {
            Stage::Working | Stage::Preparing if broken => self.abort(number),
            Stage::Working => self.prepare(number),
            Stage::Preparing if self.is_prepared(number) => self.decide(number),
            Stage::Deciding if self.is_decided(number) => self.commit(number),
            Stage::Preparing | Stage::Deciding | Stage::Over => {
                self.go_on_after(LOOK_MS, LOOK_MS, number);
            }
        }
    }

    fn prepare(&mut self, number: u32) {
        self.transaction_mut(number).stage = Stage::Preparing;
        for at in 0..self.transaction(number).parts.len() {
            let member = self.transaction(number).parts[at].member;
            let id = self.write_part(member, number, Mark::Prepared(number));
            self.transaction_mut(number).parts[at].prepared = Some(id);
        }
        self.go_on_after(1, 20, number);
    }

    fn write_part(&mut self, member: usize, number: u32, mark: Mark) -> u64 {
        let id = self.write_mark(member, mark);
        let client = self.members[member].place.client;
        self.transaction_mut(number).records.push((client, id));
        if self.is_waiting(member, id) {
            self.formation().awaited.insert(id, number);
        }
        id
    }

    /// A commit was acknowledged by those that it waits for.
    pub fn distributed_acknowledged(&mut self, id: u64) {
        let Some(formation) = &mut self.citus else { return };
        if let Some(number) = formation.awaited.remove(&id) {
            self.go_on_after(1, 6, number);
        }
    }

    fn is_prepared(&self, number: u32) -> bool {
        let parts = &self.transaction(number).parts;
        parts.iter().all(|part| part.prepared.is_some_and(|id| !self.is_waiting(part.member, id)))
    }

    /// The client's session commits, unless the lock of an agent holds it back.
    fn decide(&mut self, number: u32) {
        let initiator = self.transaction(number).initiator;
        if self.is_held(initiator) {
            return self.go_on_after(LOOK_MS, LOOK_MS, number);
        }
        if self.disk_fails(initiator) {
            return self.abort(number);
        }
        check::citus::decides(self, number);
        let id = self.write_part(initiator, number, Mark::Decided(number));
        let transaction = self.transaction_mut(number);
        (transaction.stage, transaction.decided) = (Stage::Deciding, Some(id));
        self.go_on_after(0, 8, number);
    }

    fn is_decided(&self, number: u32) -> bool {
        let transaction = self.transaction(number);
        transaction.decided.is_some_and(|id| !self.is_waiting(transaction.initiator, id))
    }

    fn commit(&mut self, number: u32) {
        let is_guarded = !self.members[self.transaction(number).initiator].is_unguarded(self.now);
        let transaction = self.transaction_mut(number);
        (transaction.stage, transaction.is_acknowledged) = (Stage::Over, is_guarded);
        self.counts.distributed += 1;
        self.finish(number, Mark::Committed(number));
    }

    fn abort(&mut self, number: u32) {
        self.transaction_mut(number).stage = Stage::Over;
        self.finish(number, Mark::RolledBack(number));
    }

    /// Where a server cannot be reached its part stays in doubt.
    fn finish(&mut self, number: u32, mark: Mark) {
        let initiator = self.transaction(number).initiator;
        for part in self.transaction(number).parts.clone() {
            if self.reaches(initiator, &part) && !self.loses_statement() {
                self.finish_part(part.member, number, mark);
            } else if part.prepared.is_some() {
                self.counts.in_doubt += 1;
            }
        }
    }

    /// The session ended before this statement.
    fn loses_statement(&mut self) -> bool {
        self.formation().rng.percent(5)
    }

    pub fn finish_part(&mut self, member: usize, number: u32, mark: Mark) {
        if tables::prepared(&self.members[member].server.log).contains(&number) {
            self.write_part(member, number, mark);
        }
    }

    pub fn is_deciding(&self, member: usize) -> bool {
        let formation = self.citus.as_ref().expect("a world with Citus");
        let decides = |t: &Transaction| t.stage == Stage::Deciding && t.initiator == member;
        formation.transactions.iter().any(|t| decides(t) && self.has_session(member, t.session))
    }

    /// An agent ends the sessions of clients: some have rolled back what they prepared.
    pub fn end_clients(&mut self, member: usize) {
        let count = self.formation().transactions.len() as u32;
        for number in
            (0..count).filter(|number| self.is_in_progress(*number, member)).collect::<Vec<_>>()
        {
            match self.formation().rng.percent(50) {
                true => self.abort(number),
                false => self.transaction_mut(number).stage = Stage::Over,
            }
        }
    }
}
