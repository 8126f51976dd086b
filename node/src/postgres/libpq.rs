//! How libpq logs in where nothing is given: by variables, and as the user of this process.
//!
//! Absent on purpose: the password file (`pgpass.rs`) and service files.

use crate::config::{Login, Secret};
use std::collections::BTreeMap;

/// Words of a connection string that say how to log in, and the variables that stand for them.
pub(crate) const LOGIN_VARIABLES: [(&str, &str); 6] = [
    ("user", "PGUSER"),
    ("password", "PGPASSWORD"),
    ("sslmode", "PGSSLMODE"),
    ("sslcert", "PGSSLCERT"),
    ("sslkey", "PGSSLKEY"),
    ("sslrootcert", "PGSSLROOTCERT"),
];

/// As `user`; else as the variables say, else as the user of this process.
pub fn login(user: Option<&str>, variable: impl Fn(&str) -> Option<String>) -> Login {
    let given = |(word, name): (&str, &str)| {
        let value = variable(name).filter(|value| !value.is_empty())?;
        Some((word.to_string(), value))
    };
    let mut words: BTreeMap<String, String> =
        LOGIN_VARIABLES.into_iter().filter_map(given).collect();
    let named = words.remove("user");
    let username = user.map(str::to_string).or(named).or_else(own_name);
    let password = words.remove("password").map(Secret);
    Login { username: username.unwrap_or_else(|| "postgres".into()), password, extra: words }
}

pub(crate) fn own_name() -> Option<String> {
    let user = nix::unistd::User::from_uid(nix::unistd::geteuid()).ok()??;
    Some(user.name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_given_wins_and_variables_fill_the_rest() {
        let variable = |name: &str| match name {
            "PGUSER" => Some("reader".to_string()),
            "PGPASSWORD" => Some("secret".to_string()),
            "PGSSLMODE" => Some("verify-full".to_string()),
            "PGSSLCERT" => Some(String::new()),
            _ => None,
        };
        let by_variables = login(None, variable);
        assert_eq!(by_variables.username, "reader");
        assert_eq!(by_variables.password.unwrap().0, "secret");
        assert_eq!(by_variables.extra, [("sslmode".into(), "verify-full".into())].into());
        assert_eq!(login(Some("me"), variable).username, "me");
        assert_eq!(login(None, |_| None).username, own_name().unwrap());
    }
}
