//! The sessions that hold a group's writers while its leader changes.
//!
//! On the coordinator the group's row has a placeholder in an open transaction; on every
//! other metadata node the group's shards are locked. Dropping the sessions undoes both.
//! All sessions are open, and their transactions begun, before the first lock is asked for:
//! writers wait from then on.
//!
//! Invariant: the server ends each of these sessions by itself soon after the pause's
//! deadline, also when this daemon is frozen or its machine is cut off.

use super::{CitusSession, Reach};
use citus::handover::{self, PauseLimits, parted};
use citus::registrar::Hold;
use citus::{COORDINATOR_GROUP, Desired, Groups, NodeRow, Statement, Terms};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::task::JoinSet;

/// The sessions in every database.
pub(crate) struct HeldGroup(Vec<HeldDatabase>);

struct HeldDatabase {
    group: u32,
    reach: Reach,
    terms: Terms,
    here: CitusSession,
    /// As the session sees them: no other session can change them meanwhile.
    rows: Vec<NodeRow>,
    elsewhere: BTreeMap<u32, CitusSession>,
    /// How long the others may take to go on.
    go_on: Duration,
    since: Instant,
}

/// Opens the pause in all databases, or in none.
pub(crate) async fn open(reach: Reach, hold: Hold) -> Result<HeldGroup, String> {
    let mut opening = JoinSet::new();
    for reach in reach.of_each_database() {
        opening.spawn(open_in(reach, hold.clone()));
    }
    let mut held = Vec::new();
    while let Some(opened) = opening.join_next().await {
        held.push(opened.map_err(|error| error.to_string())??);
    }
    Ok(HeldGroup(held))
}

/// Opens it everywhere at once. A worker that cannot take part is passed by: its own clients
/// get errors, those of all others wait.
async fn open_in(reach: Reach, hold: Hold) -> Result<HeldDatabase, String> {
    let began = Instant::now();
    let here = CitusSession::here(&reach).await?;
    let rows = here.rows().await?;
    let limits = PauseLimits::of(&hold);
    let (cooldown_ms, pause_ms) = (hold.cooldown_ms, limits.server_ms);
    let terms = Terms { cooldown_ms, pause_ms, ..Terms::default() };
    let steps = handover::pause(&rows, hold.group, &terms).map_err(|why| why.to_string())?;
    let there = handover::pause_elsewhere(&rows, hold.group, &terms);
    let there = there.map_err(|why| why.to_string())?;
    let (steps, lock) = parted(&steps);
    begin(&here, steps, &hold, COORDINATOR_GROUP).await?;
    let (steps, lock_there) = parted(&there);
    let others = prepare_others(&reach, &hold, steps).await;
    let ready = began.elapsed();
    let limit = Duration::from_millis(limits.locks_ms);
    let locking = lock_all(here, lock, others, lock_there, limits.others_ms);
    let locked = tokio::time::timeout(limit, locking).await;
    let (here, rows, elsewhere) =
        locked.map_err(|_| format!("the locks of its shards were not free within {limit:?}"))??;
    let since = began + ready;
    tracing::info!(
        "the writers of group {} are held: sessions were ready after {ready:.0?}, locks {:.0?} later",
        hold.group,
        since.elapsed()
    );
    let go_on = Duration::from_millis(limits.go_on_ms);
    Ok(HeldDatabase { group: hold.group, reach, terms, here, rows, elsewhere, go_on, since })
}

/// Begins the transaction of a pause, if need be without resolving what is in doubt.
async fn begin(
    session: &CitusSession,
    steps: &[Statement],
    hold: &Hold,
    number: u32,
) -> Result<(), String> {
    let limits = PauseLimits::of(hold);
    let limit = Duration::from_millis(limits.begin_ms);
    let begun = tokio::time::timeout(limit, session.run_all(steps)).await;
    let Some(why) = begun.map_err(|_| format!("no answer within {limit:?}")).flatten().err() else {
        return Ok(());
    };
    tracing::warn!(
        "Citus on group {number} may look for transactions in doubt while the leader of group {} \
         changes: {why}",
        hold.group
    );
    let again = handover::begin_without_resolving(steps);
    let going_on = async {
        session.cancel().await;
        session.run_all(&again).await
    };
    let limit = Duration::from_millis(limits.begin_again_ms);
    let gone_on = tokio::time::timeout(limit, going_on).await;
    gone_on.map_err(|_| format!("the session did not go on within {limit:?}")).flatten()
}

