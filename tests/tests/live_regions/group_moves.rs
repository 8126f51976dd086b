//! Stage b: leaders change within the owning region.
//!
//! `pg_dist_node` follows in the rows it has, and the other region's standby
//! leader streams from the new leader without a restart.

use super::formation::{COORDINATOR, Formation, LEASE, NORTH, SOON, SOUTH, WORKER};
use super::load::{Load, is_wired};
use super::sql;
use anyhow::{Context, Result, ensure};
use ctl::field::MemberPlan;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::json;
use std::time::{Duration, Instant};

pub(crate) async fn leaders_change_within_a_region(f: &mut Formation) -> Result<()> {
    let load = Load::start(f, "b").await?;
    switchover(f, &load, WORKER).await?;
    switchover(f, &load, COORDINATOR).await?;
    load.settle(f, "b, switchovers").await?;
    failover(f).await
}

/// What must not change when a leader does.
struct Before {
    rows: Vec<(i32, u32)>,
    standby: MemberPlan,
    standby_started: String,
}

impl Before {
    async fn of(f: &Formation, group: Option<u32>) -> Result<Before> {
        let standby = f.leader(SOUTH, group).await?;
        let standby_started = sql::started(&standby).await?;
        Ok(Before { rows: row_ids(f).await?, standby, standby_started })
    }

    async fn holds_still(&self, f: &Formation, leader: &MemberPlan) -> Result<()> {
        let wired = async || is_wired(f, NORTH).await.unwrap_or(false);
        f.field.until("pg_dist_node names the new leader", SOON, wired).await?;
        let rows = row_ids(f).await?;
        ensure!(rows == self.rows, "rows of pg_dist_node are new: {rows:?}, not {:?}", self.rows);
        let follows = async || {
            sql::streams_from(&self.standby).await.is_ok_and(|port| port == leader.pg_port)
        };
        let what = format!("{} streams from {}", self.standby.name, leader.name);
        let took = f.field.until(&what, SOON, follows).await?;
        println!("         {what} after {took:.1?}");
        let started = sql::started(&self.standby).await?;
        ensure!(started == self.standby_started, "{} was restarted", self.standby.name);
        f.healthy(NORTH, SOON).await?;
        f.healthy(SOUTH, SOON).await
    }
}

async fn row_ids(f: &Formation) -> Result<Vec<(i32, u32)>> {
    let rows = sql::nodes(&f.leader(NORTH, COORDINATOR).await?).await?;
    Ok(rows.into_iter().map(|(id, group, _)| (id, group)).collect())
}

async fn switchover(f: &Formation, load: &Load, group: Option<u32>) -> Result<()> {
    let before = Before::of(f, group).await?;
    let old = f.leader(NORTH, group).await?;
    let new = f.partner(&old);
    let since = Instant::now();
    let body = json!({"leader": old.name, "candidate": new.name});
    let reply = f.ask.send(reqwest::Method::POST, &old, "/switchover", Some(&body)).await;
    let reply = reply.context("no answer to /switchover")?;
    ensure!(reply.status == 200, "the switchover was refused: {reply:?}");
    until_primary(f, &new, SOON).await?;
    load.goes_on(f, Instant::now()).await?;
    println!("         switchover of group {group:?}: write pauses {:.2?}", load.pauses(since));
    before.holds_still(f, &new).await
}

/// `GET /primary` tells of the lock, which comes before the end of recovery.
async fn until_primary(f: &Formation, member: &MemberPlan, limit: Duration) -> Result<()> {
    let leads = async || sql::is_open(member).await.unwrap_or(false);
    f.field.until(&format!("{} is primary", member.name), limit, leads).await?;
    Ok(())
}

/// The postmaster dies while nothing is written, so that no row is in flight:
/// replication is asynchronous, and a standby region that got a row more than
/// the new leader would have to rewind.
async fn failover(f: &Formation) -> Result<()> {
    let before = Before::of(f, WORKER).await?;
    let old = f.leader(NORTH, WORKER).await?;
    let new = f.partner(&old);
    sql::until_replayed(f, &old, &[&new, &before.standby]).await?;
    let postmaster = f.field.postmaster_pid(&old).context("a postmaster")?;
    let since = Instant::now();
    kill(Pid::from_raw(postmaster), Signal::SIGKILL)?;
    until_primary(f, &new, LEASE).await?;
    println!("         the worker's postmaster killed: new primary after {:.1?}", since.elapsed());
    let load = Load::start(f, "b2").await?;
    before.holds_still(f, &new).await?;
    load.settle(f, "b, failover").await
}
