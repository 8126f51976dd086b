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
pub(crate) mod fault;
pub(crate) mod plan;
pub mod process;
mod segments;
pub mod writer;

pub use plan::{MemberPlan, Plan, RegionPlan};
pub use process::{Field, FieldError};
pub use writer::Writer;

use std::collections::BTreeSet;
use std::net::TcpListener;
use std::sync::{Mutex, PoisonError};

/// Below the ports that the kernel gives to outgoing connections: a server that
/// is down for a moment would else find its own port taken by a client.
const PORTS: std::ops::Range<u16> = 12_000..32_000;

/// Given by this process already: servers that are still to start listen on them.
static GIVEN: Mutex<BTreeSet<u16>> = Mutex::new(BTreeSet::new());

/// Ports that no program listens on now, and that were not given before. The search begins
/// at a random port, so that two fields of two processes do not collide.
pub fn free_ports(count: usize) -> std::io::Result<Vec<u16>> {
    let chance = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    let chance = chance.map_or(0, |d| d.subsec_nanos()) as usize + std::process::id() as usize;
    let all: Vec<u16> = PORTS.collect();
    let mut given = GIVEN.lock().unwrap_or_else(PoisonError::into_inner);
    let from_there = all.iter().cycle().skip(chance % all.len()).take(all.len());
    let from_there = from_there.filter(|port| !given.contains(port));
    let free = from_there.filter_map(|port| TcpListener::bind(("127.0.0.1", *port)).ok());
    let held: Vec<TcpListener> = free.take(count).collect();
    if held.len() < count {
        return Err(std::io::Error::other(format!("fewer than {count} ports are free")));
    }
    let ports = held.iter().map(|socket| Ok(socket.local_addr()?.port()));
    let ports = ports.collect::<std::io::Result<Vec<u16>>>()?;
    given.extend(&ports);
    Ok(ports)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_port_is_given_twice() {
        let ports: Vec<u16> = (0..100).flat_map(|_| free_ports(20).expect("free ports")).collect();
        assert_eq!(ports.iter().collect::<BTreeSet<_>>().len(), 2_000);
    }
}
