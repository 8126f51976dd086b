//! Options of `completion` and `man`.

use clap::{Args, ValueEnum};
use std::path::PathBuf;

/// What a completion or a page is of.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum Program {
    #[default]
    Matriarchctl,
    Matriarch,
}

#[derive(Clone, Debug, Args)]
pub(crate) struct Completion {
    /// Shell to print completions for
    pub shell: clap_complete::Shell,
    /// Program to complete
    #[arg(long, default_value = "matriarchctl")]
    pub program: Program,
}

#[derive(Clone, Debug, Args)]
pub(crate) struct Man {
    /// Directory for the pages; created if missing
    #[arg(value_name = "DIRECTORY")]
    pub dir: PathBuf,
}
