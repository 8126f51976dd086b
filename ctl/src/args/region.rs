//! The commands below `region`, and their options.

use crate::output::Format;
use clap::{Args, Subcommand};

#[derive(Clone, Debug, Subcommand)]
pub(crate) enum Command {
    /// Show the regions: owner, epoch, groups, lag
    List(List),
    /// Look for what would hinder a switch
    Check(Check),
    /// Move the formation to another region, without losing a commit
    Switch(Switch),
    /// Show who owned the formation since when
    History(History),
}

#[derive(Clone, Debug, Default, Args)]
pub(crate) struct List {
    /// Output format
    #[arg(short = 'f', long, default_value = "pretty")]
    pub format: Format,
}

#[derive(Clone, Debug, Default, Args)]
pub(crate) struct Check {
    /// The region that is to own the formation
    #[arg(long, value_name = "REGION")]
    pub to: Option<String>,
    /// Output format
    #[arg(short = 'f', long, default_value = "pretty")]
    pub format: Format,
}

#[derive(Clone, Debug, Default, Args)]
pub(crate) struct Switch {
    /// The region that is to own the formation
    #[arg(long, value_name = "REGION")]
    pub to: String,
    /// Print the plan and change nothing
    #[arg(long)]
    pub dry_run: bool,
    /// Do not ask for confirmation at any point
    #[arg(long)]
    pub force: bool,
}

#[derive(Clone, Debug, Default, Args)]
pub(crate) struct History {
    /// Output format
    #[arg(short = 'f', long, default_value = "pretty")]
    pub format: Format,
}
