//! The nouns of Matriarch: plain values, no rules about what to do and no I/O.
//!
//! The words of the project, one for each thing. A word that stands for a concept in two
//! files is listed here.
//!
//! Clusters and the store:
//!
//! | word | meaning |
//! |---|---|
//! | member | one PostgreSQL instance and the daemon beside it |
//! | group | the members that elect one leader; Citus group 0 is the coordinator |
//! | scope | the name of the cluster in the store |
//! | formation | all groups of a scope in all regions, moved as one |
//! | region | one site of a formation: a complete set of groups and its own store |
//! | store | the etcd of a region |
//! | mirror | a daemon's local copy of its part of a store, kept up to date by a watch |
//! | record | what a member writes of itself into the store (`MemberRecord`) |
//! | view | all keys of one group, read at one moment (`GroupView`) |
//! | write | one change of a store, with the versions it was decided on; `write.rs` |
//! | version | which write a value of the store comes from; opaque to rules |
//! | session | which lease a key of the store hangs on; opaque to rules |
//! | lease | a key's lifetime in the store; the member that holds it renews it |
//! | lock | the leader key of a group in its region's store |
//! | claim | a member's entry in the store that it makes the cluster, or begins a timeline |
//! | history | where the timelines of a log begin; `/history`: who led when, and since which |
//! | tags | what a member's file says of its part in elections and replication |
//! | report | what is shown of a group: roles, states, positions, lags |
//! | scene | a formation as it was seen, the input of the graph |
//!
//! One member's daemon:
//!
//! | word | meaning |
//! |---|---|
//! | machine | a part that decides without I/O: a member's, an agent's |
//! | beat | one round of a member's machine: look, decide, act, write |
//! | sight | what a machine is shown at one moment |
//! | observation | the part of it that the rules read, with the machine's memory |
//! | effect | one thing that a machine wants done: a call, a look, a rest |
//! | answer | how an effect ended |
//! | performer | the code that performs effects: the daemon, or the simulator on its model |
//! | rule | a row of a table: number, condition, action, sentence |
//! | action, decision | what a rule does; the action with the rule that chose it |
//! | job | a long action in the background slot: copy, rewind, start, stop, restart |
//! | upkeep | what a member writes after a beat: its record, a leader's documents |
//! | chore | what a member keeps in order on its own machine after a beat: settings, watchdog |
//! | override | a setting of PostgreSQL that the daemon gives in place of the configuration's |
//! | mark (of a data directory) | a file that says which change of it is under way |
//! | guard thread | the thread that stops a primary if the beat hangs; `deadman.rs` |
//! | watchdog | the device that resets the machine unless it is fed |
//! | fence | the stop of a primary whose lock may end before it is renewed |
//!
//! Leaders, candidates and replication:
//!
//! | word | meaning |
//! |---|---|
//! | leader | the member that holds the lock |
//! | primary, standby | what PostgreSQL runs as; also for a moment without the lock |
//! | request | an operator's switchover or failover, as `/failover` holds it |
//! | candidate | a member that could take the lock, or that a request names |
//! | successor | the candidate to which a leader hands over; `successor` picks it |
//! | heir | the successor of a stopped leader: after an orderly stop it has all WAL |
//! | race | what members do while no member holds the lock |
//! | electorate | `/sync` with a synchronous mode in force: which members may lead or vote |
//! | gate | the script `pre_promote`, asked before a server opens; also the first table of rules |
//! | promise | in failsafe mode, a member's word not to lead for one `ttl` |
//! | agreement, proof | the promises of all members; the leader's record of it on disk |
//! | quorum | the votes that `/sync` asks of an election |
//! | handover | an orderly release of the lock to a successor |
//! | standby cluster | a cluster that follows another one |
//! | standby leader | the leader of a group that follows another region or cluster |
//! | remote side | the region or cluster that a standby leader follows |
//! | peer | another member of the group, as the REST API answers for it |
//! | slot | what keeps WAL on a server for one receiver |
//! | permanent slot | one that `slots` of `/config` defines; it belongs to no member |
//! | linked cluster | a cluster that follows this one, listed in `standby_clusters` |
//! | cascade | a standby that streams from another standby |
//! | fit | the own log is a prefix of the leader's history, by a comparison |
//! | upstream | the server that a standby streams from, or should |
//! | source | the server that data is copied from, or that a log is compared with |
//! | receiver | a client that streams WAL from a server, such as a standby |
//! | log | WAL; the text that a program writes about itself is "its log file" |
//!
//! Regions:
//!
//! | word | meaning |
//! |---|---|
//! | owner | the region whose groups accept writes |
//! | certificate | the statement "region R owns the formation since epoch E" |
//! | epoch | the number of a certificate |
//! | register | the compare-and-set key of a site that holds its vote on the owner |
//! | acceptor | the votes of a site in the agreement on the next owner (`Acceptor`) |
//! | instance | the agreement on the certificate of one epoch |
//! | ballot | one attempt of a region to have a certificate chosen |
//! | chosen (of a certificate) | enough sites have accepted it at one ballot |
//! | position (of an acceptor) | how far the votes of an acceptor have come; each vote raises it |
//! | blank (of an acceptor) | what it accepted in its instance may have been lost |
//! | reclaim | the owner's certificate by which it keeps the formation after a move |
//! | mark | the epoch that a region has confirmed, in a key on its agent's lease |
//! | agent | the one daemon of a region that speaks for the region |
//! | campaign | an agent's attempt to become it; a member's to take the lock |
//! | identity | an agent's own name, its region and the other regions |
//! | observed region | another region as the agent publishes it to its own members |
//! | site | a region as its own store shows it (`Site`) |
//! | policy | what all regions agree on: regions, priorities, deadlines |
//! | preflight, finding | the checks before a move; one result of them |
//! | probe | what a leader answers over SQL for the preflight |
//! | move | a planned change of the owner |
//! | mover | the part of an agent that drives a move |
//! | journal | how far a move is; in the stores of both sides |
//! | schedule | a move that is to begin later, by its time or a cron line (`Schedule`) |
//! | occurrence | one time at which a schedule is due, and what became of it |
//! | phase | the state of a move in its journal |
//! | order | what a running move asks of a group |
//! | hold | open sessions that keep distributed transactions undecided |
//! | quarantine | the settings of a new owner until its coordinator is rewired |
//! | turn | one pass of an agent over its votes |
//! | purpose | how the answer of an agent's call is read |
//! | pace | the longest sleeps of an agent |
//! | token | of one group: system id, timeline and end of history on the old side |
//! | receipt | a member's answer that it has a given end of log |
//! | group servers | the leaders' servers, on which an agent runs SQL |
//!
//! Invariant *pure*: nothing here reads a clock, a file or the network.

#[cfg(test)]
extern crate self as topology;

pub mod acceptor;
pub mod cluster;
pub mod document;
pub mod dynamic;
pub mod graph;
pub mod id;
pub(crate) mod lsn;
#[cfg(test)]
mod made_up;
pub mod member;
pub mod number;
pub mod quote;
pub mod region;
pub mod report;
pub mod schedule;
pub(crate) mod seen;
pub mod status;
pub(crate) mod sync;
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
pub use member::{MemberRecord, MemberRole, MemberState, RemoteEnd};
pub use seen::Seen;
pub use tags::Tags;
pub use time::Millis;
pub use timeline::{History, Timeline};
pub use write::{Session, Version, Write};
