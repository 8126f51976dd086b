//! Options of `demo`.

use clap::Args;
use std::path::PathBuf;

#[derive(Clone, Debug, Default, Args)]
pub(crate) struct Demo {
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
