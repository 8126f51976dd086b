//! What a running server is asked, and the files of its that are read.
//!
//! Absent on purpose: what becomes of the answers (`adopt.rs`).

use super::Error;
use crate::config::Secret;
use crate::password;
use crate::postgres::{Session, Target};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// Everything about the server that a configuration needs.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Answers {
    /// `server_version_num`.
    pub version: u32,
    pub superuser: String,
    pub password: Option<Secret>,
    /// Every setting, as people write it.
    pub all: BTreeMap<String, String>,
    /// Names of those that were set to something else than the default.
    pub changed: Vec<String>,
    pub checksums: bool,
    /// Of the running program.
    pub bin_dir: Option<PathBuf>,
    /// Lines of the access files, where these are the usual ones.
    pub pg_hba: Option<Vec<String>>,
    pub pg_ident: Option<Vec<String>>,
}

/// Where a setting comes from that says nothing about the server's own files.
const SETTINGS: &str = "SELECT name, pg_catalog.current_setting(name, true), \
    setting IS DISTINCT FROM boot_val AND source NOT IN ('default', 'override', 'client', \
    'session', 'interactive', 'test', 'database', 'user', 'database user') \
    FROM pg_catalog.pg_settings WHERE context <> 'internal' OR name = 'data_checksums'";
/// Settings that our own session has changed for itself.
const IN_FILES: &str = "SELECT name, setting FROM pg_catalog.pg_file_settings \
    WHERE name IN ('statement_timeout', 'search_path', 'default_transaction_read_only') \
    AND applied ORDER BY seqno";
const WHO: &str = "SELECT pg_catalog.current_setting('server_version_num')::int, \
    current_user::text, (SELECT rolsuper FROM pg_catalog.pg_roles WHERE rolname = current_user)";

pub(super) async fn ask(target: Target) -> Result<Answers, Error> {
    let (session, target) = connect(target).await?;
    let failed = |error: crate::postgres::Error| Error::Connect(chain(&error));
    let connected = session.row("connected role", WHO, &[]).await.map_err(failed)?;
    let mut answers = Answers {
        version: u32::try_from(connected.get::<_, i32>(0)).unwrap_or_default(),
        superuser: connected.get(1),
        password: target.login.password.clone(),
        ..Answers::default()
    };
    if !connected.get::<_, Option<bool>>(2).unwrap_or_default() {
        return Err(Error::NotSuperuser(answers.superuser));
    }
    for row in session.rows("settings", SETTINGS, &[]).await.map_err(failed)? {
        let (name, changed): (String, bool) = (row.get(0), row.get(2));
        if name == "data_checksums" {
            answers.checksums = row.get::<_, Option<String>>(1).as_deref() == Some("on");
            continue;
        }
        if changed {
            answers.changed.push(name.clone());
        }
        answers.all.insert(name, row.get::<_, Option<String>>(1).unwrap_or_default());
    }
    for row in session.rows("settings in files", IN_FILES, &[]).await.map_err(failed)? {
        let (name, value): (String, Option<String>) = (row.get(0), row.get(1));
        if !answers.changed.contains(&name) {
            answers.changed.push(name.clone());
        }
        answers.all.insert(name, value.unwrap_or_default());
    }
    read_files(&mut answers)?;
    Ok(answers)
}

/// Asks for a password when the server wants one and none is known.
async fn connect(mut target: Target) -> Result<(Session, Target), Error> {
    let error = match Session::connect(&target).await {
        Ok(session) => return Ok((session, target)),
        Err(error) => chain(&error),
    };
    if target.login.password.is_some() || !error.contains("password missing") {
        return Err(Error::Connect(error));
    }
    let failed = |_| Error::Connect("a password is needed; set PGPASSWORD".to_string());
    let password = password::ask(&target.login.username).map_err(failed)?;
    target.login.password = Some(Secret(password));
    match Session::connect(&target).await {
        Ok(session) => Ok((session, target)),
        Err(error) => Err(Error::Connect(chain(&error))),
    }
}

fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text.push_str(&format!(": {cause}"));
        source = cause.source();
    }
    text
}

fn read_files(answers: &mut Answers) -> Result<(), Error> {
    let data_dir = answers.all.get("data_directory").cloned().unwrap_or_default();
    answers.bin_dir = running_program(Path::new(&data_dir));
    answers.pg_hba = lines_of_usual_file(answers, "hba_file", "pg_hba.conf")?;
    answers.pg_ident = lines_of_usual_file(answers, "ident_file", "pg_ident.conf")?;
    Ok(())
}

/// The directory of the postmaster's program.
fn running_program(data_dir: &Path) -> Option<PathBuf> {
    let text = std::fs::read_to_string(data_dir.join("postmaster.pid")).ok()?;
    let pid: u32 = text.lines().next()?.trim().parse().ok()?;
    let program = std::fs::read_link(format!("/proc/{pid}/exe")).ok()?;
    program.parent().map(Path::to_path_buf)
}

/// The lines that say something; `None` when the file is at a place of its own.
fn lines_of_usual_file(
    answers: &Answers,
    setting: &str,
    usual: &str,
) -> Result<Option<Vec<String>>, Error> {
    let path = PathBuf::from(answers.all.get(setting).cloned().unwrap_or_default());
    if !usual_places(answers).iter().any(|dir| dir.join(usual) == path) {
        return Ok(None);
    }
    let text = std::fs::read_to_string(&path).map_err(|source| Error::Read { path, source })?;
    let said = text.lines().map(str::trim).filter(|l| !l.is_empty() && !l.starts_with('#'));
    Ok(Some(said.map(str::to_string).collect()))
}

/// Beside the configuration and in the data directory.
pub(super) fn usual_places(answers: &Answers) -> Vec<PathBuf> {
    let path = |name: &str| PathBuf::from(answers.all.get(name).cloned().unwrap_or_default());
    let beside = path("config_file").parent().map(Path::to_path_buf);
    beside.into_iter().chain([path("data_directory")]).collect()
}
