//! Connection strings of libpq: `key=value`, in the order Patroni writes them.
//!
//! Invariant *no password here*: passwords reach PostgreSQL's programs through
//! a pgpass file, so they stand neither in postgresql.conf nor in a process
//! list.

use crate::config::Login;
use std::path::Path;
use topology::quote::connection_value;

/// The section of the service file that connection strings name.
pub(crate) const SERVICE: &str = "matriarch";
/// Keys of `authentication` that follow the port, in this order.
const SSL_KEYS: [&str; 6] =
    ["sslcert", "sslkey", "sslpassword", "sslrootcert", "sslcrl", "sslcrldir"];

/// A peer that has gone without a word is noticed after a minute; the kernel would
/// wait for a quarter of an hour, or for ever where nothing is to be sent.
const NOTICES_SILENCE: &str =
    " keepalives_idle=30 keepalives_interval=10 keepalives_count=3 tcp_user_timeout=60000";

/// One server to connect to, and the login to use.
#[derive(Clone, Debug)]
pub(crate) struct Conninfo<'a> {
    pub login: &'a Login,
    pub host: &'a str,
    pub port: u16,
    pub database: Option<&'a str>,
    pub passfile: Option<&'a Path>,
    pub application_name: Option<&'a str>,
    pub target_session_attrs: Option<&'a str>,
    /// Major version of the libpq that reads it: newer keys are left out.
    pub major: u32,
}

impl Conninfo<'_> {
    pub(crate) fn render(&self) -> String {
        words(&self.pairs())
    }

    /// For a program that has no timeout of its own, as a standby has with
    /// `wal_receiver_timeout`. Every user of the machine can read its arguments: the
    /// password of the client's key comes through a service file.
    pub(crate) fn render_for_program(&self) -> String {
        let mut pairs = self.pairs();
        let all = pairs.len();
        pairs.retain(|(key, _)| *key != "sslpassword");
        if pairs.len() < all {
            pairs.push(("service", SERVICE.to_string()));
        }
        words(&pairs) + NOTICES_SILENCE
    }

    fn pairs(&self) -> Vec<(&'static str, String)> {
        let extra = |key: &str| self.login.extra.get(key).cloned();
        let or = |key: &str, default: &str| Some(extra(key).unwrap_or_else(|| default.into()));
        let (hosts, ports) = host_and_port_words(self.host, self.port);
        let passfile = self.passfile.filter(|_| self.login.password.is_some());
        let mut pairs = vec![
            ("dbname", self.database.map(str::to_string)),
            ("user", Some(self.login.username.clone()).filter(|user| !user.is_empty())),
            ("passfile", passfile.map(|path| path.display().to_string())),
            ("host", Some(hosts)),
            ("port", Some(ports)),
            ("sslmode", or("sslmode", "prefer")),
        ];
        let ssl = SSL_KEYS.iter().filter(|key| self.major >= 14 || **key != "sslcrldir");
        pairs.extend(ssl.map(|key| (*key, extra(key))));
        pairs.extend([
            ("application_name", self.application_name.map(str::to_string)),
            ("krbsrvname", extra("krbsrvname")),
            ("gssencmode", or("gssencmode", "prefer")),
            ("channel_binding", or("channel_binding", "prefer")),
            ("target_session_attrs", self.target_session_attrs.map(str::to_string)),
            ("sslnegotiation", or("sslnegotiation", "postgres").filter(|_| self.major >= 17)),
        ]);
        pairs.into_iter().filter_map(|(key, value)| Some((key, value?))).collect()
    }
}

