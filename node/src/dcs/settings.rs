//! Where the store is.
//!
//! One reader for the daemon's own store and for those of other regions. An
//! `etcd` section is read as `etcd3`: the old interface of etcd is gone, its
//! keys were in another key space.
//!
//! Absent on purpose: connecting (see `dcs/etcd.rs`), and the check of each value against
//! its row, which the configuration makes for all sections alike (`config/store.rs`).

mod rows;
mod url;

pub use rows::ROWS;
pub use url::StoreUrl;

use crate::document::findings::Findings;
use crate::document::{Document, Secret, address};
use serde_json::{Value, json};
use std::path::PathBuf;
use topology::member::join_host;
use topology::quote::percent_decoded;

/// The section that names the store.
pub const SECTION: &str = "etcd3";
/// The same, and its old name.
pub const SECTIONS: [&str; 2] = [SECTION, "etcd"];
/// Sections of other stores: known words, no settings.
pub const OTHER_SECTIONS: [&str; 5] = ["consul", "exhibitor", "kubernetes", "raft", "zookeeper"];
/// Sets the hosts in the environment.
pub const HOSTS_VARIABLE: &str = "PATRONI_ETCD3_HOSTS";
/// Of a host that is written without one.
pub const PORT: u16 = 2379;
/// How a section is written, for messages.
pub const EXAMPLE: &str = "etcd3: {hosts: ...}";

/// Keys that name endpoints; the first one given is used.
const SOURCES: [&str; 4] = ["proxy", "url", "hosts", "host"];
/// Keys that name the domain whose records name the endpoints.
const DOMAINS: [&str; 3] = ["srv", "discovery_srv", "srv_domain"];

/// DNS names the endpoints.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Srv {
    pub domain: String,
    /// Comes after the name of the service.
    pub suffix: Option<String>,
    /// Asked instead of the system's name servers; no setting, for tests.
    pub name_server: Option<std::net::SocketAddr>,
}

/// How one store is reached.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct StoreSettings {
    /// `host:port` each; at least one, or `srv` finds them.
    pub hosts: Vec<String>,
    pub srv: Option<Srv>,
    /// The hosts are proxies: the members behind them are not looked for.
    pub use_proxies: bool,
    /// `http` or `https`.
    pub protocol: String,
    pub username: Option<String>,
    pub password: Option<Secret>,
    pub cacert: Option<PathBuf>,
    pub cert: Option<PathBuf>,
    pub key: Option<PathBuf>,
}

/// The store section that counts, under the name that the user gave it.
pub fn own_section(document: Document<'_>) -> Option<(&'static str, &Value)> {
    SECTIONS.into_iter().find_map(|name| Some((name, document.at(name)?)))
}

/// Reads the one store section of the document.
pub fn own_store(document: Document, findings: &mut Findings) -> StoreSettings {
    let given = |name: &str| document.at(name).is_some();
    let others: Vec<&str> = OTHER_SECTIONS.into_iter().filter(|name| given(name)).collect();
    let Some((name, section)) = own_section(document) else {
        refuse(&others, findings);
        return StoreSettings::default();
    };
    if name == "etcd" {
        findings.warn(
            "etcd is read as etcd3: rename the section to `etcd3`; keys that were written through \
             the old interface (v2) are not seen, so stop the programs that still use it",
        );
    } else if given("etcd") {
        findings.warn("etcd is ignored beside etcd3; remove it");
    }
    for other in others {
        findings.warn(format!("{other} is ignored beside {name}; only etcd3 is supported yet"));
    }
    read_store(section, name, findings)
}

fn refuse(others: &[&str], findings: &mut Findings) {
    const REMEDY: &str = "write `etcd3: {host: HOST:2379}` or set PATRONI_ETCD3_HOST";
    for other in others {
        findings.add(other, "is not supported: only etcd3 is supported yet", REMEDY);
    }
    if others.is_empty() {
        findings.add(SECTION, "is missing: there is no store", REMEDY);
    }
}

/// A section for a sample of the file, whose host is still to be written.
pub fn sample(mark: &str) -> (&'static str, Value) {
    (SECTION, json!({"host": format!("{mark}:{PORT}")}))
}

/// Does this variable say where the store is?
pub fn is_address_variable(name: &str) -> bool {
    ["PATRONI_ETCD_", "PATRONI_ETCD3_"].iter().any(|section| {
        name.strip_prefix(section)
            .is_some_and(|k| ["HOST", "HOSTS", "URL", "PROXY", "SRV", "SRV_SUFFIX"].contains(&k))
    })
}

