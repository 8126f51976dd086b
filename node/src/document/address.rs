//! `host:port` as people write it.
//!
//! Several hosts may share one port (`a,b:5432`), IPv6 may stand in brackets
//! or bare; a bare one followed by a port is read with the last colon as the
//! separator.
//!
//! Absent on purpose: resolving. A name that resolves to nothing is met when
//! it is used.

use std::net::Ipv6Addr;

/// Hosts that other machines cannot reach, or that mean "all".
pub(crate) const LOCAL_ONLY: [&str; 5] = ["127.0.0.1", "0.0.0.0", "*", "::1", "localhost"];

/// The hosts in order (without brackets) and the port.
pub fn parse_listen(text: &str, default_port: u16) -> Option<(Vec<String>, u16)> {
    let (hosts, port) = split_port(text.trim(), default_port)?;
    let hosts: Option<Vec<String>> = hosts.split(',').map(parse_host).collect();
    Some((hosts?, port))
}

/// One host (without brackets) and its port.
pub fn parse_address(text: &str, default_port: u16) -> Option<(String, u16)> {
    let (mut hosts, port) = parse_listen(text, default_port)?;
    if hosts.len() == 1 { Some((hosts.remove(0), port)) } else { None }
}

/// One host to listen on and its port; no host (`:8008`) means all of them, as `*`.
pub(crate) fn parse_bind(text: &str, default_port: u16) -> Option<(String, u16)> {
    match text.trim().strip_prefix(':').and_then(parse_port) {
        Some(port) => Some(("*".to_string(), port)),
        None => parse_address(text, default_port),
    }
}

fn split_port(text: &str, default_port: u16) -> Option<(&str, u16)> {
    let Some((hosts, port)) = text.rsplit_once(':') else {
        // Only digits: a port whose host was forgotten.
        let digits = text.bytes().all(|b| b.is_ascii_digit());
        return (!digits).then_some((text, default_port));
    };
    if port.contains(']') {
        return Some((text, default_port));
    }
    let last = hosts.rsplit(',').next().unwrap_or(hosts).trim();
    let bare = last.contains(':') && !last.starts_with('[');
    if bare && last.parse::<Ipv6Addr>().is_err() {
        return Some((text, default_port));
    }
    Some((hosts, parse_port(port)?))
}

fn parse_port(text: &str) -> Option<u16> {
    let digits = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    text.parse().ok().filter(|port| digits && *port > 0)
}

fn parse_host(text: &str) -> Option<String> {
    let text = text.trim();
    let bracketed = text.strip_prefix('[').and_then(|rest| rest.strip_suffix(']'));
    let host = bracketed.unwrap_or(text);
    let address = host.split('%').next().unwrap_or(host);
    if bracketed.is_some() || host.contains(':') {
        return address.parse::<Ipv6Addr>().ok().map(|_| host.to_string());
    }
    let plain = |c: char| c == '*' || c == '.' || c == '-' || c == '_' || c.is_alphanumeric();
    (!host.is_empty() && host.chars().all(plain)).then(|| host.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use topology::member::join_host;

    fn listen(text: &str) -> Option<(String, u16)> {
        parse_listen(text, 5432).map(|(hosts, port)| (hosts.join("|"), port))
    }

    #[test]
    fn the_forms_people_write_are_read() {
        let cases = [
            ("127.0.0.1:5433", "127.0.0.1", 5433),
            ("db-1.example", "db-1.example", 5432),
            ("a, b:6000", "a|b", 6000),
            ("*:1", "*", 1),
            ("[::1]:7", "::1", 7),
            ("[::1]", "::1", 5432),
            ("::1:7", "::1", 7),
            ("::1", "::1", 5432),
            ("127.0.0.1,[fe80::1%eth0]:9", "127.0.0.1|fe80::1%eth0", 9),
        ];
        for (text, hosts, port) in cases {
            assert_eq!(listen(text), Some((hosts.to_string(), port)), "{text}");
        }
    }

    #[test]
    fn what_is_no_address_is_refused() {
        for text in ["", ":5432", "x:99999", "x:0", "x:", "8008", "a b:1", "[x]:1", "a:b:1", "/s"] {
            assert_eq!(listen(text), None, "{text}");
        }
        assert_eq!(parse_address("a,b:1", 1), None);
    }

    #[test]
    fn p3_a_port_alone_listens_everywhere() {
        let all = |port| Some(("*".to_string(), port));
        assert_eq!((parse_bind(":8008", 1), parse_bind(" *:7 ", 1)), (all(8008), all(7)));
        assert_eq!(parse_bind("a", 8), Some(("a".to_string(), 8)));
        assert_eq!(parse_bind("::", 8), Some(("::".to_string(), 8)));
        for text in [":", ":0", ":x", "8008", ""] {
            assert_eq!(parse_bind(text, 1), None, "{text}");
        }
    }

    #[test]
    fn joining_gives_what_parsing_took() {
        for (host, port) in [("::1", 7), ("a", 8)] {
            assert_eq!(parse_address(&join_host(host, port), 1), Some((host.to_string(), port)));
        }
    }
}
