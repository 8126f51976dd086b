//! Performs the steps of one round on `pg_dist_node` (`citus::registrar::round`).
//!
//! Invariant: no statement of a round that was cut short goes on: it would keep the locks
//! that others wait for.

use super::{CitusSession, Reach};
use citus::copies::{NodeCopy, pushed};
use citus::registrar::clearing::{Clearing, Resolve};
use citus::registrar::round::{Answer, Machine, Step, Told};
use citus::registrar::{Did, Ended, Round};
use citus::{Address, COORDINATOR_GROUP, Statement};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};
use tokio::sync::Notify;
use tokio::task::JoinSet;

/// One node's copy.
const COPY_WAIT: Duration = Duration::from_secs(2);
/// A statement that was cancelled is waited for.
const CANCEL_WAIT: Duration = Duration::from_secs(1);

/// A round under way, as seen from outside.
#[derive(Clone, Default)]
pub(crate) struct Cut {
    in_tail: Arc<AtomicBool>,
    asked: Arc<Notify>,
}

impl Cut {
    pub(crate) fn in_tail(&self) -> bool {
        self.in_tail.load(Ordering::Acquire)
    }

    pub(crate) fn ask(&self) {
        self.asked.notify_one();
    }
}

/// Brings the coordinator's rows in line with the groups of `round`, in every database.
pub(crate) async fn bring_about(reach: Reach, round: Round, cut: Cut) -> Ended {
    let mut all = Did { repaired: false, settled: true, complete: true, resolved: true };
    for reach in reach.of_each_database() {
        cut.in_tail.store(false, Ordering::Release);
        match in_database(reach, round.clone(), &cut).await {
            Ended::Round(did) => all = all.and(did),
            ended => return ended,
        }
    }
    Ended::Round(all)
}

async fn in_database(reach: Reach, round: Round, cut: &Cut) -> Ended {
    let session = match CitusSession::here(&reach).await {
        Ok(session) => session,
        Err(why) => return Ended::Failed(why),
    };
    let begun = Instant::now();
    let (mut machine, mut step) = Machine::begin(round, &reach.wish);
    loop {
        let performed = match step {
            Step::Over(ended) => return ended,
            step => perform(&reach, &session, step),
        };
        let left = Duration::from_millis(machine.left_ms(millis_since(begun)));
        tokio::pin!(performed);
        step = tokio::select! {
            answer = &mut performed => machine.answer(millis_since(begun), answer),
            () = cut.asked.notified(), if machine.is_in_tail() => {
                give_up(&session, performed).await;
                machine.interrupt()
            }
            () = tokio::time::sleep(left) => {
                give_up(&session, performed).await;
                machine.answer(millis_since(begun), Answer::Late)
            }
        };
        machine.take_told().into_iter().for_each(log);
        cut.in_tail.store(machine.is_in_tail(), Ordering::Release);
    }
}

async fn give_up(session: &CitusSession, performed: impl Future<Output = Answer>) {
    session.cancel().await;
    let _ = tokio::time::timeout(CANCEL_WAIT, performed).await;
}

fn millis_since(begun: Instant) -> u64 {
    u64::try_from(begun.elapsed().as_millis()).unwrap_or(u64::MAX)
}

fn log(told: Told) {
    match told {
        Told::Info(text) => tracing::info!("{text}"),
        Told::Warning(text) => crate::log::warn(&text),
    }
}

async fn perform(reach: &Reach, session: &CitusSession, step: Step) -> Answer {
    match step {
        Step::Read { after_ms } => {
            tokio::time::sleep(Duration::from_millis(after_ms)).await;
            rows(session).await
        }
        Step::Run(statement) => match session.run(&statement).await {
            Ok(_) => Answer::Done,
            Err(why) => Answer::Failed(why),
        },
        Step::Push(push) => match run_or_undo(session, &pushed(&push)).await {
            Ok(()) => Answer::Done,
            Err(why) => Answer::Failed(why),
        },
        Step::ResolveHere(first) => Answer::Resolved(resolve_here(session, &first).await),
        Step::ResolveAt(nodes) => Answer::Resolved(resolve_at(reach, nodes).await),
        Step::ReadCopies(leaders) => Answer::Copies(read_copies(reach, leaders).await),
        Step::RunAt(address, statement) => {
            let run = async { CitusSession::at(reach, &address).await?.run(&statement).await };
            run.await.map_or_else(Answer::Failed, |_| Answer::Done)
        }
        Step::Over(_) => Answer::Done,
    }
}

async fn rows(session: &CitusSession) -> Answer {
    session.rows().await.map_or_else(Answer::Failed, Answer::Rows)
}

/// A transaction that fails leaves the session as it was.
async fn run_or_undo(session: &CitusSession, steps: &[Statement]) -> Result<(), String> {
    let done = session.run_all(steps).await;
    if done.is_err() {
        let _ = session.run(&Statement::Rollback).await;
    }
    done
}

/// What fails here is left to the sessions' own ends.
async fn clear(session: &CitusSession, first: &Clearing, number: u32) {
    for statement in &first.ends {
        if let Err(why) = session.run(statement).await {
            tracing::warn!("sessions of a lost leader on group {number}: {why}");
        }
    }
    if let Err(why) = run_or_undo(session, &first.locks).await {
        tracing::warn!("group {number} has sessions that wait for a lost leader: {why}");
    }
}

async fn resolve_here(session: &CitusSession, first: &Clearing) -> bool {
    clear(session, first, COORDINATOR_GROUP).await;
    let done = session.run(&Statement::RecoverPrepared).await;
    if let Err(why) = &done {
        tracing::warn!("in-doubt transactions of the coordinator: {why}");
    }
    done.is_ok()
}

async fn resolve_at(reach: &Reach, nodes: BTreeMap<u32, Resolve>) -> bool {
    let mut workers = JoinSet::new();
    for (number, node) in nodes {
        let reach = reach.clone();
        workers.spawn(async move {
            let recovered = resolve_there(&reach, number, &node).await;
            if let Err(why) = &recovered {
                tracing::warn!("in-doubt transactions of group {number}: {why}");
            }
            recovered.is_ok()
        });
    }
    let mut all = true;
    while let Some(done) = workers.join_next().await {
        all &= done.unwrap_or(false);
    }
    all
}

async fn resolve_there(reach: &Reach, number: u32, node: &Resolve) -> Result<(), String> {
    let there = CitusSession::at(reach, &node.at).await?;
    clear(&there, &node.first, number).await;
    match node.recovers {
        true => there.run(&Statement::RecoverPrepared).await.map(drop),
        false => Ok(()),
    }
}

/// Of the nodes that answer in time.
async fn read_copies(reach: &Reach, leaders: BTreeMap<u32, Address>) -> BTreeMap<u32, NodeCopy> {
    let mut reading = JoinSet::new();
    for (number, leader) in leaders {
        let reach = reach.clone();
        reading.spawn(async move {
            let copy = async { CitusSession::at(&reach, &leader).await?.copy().await };
            let copy = tokio::time::timeout(COPY_WAIT, copy).await;
            (number, copy.unwrap_or_else(|_| Err(format!("no answer within {COPY_WAIT:?}"))))
        });
    }
    let mut copies = BTreeMap::new();
    while let Some(read) = reading.join_next().await {
        match read {
            Ok((number, Ok(copy))) => drop(copies.insert(number, copy)),
            Ok((number, Err(why))) => {
                tracing::warn!("the copy of pg_dist_node on group {number}: {why}");
            }
            Err(error) => tracing::error!("{error}"),
        }
    }
    copies
}
