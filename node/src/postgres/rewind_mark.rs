//! The mark of a rewind that is under way.
//!
//! pg_rewind writes the control file last: killed half way it leaves a data
//! directory that looks whole and is not. The mark is made before it changes
//! anything and taken away after it has said that it is done, so that a later
//! process, or the machine's next life, knows.
//!
//! A rewind whose daemon died goes on alone. Once the control file is written
//! nothing is missing but that the disk has it all: true while the machine runs,
//! not known after it went down.
//!
//! It cannot stand in the data directory, from which pg_rewind removes what its
//! source does not have: it stands beside it, or beside the password file.

use super::error::{Error, read_if_there};
use super::mark;
use super::procfs::Stat;
use crate::config::Postgresql;
use std::path::{Path, PathBuf};

const ENDING: &str = "rewinding";
/// The line that names pg_rewind's process.
const PROCESS: &str = "process ";

/// The mark of this data directory. An error: it is not known.
pub fn find(settings: &Postgresql) -> Result<Option<PathBuf>, Error> {
    mark::find(settings, ENDING)
}

/// Makes the mark, safe on disk. `what`: for an operator who finds it. One that is
/// there stays: what the first rewind wrote counts from its boot.
pub fn set(settings: &Postgresql, what: &str) -> Result<(), Error> {
    let Some(path) = find(settings)? else {
        let text = format!("{what}\n{}\n", mark::boot_line().unwrap_or_default());
        return mark::make(settings, ENDING, &text);
    };
    mark::replace(&path, &without_process(&read_if_there(&path)?.unwrap_or_default()))
}

fn without_process(text: &str) -> String {
    let lines = text.lines().filter(|line| !line.starts_with(PROCESS));
    lines.map(|line| format!("{line}\n")).collect()
}

/// Adds the process that rewinds: a helper that it leaves behind is another one.
pub fn name_process(settings: &Postgresql, pid: i32) -> Result<(), Error> {
    let Some(path) = find(settings)? else { return Ok(()) };
    let Some(stat) = Stat::of(pid)? else { return Ok(()) };
    let text = without_process(&read_if_there(&path)?.unwrap_or_default());
    mark::replace(&path, &format!("{text}{PROCESS}{pid} {}\n", stat.started))
}

/// The process that a mark names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Named {
    /// Its daemon died before it could write it down.
    Nothing,
    Ended,
    AtWork(i32),
}

pub fn process_of(mark: &Path) -> Result<Named, Error> {
    let text = read_if_there(mark)?.unwrap_or_default();
    let named = text.lines().find_map(|line| line.strip_prefix(PROCESS)?.split_once(' '));
    let parsed = named.and_then(|(pid, began)| Some((pid.parse().ok()?, began.parse().ok()?)));
    let Some((pid, began)): Option<(i32, u64)> = parsed else { return Ok(Named::Nothing) };
    let lives = Stat::of(pid)?.is_some_and(|stat| stat.lives && stat.started == began);
    Ok(if lives && is_of_this_boot(mark)? { Named::AtWork(pid) } else { Named::Ended })
}

/// Was the mark made since the machine came up?
pub fn is_of_this_boot(mark: &Path) -> Result<bool, Error> {
    let text = read_if_there(mark)?.unwrap_or_default();
    Ok(mark::boot_line().is_some_and(|boot| text.lines().any(|line| line == boot)))
}

/// Makes what was written safe on disk, then takes the mark away.
pub fn settle(settings: &Postgresql) -> Result<(), Error> {
    nix::unistd::sync();
    clear(settings)
}

pub fn clear(settings: &Postgresql) -> Result<(), Error> {
    mark::clear(settings, ENDING)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mark_is_found_until_it_is_cleared() {
        let dir = tempfile::tempdir().unwrap();
        let settings = Postgresql {
            data_dir: dir.path().join("data/"),
            pgpass: dir.path().join("pgpass"),
            ..Postgresql::default()
        };
        assert_eq!(find(&settings).unwrap(), None);
        set(&settings, "x").unwrap();
        let mark = dir.path().join("data.rewinding");
        assert_eq!(find(&settings).unwrap().as_ref(), Some(&mark));
        assert!(is_of_this_boot(&mark).unwrap());
        std::fs::write(&mark, "x\nboot another\n").unwrap();
        assert!(!is_of_this_boot(&mark).unwrap());
        assert_eq!(process_of(&mark).unwrap(), Named::Nothing);
        clear(&settings).unwrap();
        assert_eq!(find(&settings).unwrap(), None);
    }

    #[test]
    fn where_the_parent_takes_no_file_the_password_file_shows_the_place() {
        let dir = tempfile::tempdir().unwrap();
        let settings = Postgresql {
            data_dir: dir.path().join("gone/data"),
            pgpass: dir.path().join("pgpass"),
            ..Postgresql::default()
        };
        set(&settings, "x").unwrap();
        let found = find(&settings).unwrap().expect("a mark");
        assert!(found.starts_with(dir.path()) && found.to_string_lossy().contains("gone_data"));
        assert!(
            find(&Postgresql { data_dir: dir.path().join("other"), ..settings }).unwrap().is_none()
        );
    }

    #[test]
    fn only_the_process_that_the_mark_names_is_at_work() {
        let dir = tempfile::tempdir().unwrap();
        let settings = Postgresql { data_dir: dir.path().join("data"), ..Postgresql::default() };
        set(&settings, "x").unwrap();
        let mark = find(&settings).unwrap().expect("a mark");
        let mut other = std::process::Command::new("sleep").arg("30").spawn().unwrap();
        name_process(&settings, other.id().cast_signed()).unwrap();
        assert_eq!(process_of(&mark).unwrap(), Named::AtWork(other.id().cast_signed()));
        other.kill().unwrap();
        other.wait().unwrap();
        assert_eq!(process_of(&mark).unwrap(), Named::Ended);
        // The next one begins without a name.
        set(&settings, "y").unwrap();
        assert_eq!(process_of(&mark).unwrap(), Named::Nothing);
    }
}
