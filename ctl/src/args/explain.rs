//! Options of `explain` and `decisions`.

use super::Watch;
use crate::output::Format;
use clap::Args;

/// One member of a cluster.
#[derive(Clone, Debug, Default, Args)]
pub(crate) struct OneMember {
    /// Name of the member
    #[arg(value_name = "MEMBER_NAME")]
    pub member: String,
    /// Name of the cluster; the configured scope when not given
    #[arg(value_name = "CLUSTER_NAME")]
    pub cluster: Option<String>,
    /// Citus group
    #[arg(long, value_name = "INTEGER")]
    pub group: Option<u32>,
}

#[derive(Clone, Debug, Default, Args)]
pub(crate) struct Explain {
    #[command(flatten)]
    pub of: OneMember,
}

#[derive(Clone, Debug, Default, Args)]
pub(crate) struct Decisions {
    #[command(flatten)]
    pub of: OneMember,
    /// Output format
    #[arg(short = 'f', long, default_value = "pretty")]
    pub format: Format,
    #[command(flatten)]
    pub watch: Watch,
}
