//! Performs the steps of one round on `pg_dist_node` (`citus::registrar::round`).

use super::{CitusSession, Reach};
use citus::registrar::round::{Answer, Machine, Step, Told};
use citus::registrar::{Ended, Round};
use citus::{Address, Statement};
use std::collections::BTreeMap;
use std::time::{Duration, Instant};
use tokio::task::JoinSet;

/// Brings the coordinator's rows in line with the groups of `round`.
pub(crate) async fn bring_about(reach: Reach, round: Round) -> Ended {
    let session = match CitusSession::here(&reach).await {
        Ok(session) => session,
        Err(why) => return Ended::Failed(why),
    };
    let begun = Instant::now();
    let (mut machine, mut step) = Machine::begin(round, &reach.wish);
    loop {
        let answer = match step {
            Step::Over(ended) => return ended,
            step => perform(&reach, &session, step).await,
        };
        step = machine.answer(millis_since(begun), answer);
        machine.take_told().into_iter().for_each(log);
    }
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
        Step::ResolveHere => Answer::Resolved(resolve_here(session).await),
        Step::ResolveAt(leaders) => Answer::Resolved(resolve_at(reach, leaders).await),
        Step::Over(_) => Answer::Done,
    }
}

async fn rows(session: &CitusSession) -> Answer {
    session.rows().await.map_or_else(Answer::Failed, Answer::Rows)
}

async fn resolve_here(session: &CitusSession) -> bool {
    let done = session.run(&Statement::RecoverPrepared).await;
    if let Err(why) = &done {
        tracing::warn!("in-doubt transactions of the coordinator: {why}");
    }
    done.is_ok()
}

async fn resolve_at(reach: &Reach, leaders: BTreeMap<u32, Address>) -> bool {
    let mut workers = JoinSet::new();
    for (number, leader) in leaders {
        let reach = reach.clone();
        workers.spawn(async move {
            let recovered = match CitusSession::at(&reach, &leader).await {
                Ok(there) => there.run(&Statement::RecoverPrepared).await.map(drop),
                Err(why) => Err(why),
            };
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
