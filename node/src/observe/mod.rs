//! The eyes: from the world to an `Observation`, without deciding anything.

pub mod lock;
