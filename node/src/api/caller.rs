//! Who is at the other end of a connection.

use super::places::Place;
use std::net::SocketAddr;
use std::sync::Arc;

/// The client of one connection.
#[derive(Clone)]
pub(crate) struct Caller {
    pub address: SocketAddr,
    /// It showed a certificate that was verified in the handshake.
    pub has_certificate: bool,
    pub place: Arc<Place>,
}