/// Reads a store section that stands at `path`.
pub fn read_store(section: &Value, path: &str, findings: &mut Findings) -> StoreSettings {
    let document = Document { value: section, prefix: SECTION, defaults: rows::default_of };
    let endpoints = read_endpoints(document, path, findings);
    let login = login_of(&endpoints, document);
    let mut store = StoreSettings {
        protocol: protocol_of(&endpoints, document),
        hosts: Vec::new(),
        srv: DOMAINS.into_iter().find_map(|key| document.text(key)).map(|domain| Srv {
            domain,
            suffix: document.text("srv_suffix"),
            name_server: None,
        }),
        use_proxies: document.flag("use_proxies") || document.at("proxy").is_some(),
        username: login.username,
        password: login.password,
        cacert: document.path("cacert"),
        cert: document.path("cert"),
        key: document.path("key").or_else(|| document.path("cert")),
    };
    if document.at("key").is_some() && store.cert.is_none() {
        findings.add(&format!("{path}.key"), "has no certificate", "write `cert` too");
    }
    if store.protocol == "http" && (store.cacert.is_some() || store.cert.is_some()) {
        findings.warn(format!("{path}: certificates have no effect; write `protocol: https`"));
    }
    for endpoint in endpoints {
        if !store.hosts.contains(&endpoint.host) {
            store.hosts.push(endpoint.host);
        }
    }
    store
}

struct Endpoint {
    scheme: Option<String>,
    /// `host:port`
    host: String,
    login: Login,
}

#[derive(Default)]
struct Login {
    username: Option<String>,
    password: Option<Secret>,
}

/// A URL may bring one; what stands beside it wins.
fn login_of(endpoints: &[Endpoint], document: Document) -> Login {
    let of_url = |get: fn(&Login) -> Option<String>| {
        endpoints.iter().find_map(|endpoint| get(&endpoint.login))
    };
    let username = document.text("username").or_else(|| of_url(|login| login.username.clone()));
    let own = document.text("password").map(Secret);
    let password = own.or_else(|| of_url(|l| Some(l.password.as_ref()?.0.clone())).map(Secret));
    Login { username, password }
}

/// `user:password`, with `%` before what else would mean something in a URL.
fn read_login(text: &str) -> Option<Login> {
    let (username, password) = text.split_once(':').unwrap_or((text, ""));
    let username = percent_decoded(username).filter(|name| !name.is_empty())?;
    let password = Some(percent_decoded(password)?).filter(|word| !word.is_empty());
    Some(Login { username: Some(username), password: password.map(Secret) })
}

fn protocol_of(endpoints: &[Endpoint], document: Document) -> String {
    let of_url = endpoints.iter().find_map(|endpoint| endpoint.scheme.clone());
    of_url.unwrap_or_else(|| document.text_or_empty("protocol").to_lowercase())
}

fn read_endpoints(document: Document, path: &str, findings: &mut Findings) -> Vec<Endpoint> {
    let named = |key: &&str| document.at(key).is_some();
    let given: Vec<&str> = SOURCES.into_iter().chain(DOMAINS).filter(named).collect();
    if let [used, ignored, ..] = given[..] {
        findings.warn(format!("{path}.{ignored} is ignored beside {path}.{used}"));
    }
    let Some(source) = given.first() else {
        if document.value.is_object() {
            findings.add(path, "names no host", "write e.g. host: 127.0.0.1:2379");
        }
        return Vec::new();
    };
    if DOMAINS.contains(source) {
        return Vec::new();
    }
    let port = u16::try_from(document.count("port")).unwrap_or(PORT);
    let place = format!("{path}.{source}");
    let texts = document.texts(source);
    texts.iter().filter_map(|text| read_endpoint(text, port, &place, findings)).collect()
}

