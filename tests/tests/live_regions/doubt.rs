//! Stage f: what a region may not open on.
//!
//! After a cold start a region that owned the formation may have been replaced
//! meanwhile: it opens only when another register was read. A certificate or a
//! vote that cannot be read is never opened on either.

use super::formation::{Formation, GROUPS, LEASE, NORTH, SOUTH};
use super::load::{Load, owner};
use super::{moves, sql};
use anyhow::{Result, ensure};
use std::time::{Duration, Instant};

/// Long enough for several beats of every daemon.
const WATCHED: Duration = Duration::from_secs(6);

pub(crate) async fn nothing_opens_in_doubt(f: &mut Formation) -> Result<()> {
    let load = Load::start(f, "f").await?;
    load.settle(f, "f").await?;
    cold_start_without_the_other_store(f).await?;
    unreadable_keys(f).await?;
    f.healthy(NORTH, LEASE).await?;
    f.healthy(SOUTH, LEASE).await?;
    let load = Load::start(f, "f2").await?;
    load.settle(f, "f, afterwards").await
}

async fn cold_start_without_the_other_store(f: &mut Formation) -> Result<()> {
    f.stop_daemons(SOUTH)?;
    f.stop_daemons(NORTH)?;
    f.stop_store(SOUTH)?;
    until_the_mark_is_gone(f).await?;
    f.mark_logs();
    f.start_daemons(NORTH)?;
    f.until_logged(&f.members(NORTH), &["topology/verified", "does not confirm"]).await?;
    f.until_logged(&f.members(NORTH), &["unread", SOUTH]).await?;
    stays_closed(f).await?;
    let since = Instant::now();
    f.start_store(SOUTH)?;
    opens(f).await?;
    println!("         cold start: open {:.1?} after the other store is back", since.elapsed());
    f.start_daemons(SOUTH)?;
    f.healthy(SOUTH, LEASE).await
}

/// The certificate alone is restored from the own vote; with the vote damaged as
/// well, only an operator can say that it may be fetched from the other region.
async fn unreadable_keys(f: &mut Formation) -> Result<()> {
    f.stop_daemons(NORTH)?;
    moves::put(f, NORTH, "register", "no vote".into()).await?;
    moves::put(f, NORTH, "certificate", "no certificate".into()).await?;
    until_the_mark_is_gone(f).await?;
    f.mark_logs();
    f.start_daemons(NORTH)?;
    f.until_logged(&f.members(NORTH), &["`topology/certificate` cannot be read"]).await?;
    f.until_logged(&f.members(NORTH), &["`topology/register` cannot be read"]).await?;
    stays_closed(f).await?;
    moves::delete(f, NORTH, &["register", "certificate"]).await?;
    opens(f).await
}

/// The confirmation of the epoch hangs on the lease of an agent that is gone.
async fn until_the_mark_is_gone(f: &Formation) -> Result<()> {
    let gone = async || f.site(NORTH).await.is_ok_and(|site| site.topology.verified.is_none());
    f.field.until("the end of `topology/verified`", LEASE, gone).await?;
    Ok(())
}

async fn stays_closed(f: &Formation) -> Result<()> {
    let until = Instant::now() + WATCHED;
    while Instant::now() < until {
        for member in f.members(NORTH) {
            let open = sql::is_open(&member).await.unwrap_or(false);
            ensure!(!open, "{} opened in doubt", member.name);
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    for group in GROUPS {
        let leader = f.leader(NORTH, group).await?;
        ensure!(sql::is_open(&leader).await.is_ok(), "{} serves no reads", leader.name);
    }
    Ok(())
}

async fn opens(f: &Formation) -> Result<()> {
    for group in GROUPS {
        let open = async || match f.leader(NORTH, group).await {
            Ok(leader) => sql::is_open(&leader).await.unwrap_or(false),
            Err(_) => false,
        };
        f.field.until(&format!("group {group:?} opens"), LEASE, open).await?;
    }
    ensure!(owner(f).await? == NORTH, "north does not own the formation");
    Ok(())
}
