//! Stage a: a new formation has one owner, and the other region follows it.

use super::formation::{COORDINATOR, Formation, GROUPS, LEASE, NORTH, SOON, SOUTH, WORKER};
use super::load::{Load, is_wired, owner};
use super::sql;
use anyhow::{Context, Result, ensure};

pub(crate) async fn first_owner_and_standby_region(f: &mut Formation) -> Result<()> {
    f.healthy(NORTH, LEASE).await?;
    f.healthy(SOUTH, LEASE).await?;
    the_first_certificate_is_in_both_stores(f).await?;
    the_standby_region_cascades(f).await?;
    let wired = async || is_wired(f, NORTH).await.unwrap_or(false);
    f.field.until("both groups in pg_dist_node", SOON, wired).await?;
    let load = Load::start(f, "a").await?;
    load.settle(f, "a").await?;
    if !f.field.plan.stand_in {
        rows_land_on_the_worker(f).await?;
    }
    Ok(())
}

async fn the_first_certificate_is_in_both_stores(f: &Formation) -> Result<()> {
    let passed_on = async || owner(f).await.is_ok_and(|owner| owner == NORTH);
    f.field.until("the first certificate in both stores", SOON, passed_on).await?;
    for region in [NORTH, SOUTH] {
        let topology = f.site(region).await?.topology;
        let held = topology.certificate().context("a certificate")?;
        ensure!(held.epoch == 1, "{region} holds epoch {}", held.epoch);
        ensure!(topology.accepted() == Some(held), "{region} has another vote");
    }
    Ok(())
}

/// One member of each standby group streams from the owner, the other from it.
async fn the_standby_region_cascades(f: &Formation) -> Result<()> {
    for group in GROUPS {
        let (primary, standby) = (f.leader(NORTH, group).await?, f.leader(SOUTH, group).await?);
        let replica = f.partner(&standby);
        let ports = (sql::streams_from(&standby).await?, sql::streams_from(&replica).await?);
        let wanted = (primary.pg_port, standby.pg_port);
        ensure!(ports == wanted, "group {group:?} streams from {ports:?}, not {wanted:?}");
    }
    Ok(())
}

async fn rows_land_on_the_worker(f: &Formation) -> Result<()> {
    let coordinator = f.leader(NORTH, COORDINATOR).await?;
    let worker = f.leader(NORTH, WORKER).await?;
    let count = sql::text(&coordinator, "SELECT count(*)::text FROM orders_a").await?;
    let placed = format!(
        "SELECT coalesce(sum(result::int8), 0)::text FROM \
         run_command_on_placements('orders_a', 'SELECT count(*) FROM %s') WHERE nodeport = {}",
        worker.pg_port
    );
    let there = sql::text(&coordinator, &placed).await?;
    ensure!(there == count && count != "0", "{count} rows, {there} of them on the worker");
    Ok(())
}