/// `host`, `host:port` or a URL. A URL may hold a password: it is not repeated.
fn read_endpoint(text: &str, port: u16, path: &str, findings: &mut Findings) -> Option<Endpoint> {
    let (scheme, rest) = match text.split_once("://") {
        Some((scheme, rest)) => (Some(scheme.to_lowercase()), rest),
        None => (None, text),
    };
    let authority = rest.split('/').next().unwrap_or(rest);
    let (login, authority) = match authority.rsplit_once('@') {
        None => (Some(Login::default()), authority),
        Some((login, authority)) => (read_login(login), authority),
    };
    let Some(login) = login else {
        let remedy = "write it as `username` and `password`";
        findings.add(path, "holds a login that cannot be read", remedy);
        return None;
    };
    if scheme.as_ref().is_some_and(|scheme| scheme != "http" && scheme != "https") {
        findings.add(path, "has an unknown scheme", "write http:// or https://");
        return None;
    }
    let Some((host, port)) = address::parse_address(authority, port) else {
        // A password with a slash in it ends up here: it is percent-encoded, or else.
        let what = match rest.contains('@') {
            true => "holds no host:port behind its login".to_string(),
            false => format!("`{authority}` is no host:port"),
        };
        findings.add(path, what, "write e.g. 127.0.0.1:2379, with a login percent-encoded");
        return None;
    };
    Some(Endpoint { scheme, host: join_host(&host, port), login })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn whole_of(value: &Value) -> Document<'_> {
        Document { value, prefix: "", defaults: rows::default_of }
    }

    fn read(section: Value) -> (StoreSettings, String) {
        let mut findings = Findings::default();
        let store = read_store(&section, "etcd3", &mut findings);
        (store, findings.to_string())
    }

    #[test]
    fn endpoints_are_read_in_every_form() {
        let cases = [
            (json!({"host": "a"}), vec!["a:2379"], "http"),
            (json!({"hosts": "a:1, b,a:1"}), vec!["a:1", "b:2379"], "http"),
            (json!({"hosts": ["a", "[::1]:5"], "port": "9"}), vec!["a:9", "[::1]:5"], "http"),
            (json!({"url": "https://c:3/"}), vec!["c:3"], "https"),
            (json!({"host": "d", "protocol": "HTTPS"}), vec!["d:2379"], "https"),
        ];
        for (section, hosts, protocol) in cases {
            let (store, findings) = read(section.clone());
            assert_eq!(findings, "", "{section}");
            assert_eq!(
                (store.hosts, store.protocol.as_str()),
                (hosts.iter().map(ToString::to_string).collect(), protocol,)
            );
        }
    }

    #[test]
    fn what_names_no_store_is_found_without_its_password() {
        let (_, text) = read(json!({"url": "http://u:hidden%ff@h:1"}));
        assert!(text.starts_with("etcd3.url: holds a login that cannot be read;"), "{text}");
        let (_, text) = read(json!({"url": "http://:hidden@h:1"}));
        assert!(text.starts_with("etcd3.url: holds a login that cannot be read;"), "{text}");
        assert!(!text.contains("hidden"));
        assert!(read(json!({})).1.starts_with("etcd3: names no host"));
        assert!(read(json!({"host": "x:0"})).1.contains("`x:0` is no host:port"));
        assert!(read(json!({"host": "x", "key": "k"})).1.contains("etcd3.key: has no certificate"));
    }

    #[test]
    fn a_domain_names_the_endpoints_and_a_proxy_hides_them() {
        for key in ["srv", "discovery_srv", "srv_domain"] {
            let (store, findings) = read(json!({key: "example.org", "srv_suffix": "blue"}));
            assert_eq!((store.hosts.len(), findings.as_str()), (0, ""));
            let srv = store.srv.unwrap();
            assert_eq!((srv.domain.as_str(), srv.suffix.as_deref()), ("example.org", Some("blue")));
            assert!(!store.use_proxies);
        }
        let (store, _) = read(json!({"proxy": "https://gate:1"}));
        assert!(store.use_proxies && store.hosts == ["gate:1"] && store.protocol == "https");
        assert!(read(json!({"hosts": "a,b", "use_proxies": "on"})).0.use_proxies);
    }

    #[test]
    fn a_url_may_bring_a_login_and_what_stands_beside_it_wins() {
        let login = |section: Value| {
            let (store, findings) = read(section);
            assert_eq!((findings.as_str(), store.hosts.as_slice()), ("", &["h:1".to_string()][..]));
            (store.username.unwrap_or_default(), store.password.map(|p| p.0).unwrap_or_default())
        };
        let pair = |user: &str, word: &str| (user.to_string(), word.to_string());
        assert_eq!(login(json!({"url": "https://u:p%40ss%3A@h:1/"})), pair("u", "p@ss:"));
        let own = json!({"url": "http://u:p@h:1", "username": "v", "password": "q"});
        assert_eq!(login(own), pair("v", "q"));
        assert_eq!(login(json!({"proxy": "http://u@h:1"})), pair("u", ""));
    }

    #[test]
    fn a_certificate_may_hold_its_key() {
        let (store, _) = read(json!({"host": "x", "cert": "c"}));
        assert_eq!(store.key, store.cert);
    }

    #[test]
    fn other_stores_are_named_and_etcd_is_understood() {
        let own = |raw: Value| {
            let mut findings = Findings::default();
            let store = own_store(whole_of(&raw), &mut findings);
            (store.hosts, findings)
        };
        let (_, findings) = own(json!({"consul": {"host": "x"}}));
        assert!(findings.to_string().contains("consul: is not supported: only etcd3"));
        let (hosts, findings) = own(json!({"etcd": {"host": "x"}}));
        assert_eq!(hosts, ["x:2379"]);
        assert!(findings.is_empty() && findings.warnings()[0].contains("rename"));
        let (hosts, findings) = own(json!({"etcd": {"host": "x"}, "etcd3": {"host": "y"}}));
        assert_eq!(hosts, ["y:2379"]);
        assert!(findings.is_empty() && findings.warnings()[0].contains("etcd is ignored beside"));
        let names = ["consul", "exhibitor", "kubernetes", "raft", "zookeeper"];
        let all = names.map(|name| (name.to_string(), json!({"host": "x"})));
        let (hosts, findings) = own(Value::Object(all.into_iter().collect()));
        assert!(hosts.is_empty());
        for name in names {
            let told = format!("{name}: is not supported: only etcd3 is supported yet; write");
            assert!(findings.to_string().contains(&told), "{findings}");
        }
        let (_, findings) = own(json!({"consul": null}));
        assert!(findings.to_string().starts_with("etcd3: is missing: there is no store"));
        let (hosts, findings) = own(json!({"etcd3": {"host": "y"}, "raft": {"a": 1}}));
        assert_eq!(hosts, ["y:2379"]);
        assert!(findings.is_empty() && findings.warnings()[0].contains("raft is ignored"));
    }
}
