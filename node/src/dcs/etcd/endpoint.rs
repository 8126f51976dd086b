//! One member of an etcd cluster, by address.

use std::fmt;

/// Endpoints that are kept; a longer list is cut.
pub(super) const ENDPOINTS_MAX: usize = 32;

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Endpoint {
    /// `host:port`
    pub name: String,
    /// Without the brackets of an IPv6 address.
    pub host: String,
    pub tls: bool,
}

impl Endpoint {
    /// `host:port`, with or without a scheme before it.
    pub(super) fn parse(text: &str, tls: bool) -> Option<Endpoint> {
        let (tls, rest) = match text.split_once("://") {
            Some(("http", rest)) => (false, rest),
            Some(("https", rest)) => (true, rest),
            Some(_) => return None,
            None => (tls, text),
        };
        let name = rest.trim_end_matches('/').to_string();
        let (host, port) = name.rsplit_once(':')?;
        port.parse::<u16>().ok()?;
        let host = host.trim_matches(['[', ']']).to_string();
        Some(Endpoint { name, host, tls })
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}://{}", if self.tls { "https" } else { "http" }, self.name)
    }
}
