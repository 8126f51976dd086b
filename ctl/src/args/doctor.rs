//! Options of `doctor`.

use super::OneCluster;
use crate::output::Format;
use clap::Args;

#[derive(Clone, Debug, Default, Args)]
pub(crate) struct Doctor {
    #[command(flatten)]
    pub of: OneCluster,
    /// Output format
    #[arg(short = 'f', long, default_value = "pretty")]
    pub format: Format,
}
