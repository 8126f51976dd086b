//! How to reach a server, as its own programs read it: a connection string of
//! either form, else the `PG*` variables, else the usual places.
//!
//! Absent on purpose: service files and password files.

use super::Error;
use crate::config::{Login, Secret};
use crate::postgres::libpq::{LOGIN_VARIABLES, own_name};
use crate::postgres::{Target, conninfo};
use std::collections::BTreeMap;
use std::path::Path;
use topology::quote::percent_decoded;

const NAME: &str = "matriarch generate-config";
const SOCKET_DIRS: [&str; 2] = ["/var/run/postgresql", "/tmp"];
/// Words of a connection string that say where the server is, and their variables.
const PLACE_VARIABLES: [(&str, &str); 4] =
    [("host", "PGHOST"), ("hostaddr", "PGHOSTADDR"), ("port", "PGPORT"), ("dbname", "PGDATABASE")];

pub(super) fn target(dsn: Option<&str>) -> Result<Target, Error> {
    let given = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
    target_of(dsn, given)
}

fn target_of(
    dsn: Option<&str>,
    variable: impl Fn(&str) -> Option<String>,
) -> Result<Target, Error> {
    let mut words = match dsn {
        Some(dsn) => words(dsn).ok_or_else(|| Error::Dsn(without_password(dsn)))?,
        None => BTreeMap::new(),
    };
    for (word, name) in PLACE_VARIABLES.into_iter().chain(LOGIN_VARIABLES) {
        if let (false, Some(value)) = (words.contains_key(word), variable(name)) {
            words.insert(word.to_string(), value);
        }
    }
    let mut take = |word: &str| words.remove(word).filter(|value| !value.is_empty());
    let ports = take("port");
    let host = take("hostaddr").or_else(|| take("host"));
    let host = host.or(take("host")).unwrap_or_else(|| usual_host(ports.as_deref()));
    let (host, port) = conninfo::from_words(&host, ports.as_deref());
    let username = take("user").or_else(own_name).unwrap_or_else(|| "postgres".into());
    let password = take("password").map(Secret);
    let database = take("dbname").unwrap_or_else(|| "postgres".into());
    let login = Login { username, password, extra: words };
    Ok(Target::new(&host, port, &login, &database, NAME))
}

/// A socket that is there, else this machine.
fn usual_host(port: Option<&str>) -> String {
    let file = format!(".s.PGSQL.{}", port.unwrap_or("5432"));
    let dir = SOCKET_DIRS.into_iter().find(|dir| Path::new(dir).join(&file).exists());
    dir.unwrap_or("localhost").to_string()
}

fn words(dsn: &str) -> Option<BTreeMap<String, String>> {
    let uri =
        ["postgresql://", "postgres://"].into_iter().find_map(|start| dsn.strip_prefix(start));
    match uri {
        Some(rest) => words_of_uri(rest),
        None => Some(conninfo::parse(dsn)?.into_iter().collect()),
    }
}

/// `user:password@host:port,host:port/database?word=value`.
fn words_of_uri(uri: &str) -> Option<BTreeMap<String, String>> {
    let mut words = BTreeMap::new();
    let (uri, options) = uri.split_once('?').unwrap_or((uri, ""));
    let (servers, database) = uri.split_once('/').unwrap_or((uri, ""));
    let (login, servers) = servers.rsplit_once('@').unwrap_or(("", servers));
    let (user, password) = login.split_once(':').unwrap_or((login, ""));
    let (mut hosts, mut ports) = (Vec::new(), Vec::new());
    for server in servers.split(',') {
        let port = server.rsplit_once(':').filter(|(_, port)| !port.contains(']'));
        let (host, port) = port.unwrap_or((server, ""));
        hosts.push(host.trim_matches(['[', ']']).to_string());
        ports.push(port);
    }
    let plain = [("user", user), ("password", password), ("dbname", database)];
    for (word, value) in plain {
        words.insert(word.to_string(), percent_decoded(value)?);
    }
    words.insert("host".into(), percent_decoded(&hosts.join(","))?);
    if ports.iter().any(|port| !port.is_empty()) {
        let each = ports.iter().map(|port| if port.is_empty() { "5432" } else { port });
        words.insert("port".into(), each.collect::<Vec<_>>().join(","));
    }
    for option in options.split('&').filter(|option| !option.is_empty()) {
        let (word, value) = option.split_once('=')?;
        words.insert(percent_decoded(word)?, percent_decoded(value)?);
    }
    words.retain(|_, value| !value.is_empty());
    Some(words)
}

/// What may be shown of a string that could not be parsed.
fn without_password(dsn: &str) -> String {
    if dsn.contains("password") || dsn.contains('@') {
        return "it is not shown, for it may hold a password".to_string();
    }
    format!("`{dsn}`")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(dsn: &str) -> Target {
        target_of(Some(dsn), |_| None).unwrap()
    }

    #[test]
    fn both_forms_say_the_same() {
        let one = read("host=db port=5433 user=u password='p@ss' dbname=d sslmode=require");
        let other = read("postgres://u:p%40ss@db:5433/d?sslmode=require");
        for target in [one, other] {
            assert_eq!((target.host.as_str(), target.port), ("db", 5433));
            assert_eq!((target.database.as_str(), target.login.username.as_str()), ("d", "u"));
            assert_eq!(target.login.password.unwrap().0, "p@ss");
            assert_eq!(target.login.extra["sslmode"], "require");
        }
        let target = read("postgresql://[::1]:1,b/x");
        assert_eq!((target.host.as_str(), target.port), ("[::1]:1,b:5432", 1));
        assert_eq!(read("postgresql://%2Ftmp/x").host, "/tmp");
    }

    #[test]
    fn variables_fill_what_is_not_given() {
        let variable = |name: &str| match name {
            "PGHOST" => Some("/run/pg".to_string()),
            "PGPORT" => Some("7".to_string()),
            "PGUSER" => Some("root".to_string()),
            _ => None,
        };
        let target = target_of(Some("user=me"), variable).unwrap();
        assert_eq!((target.host.as_str(), target.port), ("/run/pg", 7));
        assert_eq!(target.login.username, "me");
        let target = target_of(None, variable).unwrap();
        assert_eq!(
            (target.login.username.as_str(), target.database.as_str()),
            ("root", "postgres")
        );
    }

    #[test]
    fn nonsense_is_refused_without_showing_a_password() {
        for dsn in ["host", "host='a", "postgres://a?b", "postgres://%zz"] {
            assert!(target_of(Some(dsn), |_| None).is_err(), "{dsn}");
        }
        let error = target_of(Some("password='hidden"), |_| None).unwrap_err();
        assert!(!error.to_string().contains("hidden"));
    }
}
