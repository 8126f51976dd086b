//! The steps of one round on `pg_dist_node`, in the daemon's order (`act/citus/round.rs`).
//!
//! Which rows are wanted, and the statements that bring them about, are the crate
//! `citus`'s; so is when a round is due. Here is only what is run after what.

use citus::registrar::{Did, Round};
use citus::{Address, Desired, NodeRow, Plan, Statement, Terms, Wish, desired, diff};
use std::collections::{BTreeMap, VecDeque};

/// Looks at the copies before and after a push, with a pause between two.
const TRIES: u32 = 50;
const PUSH_TRIES: u32 = 100;
const PAUSE_MS: u64 = 20;

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Step {
    Read,
    Run(Statement),
    /// The rows once more, after a pause.
    Look {
        after_ms: u64,
    },
    /// Resolve the in-doubt transactions of the own group, or those of these leaders' groups.
    Resolve(BTreeMap<u32, Address>),
    Over(Did),
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Came {
    Rows(Vec<NodeRow>),
    Done,
    Failed(String),
    Resolved(bool),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    Reading,
    Moving,
    ResolvingHere,
    Looking { left: u32, is_pushed: bool },
    Pushing,
    ResolvingElsewhere,
    Arranging,
}

#[derive(Clone, Debug)]
pub(super) struct Script {
    round: Round,
    own: u32,
    plan: Plan,
    stage: Stage,
    left: VecDeque<Statement>,
    did: Did,
    is_synced: bool,
}

impl Script {
    pub(super) fn begin(round: Round, own: u32) -> (Script, Step) {
        let did = Did { repaired: false, settled: false, complete: false, resolved: true };
        let (plan, stage, left) = (Plan::default(), Stage::Reading, VecDeque::new());
        (Script { round, own, plan, stage, left, did, is_synced: false }, Step::Read)
    }

    /// `Err`: the round is over without success.
    pub(super) fn next(&mut self, came: Came) -> Result<Step, String> {
        match (self.stage, came) {
            (Stage::Reading, Came::Rows(rows)) => self.take_rows(&rows),
            (Stage::Pushing, Came::Failed(why)) => return self.looked(Err(why)),
            (Stage::Arranging, Came::Failed(_)) => self.left.clear(),
            (_, Came::Failed(why)) => return Err(why),
            (Stage::Looking { .. }, Came::Rows(rows)) => return self.look(&rows),
            (Stage::Pushing, _) => return Ok(self.look_again(PUSH_TRIES, true)),
            (Stage::ResolvingHere | Stage::ResolvingElsewhere, Came::Resolved(all)) => {
                self.did.resolved &= all;
                return self.resolved();
            }
            (Stage::Arranging, _) => self.did.repaired = true,
            _ => {}
        }
        match self.left.pop_front() {
            Some(statement) => Ok(Step::Run(statement)),
            None if self.stage == Stage::Arranging => Ok(Step::Over(self.did)),
            None => Ok(self.moved()),
        }
    }

    fn take_rows(&mut self, rows: &[NodeRow]) {
        let terms = Terms { cooldown_ms: self.round.cooldown_ms, ..Terms::default() };
        self.plan = diff(&self.wanted(), rows, &terms);
        (self.stage, self.left) = (Stage::Moving, self.plan.transaction().into());
    }

    fn wanted(&self) -> Desired {
        let wish = Wish { register_secondaries: true, ..Wish::default() };
        desired(&self.round.groups, &BTreeMap::new(), &wish)
    }

    fn moved(&mut self) -> Step {
        self.did.repaired = !self.plan.in_one_transaction.is_empty();
        if self.round.resolve && !self.round.opening {
            self.stage = Stage::ResolvingHere;
            return Step::Resolve(BTreeMap::new());
        }
        self.look_again(TRIES, false)
    }

    fn look_again(&mut self, left: u32, is_pushed: bool) -> Step {
        self.stage = Stage::Looking { left, is_pushed };
        Step::Look { after_ms: 0 }
    }

    fn look(&mut self, rows: &[NodeRow]) -> Result<Step, String> {
        let leads = |row: &&NodeRow| {
            self.round.groups.get(&row.groupid).is_some_and(|group| group.leader.is_some())
        };
        if !rows.iter().filter(leads).any(NodeRow::is_unsynced) {
            return self.looked(Ok(()));
        }
        match self.stage {
            Stage::Looking { left, is_pushed } if left > 0 => {
                self.stage = Stage::Looking { left: left - 1, is_pushed };
                Ok(Step::Look { after_ms: PAUSE_MS })
            }
            Stage::Looking { is_pushed: false, .. } => {
                self.stage = Stage::Pushing;
                Ok(Step::Run(Statement::SyncAllNodes))
            }
            _ => self.looked(Err("copies of pg_dist_node are behind".to_string())),
        }
    }

    fn looked(&mut self, synced: Result<(), String>) -> Result<Step, String> {
        self.is_synced = synced.is_ok();
        if self.round.opening {
            synced?;
            self.stage = Stage::ResolvingHere;
            return Ok(Step::Resolve(BTreeMap::new()));
        }
        Ok(self.resolve_elsewhere())
    }

    /// Here: before the copies, but for a region that opens.
    fn resolved(&mut self) -> Result<Step, String> {
        match self.stage {
            Stage::ResolvingHere if !self.round.opening => Ok(self.look_again(TRIES, false)),
            Stage::ResolvingHere => Ok(self.resolve_elsewhere()),
            _ => Ok(self.arrange()),
        }
    }

    fn resolve_elsewhere(&mut self) -> Step {
        if !self.round.resolve {
            return self.arrange();
        }
        self.stage = Stage::ResolvingElsewhere;
        let others = self.round.groups.iter().filter(|(number, _)| **number != self.own);
        Step::Resolve(others.filter_map(|(n, now)| Some((*n, now.leader.clone()?))).collect())
    }

    fn arrange(&mut self) -> Step {
        let is_whole = self.plan.blocked.is_empty() && !self.plan.adds_primaries();
        self.did.settled = self.is_synced && is_whole;
        self.did.complete = self.did.settled && self.plan.after.is_empty();
        self.stage = Stage::Arranging;
        self.left = if self.is_synced { self.plan.after.clone().into() } else { VecDeque::new() };
        match self.left.pop_front() {
            Some(statement) => Step::Run(statement),
            None => Step::Over(self.did),
        }
    }
}
