//! How a formation moves between regions.

pub mod ownership;
