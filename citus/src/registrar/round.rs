//! The steps of one round, in their order: rows, in-doubt transactions, copies, new rows.
//!
//! `begin` gives the first step; each answer gives the next one, up to `Step::Over`. Changes
//! of address come first, in one transaction. The coordinator's own in-doubt transactions
//! need no copies and are resolved at once, for its clients wait for them; only a region
//! that opens looks at the copies before anything is resolved. Rows come and go last, while
//! all copies are in step, because Citus refuses them otherwise.
//!
//! Once the rows are in, the rest may be cut short (`interrupt`): what waits for an
//! unreachable node then holds up neither another group's row nor its writers.
//!
//! Invariant: every wait ends. The copies are waited for by time, each other step is
//! answered within the performer's own limit, and the round as a whole has one.
//!
//! Absent on purpose: connections and the limit of a statement.

use super::clearing::{Clearing, Lost, Resolve, clearing, lost};
use super::moving::{Moves, Next};
use super::{Did, Ended, Round};
use crate::copies::{NodeCopy, difference};
use crate::redirect::{Poolers, redirections};
use crate::{Address, COORDINATOR_GROUP, Desired, NodeRow, Plan, Statement, Terms, Wish};
use std::collections::{BTreeMap, VecDeque};

/// The copies on the workers usually follow in a tenth of a second.
const DAEMON_WAIT_MS: u64 = 1_000;
const PUSH_WAIT_MS: u64 = 2_000;
/// Between two looks at the copies.
const PAUSE_MS: u64 = 20;

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// Read the coordinator's rows, after a pause.
    Read {
        after_ms: u64,
    },
    /// Run it on the coordinator, in the session of this round.
    Run(Statement),
    /// The same for a push of copies, which is a transaction of its own (`copies::pushed`).
    Push(Statement),
    /// Resolve the in-doubt transactions of the coordinator's group.
    ResolveHere(Clearing),
    /// Resolve those of these groups on their leaders, all at once.
    ResolveAt(BTreeMap<u32, Resolve>),
    /// Read the copies on these groups' leaders, all at once.
    ReadCopies(BTreeMap<u32, Address>),
    /// Run it on the leader of another group.
    RunAt(Address, Statement),
    Over(Ended),
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    Rows(Vec<NodeRow>),
    Done,
    Failed(String),
    /// It was not done within `left_ms`, and was cancelled.
    Late,
    /// Whether all that were asked have done it.
    Resolved(bool),
    /// Of the nodes that have answered.
    Copies(BTreeMap<u32, NodeCopy>),
}

/// What is told to the log, oldest first.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Told {
    Info(String),
    Warning(String),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    Reading,
    Moving,
    ResolvingHere,
    Looking { until_ms: u64, is_pushed: bool },
    Pushing,
    ResolvingElsewhere,
    Comparing,
    Mending,
    Arranging,
}

#[derive(Clone, Debug)]
pub struct Machine {
    round: Round,
    desired: Desired,
    plan: Plan,
    stage: Stage,
    moves: Moves,
    /// Rows that come and go; the first one is under way.
    left: VecDeque<Statement>,
    /// The rows as they were read last.
    rows: Vec<NodeRow>,
    /// What puts the copies right; the first one is under way.
    mends: VecDeque<Step>,
    /// Groups whose row has got another address.
    lost: BTreeMap<u32, Lost>,
    did: Did,
    is_synced: bool,
    told: Vec<Told>,
}

impl Machine {
    pub fn begin(round: Round, wish: &Wish) -> (Machine, Step) {
        let desired = crate::desired(&round.groups, &BTreeMap::new(), wish);
        let machine = Machine {
            round,
            desired,
            plan: Plan::default(),
            stage: Stage::Reading,
            moves: Moves::default(),
            left: VecDeque::new(),
            rows: Vec::new(),
            mends: VecDeque::new(),
            lost: BTreeMap::new(),
            did: Did { repaired: false, settled: false, complete: false, resolved: true },
            is_synced: false,
            told: Vec::new(),
        };
        (machine, Step::Read { after_ms: 0 })
    }

