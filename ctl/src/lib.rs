//! The operator's command, as a library: the binary and the tests use it.

pub mod demo;
pub mod field;
