//! The daemon beside one PostgreSQL, as a library.
//!
//! The crate `member` decides and is pure; `daemon` and `region` look and perform. Modules
//! depend on each other in one direction (`tests/tests/tidy/imports.rs`).

pub(crate) mod act;
pub mod api;
pub(crate) mod background;
pub mod clock;
pub mod command_line;
pub mod config;
pub mod daemon;
pub mod dcs;
pub mod deadman;
pub(crate) mod document;
pub(crate) mod generate;
pub mod init;
pub mod log;
#[cfg(test)]
#[path = "../../topology/src/made_up.rs"]
mod made_up;
#[cfg(test)]
#[path = "../../topology/src/made_up_move.rs"]
mod made_up_move;
pub(crate) mod notify;
pub mod password;
pub mod peers;
pub mod postgres;
pub(crate) mod promises;
pub mod region;
#[cfg(test)]
mod samples;
pub mod tls;
pub(crate) mod watchdog;
pub(crate) mod words;
