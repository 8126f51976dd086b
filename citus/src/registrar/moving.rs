//! The changes of address of a round: all in one transaction, as long as nothing is in their way.
//!
//! A change waits for the locks of the group's shards. It ends the sessions that hold them, but
//! not one that waits for a server that is frozen; and not Citus's own sending of copies, which
//! has a lock of the table while it waits for a node that does not answer. What is not done in
//! time is rolled back, the sending is cancelled, and each group gets a transaction of its own:
//! one that is stuck holds up no other.

use crate::{Desired, NodeRow, Plan, Statement, Terms, diff};
use std::collections::{BTreeMap, BTreeSet, VecDeque};

/// Beyond the cooldown, after which Citus ends the sessions that have the locks.
const MARGIN_MS: u64 = 2_000;

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Next {
    Run(Statement),
    /// What can be done is done.
    Over,
    Failed(String),
}

#[derive(Clone, Debug, Default)]
pub(super) struct Moves {
    desired: Desired,
    rows: Vec<NodeRow>,
    terms: Terms,
    /// Statements of the transaction; the first one is under way.
    left: VecDeque<Statement>,
    /// The transaction is being rolled back.
    undoes: bool,
    /// Groups that wait for their own transaction; `None`: all are in one.
    alone: Option<VecDeque<u32>>,
    /// The group of the transaction; `None`: all.
    group: Option<u32>,
    until_ms: u64,
    done: Vec<Statement>,
    late: BTreeSet<u32>,
}

impl Moves {
    pub(super) fn begin(
        plan: &Plan,
        desired: &Desired,
        rows: &[NodeRow],
        terms: Terms,
        elapsed_ms: u64,
    ) -> (Moves, Next) {
        let (desired, rows) = (desired.clone(), rows.to_vec());
        let mut moves = Moves { desired, rows, terms, ..Moves::default() };
        let next = moves.run(plan, elapsed_ms);
        (moves, next.unwrap_or(Next::Over))
    }

    /// What was committed.
    pub(super) fn done(&self) -> &[Statement] {
        &self.done
    }

    /// Groups whose change did not come to its end.
    pub(super) fn late(&self) -> &BTreeSet<u32> {
        &self.late
    }

    /// How long the statement under way may take.
    pub(super) fn left_ms(&self, elapsed_ms: u64) -> u64 {
        self.until_ms.saturating_sub(elapsed_ms)
    }

    pub(super) fn went_well(&mut self, elapsed_ms: u64) -> Next {
        let ran = self.left.pop_front();
        if let Some(next) = self.left.front() {
            self.done.extend(ran.filter(is_change));
            return Next::Run(next.clone());
        }
        self.undoes = false;
        self.next_alone(elapsed_ms)
    }

    pub(super) fn failed(&mut self, elapsed_ms: u64, why: String) -> Next {
        match self.undoes {
            // The session tells by its next answer whether it is of use.
            true => self.went_well(elapsed_ms),
            false => Next::Failed(why),
        }
    }

    /// No answer came in time; the statement was cancelled.
    pub(super) fn came_late(&mut self, elapsed_ms: u64) -> Next {
        if self.undoes {
            return Next::Failed("no answer in time".to_string());
        }
        let before = self.done.iter().filter(|change| !self.is_in_transaction(change)).cloned();
        self.done = before.collect();
        match self.group {
            Some(group) => drop(self.late.insert(group)),
            None => self.alone = Some(self.groups()),
        }
        self.undoes = true;
        self.until_ms = elapsed_ms + MARGIN_MS;
        self.left = [Statement::Rollback, Statement::CancelSync].into();
        Next::Run(Statement::Rollback)
    }

    fn is_in_transaction(&self, change: &Statement) -> bool {
        let Some(group) = self.group else { return true };
        let nodeid = match change {
            Statement::UpdateNode { nodeid, .. }
            | Statement::SetPoolinfo { nodeid, .. }
            | Statement::DropPoolinfo { nodeid } => *nodeid,
            _ => return false,
        };
        self.rows.iter().any(|row| row.nodeid == nodeid && row.groupid == group)
    }

    /// Of those that are not waiting for a leader.
    fn groups(&self) -> VecDeque<u32> {
        self.desired.groups.keys().copied().collect()
    }

