//! The lines of a password file: written for PostgreSQL's programs, and read as libpq does.

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

/// What a password is looked for with.
#[derive(Clone, Copy, Debug)]
pub struct Wanted<'a> {
    pub host: &'a str,
    pub port: u16,
    pub database: &'a str,
    pub user: &'a str,
}

/// The password of the first line that fits.
pub fn password_in(text: &str, wanted: Wanted) -> Option<String> {
    let host = if wanted.host.starts_with('/') { "localhost" } else { wanted.host };
    let port = wanted.port.to_string();
    let asked = [host, &port, wanted.database, wanted.user];
    let lines = text.lines().filter(|line| !line.starts_with('#'));
    lines.filter_map(fields).find_map(|mut fields| {
        let password = fields.pop()?;
        let fits = |(field, asked): (&String, &&str)| field == "*" || field == asked;
        fields.iter().zip(&asked).all(fits).then_some(password)
    })
}

/// The five fields of a line; a colon after a backslash is part of its field.
fn fields(line: &str) -> Option<Vec<String>> {
    let mut fields = vec![String::new()];
    let mut letters = line.chars();
    while let Some(letter) = letters.next() {
        match letter {
            ':' if fields.len() < 5 => fields.push(String::new()),
            '\\' => fields.last_mut()?.extend(letters.next()),
            _ => fields.last_mut()?.push(letter),
        }
    }
    (fields.len() == 5).then_some(fields)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(text: &str, host: &str, user: &str) -> Option<String> {
        password_in(text, Wanted { host, port: 5432, database: "shop", user })
    }

    #[test]
    fn what_is_written_is_found_again() {
        let text = pgpass_lines("db1,db2", 5432, "a:b", "p\\:w");
        assert_eq!(found(&text, "db2", "a:b").as_deref(), Some("p\\:w"));
        assert_eq!(found(&text, "db3", "a:b"), None);
        let text = pgpass_lines("/run/pg", 5432, "u", "x");
        assert_eq!(found(&text, "/run/other", "u").as_deref(), Some("x"), "any local socket");
    }

    #[test]
    fn the_first_line_that_fits_counts() {
        let text = "# db:5432:*:u:no\nnonsense\ndb:5433:*:u:port\n*:*:shop:u:one\n*:*:*:*:two";
        assert_eq!(found(text, "db", "u").as_deref(), Some("one"));
        assert_eq!(found(text, "db", "v").as_deref(), Some("two"));
    }
}
