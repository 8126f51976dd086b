//! The daemon beside one PostgreSQL, as a library.
//!
//! `observe -> decide -> act`: the eyes are in `observe/`, the head in `ha/`
//! (pure), the hands in `act/`; they meet in `beat.rs` and nowhere else.

pub mod act;
pub mod api;
pub mod config;
pub mod dcs;
pub mod ha;
pub mod observe;
pub mod postgres;
pub mod region;

/// The version that members publish. Tools compare it as Patroni's, so it
/// names the release whose interface this daemon speaks.
pub const PATRONI_VERSION: &str = "4.1.5";
