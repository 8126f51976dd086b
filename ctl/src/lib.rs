//! The operator's command, as a library: the binary and the tests stand on it.

pub mod demo;
pub mod field;
