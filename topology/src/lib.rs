//! The nouns of Matriarch: plain values, no rules about what to do and no I/O.
//!
//! | word | meaning |
//! |---|---|
//! | member | one PostgreSQL instance and the daemon beside it |
//! | group | the members that elect one leader; Citus group 0 is the coordinator |
//! | scope | the name of the cluster in the store |
//! | formation | all groups of a scope in all regions, moved as one |
//! | region | one site of a formation: a complete set of groups and its own store |
//! | lock | the leader key of a group in its region's store |
//! | register | the compare-and-set key of a site that holds its vote on the owner |
//! | certificate | the statement "region R owns the formation since epoch E" |
//! | token | of one group: system id, timeline and end of history on the old side |
//! | agent | the one daemon of a region that speaks for the region |
//! | report | what is shown of a group: roles, states, positions, lags |
//! | scene | a formation as it was seen, the input of the graph |
//! | write | one change of a store, with what it was decided on; `write.rs` |
//! | version, session | a store's marks: which write, and which lease |
//! | mover | the part of an agent that drives a planned move |
//! | sight, effect, answer | what a machine is shown, what it wants done, how that ended |
//!
//! Invariant *pure*: nothing here reads a clock, a file or the network.

pub mod cluster;
pub mod document;
pub mod dynamic;
pub mod graph;
pub mod id;
pub mod lsn;
pub mod member;
pub mod number;
pub mod quote;
pub mod region;
pub mod report;
pub mod seen;
pub mod status;
pub mod sync;
pub mod tags;
pub mod time;
pub mod timeline;
pub mod write;

#[cfg(test)]
mod read_back_tests;

pub use cluster::{Failover, GroupView, HistoryEntry, Status, SyncState, Versioned};
pub use dynamic::{Dynamic, SyncMode};
pub use id::{Group, MemberName, RegionName, SystemId};
pub use lsn::Lsn;
pub use member::{MemberRecord, MemberRole, MemberState};
pub use seen::Seen;
pub use tags::Tags;
pub use time::Millis;
pub use timeline::{History, Timeline};
pub use write::{Session, Version, Write};
