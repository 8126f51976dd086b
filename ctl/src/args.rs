//! The command line: every command, option and default.
//!
//! Names, letters and environment variables are those that scripts already
//! use; what only this tool has (`region`, `citus`, `demo`) comes last.

pub(crate) mod citus;
pub(crate) mod demo;
pub(crate) mod doctor;
mod examples;
pub(crate) mod explain;
pub(crate) mod pages;
mod query;
pub(crate) mod region;
mod whole;

pub(crate) use query::Query;
pub(crate) use whole::whole;

use crate::output::Format;
use clap::{Args as ClapArgs, Parser, Subcommand, ValueEnum};
use std::path::PathBuf;
use topology::{GroupView, MemberName, MemberRole};

/// Command-line interface for interacting with a formation.
#[derive(Debug, Parser)]
#[command(name = "matriarchctl", disable_version_flag = true)]
pub(crate) struct Args {
    #[command(flatten)]
    pub place: Place,
    #[command(subcommand)]
    pub command: Command,
}

/// Where the cluster is found. `whole` lets these options stand behind a command, too.
#[derive(Clone, Debug, Default, ClapArgs)]
pub(crate) struct Place {
    /// Configuration file
    #[arg(short = 'c', long, env = "PATRONICTL_CONFIG_FILE", value_name = "TEXT")]
    pub config_file: Option<PathBuf>,
    /// The DCS connect url
    #[arg(
        short = 'd',
        long = "dcs-url",
        visible_alias = "dcs",
        env = "DCS_URL",
        value_name = "TEXT"
    )]
    pub dcs_url: Option<String>,
    /// Allow connections to SSL sites without certs
    #[arg(short = 'k', long)]
    pub insecure: bool,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Show the last decisions of a member, each with the number of its rule
    Decisions(explain::Decisions),
    /// Demote cluster to a standby cluster
    DemoteCluster(DemoteCluster),
    /// Say what is wrong with a cluster, or will be, and what to do
    Doctor(doctor::Doctor),
    /// Generate a dsn for the provided member, defaults to a dsn of the leader
    Dsn(Dsn),
    /// Edit cluster configuration
    EditConfig(EditConfig),
    /// Say why a member is what it is, and what would change that
    Explain(explain::Explain),
    /// Failover to a replica
    Failover(Failover),
    /// Discard scheduled events
    Flush(Flush),
    /// Show the history of failovers/switchovers
    History(History),
    /// List the members for a given cluster
    List(List),
    /// Disable auto failover
    Pause(Pause),
    /// Promote cluster, make it run standalone
    PromoteCluster(PromoteCluster),
    /// Send SQL to a member's PostgreSQL
    Query(Query),
    /// Reinitialize cluster member
    Reinit(Reinit),
    /// Reload cluster member configuration
    Reload(Reload),
    /// Remove cluster from DCS
    Remove(Remove),
    /// Restart cluster member
    Restart(Restart),
    /// Resume auto failover
    Resume(Pause),
    /// Show cluster configuration
    ShowConfig(OneCluster),
    /// Show the replication slots of all members: who holds them, and how much WAL they keep
    Slots(Slots),
    /// Switchover to a replica
    Switchover(Switchover),
    /// Prints ASCII topology for given cluster
    Topology(Topology),
    /// Output version of this command or a running instance
    Version(Version),
    /// Regions of a formation: who owns it, and moving it
    #[command(subcommand)]
    Region(region::Command),
    /// The coordinator's metadata of Citus
    #[command(subcommand)]
    Citus(citus::Command),
    /// Start a formation of two regions on this machine, to try things out
    Demo(demo::Demo),
    /// Print the completions of a shell
    Completion(pages::Completion),
    /// Write the man pages of this program and of the daemon
    Man(pages::Man),
}

#[derive(Clone, Debug, Default, ClapArgs)]
pub(crate) struct OneCluster {
    /// Name of the cluster; the configured scope when not given
    #[arg(value_name = "CLUSTER_NAME")]
    pub cluster: Option<String>,
    /// Citus group
    #[arg(long, value_name = "INTEGER")]
    pub group: Option<u32>,
}

#[derive(Clone, Debug, Default, ClapArgs)]
pub(crate) struct Members {
    #[arg(value_name = "CLUSTER_NAME")]
    pub cluster: String,
    #[arg(value_name = "MEMBER_NAMES")]
    pub names: Vec<String>,
    /// Citus group
    #[arg(long, value_name = "INTEGER")]
    pub group: Option<u32>,
}

