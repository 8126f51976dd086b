//! pg_rewind: can it be used here, and using it.
//!
//! A trial run changes nothing and finds most of what can go wrong, so a
//! failure there leaves the data directory as it was. Only the second run is
//! made under a mark (`rewind_mark.rs`).
//!
//! Absent on purpose: when to rewind, and what to do when it failed (`ha/`).

use super::archive::{fetch, is_segment, setting};
use super::conninfo::Conninfo;
use super::error::Error;
use super::files::Places;
use super::rewind_mark as mark;
use super::run::{run, run_named};
use super::secrets::Secrets;
use super::session::Session;
use super::tools::{COPY_LIMIT, Source, option};
use crate::config::{Login, Postgresql, ToolOption};
use std::time::Duration;
use tokio::process::Command;

const HELP_LIMIT: Duration = Duration::from_secs(10);
/// Segments that one rewind fetches from the archive: 64 GB of log.
const FETCHES_MAX: usize = 4_096;

/// In the environment of a rewind: a daemon that is killed leaves it at work, and
/// the next one finds it and waits.
pub(super) const REWINDS: &str = "MATRIARCH_REWINDS";

/// One rewind.
#[derive(Clone, Copy, Debug)]
pub struct Rewinding<'a> {
    pub settings: &'a Postgresql,
    pub source: Source<'a>,
    /// Of the operator, besides ours.
    pub options: &'a [ToolOption],
    /// The source must accept writes; several hosts are tried for one that does.
    pub from_primary: bool,
    pub major: u32,
}

/// Is the program there? One that does not answer in time is: "no" may cost data.
pub async fn is_there(settings: &Postgresql) -> bool {
    let mut command = Command::new(settings.tool("pg_rewind"));
    command.arg("--help");
    let answer = run(command, HELP_LIMIT).await;
    !matches!(answer, Err(Error::NoTool { .. } | Error::ToolFailed { .. }))
}

/// A socket of the source in its data directory. pg_rewind takes it for a file that
/// it has to read, and fails half way.
pub async fn socket_in_data(source: &Session) -> Result<Option<String>, Error> {
    const SQL: &str = "SELECT name FROM pg_catalog.pg_ls_dir('.', true, false) AS name \
                       WHERE name LIKE '.s.PGSQL.%' AND name NOT LIKE '%.lock' LIMIT 1";
    let found = source.rows("sockets", SQL, &[]).await?;
    let name = found.first().map(|row| row.try_get(0)).transpose();
    name.map_err(|_| Error::Answer { what: "sockets", field: "name" })
}

/// The login to ask the source with: before 11 only a superuser may read its files.
pub fn login(settings: &Postgresql, major: u32) -> &Login {
    if major >= 11 { &settings.rewind } else { &settings.superuser }
}

