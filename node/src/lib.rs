//! The daemon beside one PostgreSQL, as a library.
//!
//! `member` and `ha` decide and are pure; `daemon` and `region` look and perform. Modules
//! depend on each other in one direction (`tests/tests/tidy/imports.rs`).

pub mod act;
pub mod api;
pub mod background;
pub mod clock;
pub mod command_line;
pub mod config;
pub mod daemon;
pub mod dcs;
pub mod deadman;
pub mod generate;
pub mod ha;
pub mod init;
pub mod log;
pub mod member;
pub mod notify;
pub mod observe;
pub mod peers;
pub mod postgres;
pub mod promises;
pub mod region;
pub mod tls;
pub mod watchdog;
pub mod words;

/// The version that members publish. Tools compare it as Patroni's, so it
/// names the release whose interface this daemon speaks.
pub const PATRONI_VERSION: &str = "4.1.5";
