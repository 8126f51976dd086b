//! `demo`: a formation of two regions on this machine, to try things out.

use anyhow::Result;
use clap::Args;
use std::path::PathBuf;

#[derive(Clone, Debug, Default, Args)]
pub struct Demo {
    /// Where everything of the demo lies
    #[arg(long, default_value = ".demo", value_name = "DIRECTORY")]
    pub dir: PathBuf,
    /// Leave it running at the end
    #[arg(long)]
    pub keep: bool,
    /// Stop the demo that runs in the directory
    #[arg(long)]
    pub stop: bool,
    /// Use the SQL stand-in instead of the Citus extension
    #[arg(long)]
    pub stand_in: bool,
}

pub async fn run(args: Demo) -> Result<()> {
    let dir = std::path::absolute(&args.dir)?;
    let (keep, stop, stand_in) = (args.keep, args.stop, args.stand_in);
    let options = ctl::demo::Options { dir, keep, stop, stand_in };
    // The story lives on one thread; this one stays free for Ctrl-C.
    let runtime = tokio::runtime::Handle::current();
    tokio::task::spawn_blocking(move || runtime.block_on(ctl::demo::run(&options))).await?
}