impl Rewinding<'_> {
    /// Takes the data directory, which was stopped in order, back to where the
    /// source left its history, and on to the source's.
    pub async fn run(&self) -> Result<(), Error> {
        let restore = setting(self.settings, "restore_command").await.unwrap_or_default();
        self.run_with(&restore, self.tool_restores()).await
    }

    /// `by_tool`: pg_rewind itself calls the restore_command.
    pub async fn run_with(&self, restore: &str, by_tool: bool) -> Result<(), Error> {
        let login = login(self.settings, self.major);
        let secrets = Secrets::create(self.settings, login, self.source, "rewind")?;
        let by_tool = by_tool && !restore.is_empty();
        self.trial(&secrets, restore, by_tool).await?;
        let Source { host, port } = self.source;
        mark::set(self.settings, &format!("pg_rewind from {host}:{port} has begun"))?;
        let command = self.command(&secrets, by_tool);
        run_named(command, COPY_LIMIT, |pid| mark::name_process(self.settings, pid)).await?;
        mark::clear(self.settings)
    }

    /// Fetches what is missing here until a run would succeed.
    async fn trial(&self, secrets: &Secrets, restore: &str, by_tool: bool) -> Result<(), Error> {
        let mut last = String::new();
        for _ in 0..FETCHES_MAX {
            let mut command = self.command(secrets, by_tool);
            command.arg("--dry-run");
            let error = match run(command, COPY_LIMIT).await {
                Ok(_) => return Ok(()),
                Err(error) => error,
            };
            let missing = missing_segment(&error).filter(|name| *name != last);
            let Some(name) = missing.filter(|_| !restore.is_empty() && !by_tool) else {
                return Err(error);
            };
            tracing::info!("pg_rewind needs {name}: it is fetched with restore_command");
            fetch(self.settings, restore, &name).await?;
            last = name;
        }
        Err(Error::ToolUnclear { tool: "pg_rewind".into(), missing: "end of what it needs" })
    }

    /// From 13 on, it does. Where the configuration is elsewhere, from 15 on.
    fn tool_restores(&self) -> bool {
        self.major >= 15 || self.major >= 13 && !self.is_config_elsewhere()
    }

    fn is_config_elsewhere(&self) -> bool {
        let places = Places::of(self.settings);
        places.config_dir != places.data_dir
    }

    fn command(&self, secrets: &Secrets, by_tool: bool) -> Command {
        let mut command = Command::new(self.settings.tool("pg_rewind"));
        command.arg("-D").arg(&self.settings.data_dir).arg("--source-server").arg(self.dsn());
        if by_tool {
            command.arg("--restore-target-wal");
        }
        if self.major >= 15 && self.is_config_elsewhere() {
            let conf = Places::of(self.settings).conf();
            command.arg(format!("--config-file={}", conf.display()));
        }
        if self.major >= 13 {
            // Recovery was done before, where it may be.
            command.arg("--no-ensure-shutdown");
        }
        command.args(self.options.iter().map(option));
        command.envs([("LANG", "C"), ("LC_ALL", "C"), ("PGOPTIONS", "-c statement_timeout=0")]);
        secrets.give_to(&mut command);
        command.env(REWINDS, &self.settings.data_dir);
        command
    }

    fn dsn(&self) -> String {
        let conninfo = Conninfo {
            login: login(self.settings, self.major),
            host: self.source.host,
            port: self.source.port,
            database: Some(&self.settings.database),
            passfile: None,
            application_name: None,
            target_session_attrs: self.from_primary.then_some("read-write"),
            major: self.major,
        };
        conninfo.render_for_program()
    }
}

/// `could not open file "/data/pg_wal/000000010000000000000003": ...`
fn missing_segment(error: &Error) -> Option<String> {
    let Error::ToolFailed { stderr, .. } = error else { return None };
    let (_, rest) = stderr.rsplit_once("could not open file \"")?;
    let name = rest.split('"').next()?.rsplit('/').next()?;
    is_segment(name).then(|| name.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn failed(stderr: &str) -> Error {
        Error::ToolFailed { tool: "pg_rewind".into(), status: "1".into(), stderr: stderr.into() }
    }

    #[test]
    fn the_missing_segment_is_named_by_the_error() {
        let name = "000000010000000000000003";
        let text = format!("pg_rewind: error: could not open file \"/d/pg_wal/{name}\": No such");
        assert_eq!(missing_segment(&failed(&text)).as_deref(), Some(name));
        assert_eq!(missing_segment(&failed("could not open file \"/d/base/1/2\": No")), None);
    }

    #[test]
    fn options_follow_version_and_place() {
        let directory = tempfile::tempdir().unwrap();
        let pgpass = directory.path().join("pgpass");
        let mut settings = Postgresql { data_dir: "/d".into(), pgpass, ..Postgresql::default() };
        let options = [ToolOption { name: "debug".into(), value: None }];
        let words = |settings: &Postgresql, major: u32| {
            let source = Source { host: "a,b", port: 5432 };
            let of = Rewinding { settings, source, options: &options, from_primary: true, major };
            let by_tool = of.tool_restores();
            let login = login(settings, major);
            let secrets = Secrets::create(settings, login, source, "rewind").unwrap();
            let command = of.command(&secrets, by_tool);
            let args = command.as_std().get_args().map(|arg| arg.to_string_lossy().into_owned());
            args.collect::<Vec<_>>().join(" ")
        };
        assert!(
            words(&settings, 14).ends_with("--restore-target-wal --no-ensure-shutdown --debug")
        );
        assert!(words(&settings, 14).contains("target_session_attrs=read-write"));
        settings.config_dir = "/etc/pg".into();
        assert!(!words(&settings, 14).contains("--restore-target-wal"));
        let newest = words(&settings, 15);
        assert!(newest.contains("--config-file=/etc/pg/postgresql.conf"), "{newest}");
        assert!(newest.contains("--restore-target-wal"), "{newest}");
    }
}
