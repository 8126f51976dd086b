//! The commands that an operator gave for making a data directory.
//!
//! A command gets its words, what its section holds and what this daemon knows
//! as `--key=value`; its output goes where the daemon's own goes; exit status 0
//! is success. It leads a process group: dropping the future ends it with
//! everything it has started.
//!
//! Invariant *no password in a process list*: the replication user's comes in
//! a file that PGPASSFILE names, for as long as the command runs.
//!
//! Absent on purpose: which method when, and clearing the data directory.

use super::error::Error;
use super::process::clean_environment;
use super::run::run_shown;
use super::secrets::Secrets;
use super::tools::{COPY_LIMIT, FILLS, Source, dsn, set_service_name};
use crate::config::{BootstrapMethod, CustomMethod, Postgresql};
use crate::words;
use tokio::process::Command;

/// Makes a new cluster's data directory.
pub(crate) async fn bootstrap(
    settings: &Postgresql,
    scope: &str,
    method: &BootstrapMethod,
) -> Result<(), Error> {
    let mut command = words_of(&method.command)?;
    if !method.no_params {
        command.arg(format!("--scope={scope}"));
        command.arg(format!("--datadir={}", settings.data_dir.display()));
    }
    command.args(method.parameters.iter().map(|(key, value)| format!("--{key}={value}")));
    command.env(FILLS, &settings.data_dir);
    run_shown(command, COPY_LIMIT).await
}

/// Makes a replica's data directory; without a source from a backup alone.
pub(crate) async fn replica(
    settings: &Postgresql,
    scope: &str,
    method: &CustomMethod,
    source: Option<Source<'_>>,
    major: u32,
) -> Result<(), Error> {
    let login = &settings.replication;
    let mut command = words_of(&method.command)?;
    command.args(method.parameters.iter().map(|(key, value)| format!("--{key}={value}")));
    if !method.no_params {
        let database = Some(settings.database.as_str());
        let connstring = source.map(|source| dsn(login, source, database, major));
        command.arg(format!("--scope={scope}")).arg("--role=replica");
        command.arg(format!("--datadir={}", settings.data_dir.display()));
        command.arg(format!("--connstring={}", connstring.unwrap_or_default()));
    }
    let secrets = match source {
        Some(source) => Some(Secrets::create(settings, login, source, "replica")?),
        None => None,
    };
    if let Some(secrets) = &secrets {
        secrets.give_to(&mut command);
    }
    set_service_name(&mut command, login);
    command.env(FILLS, &settings.data_dir);
    run_shown(command, COPY_LIMIT).await
}

/// Runs what an operator wants done in a new cluster. `connstring` is its last
/// argument; statements never wait for a standby and never time out.
pub(crate) async fn post_bootstrap(
    settings: &Postgresql,
    command: &str,
    target: Source<'_>,
    connstring: &str,
) -> Result<(), Error> {
    let mut command = words_of(command)?;
    command.arg(connstring);
    let secrets = Secrets::create(settings, &settings.superuser, target, "bootstrap")?;
    secrets.give_to(&mut command);
    command.env("PGOPTIONS", "-c synchronous_commit=local -c statement_timeout=0");
    set_service_name(&mut command, &settings.superuser);
    run_shown(command, COPY_LIMIT).await
}

