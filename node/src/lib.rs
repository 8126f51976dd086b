//! The daemon beside one PostgreSQL, as a library.
//!
//! `observe -> decide -> act`: the eyes are in `observe/`, the head in `ha/`
//! (pure), the hands in `act/`; they meet in `beat.rs` and nowhere else.

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
pub mod postgres;
pub mod region;
pub mod tls;
pub mod watchdog;
pub mod words;

/// The version that members publish. Tools compare it as Patroni's, so it
/// names the release whose interface this daemon speaks.
pub const PATRONI_VERSION: &str = "4.1.5";
