//! One file a command; here is only which is which.

pub(crate) mod citus;
pub(crate) mod config;
pub(crate) mod demo;
pub(crate) mod dsn;
pub(crate) mod flush;
pub(crate) mod history;
pub(crate) mod list;
mod outcome;
pub(crate) mod pause;
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
use crate::world::World;
use anyhow::Result;

/// Runs the command of a command line.
pub(crate) async fn run(args: Args) -> Result<()> {
    match args.command {
        Command::Demo(demo) => demo::run(demo).await,
        Command::Version(version) if version.cluster.is_none() => version::own_only(),
        _ => {
            let mut world = World::open(&args)?;
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
        Command::Reload(args) => reload::run(world, &args).await,
        Command::Restart(args) => restart::run(world, args).await,
        Command::Reinit(args) => reinit::run(world, &args).await,
        Command::Flush(args) => flush::run(world, args).await,
        Command::Remove(args) => remove::run(world, &args).await,
        Command::Citus(command) => citus::run(world, command).await,
        Command::Region(command) => region::run(world, command).await,
        Command::Demo(demo) => demo::run(demo).await,
    }
}