    /// The answer to the step before. `elapsed_ms` counts from the begin of the round.
    pub fn answer(&mut self, elapsed_ms: u64, answer: Answer) -> Step {
        let next = self.next(elapsed_ms, answer);
        if elapsed_ms < self.round.limit_ms || matches!(next, Step::Over(_)) {
            return next;
        }
        let why = format!("the round was not done within {} ms", self.round.limit_ms);
        if !self.is_in_tail() || self.round.opening {
            return Step::Over(Ended::Failed(why));
        }
        self.warn(why);
        self.interrupt()
    }

    /// How long the step under way may still take.
    pub fn left_ms(&self, elapsed_ms: u64) -> u64 {
        let left_ms = self.round.limit_ms.saturating_sub(elapsed_ms);
        match self.stage {
            Stage::Moving => left_ms.min(self.moves.left_ms(elapsed_ms)),
            _ => left_ms,
        }
    }

    /// The rows are in: what is left may be done by a later round.
    pub fn is_in_tail(&self) -> bool {
        !matches!(self.stage, Stage::Reading | Stage::Moving)
    }

    /// Ends the round here; its step under way is given up.
    pub fn interrupt(&mut self) -> Step {
        self.did.resolved &= !self.round.resolve;
        (self.did.settled, self.did.complete) = (false, false);
        Step::Over(Ended::Round(self.did))
    }

    fn next(&mut self, elapsed_ms: u64, answer: Answer) -> Step {
        let answer = match answer {
            Answer::Late if self.stage != Stage::Moving => {
                Answer::Failed("no answer in time".to_string())
            }
            answer => answer,
        };
        match (self.stage, answer) {
            (Stage::Reading, Answer::Rows(rows)) => self.make_plan(elapsed_ms, &rows),
            (Stage::Moving, answer) => self.move_on(elapsed_ms, answer),
            (Stage::ResolvingHere, Answer::Resolved(all)) => self.resolved_here(elapsed_ms, all),
            (Stage::Looking { .. }, Answer::Rows(rows)) => self.look(elapsed_ms, &rows),
            (Stage::Pushing, Answer::Done) => self.begin_looking(elapsed_ms + PUSH_WAIT_MS, true),
            (Stage::Looking { .. } | Stage::Pushing, Answer::Failed(why)) => self.looked(Err(why)),
            (Stage::ResolvingElsewhere, Answer::Resolved(all)) => self.resolved_elsewhere(all),
            (Stage::Comparing, Answer::Copies(copies)) => self.compare(&copies),
            (Stage::Mending, Answer::Done) => self.mended(Ok(())),
            (Stage::Mending, Answer::Failed(why)) => self.mended(Err(why)),
            (Stage::Arranging, Answer::Done) => self.arranged(),
            (Stage::Arranging, Answer::Failed(why)) => self.refused(why),
            (_, Answer::Failed(why)) => Step::Over(Ended::Failed(why)),
            (stage, answer) => {
                let why = format!("{answer:?} is no answer while {stage:?}");
                Step::Over(Ended::Failed(why))
            }
        }
    }

    pub fn take_told(&mut self) -> Vec<Told> {
        std::mem::take(&mut self.told)
    }

    fn tell(&mut self, text: String) {
        self.told.push(Told::Info(text));
    }

    fn warn(&mut self, text: String) {
        self.told.push(Told::Warning(text));
    }

    fn make_plan(&mut self, elapsed_ms: u64, rows: &[NodeRow]) -> Step {
        let terms = Terms { cooldown_ms: self.round.cooldown_ms, ..Terms::default() };
        self.plan = crate::diff(&self.desired, rows, &terms);
        for blocked in &self.plan.blocked {
            self.told.push(Told::Warning(format!("pg_dist_node: {blocked}")));
        }
        self.rows = rows.to_vec();
        self.stage = Stage::Moving;
        let (moves, next) = Moves::begin(&self.plan, &self.desired, rows, terms, elapsed_ms);
        self.moves = moves;
        self.go_on_moving(elapsed_ms, next)
    }