    fn next_alone(&mut self, elapsed_ms: u64) -> Next {
        while let Some(group) = self.alone.as_mut().and_then(VecDeque::pop_front) {
            let own = self.desired.groups.get(&group).cloned();
            let groups: BTreeMap<_, _> = own.map(|own| (group, own)).into_iter().collect();
            let desired = Desired { groups, ..Desired::default() };
            self.group = Some(group);
            if let Some(next) = self.run(&diff(&desired, &self.rows, &self.terms), elapsed_ms) {
                return next;
            }
        }
        Next::Over
    }

    fn run(&mut self, plan: &Plan, elapsed_ms: u64) -> Option<Next> {
        let cooldown_ms = u64::from(self.terms.cooldown_ms.unsigned_abs());
        self.until_ms = elapsed_ms + cooldown_ms + MARGIN_MS;
        self.left = plan.transaction().into();
        self.left.front().cloned().map(Next::Run)
    }
}

fn is_change(statement: &Statement) -> bool {
    matches!(
        statement,
        Statement::UpdateNode { .. }
            | Statement::SetPoolinfo { .. }
            | Statement::DropPoolinfo { .. }
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Address;
    use crate::desired::{GroupNow, Groups, Wish, desired};
    use crate::model::{Model, row};

    fn moved() -> Desired {
        let lead =
            |host: &str| GroupNow { leader: Some(Address::new(host, 5432)), ..GroupNow::default() };
        let groups: Groups = (0..).zip(["c", "w2", "x2"].map(lead)).collect();
        desired(&groups, &BTreeMap::new(), &Wish::default())
    }

    /// Statements on `stuck` never come to their end.
    fn run(stuck: &[i32]) -> (Moves, Model, Next) {
        let mut model = Model::new(vec![row(1, 0, "c"), row(2, 1, "w1"), row(3, 2, "x1")]);
        let rows = model.rows.clone();
        let terms = Terms::default();
        let plan = diff(&moved(), &rows, &terms);
        let (mut moves, mut next) = Moves::begin(&plan, &moved(), &rows, terms, 0);
        let mut elapsed = 0;
        while let Next::Run(statement) = next {
            assert!(elapsed < 100_000, "without an end");
            let is_stuck = matches!(&statement, Statement::UpdateNode { nodeid, .. }
                if stuck.contains(nodeid));
            next = if is_stuck {
                elapsed += moves.left_ms(elapsed);
                moves.came_late(elapsed)
            } else {
                let known = statement == Statement::CancelSync;
                let done = if known { Ok(()) } else { model.run(&[statement]) };
                match done {
                    Ok(()) => moves.went_well(elapsed),
                    Err(why) => moves.failed(elapsed, why),
                }
            };
        }
        (moves, model, next)
    }

    fn hosts(model: &Model) -> Vec<&str> {
        model.rows.iter().map(|row| row.nodename.as_str()).collect()
    }

    #[test]
    fn all_changes_are_one_transaction() {
        let (moves, model, next) = run(&[]);
        assert_eq!((hosts(&model), next), (vec!["c", "w2", "x2"], Next::Over));
        assert_eq!((moves.done().len(), moves.late().len()), (2, 0));
        assert!(moves.group.is_none());
    }

    #[test]
    fn a_group_that_is_stuck_holds_up_no_other() {
        for (nodeid, group, left) in [(2, 1, ["c", "w1", "x2"]), (3, 2, ["c", "w2", "x1"])] {
            let (moves, model, next) = run(&[nodeid]);
            assert_eq!((hosts(&model), next), (left.to_vec(), Next::Over));
            assert_eq!(moves.late(), &BTreeSet::from([group]));
            assert_eq!(moves.done().len(), 1, "{:?}", moves.done());
            assert!(!model.in_transaction());
        }
    }

    #[test]
    fn with_all_stuck_nothing_is_done() {
        let (moves, model, next) = run(&[2, 3]);
        assert_eq!((hosts(&model), next), (vec!["c", "w1", "x1"], Next::Over));
        assert_eq!((moves.done().len(), moves.late().len()), (0, 2));
    }

    #[test]
    fn each_try_gets_the_cooldown_and_a_margin() {
        let rows = [row(1, 0, "c"), row(2, 1, "w1")];
        let terms = Terms { cooldown_ms: 5_000, ..Terms::default() };
        let plan = diff(&moved(), &rows, &terms);
        let (moves, _) = Moves::begin(&plan, &moved(), &rows, terms, 100);
        assert_eq!(moves.left_ms(100), 5_000 + MARGIN_MS);
    }
}
