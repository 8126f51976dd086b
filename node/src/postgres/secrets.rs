//! Secrets on their way to PostgreSQL's programs.
//!
//! Invariant *no secret in a process list*: passwords go through a pgpass file and
//! the password of a client's key through a service file, which only the owner can
//! read and which are gone when the program has ended.
//!
//! Invariant *no other user's file*: a file has a name that no user can know before
//! and is opened exclusively, so a user who may write in its directory cannot put
//! another one, or a link, in its place.

use super::conninfo::SERVICE;
use super::error::Error;
use super::pgpass::pgpass_lines;
use crate::config::{Login, Postgresql};
use std::io::Write;
use std::path::{Path, PathBuf};
use tempfile::NamedTempFile;
use tokio::process::Command;

/// A server to copy from.
#[derive(Clone, Copy, Debug)]
pub struct Source<'a> {
    pub host: &'a str,
    pub port: u16,
}

/// A file with a secret that is removed when it goes out of scope.
#[derive(Debug)]
pub(super) struct SecretFile(NamedTempFile);

impl SecretFile {
    /// Beside the server's own pgpass file. What a daemon that was killed has left
    /// there for the same purpose is removed.
    pub(super) fn create(
        settings: &Postgresql,
        what: &str,
        text: &str,
    ) -> Result<SecretFile, Error> {
        let pgpass = &settings.pgpass;
        let directory = match pgpass.parent() {
            Some(parent) if parent != Path::new("") => parent,
            _ => Path::new("."),
        };
        let name = pgpass.file_name().unwrap_or_default().to_string_lossy();
        let prefix = format!("{name}.{what}.");
        remove_leftovers(directory, &prefix);
        let place: PathBuf = directory.join(&prefix);
        let file = tempfile::Builder::new().prefix(&prefix).tempfile_in(directory);
        let mut file = file.map_err(Error::file("create", &place))?;
        file.write_all(text.as_bytes()).map_err(Error::file("write", &place))?;
        Ok(SecretFile(file))
    }

    pub(super) fn path(&self) -> &Path {
        self.0.path()
    }
}

fn remove_leftovers(directory: &Path, prefix: &str) {
    let Ok(entries) = std::fs::read_dir(directory) else { return };
    for entry in entries.flatten() {
        if entry.file_name().to_string_lossy().starts_with(prefix) {
            // It may be gone, or of another user: then it is not ours.
            let _ = std::fs::remove_file(entry.path());
        }
    }
}

/// All that one program needs to log in, for as long as it runs.
#[derive(Debug)]
pub(super) struct Secrets {
    passwords: SecretFile,
    service: Option<SecretFile>,
}

impl Secrets {
    pub(super) fn create(
        settings: &Postgresql,
        login: &Login,
        source: Source<'_>,
        what: &str,
    ) -> Result<Secrets, Error> {
        let password = login.password.as_ref().map_or("", |password| &password.0);
        let text = pgpass_lines(source.host, source.port, &login.username, password);
        let passwords = SecretFile::create(settings, what, &text)?;
        let service = match login.extra.get("sslpassword") {
            Some(word) => {
                let text = format!("[{SERVICE}]\nsslpassword={word}\n");
                Some(SecretFile::create(settings, &format!("{what}-service"), &text)?)
            }
            None => None,
        };
        Ok(Secrets { passwords, service })
    }

    pub(super) fn give_to(&self, command: &mut Command) {
        command.env("PGPASSFILE", self.passwords.path());
        if let Some(service) = &self.service {
            command.env("PGSERVICEFILE", service.path());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Secret;
    use std::os::unix::fs::{PermissionsExt, symlink};

    fn settings(directory: &Path) -> Postgresql {
        Postgresql { pgpass: directory.join("pgpass"), ..Postgresql::default() }
    }

    #[test]
    fn s7_a_secret_has_an_unpredictable_name_and_never_follows_a_link() {
        let directory = tempfile::tempdir().unwrap();
        let settings = settings(directory.path());
        let (victim, trap) = (directory.path().join("victim"), "pgpass.rewind");
        std::fs::write(&victim, "mine").unwrap();
        symlink(&victim, directory.path().join(trap)).unwrap();
        symlink(&victim, directory.path().join(format!("{trap}.new"))).unwrap();
        let names: Vec<PathBuf> = (0..3)
            .map(|_| {
                let file = SecretFile::create(&settings, "rewind", "word").unwrap();
                assert_eq!(std::fs::read_to_string(file.path()).unwrap(), "word");
                let mode = std::fs::metadata(file.path()).unwrap().permissions().mode();
                assert_eq!(mode & 0o777, 0o600);
                file.path().to_path_buf()
            })
            .collect();
        assert!(names[0] != names[1] && names[1] != names[2] && names[0] != names[2]);
        assert!(names.iter().all(|name| !name.exists()), "a secret stays");
        assert_eq!(std::fs::read_to_string(victim).unwrap(), "mine");
    }

    #[test]
    fn s7_what_a_killed_daemon_left_is_removed() {
        let directory = tempfile::tempdir().unwrap();
        let settings = settings(directory.path());
        let left = directory.path().join("pgpass.rewind.aBcDeF");
        let (other, own) =
            (directory.path().join("pgpass.replica.x"), directory.path().join("pgpass"));
        for file in [&left, &other, &own] {
            std::fs::write(file, "old").unwrap();
        }
        drop(SecretFile::create(&settings, "rewind", "word").unwrap());
        assert!(!left.exists() && other.exists() && own.exists());
    }

    #[test]
    fn s4_the_password_of_a_key_goes_through_a_file() {
        let directory = tempfile::tempdir().unwrap();
        let mut login = Login { password: Some(Secret("pass".into())), ..Login::default() };
        let source = Source { host: "h", port: 7 };
        let given = |login: &Login| {
            let secrets = Secrets::create(&settings(directory.path()), login, source, "x").unwrap();
            let mut command = Command::new("true");
            secrets.give_to(&mut command);
            let env: Vec<_> = command.as_std().get_envs().map(|(key, _)| key.to_owned()).collect();
            let text = |file: &SecretFile| std::fs::read_to_string(file.path()).unwrap();
            (env, text(&secrets.passwords), secrets.service.as_ref().map(text))
        };
        assert_eq!(given(&login).2, None);
        login.extra.insert("sslpassword".into(), "key word".into());
        let (env, passwords, service) = given(&login);
        assert_eq!(env, ["PGPASSFILE", "PGSERVICEFILE"]);
        assert_eq!(passwords, "h:7:*::pass\n");
        assert_eq!(service.as_deref(), Some("[matriarch]\nsslpassword=key word\n"));
    }
}
