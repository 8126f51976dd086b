//! Observing: from the server, the store and the machine to an `Observation`, without
//! deciding anything.

pub mod lock;
