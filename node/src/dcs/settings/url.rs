//! A store named by one word, as on the command line.

use super::{PORT, SECTION, SECTIONS};

/// `scheme://host:port/namespace`; all parts but the host may be missing.
#[derive(Debug, PartialEq, Eq)]
pub struct StoreUrl {
    pub host: String,
    pub namespace: Option<String>,
}

impl StoreUrl {
    /// The error says what the text does wrong.
    pub fn parse(text: &str) -> Result<StoreUrl, String> {
        let (scheme, rest) = match text.split_once("://") {
            Some((scheme, rest)) => (Some(scheme), rest),
            None => (None, text),
        };
        let (address, namespace) = match rest.split_once('/') {
            Some((address, path)) => (address, Some(path)),
            None => (rest, None),
        };
        let (host, port) = split_port(address);
        let scheme = scheme.unwrap_or(match port {
            Some("8500") => "consul",
            Some("8181") => "exhibitor",
            Some("2181") => "zookeeper",
            _ => "etcd",
        });
        if !SECTIONS.contains(&scheme) {
            return Err(format!("names a store of the kind `{scheme}`; use {SECTION}://host:port"));
        }
        let host = if host.is_empty() { "localhost" } else { host };
        let namespace = namespace.filter(|path| !path.is_empty()).map(str::to_string);
        Ok(StoreUrl { host: format!("{host}:{}", port.unwrap_or(&PORT.to_string())), namespace })
    }
}

fn split_port(address: &str) -> (&str, Option<&str>) {
    match address.rsplit_once(':') {
        Some((host, port)) if !port.contains(']') => (host, Some(port)),
        _ => (address, None),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_of_the_url_have_defaults() {
        let parse = |text| StoreUrl::parse(text).map(|url| (url.host, url.namespace));
        let path = |text: &str| Some(text.to_string());
        assert_eq!(parse("etcd3://h:1/ns/x").unwrap(), ("h:1".into(), path("ns/x")));
        assert_eq!(parse("h").unwrap(), ("h:2379".into(), None));
        assert_eq!(parse("etcd://:7/").unwrap(), ("localhost:7".into(), None));
        assert_eq!(parse("etcd3://[::1]").unwrap().0, "[::1]:2379");
        assert_eq!(parse("[::1]:5").unwrap().0, "[::1]:5");
    }

    #[test]
    fn other_stores_are_refused_by_name() {
        for text in ["consul://h", "h:8500", "zookeeper://h:2181/x"] {
            let error = StoreUrl::parse(text).unwrap_err();
            assert!(error.contains("etcd3://"), "{error}");
        }
    }
}
