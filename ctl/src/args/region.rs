//! The commands below `region`, and their options.

use crate::output::Format;
use clap::{Args, Subcommand};
use topology::number::{self, Base};

#[derive(Clone, Debug, Subcommand)]
pub(crate) enum Command {
    /// Show the regions: owner, epoch, groups, lag
    List(List),
    /// Look for what would hinder a switch
    Check(Check),
    /// Move the formation to another region, now or later, without losing a commit
    Switch(Switch),
    /// Give up a move that is not decided yet, and cancel schedules
    Abort(Abort),
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
    /// Begin at this time: with its offset (RFC 3339), else in local time
    #[arg(long, value_name = "TIME", conflicts_with = "cron")]
    pub at: Option<String>,
    /// Begin again and again, by the five fields of a crontab
    #[arg(long, value_name = "LINE")]
    pub cron: Option<String>,
    /// Time zone of the cron line, such as Europe/Vienna; UTC if it is not given
    #[arg(long, value_name = "ZONE", requires = "cron")]
    pub timezone: Option<String>,
    /// How late a scheduled move may still begin; 10 if it is not given
    #[arg(long, value_name = "MINUTES", value_parser = clap::value_parser!(u64).range(1..=1440))]
    pub window: Option<u64>,
    /// Do not begin while a group is further behind, such as 512kB
    #[arg(long, value_name = "BYTES", value_parser = bytes)]
    pub max_lag: Option<u64>,
    /// Give the move up if writes are held for longer before it is decided
    #[arg(long, value_name = "SECONDS", value_parser = clap::value_parser!(u64).range(1..))]
    pub max_pause: Option<u64>,
    /// Print the plan and change nothing
    #[arg(long)]
    pub dry_run: bool,
    /// Do not ask for confirmation at any point
    #[arg(long, visible_alias = "yes")]
    pub force: bool,
}

#[derive(Clone, Debug, Default, Args)]
pub(crate) struct Abort {
    /// Cancel this schedule only
    #[arg(long, value_name = "ID", conflicts_with = "only_move")]
    pub schedule: Option<String>,
    /// Give up the running move only, and keep the schedules
    #[arg(long = "move")]
    pub only_move: bool,
    /// Do not ask for confirmation at any point
    #[arg(long, visible_alias = "yes")]
    pub force: bool,
}

/// `16MB`, with the units of PostgreSQL's settings.
fn bytes(text: &str) -> Result<u64, String> {
    let number = number::counted(&text.into(), Base::Bytes);
    let number = number.and_then(|number| u64::try_from(number).ok());
    number.ok_or_else(|| "give a number of B, kB, MB, GB or TB, such as 16MB".to_string())
}

#[derive(Clone, Debug, Default, Args)]
pub(crate) struct History {
    /// Output format
    #[arg(short = 'f', long, default_value = "pretty")]
    pub format: Format,
}
