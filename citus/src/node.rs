//! One row of `pg_dist_node`, as read from a node.
//!
//! Rows travel as JSON text (see `Statement::ReadNodes`): one column, no
//! position to get wrong, and a value this program cannot represent is an
//! error of that read instead of a row that is silently missing.
//!
//! Absent on purpose: `noderack` and of which node a clone is one; nothing here uses them.

use serde::{Deserialize, Serialize};
use std::fmt;
use topology::member::join_host;

/// Where a node listens. `(host, port)` is unique over all rows.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Address {
    pub host: String,
    pub port: u16,
}

/// What a placeholder's name ends with; the same word that Patroni users know.
pub const DEMOTED: &str = "-demoted";

impl Address {
    pub fn new(host: impl Into<String>, port: u16) -> Address {
        Address { host: host.into(), port }
    }

    /// The address that stands in a row while its real one must be free.
    ///
    /// Asking twice gives the same: a pause that is repeated stays a pause.
    pub fn placeholder(&self) -> Address {
        if self.is_placeholder() {
            return self.clone();
        }
        Address::new(format!("{}{DEMOTED}", self.host), self.port)
    }

    pub fn is_placeholder(&self) -> bool {
        self.host.ends_with(DEMOTED)
    }

    /// True for names that mean another machine on every machine.
    pub fn is_loopback(&self) -> bool {
        let host = self.host.as_str();
        host == "localhost" || host == "::1" || host.starts_with("127.")
    }
}

impl From<(String, u16)> for Address {
    fn from((host, port): (String, u16)) -> Address {
        Address { host, port }
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&join_host(&self.host, self.port))
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum NodeRole {
    Primary,
    Secondary,
    Unavailable,
}

impl fmt::Display for NodeRole {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            NodeRole::Primary => "primary",
            NodeRole::Secondary => "secondary",
            NodeRole::Unavailable => "unavailable",
        })
    }
}

/// A row, with the poolinfo that the node it was read from keeps for it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeRow {
    pub nodeid: i32,
    pub groupid: u32,
    pub nodename: String,
    pub nodeport: u16,
    pub noderole: NodeRole,
    pub nodecluster: String,
    pub isactive: bool,
    pub hasmetadata: bool,
    pub metadatasynced: bool,
    pub shouldhaveshards: bool,
    /// A copy that an operator is about to make a group of its own (Citus 13.2).
    #[serde(default)]
    pub nodeisclone: bool,
    #[serde(default)]
    pub poolinfo: Option<String>,
}

impl NodeRow {
    pub fn address(&self) -> Address {
        Address::new(self.nodename.clone(), self.nodeport)
    }

    pub fn is_primary(&self) -> bool {
        self.noderole == NodeRole::Primary
    }

    pub fn is_secondary(&self) -> bool {
        self.noderole == NodeRole::Secondary
    }

    /// A row that no plan touches: an operator has disabled the node, or works with it.
    pub fn is_left_alone(&self) -> bool {
        self.nodeisclone || !self.isactive
    }

    /// An active copy of the table that is behind the coordinator's.
    pub fn is_unsynced(&self) -> bool {
        self.is_primary() && self.isactive && self.hasmetadata && !self.metadatasynced
    }
}

/// The primary's row of a group.
pub fn primary_of(rows: &[NodeRow], group: u32) -> Option<&NodeRow> {
    rows.iter().find(|row| row.groupid == group && row.is_primary())
}

/// Host and port that a poolinfo names; the row's own where it names none.
///
/// The format is libpq's `key=value` with optional single quotes.
pub fn pooled(poolinfo: &str, own: &Address) -> Address {
    let mut to = own.clone();
    for (key, value) in pairs(poolinfo) {
        match key.as_str() {
            "host" | "hostaddr" => to.host = value,
            "port" => to.port = value.parse().unwrap_or(own.port),
            _ => {}
        }
    }
    to
}

fn pairs(text: &str) -> Vec<(String, String)> {
    let mut found = Vec::new();
    let mut rest = text.trim_start();
    while let Some((key, after)) = rest.split_once('=') {
        let (value, left) = take_value(after.trim_start());
        found.push((key.trim().to_string(), value));
        rest = left.trim_start();
    }
    found
}

/// One value and what follows it; a backslash keeps the next character.
fn take_value(text: &str) -> (String, &str) {
    let quoted = text.starts_with('\'');
    let mut value = String::new();
    let mut escaped = false;
    for (at, c) in text.char_indices().skip(usize::from(quoted)) {
        match c {
            _ if escaped => {
                value.push(c);
                escaped = false;
            }
            '\\' => escaped = true,
            '\'' if quoted => return (value, &text[at + 1..]),
            c if !quoted && c.is_whitespace() => return (value, &text[at..]),
            c => value.push(c),
        }
    }
    (value, "")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_placeholder_is_made_once() {
        let real = Address::new("h", 5432);
        let freed = real.placeholder();
        assert_eq!(freed, Address::new("h-demoted", 5432));
        assert_eq!(freed.placeholder(), freed);
        assert!(freed.is_placeholder() && !real.is_placeholder());
    }

    #[test]
    fn poolinfo_is_read_as_libpq_reads_it() {
        let own = Address::new("h", 1);
        assert_eq!(pooled("host=p port=6432", &own), Address::new("p", 6432));
        assert_eq!(pooled("port = 7", &own), Address::new("h", 7));
        assert_eq!(pooled(r"host='a \'b' port='9'", &own), Address::new("a 'b", 9));
        assert_eq!(pooled("host='open", &own), Address::new("open", 1));
        for odd in ["", "=", "host", "port=x", "'", "host=", "==", "é='ü"] {
            assert_eq!(pooled(odd, &own).port, 1, "{odd}");
        }
    }

    #[test]
    fn addresses_of_ipv6_are_bracketed() {
        assert_eq!(Address::new("::1", 5).to_string(), "[::1]:5");
        assert!(Address::new("localhost", 5).is_loopback());
        assert!(!Address::new("10.0.0.1", 5).is_loopback());
    }
}