#[derive(Clone, Debug, Default, ClapArgs)]
pub(crate) struct Watch {
    /// Auto update the screen every 2 seconds
    #[arg(short = 'W')]
    pub every_two_seconds: bool,
    /// Auto update the screen every X seconds
    #[arg(short = 'w', long = "watch", value_name = "FLOAT")]
    pub seconds: Option<f64>,
}

#[derive(Debug, ClapArgs)]
pub(crate) struct List {
    #[arg(value_name = "CLUSTER_NAMES")]
    pub clusters: Vec<String>,
    /// Citus group
    #[arg(long, value_name = "INTEGER")]
    pub group: Option<u32>,
    /// Show some extra information
    #[arg(short = 'e', long)]
    pub extended: bool,
    /// Show how far standby leaders are behind the cluster or region that they follow.
    #[arg(long)]
    pub remote_lag: bool,
    /// Print timestamp
    #[arg(short = 't', long)]
    pub timestamp: bool,
    /// Output format
    #[arg(short = 'f', long, default_value = "pretty")]
    pub format: Format,
    #[command(flatten)]
    pub watch: Watch,
}

#[derive(Debug, ClapArgs)]
pub(crate) struct Slots {
    #[command(flatten)]
    pub of: OneCluster,
    /// Output format
    #[arg(short = 'f', long, default_value = "pretty")]
    pub format: Format,
    #[command(flatten)]
    pub watch: Watch,
}

#[derive(Debug, ClapArgs)]
pub(crate) struct Topology {
    #[arg(value_name = "CLUSTER_NAMES")]
    pub clusters: Vec<String>,
    /// Citus group
    #[arg(long, value_name = "INTEGER", conflicts_with_all = ["formation", "dot", "json"])]
    pub group: Option<u32>,
    /// Show all regions of the formation as one tree, and what is wrong with it
    #[arg(long)]
    pub formation: bool,
    /// Show the formation as a drawing for Graphviz
    #[arg(long, conflicts_with = "json")]
    pub dot: bool,
    /// Show the formation as JSON
    #[arg(long)]
    pub json: bool,
    #[command(flatten)]
    pub watch: Watch,
}

#[derive(Debug, ClapArgs)]
pub(crate) struct Dsn {
    #[command(flatten)]
    pub of: OneCluster,
    /// Give a dsn of any member with this role
    #[arg(short = 'r', long)]
    pub role: Option<RoleFilter>,
    /// Generate a dsn for this member
    #[arg(short = 'm', long, value_name = "TEXT")]
    pub member: Option<String>,
}

#[derive(Debug, ClapArgs)]
pub(crate) struct History {
    #[command(flatten)]
    pub of: OneCluster,
    /// Output format
    #[arg(short = 'f', long, default_value = "pretty")]
    pub format: Format,
}

#[derive(Debug, ClapArgs)]
pub(crate) struct Pause {
    #[command(flatten)]
    pub of: OneCluster,
    /// Wait until it is applied on all nodes
    #[arg(long)]
    pub wait: bool,
}

#[derive(Clone, Debug, Default, ClapArgs)]
pub(crate) struct EditConfig {
    #[command(flatten)]
    pub of: OneCluster,
    /// Do not show changes
    #[arg(short = 'q', long)]
    pub quiet: bool,
    /// Set specific configuration value. Can be specified multiple times
    #[arg(short = 's', long = "set", value_name = "TEXT")]
    pub set: Vec<String>,
    /// Set specific PostgreSQL parameter value. Shorthand for -s
    /// postgresql.parameters. Can be specified multiple times
    #[arg(short = 'p', long = "pg", value_name = "TEXT")]
    pub pg: Vec<String>,
    /// Apply configuration from file. Use - for stdin
    #[arg(long, value_name = "TEXT")]
    pub apply: Option<String>,
    /// Apply configuration from file, replacing existing configuration. Use -
    /// for stdin
    #[arg(long, value_name = "TEXT")]
    pub replace: Option<String>,
    /// Do not ask for confirmation at any point
    #[arg(long)]
    pub force: bool,
}

#[derive(Debug, ClapArgs)]
pub(crate) struct Failover {
    #[command(flatten)]
    pub of: OneCluster,
    /// The name of the candidate
    #[arg(long, value_name = "TEXT")]
    pub candidate: Option<String>,
    /// Do not ask for confirmation at any point
    #[arg(long)]
    pub force: bool,
}

