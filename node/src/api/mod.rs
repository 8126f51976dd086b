//! The REST API of one member.

pub mod client;
pub mod published;
pub mod tls;
