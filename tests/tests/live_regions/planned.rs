//! Stage c: a planned move under load, there and back.

use super::formation::{COORDINATOR, Formation, GROUPS, LEASE, NORTH, SOON, SOUTH};
use super::guard::Guard;
use super::load::{Load, is_wired};
use super::{moves, sql};
use anyhow::{Context, Result, ensure};
use std::collections::BTreeMap;
use std::os::unix::fs::MetadataExt;
use std::time::{Duration, Instant};

/// In a debug build on two shared cores; the product's own limit is lower.
const PAUSE_MAX: Duration = Duration::from_secs(5);

pub(crate) async fn there_and_back_under_load(f: &mut Formation) -> Result<()> {
    let (load, guard) = (Load::start(f, "c").await?, Guard::start(f));
    switch(f, &load, NORTH, SOUTH).await?;
    switch(f, &load, SOUTH, NORTH).await?;
    guard.one_primary_each()?;
    load.settle(f, "c").await
}

async fn switch(f: &mut Formation, load: &Load, from: &str, to: &str) -> Result<()> {
    f.healthy(from, LEASE).await?;
    f.healthy(to, LEASE).await?;
    f.mark_logs();
    let data = directories(f, from)?;
    let since = Instant::now();
    let journal = moves::by_command(f, from, to).await?;
    load.goes_on(f, Instant::now()).await?;
    let pauses = load.pauses(since);
    println!("         {from} to {to}: write pauses {pauses:.2?}");
    println!("         {}", moves::timetable(&journal));
    ensure!(pauses.iter().all(|pause| *pause < PAUSE_MAX), "too long: {pauses:?}");
    the_new_side_serves(f, to).await?;
    the_old_side_follows(f, from, to, &data).await
}

async fn the_new_side_serves(f: &Formation, to: &str) -> Result<()> {
    ensure!(is_wired(f, to).await?, "pg_dist_node does not name {to}");
    for group in GROUPS {
        let leader = f.leader(to, group).await?;
        let read_only = sql::text(&leader, "SHOW default_transaction_read_only").await?;
        ensure!(read_only == "off", "{} is still in quarantine", leader.name);
    }
    if !f.field.plan.stand_in {
        let coordinator = f.leader(to, COORDINATOR).await?;
        let factor = "SHOW citus.distributed_deadlock_detection_factor";
        let factor = sql::text(&coordinator, factor).await?;
        ensure!(factor != "-1", "detection of distributed deadlocks is still off");
    }
    let undecided = async || nothing_is_prepared(f, to).await.unwrap_or(false);
    f.field.until("the end of old prepared transactions", SOON, undecided).await?;
    Ok(())
}

/// A prepared transaction of the running load lives for milliseconds; one that
/// the move left behind would stay.
async fn nothing_is_prepared(f: &Formation, region: &str) -> Result<bool> {
    let old = "SELECT count(*)::text FROM pg_prepared_xacts \
               WHERE gid LIKE 'citus_%' AND prepared < now() - interval '500 ms'";
    for group in GROUPS {
        if sql::text(&f.leader(region, group).await?, old).await? != "0" {
            return Ok(false);
        }
    }
    Ok(true)
}

async fn the_old_side_follows(
    f: &Formation,
    from: &str,
    to: &str,
    data: &BTreeMap<String, u64>,
) -> Result<()> {
    f.healthy(from, SOON).await?;
    for group in GROUPS {
        let (standby, primary) = (f.leader(from, group).await?, f.leader(to, group).await?);
        let port = sql::streams_from(&standby).await?;
        ensure!(port == primary.pg_port, "{} streams from port {port}", standby.name);
    }
    ensure!(&directories(f, from)? == data, "a data directory of {from} was made anew");
    for member in f.members(from) {
        let log = f.logged(&member.name);
        let rewound = log.lines().find(|l| l.contains("rule 650") || l.contains("rewind"));
        ensure!(rewound.is_none(), "{} was rewound: {rewound:?}", member.name);
    }
    Ok(())
}

/// What a data directory cannot keep when it is made anew.
fn directories(f: &Formation, region: &str) -> Result<BTreeMap<String, u64>> {
    let inode = |name: &str, path: std::path::PathBuf| -> Result<(String, u64)> {
        let found = std::fs::metadata(path.join("base")).context(name.to_string())?;
        Ok((name.to_string(), found.ino()))
    };
    f.members(region).iter().map(|m| inode(&m.name, f.field.data_dir(m))).collect()
}
