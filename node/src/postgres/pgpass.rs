//! The lines of a password file.

use super::conninfo;
use std::fmt::Write as _;

/// One line of a pgpass file for each host of a comma-separated list.
pub(super) fn pgpass_lines(hosts: &str, port: u16, user: &str, password: &str) -> String {
    let mut text = String::new();
    let escape = |word: &str| word.replace('\\', "\\\\").replace(':', "\\:");
    for (host, port) in conninfo::servers(hosts, port) {
        let host = if host.is_empty() { "*" } else { host.as_str() };
        let local = host.starts_with('/').then_some("localhost");
        for host in std::iter::once(host).chain(local) {
            let (host, user, password) = (escape(host), escape(user), escape(password));
            // Writing to a String cannot fail.
            let _ = writeln!(text, "{host}:{port}:*:{user}:{password}");
        }
    }
    text
}
