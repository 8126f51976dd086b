//! The simulator: the real `decide` of many members in a world made of values.
//!
//! `world` is the virtual clock, stores, servers, links, clients and faults;
//! `check` is the truth they are judged by, `scenario` runs committed texts on it.
//! `live` is the same on real
//! servers and uses nothing of the simulator.

pub mod check;
pub mod live;
pub mod scenario;
pub mod seeds;
pub mod world;
