//! One file a command; here is only which is which.

pub(crate) mod citus;
pub(crate) mod config;
pub(crate) mod demo;
pub(crate) mod doctor;
pub(crate) mod dsn;
pub(crate) mod explain;
pub(crate) mod flush;
pub(crate) mod history;
pub(crate) mod list;
mod outcome;
mod pages;
pub(crate) mod pause;
mod query;
pub(crate) mod region;
pub(crate) mod reinit;
pub(crate) mod reload;
pub(crate) mod remove;
pub(crate) mod restart;
pub(crate) mod select;
pub(crate) mod slots;
mod standby;
mod switchover;
pub(crate) mod version;

use crate::args::{Args, Command};
use crate::world::{self, World};
use anyhow::Result;

pub(crate) use outcome::Found;

/// Runs the command of a command line.
pub(crate) async fn run(args: Args) -> Result<()> {
    match args.command {
        Command::Demo(demo) => demo::run(demo).await,
        Command::Completion(args) => pages::completion(&mut world::screen(), &args),
        Command::Man(args) => pages::man(&mut world::screen(), &args),
        Command::Version(version) if version.cluster.is_none() => version::own_only(),
        _ => {
            let mut world = World::open(&args.place)?;
            dispatch(&mut world, args.command).await
        }
    }
}

async fn dispatch(world: &mut World, command: Command) -> Result<()> {
    match command {
        Command::List(args) => list::run(world, &args.into()).await,
        Command::Topology(args) => list::run(world, &args.into()).await,
        Command::Slots(args) => slots::run(world, &args).await,
        Command::Switchover(args) => switchover::run(world, args.into()).await,
        Command::Failover(args) => switchover::run(world, args.into()).await,
        Command::ShowConfig(args) => config::show(world, &args).await,
        Command::EditConfig(args) => config::edit(world, &args).await,
        Command::Pause(args) => pause::pause(world, &args).await,
        Command::Resume(args) => pause::resume(world, &args).await,
        Command::DemoteCluster(args) => standby::demote(world, &args).await,
        Command::PromoteCluster(args) => standby::promote(world, &args).await,
        Command::History(args) => history::run(world, &args).await,
        Command::Dsn(args) => dsn::run(world, &args).await,
        Command::Version(args) => version::run(world, &args).await,
        Command::Doctor(args) => doctor::run(world, &args).await,
        Command::Explain(args) => explain::explain(world, &args).await,
        Command::Decisions(args) => explain::decisions(world, &args).await,
        Command::Query(args) => query::run(world, &args).await,
        Command::Reload(args) => reload::run(world, &args).await,
        Command::Restart(args) => restart::run(world, args).await,
        Command::Reinit(args) => reinit::run(world, &args).await,
        Command::Flush(args) => flush::run(world, args).await,
        Command::Remove(args) => remove::run(world, &args).await,
        Command::Citus(command) => citus::run(world, command).await,
        Command::Region(command) => region::run(world, command).await,
        Command::Demo(demo) => demo::run(demo).await,
        Command::Completion(args) => pages::completion(&mut world.terminal, &args),
        Command::Man(args) => pages::man(&mut world.terminal, &args),
    }
}

#[cfg(test)]
mod exit_tests;
