//! The users that a group needs: superuser, replication, rewind.
//!
//! Invariant *no password on the way*: what is sent and stored is a verifier, from
//! which the password cannot be read. Even that is in no log: statement logging is
//! off, in the same transaction, before it is sent.

use super::error::Error;
use super::session::Session;
use crate::config::{Login, Postgresql};
use postgres_protocol::escape::escape_literal;
use postgres_protocol::password::{md5, scram_sha_256};
use topology::quote::identifier;

/// What pg_rewind calls on its source.
const REWIND_FUNCTIONS: [&str; 4] = [
    "pg_ls_dir(text, boolean, boolean)",
    "pg_stat_file(text, boolean)",
    "pg_read_binary_file(text)",
    "pg_read_binary_file(text, bigint, bigint, boolean)",
];

/// Never waits for a standby: the users must be there before one can connect.
const QUIET: &str = "\
BEGIN;
SET LOCAL synchronous_commit = local;
SET LOCAL log_statement = none;
SET LOCAL log_min_duration_statement = -1;
SET LOCAL log_min_error_statement = panic;
SET LOCAL log_min_duration_sample = -1;
SET LOCAL pg_stat_statements.track = none;
SET LOCAL pg_stat_statements.track_utility = off;
SET LOCAL pgaudit.log = none;
";

/// Creates what is missing and sets all passwords; may be repeated.
pub async fn ensure_all(session: &Session, settings: &Postgresql) -> Result<(), Error> {
    ensure_superuser(session, settings).await?;
    ensure_others(session, settings).await
}

pub async fn ensure_superuser(session: &Session, settings: &Postgresql) -> Result<(), Error> {
    match &settings.superuser.password {
        Some(_) => ensure(session, &settings.superuser, "SUPERUSER").await,
        None => Ok(()),
    }
}

pub async fn ensure_others(session: &Session, settings: &Postgresql) -> Result<(), Error> {
    let superuser = &settings.superuser;
    if settings.replication.username != superuser.username {
        ensure(session, &settings.replication, "REPLICATION").await?;
    }
    let rewind = &settings.rewind;
    if rewind.username != superuser.username {
        if rewind.username != settings.replication.username {
            ensure(session, rewind, "").await?;
        }
        grant_rewind(session, &rewind.username).await?;
    }
    Ok(())
}

/// Creates or alters one user that may log in.
pub async fn ensure(session: &Session, login: &Login, options: &str) -> Result<(), Error> {
    if login.username.is_empty() {
        return Ok(());
    }
    let kind = encryption(session).await?;
    in_silence(session, "set up a user", &statement(login, options, kind)).await
}

/// How the server wants passwords to be stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Encryption {
    Scram,
    Md5,
}

async fn encryption(session: &Session) -> Result<Encryption, Error> {
    const WHAT: &str = "password_encryption";
    const SQL: &str = "SELECT pg_catalog.current_setting('password_encryption')";
    let row = session.row(WHAT, SQL, &[]).await?;
    let wanted: String = row.try_get(0).map_err(|_| Error::Answer { what: WHAT, field: WHAT })?;
    // Before 14 `on` was another word for md5.
    let is_scram = wanted.eq_ignore_ascii_case("scram-sha-256");
    Ok(if is_scram { Encryption::Scram } else { Encryption::Md5 })
}

/// What the server stores for the password. One that is a verifier already is stored
/// as it is, as the server itself would do.
fn verifier(login: &Login, kind: Encryption) -> Option<String> {
    let word = &login.password.as_ref()?.0;
    let is_md5 = word.strip_prefix("md5").is_some_and(|hash| {
        hash.len() == 32 && hash.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
    });
    Some(match kind {
        _ if is_md5 || word.starts_with("SCRAM-SHA-256$") => word.clone(),
        Encryption::Scram => scram_sha_256(word.as_bytes()),
        Encryption::Md5 => md5(word.as_bytes(), &login.username),
    })
}

/// One message silences the log, the next one may hold a password: a message
/// is logged as a whole, before anything in it is executed.
async fn in_silence(session: &Session, what: &'static str, sql: &str) -> Result<(), Error> {
    session.execute(what, QUIET).await?;
    let done = session.execute(what, sql).await;
    let end = if done.is_ok() { "COMMIT" } else { "ROLLBACK" };
    let ended = session.execute(what, end).await;
    done.and(ended)
}

fn statement(login: &Login, options: &str, kind: Encryption) -> String {
    let name = identifier(&login.username);
    let password = verifier(login, kind);
    let password =
        password.map(|p| format!(" PASSWORD {}", escape_literal(&p))).unwrap_or_default();
    let may_login = if options.contains("NOLOGIN") { "" } else { " LOGIN" };
    let rest = format!("{name} WITH{may_login} {options}{password}");
    let exists = format!(
        "SELECT FROM pg_catalog.pg_roles WHERE rolname = {}",
        escape_literal(&login.username)
    );
    let body = format!(
        "BEGIN IF EXISTS ({exists}) THEN ALTER ROLE {rest}; ELSE CREATE ROLE {rest}; END IF; END"
    );
    format!("DO {}", escape_literal(&body))
}

async fn grant_rewind(session: &Session, username: &str) -> Result<(), Error> {
    let grants: String = REWIND_FUNCTIONS
        .iter()
        .map(|function| {
            format!("GRANT EXECUTE ON FUNCTION pg_catalog.{function} TO {};", identifier(username))
        })
        .collect();
    in_silence(session, "grant pg_rewind its functions", &grants).await
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Secret;

    #[test]
    fn names_and_passwords_cannot_leave_their_quotes() {
        let password = Some(Secret("SCRAM-SHA-256$p'; DROP".into()));
        let login = Login { username: "a\"b'c".into(), password, ..Login::default() };
        let text = statement(&login, "REPLICATION", Encryption::Scram);
        assert!(text.contains("CREATE ROLE \"a\"\"b''c\" WITH LOGIN REPLICATION"), "{text}");
        assert!(text.contains("PASSWORD ''SCRAM-SHA-256$p''''; DROP''"), "{text}");
    }

    #[test]
    fn s8_a_password_never_leaves_in_clear() {
        let login = |word: &str| Login {
            username: "rep".into(),
            password: Some(Secret(word.into())),
            ..Login::default()
        };
        let scram = statement(&login("my-word"), "REPLICATION", Encryption::Scram);
        assert!(scram.contains("PASSWORD ''SCRAM-SHA-256$4096:"), "{scram}");
        let md5 = statement(&login("my-word"), "REPLICATION", Encryption::Md5);
        // SELECT 'md5' || md5('my-word' || 'rep')
        assert!(md5.contains("PASSWORD ''md5"), "{md5}");
        assert!(!scram.contains("my-word") && !md5.contains("my-word"));
        for known in ["md50123456789abcdef0123456789abcdef", "SCRAM-SHA-256$4096:a$b:c"] {
            assert_eq!(verifier(&login(known), Encryption::Md5).as_deref(), Some(known));
        }
        assert_eq!(verifier(&Login::default(), Encryption::Scram), None);
    }
}
