//! Directories that a server or its tools need and that a reboot takes away: those of
//! the sockets, often below /run, and the one of the password file.
//!
//! Invariant: a directory that is there is left as it is.

use super::error::Error;
use std::fs::DirBuilder;
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

/// Clients of any user go through it to the socket.
const FOR_SOCKETS: u32 = 0o755;
/// Only the owner may get at the passwords.
const FOR_PASSWORDS: u32 = 0o700;

/// Makes the directories of the sockets that are missing.
pub(super) fn make_for_sockets(dirs: &[PathBuf]) -> Result<(), Error> {
    dirs.iter().try_for_each(|dir| make(dir, FOR_SOCKETS, "unix_socket_directories"))
}

/// Makes the directory in which the password file is to stand.
pub(super) fn make_for_passwords(file: &Path) -> Result<(), Error> {
    match file.parent().filter(|dir| !dir.as_os_str().is_empty()) {
        Some(dir) => make(dir, FOR_PASSWORDS, "postgresql.pgpass"),
        None => Ok(()),
    }
}

fn make(dir: &Path, mode: u32, setting: &'static str) -> Result<(), Error> {
    if dir.is_dir() {
        return Ok(());
    }
    match DirBuilder::new().recursive(true).mode(mode).create(dir) {
        Ok(()) => {
            tracing::warn!("{} of {setting} was missing and is made", dir.display());
            Ok(())
        }
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        Err(source) => {
            let (user, group) = (nix::unistd::getuid(), nix::unistd::getgid());
            let command = format!("install -d -m {mode:o} -o {user} -g {group} {}", dir.display());
            Err(Error::NoDirectory { setting, dir: dir.to_path_buf(), command, source })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn h4_directories_that_a_reboot_took_away_are_made_with_their_mode() {
        let root = tempfile::tempdir().unwrap();
        let (run, secret) = (root.path().join("run/postgresql"), root.path().join("secret"));
        make_for_sockets(std::slice::from_ref(&run)).unwrap();
        make_for_passwords(&secret.join("pgpass")).unwrap();
        make_for_passwords(Path::new("pgpass")).unwrap();
        let mode = |dir: &Path| std::fs::metadata(dir).unwrap().permissions().mode() & 0o777;
        assert_eq!((mode(&run), mode(&secret)), (FOR_SOCKETS, FOR_PASSWORDS));
        // What a person has set up otherwise stays.
        std::fs::set_permissions(&run, std::fs::Permissions::from_mode(0o770)).unwrap();
        make_for_sockets(std::slice::from_ref(&run)).unwrap();
        assert_eq!(mode(&run), 0o770);
    }

    #[test]
    fn h4_one_that_cannot_be_made_is_named_with_the_command_that_makes_it() {
        let root = tempfile::tempdir().unwrap();
        std::fs::write(root.path().join("file"), "").unwrap();
        let dir = root.path().join("file/postgresql");
        let text = make(&dir, FOR_SOCKETS, "unix_socket_directories").unwrap_err().with_causes();
        let command = format!("install -d -m 755 -o {}", nix::unistd::getuid());
        for word in ["unix_socket_directories", &command, &dir.display().to_string()] {
            assert!(text.contains(word), "no `{word}` in {text}");
        }
    }
}
