//! Moves that begin at a time, and moves that an operator takes back: two regions of one group.

use super::formation::{Formation, LEASE, NORTH, SOON, SOUTH};
use super::moves;
use anyhow::{Result, ensure};
use jiff::Timestamp;
use node::clock::unix_ms;
use topology::region::Phase;
use topology::schedule::{Outcome, Schedule};

const GROUP: Option<u32> = None;

/// The preflight of a move to the other region finds nothing.
async fn ready(f: &Formation, to: &str) -> Result<()> {
    let check = async || f.ctl(NORTH, &["region", "check", "--to", to]).await;
    let passes = async || check().await.is_ok_and(|(passed, _)| passed);
    let what = format!("a sound formation, before a move to {to}");
    if f.field.until(&what, LEASE, passes).await.is_err() {
        ensure!(false, "{what}: {}", check().await?.1);
    }
    Ok(())
}

async fn said(f: &Formation, args: &[&str]) -> Result<String> {
    let (done, said) = f.ctl(NORTH, args).await?;
    ensure!(done, "matriarchctl {} failed: {said}", args.join(" "));
    Ok(said)
}

async fn serves(f: &Formation, region: &str) -> Result<()> {
    let primary = async || {
        let members = f.site_members(region, GROUP);
        f.ask.primary(&members.iter().collect::<Vec<_>>()).await.is_some()
    };
    f.field.until(&format!("a primary in {region}"), LEASE, primary).await?;
    Ok(())
}

/// The newest schedule in a region's store.
async fn newest(f: &Formation, region: &str) -> Result<Option<Schedule>> {
    let schedules = f.site(region).await?.topology.schedules;
    Ok(schedules.into_values().max_by_key(|schedule| schedule.due_ms.unwrap_or(0)))
}

/// The server of the old side does not stop; the operator does not wait for the deadline.
pub(crate) async fn a_move_is_aborted_before_its_decision(f: &Formation) -> Result<()> {
    ready(f, SOUTH).await?;
    f.hold_stops()?;
    let id = moves::ask(f, NORTH, SOUTH).await?;
    moves::until(f, NORTH, &id, SOON, |journal| journal.phase == Phase::Stop).await?;
    let told = said(f, &["region", "abort", "--move", "--yes"]).await?;
    ensure!(told.contains("The move was given up, region north serves"), "{told}");
    f.let_stop();
    let journal = moves::end(f, NORTH, &id).await?;
    moves::must_be(&journal, Phase::Aborted)?;
    let why = journal.error.unwrap_or_default();
    ensure!(why.starts_with("an operator aborted it on host"), "{why}");
    serves(f, NORTH).await?;
    ensure!(f.site(NORTH).await?.topology.accepted_epoch() == 1, "the epoch has changed");
    let (done, told) = f.ctl(NORTH, &["region", "abort", "--yes"]).await?;
    ensure!(!done && told.contains("nothing to abort"), "{told}");
    Ok(())
}

pub(crate) async fn schedules_are_cancelled(f: &Formation) -> Result<()> {
    ready(f, SOUTH).await?;
    let cron = ["region", "switch", "--to", SOUTH, "--cron", "0 3 * * 0", "--yes"];
    let told = said(f, &cron).await?;
    ensure!(told.contains("is written to the stores of north, south"), "{told}");
    let told = said(f, &["region", "abort", "--yes"]).await?;
    ensure!(told.contains("is cancelled"), "{told}");
    let cancelled = async || {
        let known = newest(f, SOUTH).await.ok().flatten().and_then(|schedule| schedule.last);
        known.is_some_and(|last| matches!(last.outcome, Outcome::Cancelled(_)))
    };
    f.field.until("the other store to know", SOON, cancelled).await?;
    Ok(())
}

pub(crate) async fn a_move_begins_at_its_time(f: &Formation) -> Result<()> {
    ready(f, SOUTH).await?;
    let due_ms = unix_ms() / 1_000 * 1_000 + 10_000;
    let at = Timestamp::from_millisecond(i64::try_from(due_ms)?)?.to_string();
    said(f, &["region", "switch", "--to", SOUTH, "--at", &at, "--max-lag", "1MB", "--yes"]).await?;
    let told = said(f, &["region", "list"]).await?;
    ensure!(told.contains("from north to south at ") && told.contains("made on host"), "{told}");
    let moved = async || f.site(SOUTH).await.is_ok_and(|s| s.topology.accepted_epoch() == 2);
    f.field.until("the scheduled move", LEASE, moved).await?;
    let id = f.site(SOUTH).await?.topology.journal().map(|journal| journal.id.clone());
    let journal = moves::end(f, SOUTH, &id.unwrap_or_default()).await?;
    moves::must_be(&journal, Phase::Done)?;
    let began_ms = journal.steps.first().map_or(0, |step| step.at_ms);
    println!("         it began {} ms after its time", began_ms.saturating_sub(due_ms));
    ensure!((due_ms..due_ms + 5_000).contains(&began_ms), "due {due_ms}, began {began_ms}");
    serves(f, SOUTH).await?;
    for region in [NORTH, SOUTH] {
        let over = newest_over(f, region, due_ms).await?;
        ensure!(over == Some(Outcome::Started(journal.id.clone())), "{region}: {over:?}");
    }
    let told = said(f, &["region", "list"]).await?;
    ensure!(told.contains(&format!("started as move {}", journal.id)), "{told}");
    Ok(())
}

async fn newest_over(f: &Formation, region: &str, due_ms: u64) -> Result<Option<Outcome>> {
    let schedules = f.site(region).await?.topology.schedules.into_values();
    let mut ends = schedules.filter_map(|schedule| schedule.last);
    Ok(ends.find(|last| last.due_ms == due_ms).map(|last| last.outcome))
}
