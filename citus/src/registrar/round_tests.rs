//! The order of a round's steps, on the model of the table.

use super::clearing::Clearing;
use super::round::{Answer, Machine, Step, Told};
use super::{Did, Ended, Round};
use crate::copies::NodeCopy;
use crate::desired::{GroupNow, Groups, Wish};
use crate::model::{Model, row};
use crate::{Address, NodeRow, Statement};
use std::collections::BTreeMap;

fn groups(leaders: &[&str]) -> Groups {
    let now = |host: &&str| GroupNow {
        leader: (!host.is_empty()).then(|| Address::new(*host, 5432)),
        ..GroupNow::default()
    };
    (0..).zip(leaders.iter().map(now)).collect()
}

fn round(leaders: &[&str]) -> Round {
    Round {
        groups: groups(leaders),
        opening: false,
        resolve: true,
        compares: false,
        gone_ms: BTreeMap::new(),
        cooldown_ms: 10_000,
        limit_ms: 30_000,
    }
}

/// The coordinator's server. Each answer takes `ms`.
struct Server {
    table: Model,
    /// The maintenance daemon sends copies at once.
    copies: bool,
    /// A push reaches every worker.
    pushes: bool,
    /// What the worker of group 1 has, where it is not the coordinator's table.
    copy: Option<NodeCopy>,
    ms: u64,
    steps: Vec<String>,
    told: Vec<Told>,
}

impl Server {
    fn new(hosts: &[&str]) -> Server {
        let rows = (1..).zip(0..).zip(hosts).map(|((id, group), host)| row(id, group, host));
        let table = Model::new(rows.collect());
        Server {
            table,
            copies: true,
            pushes: true,
            copy: None,
            ms: 5,
            steps: Vec::new(),
            told: Vec::new(),
        }
    }

    fn run(&mut self, round: Round) -> Ended {
        let (mut machine, mut step) = Machine::begin(round, &Wish::own_replicas());
        let mut elapsed = 0;
        loop {
            let answer = match step {
                Step::Over(ended) => return ended,
                step => self.perform(&mut elapsed, step),
            };
            step = machine.answer(elapsed, answer);
            self.told.extend(machine.take_told());
            assert!(elapsed < 60_000, "a round without an end: {:?}", self.steps);
        }
    }

    fn perform(&mut self, elapsed: &mut u64, step: Step) -> Answer {
        *elapsed += self.ms;
        let (word, answer) = match step {
            Step::Read { after_ms } => {
                *elapsed += after_ms;
                ("read".to_string(), Answer::Rows(self.table.rows.clone()))
            }
            Step::Push(Statement::SyncAllNodes) => ("push".to_string(), self.push()),
            Step::Push(Statement::SyncNode { address }) => {
                self.copy = None;
                (format!("send to {address}"), Answer::Done)
            }
            Step::Push(other) => unreachable!("{other:?} is no push"),
            Step::ReadCopies(leaders) => {
                ("read copies".to_string(), Answer::Copies(self.read_copies(&leaders)))
            }
            Step::RunAt(at, statement) => (format!("{} at {at}", word(&statement)), Answer::Done),
            Step::Run(statement) => {
                let word = word(&statement);
                (word, self.table.run(&[statement]).map_or_else(Answer::Failed, |()| Answer::Done))
            }
            Step::ResolveHere(_) => ("resolve here".to_string(), Answer::Resolved(true)),
            Step::ResolveAt(leaders) => {
                (format!("resolve at {:?}", leaders.keys()), Answer::Resolved(true))
            }
            Step::Over(_) => unreachable!("the end has no answer"),
        };
        if self.copies && word == "commit" {
            self.table.sync();
        }
        if self.steps.last() != Some(&word) {
            self.steps.push(word);
        }
        answer
    }

    fn read_copies(&self, leaders: &BTreeMap<u32, Address>) -> BTreeMap<u32, NodeCopy> {
        let rows = &self.table.rows;
        let same = |group: &u32| NodeCopy { group: *group, rows: rows.clone() };
        let copy = |group: &u32| match &self.copy {
            Some(other) if *group == 1 => other.clone(),
            _ => same(group),
        };
        leaders.keys().map(|group| (*group, copy(group))).collect()
    }

