//! Citus: what `pg_dist_node` should say, what it says, and the statements in
//! between. Pure: statements are data, the node runs them.
//!
//! | word | meaning |
//! |---|---|
//! | coordinator | the primary of group 0; only it may change the table |
//! | worker | the primary of group 1, 2, ...; it keeps a copy of the table |
//! | row | one line of `pg_dist_node`: the address of one node of one group |
//! | cluster | the column `nodecluster`: `default`, or the name of a standby region |
//! | desired | the rows as the stores' view of the groups wants them |
//! | plan | the statements that turn actual rows into desired rows |
//! | placeholder | an address no server listens on, `<name>-demoted`: it frees the real one |
//! | pause | an open transaction whose shard locks hold writers during a switchover |
//! | registrar | the machine of the coordinator's leader that keeps the table |
//! | round | one look at the table, and what it changes |
//! | hold | a lock that lets no distributed transaction be decided |
//! | quarantine | settings of a server while its region is not to be written |
//! | synced | every worker's copy equals the coordinator's table |
//! | poolinfo | a redirection kept by one node; it beats the address in the row |
//! | stand-in | SQL with the same names for tests on PostgreSQL without the extension |
//!
//! Invariant *pure*: nothing here reads a clock, a file or the network.
//! Invariant *unknown is not absent*: a group whose leader is not known keeps
//! its rows as they are.
//! Invariant *a primary row is for ever*: it keeps its nodeid, because shards
//! and credentials hang on it, and no plan ever removes one.
//!
//! Absent on purpose: adding or draining shards, connections, deadlines of
//! calls (the node has them), who is the leader (the store says).

pub mod check;
pub mod copies;
pub(crate) mod desired;
pub(crate) mod diff;
pub mod handover;
mod leave;
#[cfg(test)]
#[path = "../../topology/src/made_up.rs"]
mod made_up;
pub mod node;
mod now;
mod quarantine;
pub(crate) mod redirect;
pub mod registrar;
pub mod resolver;
pub mod statement;

#[cfg(any(test, feature = "model"))]
pub mod model;
mod moves;
#[cfg(test)]
mod plans;

pub use check::{Finding, Level, check};
pub use desired::{Desired, DesiredGroup, GroupNow, Groups, Wish, desired};
pub use diff::{Blocked, Plan, Terms, diff};
pub use leave::{NoLeave, leave};
pub use node::{Address, NodeRole, NodeRow};
pub use now::{Known, LEAVING, groups_now};
pub use quarantine::quarantine;
pub use redirect::{Poolers, redirections};
pub use statement::{Param, Statement};

/// Installs the stand-in into the connected database: one batch, a superuser,
/// as often as one likes. See the comment at its head for what it cannot do.
pub const STAND_IN: &str = include_str!("../stand_in.sql");

/// The cluster of every primary and of the owning region's own secondaries.
pub const DEFAULT_CLUSTER: &str = "default";

/// The coordinator's group.
pub const COORDINATOR_GROUP: u32 = 0;