    fn move_on(&mut self, elapsed_ms: u64, answer: Answer) -> Step {
        let next = match answer {
            Answer::Done => self.moves.went_well(elapsed_ms),
            // Half the rows of a region that opens would name the other one.
            Answer::Late if self.round.opening => Next::Failed("no answer in time".to_string()),
            Answer::Late => self.moves.came_late(elapsed_ms),
            Answer::Failed(why) => self.moves.failed(elapsed_ms, why),
            answer => Next::Failed(format!("{answer:?} is no answer to a change of rows")),
        };
        self.go_on_moving(elapsed_ms, next)
    }

    fn go_on_moving(&mut self, elapsed_ms: u64, next: Next) -> Step {
        match next {
            Next::Run(statement) => return Step::Run(statement),
            Next::Failed(why) => return Step::Over(Ended::Failed(why)),
            Next::Over => {}
        }
        let late = self.moves.late().clone();
        if !late.is_empty() {
            self.warn(format!(
                "the rows of groups {late:?} wait for sessions that do not end: they wait for a \
                 server that does not answer"
            ));
        }
        if self.moves.done().is_empty() {
            let why = || Ended::Failed("no row could be changed in time".to_string());
            return if late.is_empty() { self.moved(elapsed_ms) } else { Step::Over(why()) };
        }
        if !late.is_empty() {
            // A row that names a former leader is no ground to resolve on.
            self.did.resolved &= !self.round.resolve;
            self.round.resolve = false;
        }
        self.did.repaired = true;
        self.lost = lost(self.moves.done(), &self.rows, &self.round.gone_ms);
        self.tell(format!("pg_dist_node was brought up to date: {:?}", self.moves.done()));
        self.moved(elapsed_ms)
    }

    /// `rows` are as they were before: a change of an address leaves all copies behind.
    fn moved(&mut self, elapsed_ms: u64) -> Step {
        if self.did.repaired {
            self.rows.iter_mut().for_each(|row| row.metadatasynced = false);
        }
        if self.round.resolve && !self.round.opening {
            return self.resolve_here();
        }
        self.begin_looking(elapsed_ms + DAEMON_WAIT_MS, false)
    }

    fn resolve_here(&mut self) -> Step {
        self.stage = Stage::ResolvingHere;
        Step::ResolveHere(clearing(&self.lost, COORDINATOR_GROUP))
    }

    /// Before the copies are looked at, but for a region that opens.
    fn resolved_here(&mut self, elapsed_ms: u64, all: bool) -> Step {
        self.did.resolved &= all;
        match self.round.opening {
            true => self.resolve_elsewhere(),
            false => self.begin_looking(elapsed_ms + DAEMON_WAIT_MS, false),
        }
    }

    fn begin_looking(&mut self, until_ms: u64, is_pushed: bool) -> Step {
        self.stage = Stage::Looking { until_ms, is_pushed };
        Step::Read { after_ms: 0 }
    }

    /// The maintenance daemon was woken by the commit and sends the changed rows only; a
    /// push sends the whole schema, so it comes second.
    fn look(&mut self, elapsed_ms: u64, rows: &[NodeRow]) -> Step {
        self.rows = rows.to_vec();
        if !self.is_behind(rows) {
            return self.looked(Ok(()));
        }
        match self.stage {
            Stage::Looking { until_ms, .. } if elapsed_ms < until_ms => {
                Step::Read { after_ms: PAUSE_MS }
            }
            Stage::Looking { is_pushed: false, .. } => {
                self.stage = Stage::Pushing;
                Step::Push(Statement::SyncAllNodes)
            }
            _ => self.looked(Err("copies of pg_dist_node on the workers are behind".to_string())),
        }
    }

    /// A copy on a group without a known leader cannot follow, and is not waited for.
    fn is_behind(&self, rows: &[NodeRow]) -> bool {
        let leader = |number| self.round.groups.get(number).and_then(|now| now.leader.as_ref());
        rows.iter().any(|row| leader(&row.groupid).is_some() && row.is_unsynced())
    }

    fn looked(&mut self, synced: Result<(), String>) -> Step {
        self.is_synced = synced.is_ok();
        match synced {
            Err(why) if self.round.opening => return Step::Over(Ended::Failed(why)),
            Err(why) => self.warn(why),
            Ok(()) if self.round.opening => return self.resolve_here(),
            Ok(()) => {}
        }
        self.resolve_elsewhere()
    }

