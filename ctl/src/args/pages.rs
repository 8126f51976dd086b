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
    /// The shell that reads it
    pub shell: clap_complete::Shell,
    /// Of this program
    #[arg(long, default_value = "matriarchctl")]
    pub program: Program,
}

#[derive(Clone, Debug, Args)]
pub(crate) struct Man {
    /// Where the pages are written; it is made if it is not there
    #[arg(value_name = "DIRECTORY")]
    pub dir: PathBuf,
}