#[derive(Debug, ClapArgs)]
pub(crate) struct Switchover {
    #[command(flatten)]
    pub of: OneCluster,
    /// The name of the current leader
    #[arg(long, visible_alias = "primary", value_name = "TEXT")]
    pub leader: Option<String>,
    /// The name of the candidate
    #[arg(long, value_name = "TEXT")]
    pub candidate: Option<String>,
    /// Timestamp of a scheduled switchover in unambiguous format (e.g. ISO 8601)
    #[arg(long, value_name = "TEXT")]
    pub scheduled: Option<String>,
    /// Do not ask for confirmation at any point
    #[arg(long)]
    pub force: bool,
}

#[derive(Clone, Debug, Default, ClapArgs)]
pub(crate) struct DemoteCluster {
    #[command(flatten)]
    pub of: OneCluster,
    /// Address of the remote node, or several with commas
    #[arg(long, value_name = "TEXT")]
    pub host: Option<String>,
    /// Port of the remote node, or one for each host
    #[arg(long, value_name = "TEXT")]
    pub port: Option<String>,
    /// Command to restore WAL records from the remote primary
    #[arg(long, value_name = "TEXT")]
    pub restore_command: Option<String>,
    /// Name of the slot on the remote node to use for replication
    #[arg(long, value_name = "TEXT")]
    pub primary_slot_name: Option<String>,
    /// Do not ask for confirmation at any point
    #[arg(long)]
    pub force: bool,
}

#[derive(Clone, Debug, Default, ClapArgs)]
pub(crate) struct PromoteCluster {
    #[command(flatten)]
    pub of: OneCluster,
    /// Do not ask for confirmation at any point
    #[arg(long)]
    pub force: bool,
}

#[derive(Debug, ClapArgs)]
pub(crate) struct Reload {
    #[command(flatten)]
    pub of: Members,
    /// Reload only members with this role
    #[arg(short = 'r', long, default_value = "any")]
    pub role: RoleFilter,
    /// Do not ask for confirmation at any point
    #[arg(long)]
    pub force: bool,
}

#[derive(Clone, Debug, Default, ClapArgs)]
pub(crate) struct Restart {
    #[command(flatten)]
    pub of: Members,
    /// Restart only members with this role
    #[arg(short = 'r', long, default_value = "any")]
    pub role: RoleFilter,
    /// Restart a single member only
    #[arg(long)]
    pub any: bool,
    /// Timestamp of a scheduled restart in unambiguous format (e.g. ISO 8601)
    #[arg(long, value_name = "TEXT")]
    pub scheduled: Option<String>,
    /// Restart if the PostgreSQL version is less than provided (e.g. 9.5.2)
    #[arg(long, value_name = "TEXT")]
    pub pg_version: Option<String>,
    /// Restart if pending
    #[arg(long)]
    pub pending: bool,
    /// Return error and fail over if necessary when restarting takes longer
    /// than this
    #[arg(long, value_name = "TEXT")]
    pub timeout: Option<String>,
    /// Do not ask for confirmation at any point
    #[arg(long)]
    pub force: bool,
}

#[derive(Debug, ClapArgs)]
pub(crate) struct Reinit {
    #[command(flatten)]
    pub of: Members,
    /// Do not ask for confirmation at any point
    #[arg(long)]
    pub force: bool,
    /// Get basebackup from leader
    #[arg(long)]
    pub from_leader: bool,
    /// Wait until reinitialization completes
    #[arg(long)]
    pub wait: bool,
}

#[derive(Debug, ClapArgs)]
pub(crate) struct Remove {
    #[arg(value_name = "CLUSTER_NAME")]
    pub cluster: String,
    /// Citus group
    #[arg(long, value_name = "INTEGER")]
    pub group: Option<u32>,
    /// Output format
    #[arg(short = 'f', long, default_value = "pretty")]
    pub format: Format,
}

#[derive(Debug, ClapArgs)]
pub(crate) struct Flush {
    #[arg(value_name = "CLUSTER_NAME")]
    pub cluster: String,
    /// Members, and at last what to flush: `restart` or `switchover`
    #[arg(value_name = "[MEMBER_NAMES]... {restart|switchover}", required = true)]
    pub words: Vec<String>,
    /// Citus group
    #[arg(long, value_name = "INTEGER")]
    pub group: Option<u32>,
    /// Flush only members with this role
    #[arg(short = 'r', long, default_value = "any")]
    pub role: RoleFilter,
    /// Do not ask for confirmation at any point
    #[arg(long)]
    pub force: bool,
}