    fn push(&mut self) -> Answer {
        if self.pushes {
            self.table.sync();
        }
        Answer::Done
    }

    fn primaries(&self) -> Vec<&str> {
        let primaries = self.table.rows.iter().filter(|row| row.is_primary());
        primaries.map(|row: &NodeRow| row.nodename.as_str()).collect()
    }
}

fn word(statement: &Statement) -> String {
    let text = format!("{statement:?}");
    let name: String = text.chars().take_while(|c| c.is_alphanumeric()).collect();
    name.to_lowercase()
}

fn whole() -> Ended {
    Ended::Round(Did { repaired: true, settled: true, complete: true, resolved: true })
}

#[test]
fn rows_are_moved_then_own_transactions_resolved_then_copies_awaited_then_those_of_others() {
    let mut server = Server::new(&["c1", "w1"]);
    assert_eq!(server.run(round(&["c1", "w2"])), whole());
    let steps = [
        "read",
        "begin",
        "setlimit",
        "updatenode",
        "commit",
        "resolve here",
        "read",
        "resolve at [1]",
    ];
    assert_eq!(server.steps, steps);
    assert_eq!(server.primaries(), ["c1", "w2"]);
    assert!(matches!(&server.told[..], [Told::Info(text)] if text.contains("up to date")));
}

#[test]
fn a_region_that_opens_resolves_nothing_while_a_copy_is_behind() {
    let opening = || Round { opening: true, ..round(&["c2", "w2"]) };
    let mut server = Server::new(&["c1", "w1"]);
    assert_eq!(server.run(opening()), whole());
    assert_eq!(server.steps[5..], ["read", "resolve here", "resolve at [1]"]);

    let mut stuck = Server { copies: false, pushes: false, ..Server::new(&["c1", "w1"]) };
    let why = "copies of pg_dist_node on the workers are behind".to_string();
    assert_eq!(stuck.run(opening()), Ended::Failed(why));
    assert!(!stuck.steps.iter().any(|step| step.starts_with("resolve")), "{:?}", stuck.steps);
}

#[test]
fn copies_that_stay_behind_are_pushed_once_and_the_round_goes_on() {
    let mut server = Server { copies: false, ..Server::new(&["c1", "w1"]) };
    assert_eq!(server.run(round(&["c1", "w2"])), whole());
    assert_eq!(server.steps[6..], ["read", "push", "read", "resolve at [1]"]);

    // Rows neither come nor go, though group 2 has no row yet.
    let mut stuck = Server { copies: false, pushes: false, ..Server::new(&["c1", "w1"]) };
    let did = Did { repaired: true, settled: false, complete: false, resolved: false };
    assert_eq!(stuck.run(round(&["c1", "w2", "x1"])), Ended::Round(did));
    assert_eq!(stuck.steps[6..], ["read", "push", "read", "resolve at [2]"]);
    assert!(
        stuck
            .told
            .iter()
            .any(|told| matches!(told, Told::Warning(text) if text.contains("behind")))
    );
}

/// Its copy may name a server that shows no prepared transactions.
#[test]
fn a_worker_resolves_nothing_while_its_copy_is_behind() {
    let mut server = Server { copies: false, pushes: false, ..Server::new(&["c1", "w1", "x1"]) };
    server.table.rows[2].metadatasynced = false;
    let did = Did { repaired: false, settled: false, complete: false, resolved: false };
    assert_eq!(server.run(round(&["c1", "w1", "x1"])), Ended::Round(did));
    assert_eq!(server.steps, ["read", "resolve here", "read", "push", "read", "resolve at [1]"]);
}

#[test]
fn what_a_lost_leader_left_is_cleared_where_its_row_has_moved() {
    let gone_ms = BTreeMap::from([(1, 20_000), (2, 7)]);
    let lost = Round { gone_ms, ..round(&["c1", "w2", "x1"]) };
    let rows = vec![row(1, 0, "c1"), row(2, 1, "w1"), row(3, 2, "x1")];
    let (mut machine, _) = Machine::begin(lost, &Wish::default());
    machine.answer(1, Answer::Rows(rows.clone()));
    (0..3).for_each(|_| drop(machine.answer(2, Answer::Done)));
    let end = Statement::EndSessionsOf { nodeid: 2, older_ms: 21_000 };
    let Step::ResolveHere(here) = machine.answer(3, Answer::Done) else { panic!("no step") };
    assert_eq!((here.ends, here.locks.len()), (vec![end.clone()], 0));
    machine.answer(4, Answer::Resolved(true));
    let Step::ResolveAt(there) = machine.answer(5, Answer::Rows(rows)) else { panic!("no step") };
    assert!(there[&1].first.ends.is_empty());
    assert_eq!(there[&2].first.ends, [end]);
    assert!(!there[&2].first.locks.is_empty());
}

