//! PostgreSQL's programs that make a data directory: initdb, pg_basebackup.
//!
//! Each future owns its program: dropping it kills the program with everything
//! it started (`run.rs`).
//!
//! Absent on purpose: when to run which, and clearing the data directory
//! before or after (`data_dir.rs`).

use super::conninfo::Conninfo;
use super::error::Error;
use super::files::{Places, append_hba};
use super::run::run;
pub use super::secrets::Source;
use super::secrets::{SecretFile, Secrets};
use crate::config::{BASEBACKUP_FORBIDDEN, Bootstrap, INITDB_FORBIDDEN, Login};
use crate::config::{Postgresql, ToolOption};
use std::time::Duration;
use tokio::process::Command;

const INITDB_LIMIT: Duration = Duration::from_secs(600);
/// The largest databases take days; a dead source ends it much sooner.
pub(super) const COPY_LIMIT: Duration = Duration::from_secs(7 * 24 * 3600);

/// In the environment of whatever fills a data directory: a daemon that is
/// killed leaves it at work, and the next one finds it.
pub(super) const FILLS: &str = "MATRIARCH_FILLS";

/// Creates a new cluster in the empty data directory.
pub async fn initdb(settings: &Postgresql, bootstrap: &Bootstrap) -> Result<(), Error> {
    refuse("bootstrap.initdb", &bootstrap.initdb, &INITDB_FORBIDDEN)?;
    let mut command = Command::new(settings.tool("initdb"));
    command.args(bootstrap.initdb.iter().map(option));
    let superuser = &settings.superuser;
    if !superuser.username.is_empty() {
        command.arg(format!("--username={}", superuser.username));
    }
    let secret = match &superuser.password {
        Some(word) => Some(SecretFile::create(settings, "initdb", &word.0)?),
        None => None,
    };
    if let Some(file) = &secret {
        command.arg(format!("--pwfile={}", file.path().display()));
    }
    command.arg(&settings.data_dir).env(FILLS, &settings.data_dir);
    run(command, INITDB_LIMIT).await?;
    if bootstrap.pg_hba.is_empty() {
        return Ok(());
    }
    // initdb writes its files into the data directory, wherever ours are.
    let data_dir = settings.data_dir.clone();
    append_hba(&bootstrap.pg_hba, &Places::in_data(&data_dir))
}

/// Copies `source` into the empty data directory.
pub async fn basebackup(
    settings: &Postgresql,
    source: Source<'_>,
    options: &[ToolOption],
    major: u32,
) -> Result<(), Error> {
    refuse("postgresql.basebackup", options, &BASEBACKUP_FORBIDDEN)?;
    refuse_compression(options, major)?;
    let login = &settings.replication;
    let secrets = Secrets::create(settings, login, source, "basebackup")?;
    let mut command = Command::new(settings.tool("pg_basebackup"));
    command.arg(format!("--pgdata={}", settings.data_dir.display())).args(["-X", "stream"]);
    command.arg(format!("--dbname={}", dsn(login, source, None, major)));
    command.args(options.iter().map(option));
    secrets.give_to(&mut command);
    command.env(FILLS, &settings.data_dir);
    set_service_name(&mut command, login);
    run(command, COPY_LIMIT).await.map(drop)
}

/// Kerberos' name of the service, for programs that do not get it in words.
pub(super) fn set_service_name(command: &mut Command, login: &Login) {
    command.envs(login.extra.get("krbsrvname").map(|name| ("PGKRBSRVNAME", name)));
}

pub(super) fn option(option: &ToolOption) -> String {
    match &option.value {
        Some(value) => format!("--{}={value}", option.name),
        None => format!("--{}", option.name),
    }
}

fn refuse(setting: &'static str, given: &[ToolOption], forbidden: &[&str]) -> Result<(), Error> {
    match given.iter().find(|option| forbidden.contains(&option.name.as_str())) {
        Some(option) => Err(Error::ForbiddenOption { setting, option: option.name.clone() }),
        None => Ok(()),
    }
}

/// Only the server may compress: the data directory must be usable as it is.
fn refuse_compression(given: &[ToolOption], major: u32) -> Result<(), Error> {
    let on_server = |option: &ToolOption| {
        major >= 15 && option.value.as_deref().is_some_and(|value| value.starts_with("server"))
    };
    match given.iter().find(|option| option.name == "compress" && !on_server(option)) {
        Some(_) => refuse("postgresql.basebackup", given, &["compress"]),
        None => Ok(()),
    }
}

pub(super) fn dsn(login: &Login, source: Source<'_>, database: Option<&str>, major: u32) -> String {
    let conninfo = Conninfo {
        login,
        host: source.host,
        port: source.port,
        database,
        passfile: None,
        application_name: None,
        target_session_attrs: None,
        major,
    };
    conninfo.render_for_program()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn forbidden_options_are_named() {
        let compress =
            |value: &str| [ToolOption { name: "compress".into(), value: Some(value.into()) }];
        assert!(refuse_compression(&compress("server-gzip"), 15).is_ok());
        assert!(refuse_compression(&compress("server-gzip"), 14).is_err());
        let error = refuse_compression(&compress("gzip"), 15).unwrap_err();
        assert!(error.to_string().contains("compress"));
    }
}