/// Sessions with the other metadata nodes whose transactions have begun. What is not there
/// in time is given up.
async fn prepare_others(
    reach: &Reach,
    hold: &Hold,
    steps: &[Statement],
) -> BTreeMap<u32, CitusSession> {
    let mut preparing = JoinSet::new();
    for (number, leader) in hold.elsewhere.clone() {
        let (reach, steps, hold) = (reach.clone(), steps.to_vec(), hold.clone());
        preparing.spawn(async move {
            let prepared = async {
                let session = CitusSession::at(&reach, &leader).await?;
                // Also fills the caches of a session that is new.
                session.rows().await?;
                begin(&session, &steps, &hold, number).await.map(|()| session)
            };
            (number, prepared.await)
        });
    }
    within(PauseLimits::of(hold).others_ms, preparing).await
}

type Locked = (CitusSession, Vec<NodeRow>, BTreeMap<u32, CitusSession>);

async fn lock_all(
    here: CitusSession,
    lock: &[Statement],
    others: BTreeMap<u32, CitusSession>,
    lock_there: &[Statement],
    others_ms: u64,
) -> Result<Locked, String> {
    let mut locking = JoinSet::new();
    for (number, session) in others {
        let lock = lock_there.to_vec();
        locking.spawn(async move {
            let locked = session.run_all(&lock).await;
            (number, locked.map(|()| session))
        });
    }
    here.run_all(lock).await?;
    let rows = here.rows().await?;
    Ok((here, rows, within(others_ms, locking).await))
}

type Opening = JoinSet<(u32, Result<CitusSession, String>)>;

/// The sessions that are there in time; the others are dropped.
async fn within(limit_ms: u64, mut opening: Opening) -> BTreeMap<u32, CitusSession> {
    let mut opened = BTreeMap::new();
    let joining = async {
        while let Some(answer) = opening.join_next().await {
            match answer {
                Ok((number, Ok(session))) => drop(opened.insert(number, session)),
                Ok((number, Err(why))) => {
                    tracing::warn!("clients of group {number}'s leader are not held: {why}");
                }
                Err(error) => tracing::error!("{error}"),
            }
        }
    };
    if tokio::time::timeout(Duration::from_millis(limit_ms), joining).await.is_err() {
        tracing::warn!("the clients of some groups' leaders are not held in time");
    }
    opened
}

/// The first failure, after all have been tried.
pub(crate) async fn resume(held: HeldGroup, groups: Groups) -> Result<(), String> {
    let mut going = JoinSet::new();
    for database in held.0 {
        going.spawn(resume_in(database, groups.clone()));
    }
    let mut all = Ok(());
    while let Some(gone) = going.join_next().await {
        all = all.and(gone.map_err(|error| error.to_string()).flatten());
    }
    all
}

/// The group's row gets its new address, here and in the copies that are held: their
/// clients need not wait until the maintenance daemon has sent it.
async fn resume_in(held: HeldDatabase, groups: Groups) -> Result<(), String> {
    let began = Instant::now();
    let HeldDatabase { group, reach, terms, here, rows, elsewhere, go_on: limit, since } = held;
    let desired = Arc::new(reach.desired(&groups));
    let mut going = JoinSet::new();
    for (number, session) in elsewhere {
        let desired = desired.clone();
        going.spawn(async move {
            let gone = async {
                let rows = session.rows().await?;
                go_on(&session, &rows, &desired, group, &terms).await
            };
            (number, gone.await)
        });
    }
    let here = go_on(&here, &rows, &desired, group, &terms).await;
    tracing::info!(
        "the writers of group {group} go on after {:.0?}, {:.0?} of them for its row",
        since.elapsed(),
        began.elapsed()
    );
    let joining = async {
        while let Some(gone) = going.join_next().await {
            if let Ok((number, Err(why))) = gone {
                tracing::warn!("the copy of pg_dist_node on group {number}: {why}");
            }
        }
    };
    // The maintenance daemon sends the row to those that are slower.
    let _ = tokio::time::timeout(limit, joining).await;
    here
}

async fn go_on(
    session: &CitusSession,
    rows: &[NodeRow],
    desired: &Desired,
    group: u32,
    terms: &Terms,
) -> Result<(), String> {
    let steps = handover::resume(desired, rows, group, terms);
    session.run_all(&steps.ok_or("its leader is not known any more")?).await
}

/// Everything is as it was before.
pub(crate) async fn release(held: HeldGroup) {
    for database in held.0 {
        // A session that is gone has rolled back, and one that is closed does.
        let _ = database.here.run_all(&handover::release()).await;
        drop(database.elsewhere);
    }
}
