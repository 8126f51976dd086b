//! The REST API of one member.

pub mod published;
