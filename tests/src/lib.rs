//! The simulator: the real `decide` of many members in a world made of values.
//!
//! `world` is the virtual clock, stores, servers, links, clients and faults;
//! `check` is the truth they are judged by. `live` is the same on real
//! servers and uses nothing of the simulator.

pub mod check;
pub mod live;
pub mod world;
