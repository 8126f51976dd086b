//! The sessions that hold a group's writers while its leader changes.
//!
//! On the coordinator the group's row has a placeholder in an open transaction; on every
//! other metadata node the group's shards are locked. Dropping the sessions undoes both.
//!
//! Invariant: the server ends each of these sessions by itself soon after the pause's
//! deadline, also when this daemon is frozen or its machine is cut off.

use super::{CitusSession, Reach};
use citus::registrar::Hold;
use citus::{Desired, Groups, Terms, handover};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;
use tokio::task::JoinSet;

/// What the locks may take beyond the cooldown, after which their holders are ended.
const MARGIN_MS: u64 = 1_000;
/// The other metadata nodes get this time once the coordinator holds its writers, which wait
/// meanwhile.
const OTHERS_OPEN: Duration = Duration::from_secs(1);
/// And this one to go on, before the pause counts as over.
const OTHERS_GO_ON: Duration = Duration::from_secs(2);

pub(crate) struct HeldGroup {
    pub(crate) group: u32,
    terms: Terms,
    here: CitusSession,
    elsewhere: BTreeMap<u32, CitusSession>,
}

/// Opens the pause everywhere at once. A worker that cannot take part is passed by: its
/// own clients get errors, those of all others wait.
pub(crate) async fn open(reach: Reach, hold: Hold) -> Result<HeldGroup, String> {
    let limit = Duration::from_millis(u64::from(hold.cooldown_ms.unsigned_abs()) + MARGIN_MS);
    let opening = open_all(reach, hold);
    let opened = tokio::time::timeout(limit, opening).await;
    opened.map_err(|_| format!("the locks of its shards were not free within {limit:?}"))?
}

async fn open_all(reach: Reach, hold: Hold) -> Result<HeldGroup, String> {
    let here = CitusSession::here(&reach).await?;
    let rows = here.rows().await?;
    let limit_ms = u32::try_from(hold.limit_ms + MARGIN_MS).unwrap_or(u32::MAX);
    let terms = Terms { cooldown_ms: hold.cooldown_ms, pause_ms: limit_ms, ..Terms::default() };
    let steps = handover::pause(&rows, hold.group, &terms).map_err(|why| why.to_string())?;
    let there = handover::pause_elsewhere(&rows, hold.group, &terms);
    let there = there.map_err(|why| why.to_string())?;
    let mut opening = JoinSet::new();
    for (number, leader) in hold.elsewhere {
        let (reach, steps) = (reach.clone(), there.clone());
        opening.spawn(async move {
            let opened = async {
                let session = CitusSession::at(&reach, &leader).await?;
                session.run_all(&steps).await.map(|()| session)
            };
            (number, opened.await)
        });
    }
    here.run_all(&steps).await?;
    let mut elsewhere = BTreeMap::new();
    let joining = async {
        while let Some(opened) = opening.join_next().await {
            match opened {
                Ok((number, Ok(session))) => drop(elsewhere.insert(number, session)),
                Ok((number, Err(why))) => {
                    tracing::warn!("clients of group {number}'s leader are not held: {why}");
                }
                Err(error) => tracing::error!("{error}"),
            }
        }
    };
    // What is not there by then is given up with its session.
    if tokio::time::timeout(OTHERS_OPEN, joining).await.is_err() {
        tracing::warn!("the clients of some groups' leaders are not held in time");
    }
    Ok(HeldGroup { group: hold.group, terms, here, elsewhere })
}

/// The group's row gets its new address, here and in the copies that are held: their
/// clients need not wait until the maintenance daemon has sent it.
pub(crate) async fn resume(reach: Reach, held: HeldGroup, groups: Groups) -> Result<(), String> {
    let desired = Arc::new(reach.desired(&groups));
    let HeldGroup { group, terms, here, elsewhere } = held;
    let mut going = JoinSet::new();
    for (number, session) in elsewhere {
        let desired = desired.clone();
        going.spawn(async move { (number, go_on(&session, &desired, group, &terms).await) });
    }
    let here = go_on(&here, &desired, group, &terms).await;
    let joining = async {
        while let Some(gone) = going.join_next().await {
            if let Ok((number, Err(why))) = gone {
                tracing::warn!("the copy of pg_dist_node on group {number}: {why}");
            }
        }
    };
    // The maintenance daemon sends the row to those that are slower.
    let _ = tokio::time::timeout(OTHERS_GO_ON, joining).await;
    here
}

async fn go_on(
    session: &CitusSession,
    desired: &Desired,
    group: u32,
    terms: &Terms,
) -> Result<(), String> {
    let rows = session.rows().await?;
    let steps = handover::resume(desired, &rows, group, terms);
    session.run_all(&steps.ok_or("its leader is not known any more")?).await
}

/// Everything is as it was before.
pub(crate) async fn release(held: HeldGroup) {
    // A session that is gone has rolled back, and one that is closed does.
    let _ = held.here.run_all(&handover::release()).await;
    drop(held.elsewhere);
}
