//! Stage d: who drives a move, or takes part in it, dies in the middle.
//!
//! The next agent of the old owner goes on when the lease of the dead one has
//! run out: it finishes the move if that takes no longer than a step from then on, else it
//! gives the move up. Either way the formation is open in exactly one region.

use super::formation::{COORDINATOR, Formation, LEASE, NORTH, SOON, SOUTH, WORKER};
use super::guard::Guard;
use super::load::{Load, is_wired, owner};
use super::{moves, sql};
use anyhow::{Context, Result, ensure};
use ctl::field::MemberPlan;
use nix::sys::signal::Signal;
use std::time::Instant;
use topology::Group;
use topology::region::Phase;

pub(crate) async fn another_agent_goes_on(f: &mut Formation) -> Result<()> {
    moves::set_step_seconds(f, 60).await?;
    driver_dies_and_the_next_one_finishes(f).await?;
    moves::by_command(f, SOUTH, NORTH).await?;
    both_healthy(f).await?;
    moves::set_step_seconds(f, 6).await?;
    driver_dies_and_the_next_one_gives_up(f).await?;
    a_worker_dies_before_it_signs(f).await?;
    moves::set_step_seconds(f, 20).await
}

async fn both_healthy(f: &Formation) -> Result<()> {
    f.healthy(NORTH, LEASE).await?;
    f.healthy(SOUTH, LEASE).await
}

/// Waits until the move stops the groups and the coordinator has signed, while
/// the worker's servers are held back.
async fn until_only_the_worker_runs(f: &Formation, id: &str) -> Result<()> {
    moves::until(f, NORTH, id, SOON, |journal| journal.phase == Phase::Stop).await?;
    let signed = async || {
        let site = f.site(NORTH).await;
        site.is_ok_and(|site| site.topology.tokens_of(id).contains_key(&Group::COORDINATOR))
    };
    f.field.until("the coordinator's token", SOON, signed).await?;
    Ok(())
}

/// The agent of the coordinator's leader, killed without its PostgreSQL.
async fn kill_driver(f: &mut Formation) -> Result<MemberPlan> {
    let driver = f.agent(NORTH).await?;
    let leader = f.leader(NORTH, COORDINATOR).await?;
    ensure!(driver.name == leader.name, "{} is the agent, not the coordinator", driver.name);
    f.field.kill_daemon(&driver.name);
    Ok(driver)
}

async fn driver_dies_and_the_next_one_finishes(f: &mut Formation) -> Result<()> {
    let (load, guard) = (Load::start(f, "d1").await?, Guard::start(f));
    f.hold_stops()?;
    let id = moves::ask(f, NORTH, SOUTH).await?;
    until_only_the_worker_runs(f, &id).await?;
    let since = Instant::now();
    let driver = kill_driver(f).await?;
    f.let_stop();
    let journal = moves::end(f, NORTH, &id).await?;
    moves::must_be(&journal, Phase::Done)?;
    serves_only_in(f, &load, SOUTH).await?;
    println!("         driver killed at Stop: finished {:.1?} later", since.elapsed());
    println!("         {}", moves::timetable(&journal));
    come_back(f, &driver, guard).await?;
    load.settle(f, "d, finished").await
}

async fn driver_dies_and_the_next_one_gives_up(f: &mut Formation) -> Result<()> {
    let (load, guard) = (Load::start(f, "d2").await?, Guard::start(f));
    let slow = f.leader(SOUTH, COORDINATOR).await?;
    ensure!(f.field.signal_backends(&slow, "startup", Signal::SIGSTOP) == 1, "no startup process");
    let id = moves::ask(f, NORTH, SOUTH).await?;
    let caught = moves::until(f, NORTH, &id, SOON, |j| j.phase == Phase::CatchUp).await;
    let since = Instant::now();
    let driver = kill_driver(f).await?;
    // The new side replays nothing until the next driver has given up.
    let journal = moves::end(f, NORTH, &id).await;
    f.field.signal_backends(&slow, "startup", Signal::SIGCONT);
    caught?;
    let journal = journal?;
    moves::must_be(&journal, Phase::Aborted)?;
    serves_only_in(f, &load, NORTH).await?;
    println!("         driver killed at CatchUp: given up {:.1?} later", since.elapsed());
    come_back(f, &driver, guard).await?;
    load.settle(f, "d, given up").await
}

/// The worker's daemon and PostgreSQL die while the coordinator is down already.
/// Its client pauses first: replication is asynchronous, and what this test
/// counts is what the move loses.
async fn a_worker_dies_before_it_signs(f: &mut Formation) -> Result<()> {
    let (load, guard) = (Load::start(f, "d3").await?, Guard::start(f));
    f.hold_stops()?;
    let id = moves::ask(f, NORTH, SOUTH).await?;
    until_only_the_worker_runs(f, &id).await?;
    load.worker.stop().await;
    let victim = f.leader(NORTH, WORKER).await?;
    sql::until_replayed(f, &victim, &[&f.partner(&victim)]).await?;
    let since = Instant::now();
    f.field.kill_node(&victim);
    f.let_stop();
    let journal = moves::end(f, NORTH, &id).await?;
    moves::must_be(&journal, Phase::Aborted)?;
    let why = journal.error.as_deref().context("a reason")?;
    ensure!(why.contains("token") && why.contains('1'), "the reason is `{why}`");
    let again = Load::start_when_open(f, "d4").await?;
    serves_only_in(f, &again, NORTH).await?;
    println!("         worker killed at Stop: serves again {:.1?} later", since.elapsed());
    come_back(f, &victim, guard).await?;
    load.settle_stopped("d, worker").await?;
    again.settle(f, "d, after the worker").await
}

/// Clients go on, both stores agree, and no member of the other region is open.
async fn serves_only_in(f: &Formation, load: &Load, region: &str) -> Result<()> {
    load.goes_on(f, Instant::now()).await?;
    ensure!(owner(f).await? == region, "{region} does not own the formation");
    let wired = async || is_wired(f, region).await.unwrap_or(false);
    f.field.until("pg_dist_node names the open region", SOON, wired).await?;
    let other = if region == NORTH { SOUTH } else { NORTH };
    for member in f.members(other) {
        let open = sql::is_open(&member).await;
        ensure!(!open.unwrap_or(false), "{} is open in {other}", member.name);
    }
    Ok(())
}

async fn come_back(f: &mut Formation, member: &MemberPlan, guard: Guard) -> Result<()> {
    f.field.start_member(member)?;
    both_healthy(f).await?;
    guard.one_primary_each()
}
