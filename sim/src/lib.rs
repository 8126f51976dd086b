//! The simulator: the real machines of many members in a world made of values.
//!
//! `world` is the virtual clock, stores, servers, links, clients and faults; `check` is the
//! truth they are judged by, `scenario` runs committed texts on it, `seeds` lists the kinds
//! of worlds.

pub mod check;
pub mod scenario;
pub mod seeds;
pub mod world;
