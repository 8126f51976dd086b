//! `region`: which region owns the formation, and moving it.
//!
//! Every command needs the `topology` section of the configuration, which names the
//! regions' stores.

mod abort;
mod formation;
mod schedule;
mod show;
mod sites;
mod switch;
#[cfg(test)]
mod tests;
mod watch;

pub(crate) use formation::{Picture, draw, findings};
pub(super) use sites::servers;

use crate::args::region::{Check, Command};
use crate::output::render;
use crate::prompt::Terminal;
use crate::world::World;
use anyhow::{Result, bail};
use sites::{Regions, Sites};
use standby::switch::preflight::Level;
use topology::schedule::Limits;

pub(crate) async fn run(world: &mut World, command: Command) -> Result<()> {
    let regions = Regions::open(world, &world.scope(None)?)?;
    let sites = regions.read().await;
    let out = &mut world.terminal;
    match command {
        Command::List(args) => out.print(&render(&show::list(&regions, &sites), args.format)),
        Command::History(args) => out.print(&render(&show::history(&sites), args.format)),
        Command::Check(args) => check(out, &regions, &sites, &args).await,
        Command::Abort(args) => abort::run(out, &regions, &sites, &args).await,
        Command::Switch(args) => switch::run(out, &regions, &sites, &args).await,
    }
}

async fn check(out: &mut Terminal, regions: &Regions, sites: &Sites, args: &Check) -> Result<()> {
    let plan = sites.plan(args.to.as_deref(), regions)?;
    let mut found = regions.examine(sites, &plan, &Limits::default()).await?;
    let (scene, notes) = formation::look(regions, sites).await;
    notes.iter().try_for_each(|note| out.note(note))?;
    found.extend(formation::remarks(&scene, &plan));
    out.print(&render(&show::findings(&found), args.format))?;
    match found.iter().filter(|f| f.level == Level::Error).count() {
        0 => Ok(()),
        count => bail!("{count} findings hinder a switch to region {}", plan.to),
    }
}