fn words(pairs: &[(&'static str, String)]) -> String {
    let words = pairs.iter().map(|(key, value)| format!("{key}={}", quote(value)));
    words.collect::<Vec<String>>().join(" ")
}

/// The servers that a list of hosts names. One may bring its own port (`a:1`,
/// `[::1]:1`); a bare IPv6 address brings none.
pub(crate) fn servers(hosts: &str, port: u16) -> Vec<(String, u16)> {
    let read = |item: &str| {
        let own = item.rsplit_once(':').filter(|(host, _)| {
            !host.contains(':') || (host.starts_with('[') && host.ends_with(']'))
        });
        let own = own.and_then(|(host, port)| Some((host, port.parse().ok()?)));
        let (host, port) = own.unwrap_or((item, port));
        (host.trim_matches(['[', ']']).to_string(), port)
    };
    hosts.split(',').map(str::trim).map(read).collect()
}

/// The same as the words that libpq reads: one port, or one for each host.
fn host_and_port_words(hosts: &str, port: u16) -> (String, String) {
    let (hosts, mut ports): (Vec<String>, Vec<String>) =
        servers(hosts, port).into_iter().map(|(host, port)| (host, port.to_string())).unzip();
    if ports.iter().all(|port| *port == ports[0]) {
        ports.truncate(1);
    }
    (hosts.join(","), ports.join(","))
}

/// What `host_and_port_words` took, from the words of a connection string.
pub(crate) fn from_words(host: &str, ports: Option<&str>) -> (String, u16) {
    const DEFAULT: u16 = 5432;
    let read = |port: &str| port.trim().parse().unwrap_or(DEFAULT);
    let ports: Vec<u16> = ports.unwrap_or_default().split(',').map(read).collect();
    if ports.len() == 1 {
        return (host.to_string(), ports[0]);
    }
    let own = |(host, port): (&str, &u16)| crate::config::join(host.trim(), *port);
    let each: Vec<String> = host.split(',').zip(&ports).map(own).collect();
    (each.join(","), ports[0])
}

/// Quotes one value, where it needs it.
pub(crate) fn quote(value: &str) -> String {
    let plain = |c: char| !c.is_whitespace() && c != '\'' && c != '\\';
    if !value.is_empty() && value.chars().all(plain) {
        return value.to_string();
    }
    connection_value(value)
}

/// Reads a connection string; `None` when it is not well formed.
pub(crate) fn parse(text: &str) -> Option<Vec<(String, String)>> {
    let mut rest = text.trim_start();
    let mut pairs = Vec::new();
    while !rest.is_empty() {
        let (key, after) = rest.split_once('=')?;
        let (value, after) = parse_value(after.trim_start())?;
        pairs.push((key.trim().to_string(), value));
        rest = after.trim_start();
    }
    Some(pairs)
}

fn parse_value(text: &str) -> Option<(String, &str)> {
    let quoted = text.starts_with('\'');
    let mut value = String::new();
    let mut chars = text.char_indices().skip(usize::from(quoted));
    while let Some((index, c)) = chars.next() {
        match c {
            '\\' => value.push(chars.next()?.1),
            '\'' if quoted => return Some((value, &text[index + 1..])),
            c if c.is_whitespace() && !quoted => return Some((value, &text[index..])),
            c => value.push(c),
        }
    }
    (!quoted).then_some((value, ""))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Secret;
    use proptest::prelude::*;

    fn login() -> Login {
        let password = Some(Secret("rep-pass".into()));
        Login { username: "replicator".into(), password, ..Login::default() }
    }

    fn upstream(login: &Login) -> Conninfo<'_> {
        Conninfo {
            login,
            host: "127.0.0.1",
            port: 5361,
            database: Some("postgres"),
            passfile: Some(Path::new("/golden/pgpass2")),
            application_name: Some("n2"),
            target_session_attrs: None,
            major: 15,
        }
    }

    #[test]
    fn the_order_is_patronis() {
        let text = upstream(&login()).render();
        assert_eq!(
            text,
            "dbname=postgres user=replicator passfile=/golden/pgpass2 host=127.0.0.1 port=5361 \
             sslmode=prefer application_name=n2 gssencmode=prefer channel_binding=prefer"
        );
    }

    #[test]
    fn h1_a_program_notices_a_peer_that_is_gone() {
        let login = login();
        let text = upstream(&login).render_for_program();
        let pairs = parse(&text).expect("well formed");
        for key in ["keepalives_idle", "keepalives_count", "tcp_user_timeout"] {
            assert!(pairs.iter().any(|(k, v)| k == key && v.parse::<u32>().is_ok()), "{text}");
        }
        assert!(text.starts_with(&upstream(&login).render()), "the rest is as for a standby");
    }

    #[test]
    fn every_key_has_its_place() {
        let mut login = login();
        for key in ["krbsrvname", "sslcert", "sslkey", "sslrootcert", "sslcrl", "sslpassword"] {
            login.extra.insert(key.into(), format!("my-{key}"));
        }
        login.extra.insert("gssencmode".into(), "disable".into());
        let mut conninfo = upstream(&login);
        conninfo.application_name = Some("node 1's");
        conninfo.target_session_attrs = Some("read-write");
        conninfo.major = 17;
        let text = conninfo.render();
        let wanted = "sslmode=prefer sslcert=my-sslcert sslkey=my-sslkey \
            sslpassword=my-sslpassword sslrootcert=my-sslrootcert sslcrl=my-sslcrl \
            application_name='node 1\\'s' krbsrvname=my-krbsrvname gssencmode=disable \
            channel_binding=prefer target_session_attrs=read-write sslnegotiation=postgres";
        assert!(text.ends_with(wanted), "{text}");
        let for_tool = upstream(&login).render_for_program();
        assert!(!for_tool.contains("my-sslpassword"), "{for_tool}");
        assert!(for_tool.contains("sslkey=my-sslkey sslrootcert=my-sslrootcert"), "{for_tool}");
        assert!(for_tool.contains(" service=matriarch"), "{for_tool}");
        let open = Login { password: None, ..login };
        assert!(!upstream(&open).render().contains("passfile"), "nothing would be in it");
    }

    #[test]
    fn each_host_may_bring_its_port() {
        let login = login();
        let mut conninfo = upstream(&login);
        conninfo.host = "a:1,[::1]:2,::5,/run/pg";
        let text = conninfo.render();
        assert!(text.contains("host=a,::1,::5,/run/pg port=1,2,5361,5361 sslmode"), "{text}");
        conninfo.host = "a,b";
        assert!(conninfo.render().contains("host=a,b port=5361 sslmode"));
        assert_eq!(from_words("a,::1", Some("1,2")), ("a:1,[::1]:2".to_string(), 1));
        assert_eq!(from_words("a,b", Some("7")), ("a,b".to_string(), 7));
        assert_eq!(from_words("a", None), ("a".to_string(), 5432));
    }

    #[test]
    fn newer_keys_wait_for_their_version() {
        let mut login = login();
        login.extra.insert("sslcrldir".into(), "/crl".into());
        login.extra.insert("sslmode".into(), "verify-ca".into());
        let mut conninfo = upstream(&login);
        conninfo.major = 13;
        assert!(!conninfo.render().contains("sslcrldir"));
        conninfo.major = 17;
        let text = conninfo.render();
        assert!(text.contains("sslmode=verify-ca sslcrldir=/crl"), "{text}");
        assert!(text.ends_with("sslnegotiation=postgres"), "{text}");
    }

    #[test]
    fn broken_strings_are_not_guessed() {
        assert_eq!(parse("host='a"), None);
        assert_eq!(parse("host"), None);
    }

    proptest! {
        #[test]
        fn what_is_quoted_reads_back(values in prop::collection::vec("\\PC{0,12}", 1..4)) {
            let text: Vec<String> = values.iter().map(|v| format!("k={}", quote(v))).collect();
            let read = parse(&text.join(" ")).unwrap();
            prop_assert_eq!(read.into_iter().map(|(_, v)| v).collect::<Vec<_>>(), values);
        }
    }
}
