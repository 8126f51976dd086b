//! One round: the rows of the coordinator, their copies, and in-doubt transactions.

use super::{CitusSession, Reach};
use citus::registrar::{Did, Ended, Round};
use citus::{Address, NodeRow, Statement, Terms};
use std::collections::BTreeMap;
use std::time::{Duration, Instant};
use tokio::task::JoinSet;

/// The copies on the workers usually follow in a tenth of a second.
const DAEMON_WAIT: Duration = Duration::from_secs(1);
const PUSH_WAIT: Duration = Duration::from_secs(2);
const SYNC_PAUSE: Duration = Duration::from_millis(20);

/// Brings the coordinator's rows in line with the groups of `round`.
pub(crate) async fn bring_about(reach: Reach, round: Round) -> Ended {
    match round_of(&reach, &round).await {
        Ok(ended) => ended,
        Err(why) => Ended::Failed(why),
    }
}

async fn round_of(reach: &Reach, round: &Round) -> Result<Ended, String> {
    let session = CitusSession::here(reach).await?;
    let desired = reach.desired(&round.groups);
    let rows = session.rows().await?;
    let terms = Terms { cooldown_ms: round.cooldown_ms, ..Terms::default() };
    let plan = citus::diff(&desired, &rows, &terms);
    for blocked in &plan.blocked {
        crate::log::warn(&format!("pg_dist_node: {blocked}"));
    }
    session.run_all(&plan.transaction()).await?;
    let moved = !plan.in_one_transaction.is_empty();
    if moved {
        tracing::info!("pg_dist_node was brought up to date: {:?}", plan.in_one_transaction);
    }
    // The coordinator's own transactions need no copies: its clients wait for them.
    let mut resolved = true;
    if round.resolve && !round.opening {
        resolved = resolve_here(&session).await;
    }
    let synced = synchronise(&session, round).await;
    if let Err(why) = &synced {
        crate::log::warn(why);
    }
    if round.opening {
        synced.clone()?;
        resolved = resolve_here(&session).await;
    }
    if round.resolve {
        resolved &= resolve_elsewhere(reach, round).await;
    }
    let done = if synced.is_ok() { add_and_remove(&session, &plan.after).await } else { 0 };
    let settled = synced.is_ok() && plan.blocked.is_empty() && !plan.adds_primaries();
    Ok(Ended::Round(Did {
        repaired: moved || done > 0,
        settled,
        complete: settled && plan.after.is_empty(),
        resolved,
    }))
}

/// Rows that come and go, up to the first that Citus refuses: while a copy of the table is
/// out of reach, all of them are.
async fn add_and_remove(session: &CitusSession, statements: &[Statement]) -> usize {
    for (done, statement) in statements.iter().enumerate() {
        if let Err(why) = session.run(statement).await {
            crate::log::warn(&format!("pg_dist_node: {why}"));
            return done;
        }
        tracing::info!("pg_dist_node: {statement:?}");
    }
    statements.len()
}

/// The copies on the workers. The maintenance daemon was woken by the commit and
/// sends the changed rows only; a push sends the whole schema, so it comes second.
async fn synchronise(session: &CitusSession, round: &Round) -> Result<(), String> {
    if is_synchronised(session, round, DAEMON_WAIT).await? {
        return Ok(());
    }
    session.run(&Statement::SyncAllNodes).await?;
    match is_synchronised(session, round, PUSH_WAIT).await? {
        true => Ok(()),
        false => Err("copies of pg_dist_node on the workers are behind".to_string()),
    }
}

async fn is_synchronised(
    session: &CitusSession,
    round: &Round,
    wait: Duration,
) -> Result<bool, String> {
    let begun = Instant::now();
    loop {
        if !is_behind(&session.rows().await?, round) {
            return Ok(true);
        }
        if begun.elapsed() >= wait {
            return Ok(false);
        }
        tokio::time::sleep(SYNC_PAUSE).await;
    }
}

/// A copy on a group without a known leader cannot follow, and is not waited for.
fn is_behind(rows: &[NodeRow], round: &Round) -> bool {
    let led =
        |row: &&NodeRow| round.groups.get(&row.groupid).is_some_and(|group| group.leader.is_some());
    rows.iter().filter(led).any(NodeRow::is_unsynced)
}

async fn resolve_here(session: &CitusSession) -> bool {
    let done = session.run(&Statement::RecoverPrepared).await;
    if let Err(why) = &done {
        tracing::warn!("in-doubt transactions of the coordinator: {why}");
    }
    done.is_ok()
}

/// In-doubt transactions hold row locks until they are resolved; each node
/// resolves those of its own group only, so every node is asked, all at once.
async fn resolve_elsewhere(reach: &Reach, round: &Round) -> bool {
    let mut workers = JoinSet::new();
    for (number, leader) in leaders(reach, round) {
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

fn leaders(reach: &Reach, round: &Round) -> BTreeMap<u32, Address> {
    let others = round.groups.iter().filter(|(number, _)| **number != reach.own.group);
    others.filter_map(|(number, group)| Some((*number, group.leader.clone()?))).collect()
}