/// A client there that waits for a lost leader's locks holds up the push of the copy.
#[test]
fn a_node_whose_copy_is_behind_is_cleared_and_resolves_nothing() {
    let lost = Round { gone_ms: BTreeMap::from([(0, 7)]), ..round(&["c2", "w1"]) };
    let rows = vec![row(1, 0, "c1"), row(2, 1, "w1")];
    let (mut machine, mut step) = Machine::begin(lost, &Wish::default());
    let mut behind = rows;
    let (mut elapsed_ms, mut cleared) = (0, None);
    while !matches!(step, Step::Over(_)) {
        elapsed_ms += 500;
        let answer = match &step {
            Step::Read { .. } => Answer::Rows(behind.clone()),
            Step::ResolveHere(_) => Answer::Resolved(true),
            Step::ResolveAt(nodes) => {
                cleared = Some(nodes[&1].clone());
                Answer::Resolved(true)
            }
            Step::Push(_) => Answer::Failed("canceling statement due to lock timeout".into()),
            Step::ReadCopies(_) => Answer::Copies(BTreeMap::new()),
            _ => Answer::Done,
        };
        behind[1].metadatasynced = false;
        step = machine.answer(elapsed_ms, answer);
    }
    let cleared = cleared.expect("it is asked");
    assert!(!cleared.recovers && cleared.first.ends.len() == 1, "{cleared:?}");
    let Step::Over(Ended::Round(did)) = step else { panic!("{step:?}") };
    assert!(!did.resolved);
}

#[test]
fn a_copy_on_a_group_without_a_leader_is_not_waited_for() {
    let mut server = Server::new(&["c1", "w1", "x1"]);
    server.table.rows[2].metadatasynced = false;
    server.copies = false;
    let did = Did { repaired: false, settled: true, complete: true, resolved: true };
    assert_eq!(server.run(round(&["c1", "w1", ""])), Ended::Round(did));
    assert_eq!(server.steps, ["read", "resolve here", "read", "resolve at [1]"]);
}

#[test]
fn new_rows_come_last_and_end_at_the_first_refusal() {
    let mut server = Server::new(&["c1"]);
    let did = Did { repaired: true, settled: false, complete: false, resolved: true };
    assert_eq!(server.run(round(&["c1", "w1", "x1"])), Ended::Round(did));
    assert_eq!(server.steps.last().unwrap(), "addprimary");
    assert_eq!(server.primaries(), ["c1", "w1", "x1"]);

    // One of two fails: the second is not tried.
    let (mut machine, mut step) = Machine::begin(round(&["c1", "w1", "x1"]), &Wish::default());
    let mut tried = 0;
    let ended = loop {
        let answer = match step {
            Step::Over(ended) => break ended,
            Step::Read { .. } => Answer::Rows(vec![row(1, 0, "c1")]),
            Step::Run(_) => {
                tried += 1;
                Answer::Failed("a node is not synced".to_string())
            }
            _ => Answer::Resolved(true),
        };
        step = machine.answer(0, answer);
    };
    assert_eq!((tried, ended), (1, Ended::Round(Did { repaired: false, ..did })));
}

