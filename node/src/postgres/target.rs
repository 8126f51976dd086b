//! Where a session goes, and what it asks of the server.

use crate::config::Login;
use std::time::Duration;
use tokio_postgres::config::{Config, SslMode};

pub(super) const CONNECT_LIMIT: Duration = Duration::from_secs(3);
pub(super) const STATEMENT_LIMIT: Duration = Duration::from_secs(2);
/// A dead peer is noticed by the kernel after this long.
const TCP_LIMIT: Duration = Duration::from_secs(10);

/// What the owner of a database may set for it (`ALTER DATABASE`) must not decide what
/// becomes of our statements: the role is the one that logged in, and it may write.
pub(crate) const TRUSTED: &str = " -c role=none -c default_transaction_read_only=off";

/// The server to connect to, and the login to use.
#[derive(Clone, Debug)]
pub struct Target {
    /// A name, an address, a directory of a socket, or several with commas.
    pub host: String,
    pub port: u16,
    pub login: Login,
    pub database: String,
    pub application_name: String,
    pub connect_limit: Duration,
    /// For each statement; zero switches both deadlines off.
    pub statement_limit: Duration,
    /// Keep statements out of pg_stat_statements. Superusers only.
    pub unrecorded: bool,
    /// The schemas in which the session finds names.
    pub search_path: &'static str,
    /// More settings of the session, as options of the server's command line.
    pub options: &'static str,
    /// The server beside this daemon: what is sent to it does not leave the machine.
    pub is_own: bool,
    /// Statements are an operator's own: the session has the settings that the server gives it.
    pub is_operators: bool,
}

impl Target {
    pub fn new(host: &str, port: u16, login: &Login, database: &str, name: &str) -> Target {
        Target {
            host: host.to_string(),
            port,
            login: login.clone(),
            database: database.to_string(),
            application_name: name.to_string(),
            connect_limit: CONNECT_LIMIT,
            statement_limit: STATEMENT_LIMIT,
            unrecorded: false,
            search_path: "pg_catalog,pg_temp",
            options: "",
            is_own: false,
            is_operators: false,
        }
    }

    pub(super) fn address(&self) -> String {
        format!("{}:{}", self.host, self.port)
    }

    fn options(&self) -> String {
        let limit = self.statement_limit.as_millis();
        let path = self.search_path;
        let mut options = format!("-c statement_timeout={limit} -c search_path={path}{TRUSTED}");
        if self.unrecorded {
            options.push_str(" -c pg_stat_statements.track=none");
        }
        options.push_str(self.options);
        options
    }

    /// How to log in, to whatever host.
    pub(super) fn config(&self, ssl: SslMode) -> Config {
        let mut config = Config::new();
        config.user(&self.login.username).dbname(&self.database).ssl_mode(ssl);
        if let Some(password) = &self.login.password {
            config.password(&password.0);
        }
        config.application_name(&self.application_name);
        if !self.is_operators {
            config.options(self.options());
        }
        config.connect_timeout(self.connect_limit).tcp_user_timeout(TCP_LIMIT);
        config
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_of_ours_are_kept_from_an_operators_session() {
        let ours = Target::new("h", 1, &Login::default(), "d", "n");
        let options =
            |target: &Target| target.config(SslMode::Disable).get_options().map(str::to_string);
        assert!(options(&ours).unwrap().contains("search_path=pg_catalog"));
        assert_eq!(options(&Target { is_operators: true, ..ours }), None);
    }
}
