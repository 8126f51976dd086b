//! Live tests: real daemons, PostgreSQL and etcd on this machine's loopback.
//!
//! | file | what |
//! |---|---|
//! | ground | programs, directory, start of the store, end of everything |
//! | stage | one plain group and what a test may ask of it |
//! | watch | the twin of *one writer*: asks all servers all the time |
//! | bare_server | a server without a daemon, for tests of statements |
//! | birth | a new group, its keys and its REST API |
//! | planned | switchovers, the end of a daemon |
//! | crash | PostgreSQL or a whole node dies |
//! | citus_formation, citus_load | a coordinator and two workers, and clients of their tables |
//! | citus_lab | any groups of Citus, started one by one |
//! | citus_bank, citus_faults | transfers over both workers while leaders are lost |
//! | citus_lost | what a lost leader leaves on other nodes |
//! | citus_moments | unlucky moments in a worker's change of leader |
//! | citus_mixed | one group by Patroni, the others by us |
//! | citus_attack | what the owner of a database plants in it |
//! | compare | former primaries whose log fits |
//! | rewind | logs that have left the group's history |
//! | histories | gaps in the numbers of timelines, and a recovery from the archive |
//! | silent_source | a member that is copied freezes |
//! | silence | the store or a daemon freezes |
//! | etcd, majority | a store of three members, and its majority lost |
//! | disk | a leader whose disk is full or read-only |
//! | checkpoint | stops that take longer than the lock's lease |
//! | stops | which receivers an orderly stop waits for |
//! | promotions | promotions that do not come to their end |
//! | failsafe | the store is away, and the leader leads on |
//! | pause, maintenance | an operator is in charge |
//! | requests | what stands in `/failover`, and a lock that is gone |
//! | net, partition | nodes in namespaces of their own, and cuts between them |
//! | rounds, slow_link | every fault in turn, with all acknowledged rows counted; a proxy that delays |
//! | watchdog | a device that resets a machine whose daemon hangs |
//! | scripts | commands of an operator, restarts for later, long stops and starts |
//! | settings | changes of the configuration |
//! | served | where a server is reached while its settings change |
//! | times | other times of the lock, and short ones |
//! | slots, slot_feedback, logical, linked_slots, region_slots, readers, slot_snapshots, slot_wal | replication slots, and what reads from logical ones |
//! | source | a server that no daemon knows, with a backup and an archive |
//! | custom, copies | data directories made by an operator's commands; reinitialize |
//! | standby_cluster | a cluster that follows another one, and changes places with it |
//! | standby_remote | its remote side has another leader |
//! | standby_elections | it has another leader itself; it applies late |
//! | standby_archive | it has only an archive |
//! | standby_cascade | three steps, and each link lost |
//! | standby_divergence | the remote side loses what it has |
//! | attach | data that was there before |
//! | data_directories | half of a copy or of a restore, and who may remove it |
//! | upkeep | what a group writes while nothing happens |
//! | versions | a group's life on each version of PostgreSQL |
//! | recovery | other settings of recovery for a running standby |
//! | takeover | a running cluster of Patroni, taken over member by member, and back
//! | process | signals, reload, log, service manager, namesakes |
//! | unwatched | a daemon that cannot begin beside a primary |
//! | container | process 1, a store that comes late |
//! | wiped | the store has forgotten everything |
//! | other_history | two timelines of one number |
//! | refusal | data of others, files with mistakes |
//! | generated | configurations that the daemon writes itself |
//! | control | what an operator asks `matriarchctl` about a group |
//! | paths | files whose paths are relative, and one that is not there |
//!
//! Each scenario counts every acknowledged row and prints what it measured.
//! They are functions here and tests in `tests/tests/live_*.rs`.

pub mod attach;
pub mod bare_server;
pub mod birth;
pub mod checkpoint;
pub mod citus_attack;
pub mod citus_bank;
pub mod citus_faults;
pub mod citus_formation;
pub mod citus_lab;
pub mod citus_load;
pub mod citus_lost;
pub mod citus_mixed;
pub mod citus_moments;
pub mod compare;
pub mod container;
pub mod control;
pub mod copies;
pub mod crash;
pub mod crashed_standby;
pub mod custom;
pub mod data_directories;
pub mod disk;
pub mod etcd;
pub mod failsafe;
pub mod generated;
pub mod ground;
pub mod histories;
pub mod linked_slots;
pub mod logical;
pub mod maintenance;
pub mod majority;
pub mod net;
pub mod other_history;
pub mod partition;
pub mod paths;
pub mod pause;
pub mod planned;
pub mod process;
pub mod promotions;
pub mod readers;
pub mod recovery;
pub mod refusal;
pub mod region_slots;
pub mod requests;
pub mod rewind;
pub mod rounds;
pub mod scripts;
pub mod served;
pub mod settings;
pub mod silence;
pub mod silent_source;
pub mod slot_feedback;
pub mod slot_snapshots;
pub mod slot_wal;
pub mod slots;
pub mod slow_link;
pub mod source;
pub mod stage;
pub mod standby_archive;
pub mod standby_cascade;
pub mod standby_cluster;
pub mod standby_divergence;
pub mod standby_elections;
pub mod standby_remote;
pub mod stops;
pub mod sync_ahead;
pub mod synchronous;
pub mod takeover;
pub mod times;
pub mod turn;
pub mod unwatched;
pub mod upkeep;
pub mod versions;
pub mod watch;
pub mod watchdog;
pub mod wiped;

pub use stage::Stage;
use std::any::Any;
use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::time::{Duration, Instant};
pub use turn::{Turn, turn, turn_alone};

/// Runs a scenario as a test of its own, and fails if it is not over in time. Others may run
/// beside it.
pub fn run(title: &str, limit: Duration, scenario: impl Future<Output = ()>) {
    run_in(turn, title, limit, scenario);
}

/// The same, with no other scenario beside it: its bounds are narrow.
pub fn run_alone(title: &str, limit: Duration, scenario: impl Future<Output = ()>) {
    run_in(turn_alone, title, limit, scenario);
}

fn run_in(wait: fn() -> Turn, title: &str, limit: Duration, scenario: impl Future<Output = ()>) {
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    let turn = wait();
    let begin = Instant::now();
    println!("{title}");
    let all = || runtime.block_on(async { tokio::time::timeout(limit, scenario).await });
    let ended = catch_unwind(AssertUnwindSafe(all));
    drop(turn);
    let ended = ended.unwrap_or_else(|panic| end_with_reason(title, panic));
    assert!(ended.is_ok(), "{title}: not over within {limit:?}");
    println!("  {title}: {:.1} s in all", begin.elapsed().as_secs_f64());
}

/// Repeats why the scenario failed: the ends of all logs stand below the first message.
fn end_with_reason(title: &str, panic: Box<dyn Any + Send>) -> ! {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    let text = text.or(panic.downcast_ref::<&str>().copied());
    eprintln!("{title} failed: {}", text.unwrap_or("for a reason that is no text"));
    resume_unwind(panic)
}