#[test]
fn a_failure_ends_the_round_before_the_copies_and_not_after() {
    let failed = || Answer::Failed("the connection is gone".to_string());
    let over = Step::Over(Ended::Failed("the connection is gone".to_string()));
    let (mut machine, _) = Machine::begin(round(&["c1", "w1"]), &Wish::default());
    assert_eq!(machine.answer(1, failed()), over);

    let (mut machine, _) = Machine::begin(round(&["c1", "w2"]), &Wish::default());
    let rows = vec![row(1, 0, "c1"), row(2, 1, "w1")];
    assert_eq!(machine.answer(1, Answer::Rows(rows.clone())), Step::Run(Statement::Begin));
    assert_eq!(machine.answer(2, failed()), over);

    let (mut machine, _) = Machine::begin(round(&["c1", "w1"]), &Wish::default());
    assert_eq!(machine.answer(1, Answer::Rows(rows)), Step::ResolveHere(Clearing::default()));
    assert_eq!(machine.answer(2, Answer::Resolved(false)), Step::Read { after_ms: 0 });
    // A look at the copies that fails: others' transactions are resolved all the same.
    assert!(matches!(machine.answer(3, failed()), Step::ResolveAt(_)));
    let did = Did { repaired: false, settled: false, complete: false, resolved: false };
    assert_eq!(machine.answer(4, Answer::Resolved(true)), Step::Over(Ended::Round(did)));
}

fn comparing(leaders: &[&str]) -> Round {
    Round { compares: true, resolve: false, ..round(leaders) }
}

#[test]
fn a_copy_that_disagrees_is_named_and_sent_again() {
    let mut server = Server::new(&["c1", "w1", "x1"]);
    let mut rows = server.table.rows.clone();
    rows[2].nodename = "wrong".to_string();
    server.copy = Some(NodeCopy { group: 1, rows });
    let did = Did { repaired: true, settled: true, complete: true, resolved: true };
    assert_eq!(server.run(comparing(&["c1", "w1", "x1"])), Ended::Round(did));
    assert_eq!(server.steps, ["read", "read copies", "send to w1:5432"]);
    let text = "the copy of pg_dist_node on group 1: row 3 is primary wrong:5432";
    assert!(matches!(&server.told[..], [Told::Warning(told)] if told.starts_with(text)));

    // The next round finds nothing; a worker that was built anew knows no group.
    server.steps.clear();
    assert_eq!(
        server.run(comparing(&["c1", "w1", "x1"])),
        Ended::Round(Did { repaired: false, ..did })
    );
    server.copy = Some(NodeCopy { group: 0, rows: Vec::new() });
    assert_eq!(server.run(comparing(&["c1", "w1", "x1"])), Ended::Round(did));
}

#[test]
fn a_worker_that_sends_queries_to_an_old_leader_is_redirected_there() {
    let mut server = Server::new(&["c1", "w1", "x1"]);
    let mut rows = server.table.rows.clone();
    rows[2].poolinfo = Some("host=c1 port=5432".to_string());
    server.copy = Some(NodeCopy { group: 1, rows });
    server.run(comparing(&["c1", "w1", "x1"]));
    assert_eq!(server.steps, ["read", "read copies", "setpoolinfo at w1:5432"]);
}

#[test]
fn a_round_is_cut_short_only_when_its_rows_are_in() {
    let rows = vec![row(1, 0, "c1"), row(2, 1, "w1")];
    let (mut machine, _) = Machine::begin(round(&["c1", "w2"]), &Wish::default());
    assert!(!machine.is_in_tail());
    machine.answer(1, Answer::Rows(rows));
    assert!(!machine.is_in_tail(), "a transaction is open");
    for _ in 0..3 {
        machine.answer(2, Answer::Done);
    }
    assert_eq!(machine.answer(3, Answer::Done), Step::ResolveHere(Clearing::default()));
    assert!(machine.is_in_tail());
    let did = Did { repaired: true, settled: false, complete: false, resolved: false };
    assert_eq!(machine.interrupt(), Step::Over(Ended::Round(did)));
}

#[test]
fn a_round_ends_at_its_own_limit() {
    let limited = || Round { limit_ms: 1_500, ..round(&["c1", "w2"]) };
    let mut slow = Server { ms: 600, ..Server::new(&["c1", "w1"]) };
    let why = "the round was not done within 1500 ms".to_string();
    assert_eq!(slow.run(limited()), Ended::Failed(why));

    // Its rows are in: the next one has the rest to do.
    let mut stuck = Server { copies: false, pushes: false, ..Server::new(&["c1", "w1"]) };
    let did = Did { repaired: true, settled: false, complete: false, resolved: false };
    assert_eq!(stuck.run(limited()), Ended::Round(did));
    assert_eq!(stuck.primaries(), ["c1", "w2"]);
}