/// The words of a command, without what the environment tells about us.
fn words_of(text: &str) -> Result<Command, Error> {
    let unclear = || Error::NoWords { command: text.to_string() };
    let words = words::split(text).filter(|words| !words.is_empty()).ok_or_else(unclear)?;
    let mut command = Command::new(&words[0]);
    command.args(&words[1..]);
    clean_environment(&mut command, std::env::vars_os());
    Ok(command)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Login, Secret};
    use std::path::Path;

    /// A command that writes its arguments and the password file it was given.
    fn telling(dir: &Path) -> (Postgresql, String) {
        let script = dir.join("tell.sh");
        let text = "#!/bin/sh\nfor a in \"$@\"; do echo \"$a\"; done > $(dirname $0)/told\n\
                    cat \"$PGPASSFILE\" >> $(dirname $0)/told\n\
                    echo \"$PGOPTIONS $PGKRBSRVNAME\" >> $(dirname $0)/told\n";
        std::fs::write(&script, text).unwrap();
        let login = |name: &str, word: &str| Login {
            username: name.into(),
            password: Some(Secret(word.into())),
            ..Login::default()
        };
        let settings = Postgresql {
            data_dir: "/pg/data".into(),
            pgpass: dir.join("pgpass"),
            database: "postgres".into(),
            replication: login("rep", "copy"),
            superuser: login("sup", "boss"),
            ..Postgresql::default()
        };
        let mut settings = settings;
        for login in [&mut settings.replication, &mut settings.superuser] {
            login.extra.insert("krbsrvname".into(), "pg".into());
        }
        (settings, format!("sh '{}' first", script.display()))
    }

    fn told(dir: &Path) -> Vec<String> {
        let text = std::fs::read_to_string(dir.join("told")).unwrap();
        text.lines().map(str::to_string).collect()
    }

    #[tokio::test]
    async fn a_replica_method_gets_its_section_then_what_we_know() {
        let dir = tempfile::tempdir().unwrap();
        let (settings, command) = telling(dir.path());
        let parameters = vec![("stanza".to_string(), "a b".to_string())];
        let method = CustomMethod { command, parameters, ..CustomMethod::default() };
        let source = Some(Source { host: "h", port: 7 });
        replica(&settings, "shop", &method, source, 15).await.unwrap();
        let lines = told(dir.path());
        let wanted = ["first", "--stanza=a b", "--scope=shop", "--role=replica"];
        assert_eq!(lines[..4], wanted);
        assert_eq!(lines[4], "--datadir=/pg/data");
        assert!(lines[5].starts_with("--connstring=dbname=postgres user=rep host=h port=7"));
        assert_eq!(lines[6..8], ["h:7:*:rep:copy", " pg"]);
        assert!(!lines[5].contains("copy"), "a password in the process list");
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 2, "the password stays");
    }

    #[tokio::test]
    async fn without_parameters_and_without_a_source_less_is_told() {
        let dir = tempfile::tempdir().unwrap();
        let (settings, command) = telling(dir.path());
        let method = CustomMethod { command, ..CustomMethod::default() };
        replica(&settings, "shop", &method, None, 15).await.unwrap_or_default();
        assert_eq!(told(dir.path())[4], "--connstring=");
        let method = CustomMethod { no_params: true, ..method };
        let source = Some(Source { host: "h", port: 7 });
        replica(&settings, "shop", &method, source, 15).await.unwrap();
        assert_eq!(told(dir.path())[..2], ["first", "h:7:*:rep:copy"]);
    }

    #[tokio::test]
    async fn what_runs_in_a_new_cluster_is_the_superusers() {
        let dir = tempfile::tempdir().unwrap();
        let (settings, command) = telling(dir.path());
        let target = Source { host: "127.0.0.1", port: 9 };
        post_bootstrap(&settings, &command, target, "host=127.0.0.1 port=9").await.unwrap();
        let lines = told(dir.path());
        assert_eq!(lines[1], "host=127.0.0.1 port=9");
        assert_eq!(lines[2], "127.0.0.1:9:*:sup:boss");
        assert!(lines[3].contains("synchronous_commit=local") && lines[3].ends_with(" pg"));
        let error = post_bootstrap(&settings, "false", target, "").await.unwrap_err();
        assert!(error.to_string().contains("false failed"));
        let error = post_bootstrap(&settings, "'open", target, "").await.unwrap_err();
        assert!(error.to_string().contains("'open"));
    }

    #[tokio::test]
    async fn a_new_cluster_is_told_scope_and_place_unless_that_is_unwanted() {
        let dir = tempfile::tempdir().unwrap();
        let (settings, command) = telling(dir.path());
        let parameters = vec![("k".to_string(), "v".to_string())];
        let mut method = BootstrapMethod { command, parameters, ..BootstrapMethod::default() };
        bootstrap(&settings, "shop", &method).await.unwrap_or_default();
        assert_eq!(told(dir.path())[1..4], ["--scope=shop", "--datadir=/pg/data", "--k=v"]);
        method.no_params = true;
        bootstrap(&settings, "shop", &method).await.unwrap_or_default();
        assert_eq!(told(dir.path())[1], "--k=v");
    }
}
