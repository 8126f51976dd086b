//! A field to try a formation on: stores, daemons and writing clients of one
//! directory, on this machine's loopback addresses.
//!
//! The demo and the live tests stand on it. Everything it starts is noted by
//! pid in the directory and ended by pid; everything listens on free ports.
//! PostgreSQL refuses root, so for root the children run as user `postgres`.
//!
//! Absent on purpose: any knowledge of how the daemons work. The field only
//! writes their configuration, starts, kills and asks them over REST and SQL.

pub mod ask;
pub mod fault;
pub mod plan;
pub mod process;
pub mod writer;

pub use plan::{MemberPlan, Plan, RegionPlan};
pub use process::{Field, FieldError};
pub use writer::Writer;

use std::net::TcpListener;

/// Ports that nobody listens on now. All are held until all are found, so no
/// two are alike.
pub fn free_ports(count: usize) -> std::io::Result<Vec<u16>> {
    let held: Vec<TcpListener> =
        (0..count).map(|_| TcpListener::bind("127.0.0.1:0")).collect::<Result<_, _>>()?;
    held.iter().map(|socket| Ok(socket.local_addr()?.port())).collect()
}
