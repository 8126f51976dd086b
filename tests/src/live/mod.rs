//! Live tests: real daemons, PostgreSQL and etcd on this machine's loopback.
//!
//! | file | what |
//! |---|---|
//! | stage | one plain group and what a test may ask of it |
//! | watch | the twin of *one writer*: asks all servers all the time |
//! | birth | a new group, its keys and its REST API |
//! | planned | switchovers, the end of a daemon |
//! | crash | PostgreSQL or a whole node dies |
//! | silence | the store or a daemon freezes |
//! | failsafe | the store is away or wiped, and the leader leads on |
//! | pause | an operator is in charge |
//! | watchdog | a device that resets a machine whose daemon hangs |
//! | settings | changes of the configuration |
//! | refusal | data of others, files with mistakes |
//!
//! Each scenario counts every acknowledged row and prints what it measured.
//! They are functions here and tests in `tests/tests/live_group.rs`.

pub mod birth;
pub mod crash;
pub mod failsafe;
pub mod pause;
pub mod planned;
pub mod refusal;
pub mod settings;
pub mod silence;
pub mod stage;
pub mod watch;
pub mod watchdog;

pub use stage::Stage;