    /// In-doubt transactions hold row locks until they are resolved; each node resolves
    /// those of its own group only, so every node is asked.
    fn resolve_elsewhere(&mut self) -> Step {
        if !self.round.resolve {
            return self.read_copies();
        }
        let mut asked = BTreeMap::new();
        for (group, at) in self.others() {
            let (first, recovers) = (clearing(&self.lost, group), !self.copy_is_behind(group));
            self.did.resolved &= recovers;
            if recovers || first != Clearing::default() {
                asked.insert(group, Resolve { at, first, recovers });
            }
        }
        if asked.is_empty() {
            return self.read_copies();
        }
        self.stage = Stage::ResolvingElsewhere;
        Step::ResolveAt(asked)
    }

    /// It may name a former leader, which runs as a standby and shows no prepared transactions:
    /// those that were to be committed would be forgotten.
    fn copy_is_behind(&self, group: u32) -> bool {
        crate::node::primary_of(&self.rows, group).is_some_and(NodeRow::is_unsynced)
    }

    fn others(&self) -> BTreeMap<u32, Address> {
        let others = self.round.groups.iter().filter(|(number, _)| **number != COORDINATOR_GROUP);
        others.filter_map(|(n, now)| Some((*n, now.leader.clone()?))).collect()
    }

    fn resolved_elsewhere(&mut self, all: bool) -> Step {
        self.did.resolved &= all;
        self.read_copies()
    }

    /// A copy that is behind needs no second reason.
    fn read_copies(&mut self) -> Step {
        let others = self.others();
        if !self.round.compares || !self.is_synced || others.is_empty() {
            return self.arrange();
        }
        self.stage = Stage::Comparing;
        Step::ReadCopies(others)
    }

    fn compare(&mut self, copies: &BTreeMap<u32, NodeCopy>) -> Step {
        for (group, copy) in copies {
            let Some(row) = crate::node::primary_of(&self.rows, *group) else { continue };
            let address = row.address();
            if !row.hasmetadata || !row.metadatasynced {
                continue;
            }
            if let Some(why) = difference(&self.rows, *group, copy) {
                self.warn(format!("the copy of pg_dist_node on group {group}: {why}; it is sent"));
                let statement = Statement::SyncNode { address: address.clone() };
                self.mends.push_back(Step::Push(statement));
            }
            for statement in redirections(&self.desired, &copy.rows, Poolers::Keep) {
                self.mends.push_back(Step::RunAt(address.clone(), statement));
            }
        }
        self.stage = Stage::Mending;
        self.next_mend()
    }

    fn next_mend(&mut self) -> Step {
        match self.mends.front() {
            Some(step) => step.clone(),
            None => self.arrange(),
        }
    }

    fn mended(&mut self, done: Result<(), String>) -> Step {
        match done {
            Ok(()) => self.did.repaired = true,
            Err(why) => {
                self.is_synced = false;
                self.warn(format!("a copy of pg_dist_node could not be put right: {why}"));
            }
        }
        self.mends.pop_front();
        self.next_mend()
    }

    fn arrange(&mut self) -> Step {
        let is_stuck = !self.moves.late().is_empty();
        let is_whole = self.plan.blocked.is_empty() && !self.plan.adds_primaries() && !is_stuck;
        self.did.settled = self.is_synced && is_whole;
        self.did.complete = self.did.settled && self.plan.after.is_empty();
        self.stage = Stage::Arranging;
        self.left = if self.is_synced { self.plan.after.clone().into() } else { VecDeque::new() };
        self.next_row()
    }

    fn next_row(&self) -> Step {
        match self.left.front() {
            Some(statement) => Step::Run(statement.clone()),
            None => Step::Over(Ended::Round(self.did)),
        }
    }

    fn arranged(&mut self) -> Step {
        if let Some(done) = self.left.pop_front() {
            self.did.repaired = true;
            self.tell(format!("pg_dist_node: {done:?}"));
        }
        self.next_row()
    }

    /// While a copy of the table is out of reach, Citus refuses all of them.
    fn refused(&mut self, why: String) -> Step {
        self.warn(format!("pg_dist_node: {why}"));
        self.left.clear();
        self.next_row()
    }
}
