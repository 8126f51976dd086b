//! Stage e: the other region's store freezes.
//!
//! A frozen store neither answers nor refuses. Before a move the preflight must
//! see it; during a move, before the certificate, the move must be given up
//! within a step's deadline. The owner serves all the time.

use super::formation::{Formation, LEASE, NORTH, SOON, SOUTH};
use super::guard::Guard;
use super::load::{Load, owner};
use super::moves;
use anyhow::{Context, Result, ensure};
use nix::sys::signal::Signal;
use std::time::{Duration, Instant};
use topology::region::Phase;

const STEP_SECONDS: u64 = 6;
/// A step's deadline, the restart of the old side and a slow machine.
const ABORT_MAX: Duration = Duration::from_secs(2 * STEP_SECONDS + 8);
/// Nothing stops while the store is only looked at.
const PAUSE_MAX: Duration = Duration::from_secs(3);

pub(crate) async fn a_silent_store_stops_no_writes(f: &mut Formation) -> Result<()> {
    moves::set_step_seconds(f, STEP_SECONDS).await?;
    let (load, guard) = (Load::start(f, "e").await?, Guard::start(f));
    f.signal_store(SOUTH, Signal::SIGSTOP)?;
    let refused = frozen_before_the_move(f, &load).await;
    f.signal_store(SOUTH, Signal::SIGCONT)?;
    refused?;
    f.healthy(SOUTH, LEASE).await?;
    let given_up = frozen_during_the_move(f, &load).await;
    f.let_stop();
    f.signal_store(SOUTH, Signal::SIGCONT)?;
    given_up?;
    f.healthy(SOUTH, LEASE).await?;
    f.healthy(NORTH, LEASE).await?;
    ensure!(owner(f).await? == NORTH, "north does not own the formation");
    guard.one_primary_each()?;
    load.settle(f, "e").await?;
    moves::set_step_seconds(f, 20).await
}

async fn frozen_before_the_move(f: &Formation, load: &Load) -> Result<()> {
    let since = Instant::now();
    for command in
        [&["region", "check", "--to", SOUTH][..], &["region", "switch", "--to", SOUTH, "--force"]]
    {
        let (done, said) = f.ctl(NORTH, command).await?;
        ensure!(!done && said.contains(SOUTH), "{command:?} was not refused: {said}");
    }
    // A request that bypasses the command line meets the agent's own preflight.
    let id = moves::ask(f, NORTH, SOUTH).await?;
    let journal = moves::end(f, NORTH, &id).await?;
    moves::must_be(&journal, Phase::Aborted)?;
    let why = journal.error.context("a reason")?;
    ensure!(why.contains(SOUTH) && why.contains("store"), "the reason is `{why}`");
    let stopped = journal.steps.iter().any(|step| step.phase == Phase::Stop);
    ensure!(!stopped, "groups were stopped although the store is frozen");
    load.goes_on(f, Instant::now()).await?;
    let pauses = load.pauses(since);
    println!("         frozen before the move: `{why}`; write pauses {pauses:.2?}");
    ensure!(pauses.iter().all(|pause| *pause < PAUSE_MAX), "clients waited {pauses:.2?}");
    Ok(())
}

async fn frozen_during_the_move(f: &mut Formation, load: &Load) -> Result<()> {
    f.hold_stops()?;
    let since = Instant::now();
    let id = moves::ask(f, NORTH, SOUTH).await?;
    moves::until(f, NORTH, &id, SOON, |journal| journal.phase == Phase::Stop).await?;
    f.signal_store(SOUTH, Signal::SIGSTOP)?;
    let frozen = Instant::now();
    f.let_stop();
    let journal = moves::end(f, NORTH, &id).await?;
    let took = frozen.elapsed();
    moves::must_be(&journal, Phase::Aborted)?;
    ensure!(took < ABORT_MAX, "given up only after {took:.1?}");
    load.goes_on(f, Instant::now()).await?;
    let why = journal.error.unwrap_or_default();
    println!("         frozen during the move: `{why}` after {took:.1?}");
    println!("         write pauses {:.2?}", load.pauses(since));
    Ok(())
}
