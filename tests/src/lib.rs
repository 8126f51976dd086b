//! What tests on real servers share: groups, formations, clients, faults.

pub mod live;
