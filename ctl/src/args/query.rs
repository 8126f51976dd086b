//! Options of `query`.
//!
//! Behind this command `-c` and `-d` are the SQL and the database, as scripts write them; the
//! configuration file and the store are named before it, or by their long options.

use super::{OneCluster, RoleFilter, Watch};
use crate::output::Format;
use clap::Args;

#[derive(Clone, Debug, Default, Args)]
pub(crate) struct Query {
    #[command(flatten)]
    pub of: OneCluster,
    /// Output format
    #[arg(long, default_value = "tsv")]
    pub format: Format,
    /// Execute the SQL commands from this file. Use - for stdin
    #[arg(short = 'f', long, value_name = "FILENAME", value_parser = readable)]
    pub file: Option<String>,
    /// Ask for the password of the database user
    #[arg(long)]
    pub password: bool,
    /// Database user; PGUSER, else the user of this process when not given
    #[arg(short = 'U', long, value_name = "TEXT")]
    pub username: Option<String>,
    #[command(flatten)]
    pub watch: Watch,
    /// Ask a member with this role; the leader when neither role nor member is given
    #[arg(short = 'r', long)]
    pub role: Option<RoleFilter>,
    /// Ask this member
    #[arg(short = 'm', long, value_name = "TEXT")]
    pub member: Option<String>,
    /// What separates columns in the format tsv
    #[arg(long, default_value = "\t", hide_default_value = true, value_name = "TEXT")]
    pub delimiter: String,
    /// The SQL commands to execute
    #[arg(short = 'c', long, value_name = "TEXT")]
    pub command: Option<String>,
    /// Database to connect to; the one that the member names when not given
    #[arg(short = 'd', long, value_name = "TEXT")]
    pub dbname: Option<String>,
}

/// A file that is not there is a wrong command line.
fn readable(path: &str) -> Result<String, String> {
    match path {
        "-" => Ok(path.to_string()),
        path => std::fs::File::open(path).map(|_| path.to_string()).map_err(|why| why.to_string()),
    }
}
