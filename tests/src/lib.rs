//! The simulator: the real `decide` of many members in a world made of values.
//!
//! `world` is the virtual clock, stores, servers, links, clients and faults;
//! `check` is the truth they are judged by. Live tests use nothing of this.

pub mod check;
pub mod world;
