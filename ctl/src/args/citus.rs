//! The commands below `citus`, and their options.

use crate::output::Format;
use clap::{Args, Subcommand};

#[derive(Clone, Debug, Subcommand)]
pub(crate) enum Command {
    /// Show the coordinator's `pg_dist_node`
    Nodes(Look),
    /// Compare `pg_dist_node` with the leaders of all groups
    Check(Look),
    /// Move all shards off a group of workers and take it out of the formation
    RemoveGroup(RemoveGroup),
}

#[derive(Clone, Debug, Default, Args)]
pub(crate) struct Look {
    /// Name of the cluster; the configured scope when not given
    #[arg(value_name = "CLUSTER_NAME")]
    pub cluster: Option<String>,
    /// Output format
    #[arg(short = 'f', long, default_value = "pretty")]
    pub format: Format,
}

#[derive(Clone, Debug, Args)]
pub(crate) struct RemoveGroup {
    /// Number of the group
    #[arg(value_name = "GROUP")]
    pub group: u32,
    /// Name of the cluster; the configured scope when not given
    #[arg(value_name = "CLUSTER_NAME")]
    pub cluster: Option<String>,
}