#[derive(Debug, ClapArgs)]
pub(crate) struct Version {
    #[arg(value_name = "CLUSTER_NAME")]
    pub cluster: Option<String>,
    #[arg(value_name = "MEMBER_NAMES")]
    pub names: Vec<String>,
    /// Citus group
    #[arg(long, value_name = "INTEGER")]
    pub group: Option<u32>,
}

/// Which members a command is about.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum RoleFilter {
    Leader,
    Primary,
    StandbyLeader,
    Replica,
    Standby,
    #[default]
    Any,
}

impl RoleFilter {
    pub(crate) fn text(self) -> &'static str {
        match self {
            RoleFilter::Leader => "leader",
            RoleFilter::Primary => "primary",
            RoleFilter::StandbyLeader => "standby-leader",
            RoleFilter::Replica => "replica",
            RoleFilter::Standby => "standby",
            RoleFilter::Any => "any",
        }
    }

    pub(crate) fn matches(self, view: &GroupView, name: &MemberName) -> bool {
        let is_leader = view.leader_name() == Some(name);
        let role = view.member(name).map(|record| record.role);
        match self {
            RoleFilter::Any => true,
            RoleFilter::Leader => is_leader,
            RoleFilter::Primary => is_leader && role != Some(MemberRole::StandbyLeader),
            RoleFilter::StandbyLeader => is_leader && role != Some(MemberRole::Primary),
            RoleFilter::Replica | RoleFilter::Standby => !is_leader,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::made_up::TakeSample;

    fn read(line: &str) -> Args {
        let words = line.split(' ').map(Into::into);
        Args::read(words).unwrap_or_else(|e| panic!("{line}: {e}"))
    }

    #[test]
    fn lines_of_existing_scripts_are_understood() {
        let lines = [
            "m -c f.yml -d etcd3://h:2379/ns -k list -e -t -f tsv -W a b",
            "m --dcs h:2379 list -w 0.5 --group 1",
            "m switchover golden --leader n1 --candidate n2 --scheduled now --force",
            "m switchover --primary n1",
            "m edit-config -s loop_wait=2 -p work_mem=6MB --force -q",
            "m restart golden n1 n2 --pending --any -r replica --pg-version 9.5.2 --timeout 5min",
            "m reinit golden n2 --force --wait --from-leader",
            "m flush golden n3 restart --force",
            "m remove golden --group 0 -f yml",
            "m dsn golden -r standby-leader",
            "m query golden -c x -r replica -U u -d shop --password --format json -W",
            "m query --file - -m n1 --delimiter ; -w 0.5",
            "m history -f json",
            "m version golden n1",
            "m pause --wait",
            "m demote-cluster shop --host a,b --port 5432 --primary-slot-name dr --force",
            "m demote-cluster --restore-command cp",
            "m promote-cluster shop --force",
            "m region list",
            "m region switch --to b --at 2027-01-01T03:00:00Z --max-lag 1MB --window 5 --yes",
            "m region switch --to b --cron 0_3_*_*_0 --timezone Europe/Vienna --max-pause 3",
            "m region abort --schedule b-1 --force",
            "m region abort --move",
            "m demo --dir x --stop",
        ];
        for line in lines {
            read(line);
        }
    }

    #[test]
    fn usage_errors_end_with_2() {
        for line in ["m list --format xml", "m reload", "m query -f /nosuch"] {
            let error = Args::read(line.split(' ').map(Into::into)).unwrap_err();
            assert_eq!(error.exit_code(), 2, "{line}");
        }
    }

    #[test]
    fn roles_follow_the_lock() {
        let mut view = GroupView::default();
        view.take_sample("leader", "a", 1, 1);
        view.take_sample("members/a", r#"{"role":"promoted"}"#, 1, 1);
        view.take_sample("members/b", r#"{"role":"primary"}"#, 1, 1);
        let (a, b) = (MemberName::new("a"), MemberName::new("b"));
        for role in
            [RoleFilter::Leader, RoleFilter::Primary, RoleFilter::StandbyLeader, RoleFilter::Any]
        {
            assert!(role.matches(&view, &a), "{role:?}");
        }
        assert!(RoleFilter::Replica.matches(&view, &b) && !RoleFilter::Replica.matches(&view, &a));
    }
}
