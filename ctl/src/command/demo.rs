//! `demo`: a formation of two regions on this machine, to try things out.

use crate::args::demo::Demo;
use anyhow::Result;

pub(crate) async fn run(args: Demo) -> Result<()> {
    let dir = std::path::absolute(&args.dir)?;
    let (keep, stop, stand_in) = (args.keep, args.stop, args.stand_in);
    let options = ctl::demo::Options { dir, keep, stop, stand_in };
    // The story lives on one thread; this one stays free for Ctrl-C.
    let runtime = tokio::runtime::Handle::current();
    tokio::task::spawn_blocking(move || runtime.block_on(ctl::demo::run(&options))).await?
}
