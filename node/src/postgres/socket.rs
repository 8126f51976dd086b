//! The Unix socket: where it is, and the lock file that a dead server left.

use super::error::{Error, read_if_there, remove_if_there};
use super::process::owner_of;
use super::procfs::{Stat, is_named_postgres, works_elsewhere};
use std::path::{Path, PathBuf};

/// PostgreSQL's own default places of its socket.
const DEFAULT_DIRS: [&str; 2] = ["/var/run/postgresql", "/tmp"];

/// The directories that a value of unix_socket_directories names. The server works in
/// its data directory, so a relative one (`..` is common) begins there.
pub(super) fn dirs(given: Option<&str>, data_dir: &Path) -> Vec<PathBuf> {
    match given {
        Some(given) => named(given).map(|dir| data_dir.join(dir)).collect(),
        None => DEFAULT_DIRS.iter().map(PathBuf::from).collect(),
    }
}

/// An abstract socket (`@`) has no file.
fn named(given: &str) -> impl Iterator<Item = &str> {
    let dirs = given.split(',').map(|dir| dir.trim().trim_matches('"'));
    dirs.filter(|dir| !dir.is_empty() && !dir.starts_with('@'))
}

/// The one to connect through. Where only relative ones are given it is none, and
/// TCP is used: access may have been given to it alone.
pub(super) fn dir_of(given: Option<&str>, port: u16) -> Option<PathBuf> {
    let is_used = |dir: &&str| Path::new(dir).join(format!(".s.PGSQL.{port}")).exists();
    match given {
        Some(given) => named(given).find(|dir| dir.starts_with('/')),
        None => DEFAULT_DIRS.into_iter().find(is_used),
    }
    .map(PathBuf::from)
}

/// Removes lock files of our sockets that PostgreSQL would take for a sign of life:
/// of a zombie of `data_dir`, which ended but was not reaped, and files without a
/// pid, or with that of another program, behind whose socket no process listens.
/// Only meant for when no process works in `data_dir`.
pub(super) fn clear_stale(dirs: &[PathBuf], port: u16, data_dir: &Path) -> Result<(), Error> {
    for dir in dirs {
        let socket = dir.join(format!(".s.PGSQL.{port}"));
        let path = dir.join(format!(".s.PGSQL.{port}.lock"));
        let Some(text) = read_if_there(&path)? else { continue };
        if is_of_a_zombie_in(&text, data_dir)? || is_without_a_process(&text)? && is_silent(&socket)
        {
            tracing::warn!("{} is removed: no server owns it", path.display());
            remove_if_there(&path)?;
        }
    }
    Ok(())
}

/// What PostgreSQL cannot judge, or takes for a server that runs and is none.
fn is_without_a_process(text: &str) -> Result<bool, Error> {
    let Some(pid) = owner_of(text).map(i32::abs) else { return Ok(true) };
    let lives = Stat::of(pid)?.is_some_and(|stat| stat.lives);
    let data_dir = text.lines().nth(1).map(Path::new);
    let is_elsewhere = data_dir.is_some_and(|data_dir| works_elsewhere(pid, data_dir));
    Ok(lives && (!is_named_postgres(pid) || is_elsewhere))
}

/// Certain only when a connection is refused, or there is no socket at all.
fn is_silent(socket: &Path) -> bool {
    use std::io::ErrorKind::{ConnectionRefused, NotFound};
    let answer = std::os::unix::net::UnixStream::connect(socket);
    answer.is_err_and(|error| matches!(error.kind(), ConnectionRefused | NotFound))
}

fn is_of_a_zombie_in(text: &str, data_dir: &Path) -> Result<bool, Error> {
    let mut lines = text.lines();
    let Some(pid) = lines.next().and_then(|pid| pid.trim().parse().ok()) else {
        return Ok(false);
    };
    let same = |dir: &str| {
        let place = std::fs::canonicalize(dir).ok();
        place.is_some() && place == std::fs::canonicalize(data_dir).ok()
    };
    Ok(lines.next().is_some_and(same) && Stat::of(pid)?.is_some_and(|stat| !stat.lives))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_socket_is_where_it_is_configured_or_found() {
        let data = Path::new("/data/pg");
        assert_eq!(dir_of(Some("@hidden, /a ,/b"), 1), Some(PathBuf::from("/a")));
        assert_eq!(dirs(Some("/a,/b"), data), [PathBuf::from("/a"), PathBuf::from("/b")]);
        assert_eq!(dir_of(None, 1), None);
        assert_eq!(dir_of(Some(""), 1), None);
    }

    #[test]
    fn p2_a_relative_socket_directory_begins_at_the_data() {
        let data = Path::new("/data/pg");
        assert_eq!(dirs(Some(".."), data), [PathBuf::from("/data/pg/..")]);
        assert_eq!(dir_of(Some(".."), 1), None);
        assert_eq!(dir_of(Some("/data/pg/run"), 1), Some(PathBuf::from("/data/pg/run")));
        assert_eq!(dir_of(Some(".., /run/pg"), 1), Some(PathBuf::from("/run/pg")));
        assert_eq!(dirs(Some(".,\"/a\""), data), [data.join("."), PathBuf::from("/a")]);
    }

    #[test]
    fn h6_a_lock_file_that_no_server_owns_keeps_no_server_down() {
        let data = tempfile::tempdir().unwrap();
        let dirs = [data.path().to_path_buf()];
        let (socket, path) = (data.path().join(".s.PGSQL.7"), data.path().join(".s.PGSQL.7.lock"));
        let stays = |text: &str| {
            std::fs::write(&path, text).unwrap();
            clear_stale(&dirs, 7, data.path()).unwrap();
            path.exists()
        };
        let ours = format!("{}\n/elsewhere\n1\n7\n", std::process::id());
        for text in ["", "\0\0", &ours] {
            assert!(!stays(text), "{text:?} without a socket");
            let listener = std::os::unix::net::UnixListener::bind(&socket).unwrap();
            assert!(stays(text), "{text:?} of a server that listens");
            drop(listener);
            assert!(!stays(text), "{text:?} with a socket that nobody serves");
            std::fs::remove_file(&socket).unwrap();
        }
        assert!(stays("999999999\n/elsewhere\n"), "PostgreSQL removes what names a dead process");
    }

    #[test]
    fn only_a_zombie_of_this_data_directory_loses_its_lock_file() {
        let (data, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let dirs = [data.path().to_path_buf()];
        let path = data.path().join(".s.PGSQL.7.lock");
        let mut zombie = std::process::Command::new("true").spawn().unwrap();
        let dead = || Stat::of(zombie.id() as i32).unwrap().is_some_and(|stat| !stat.lives);
        while !dead() {
            std::thread::yield_now();
        }
        let look = |pid: u32, dir: &Path| {
            std::fs::write(&path, format!("{pid}\n{}\n1\n7\n", dir.display())).unwrap();
            clear_stale(&dirs, 7, data.path()).unwrap();
            path.exists()
        };
        assert!(look(zombie.id(), other.path()), "not ours");
        assert!(!look(zombie.id(), data.path()));
        zombie.wait().unwrap();
    }
}
