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

use super::error::{Error, read_if_there, remove_if_there};
use crate::config::Postgresql;
use std::fs::{File, OpenOptions};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

const ENDING: &str = "rewinding";

/// Where the mark may be; the first that can be written is used.
fn places(settings: &Postgresql) -> [PathBuf; 2] {
    let data_dir = settings.data_dir.as_os_str().to_string_lossy();
    let data_dir = data_dir.trim_end_matches('/');
    let beside = PathBuf::from(format!("{data_dir}.{ENDING}"));
    let mut far = settings.pgpass.clone().into_os_string();
    far.push(format!("{}.{ENDING}", data_dir.replace('/', "_")));
    [beside, far.into()]
}

/// The mark of this data directory. An error: it is not known.
pub fn find(settings: &Postgresql) -> Result<Option<PathBuf>, Error> {
    for path in places(settings) {
        if path.try_exists().map_err(Error::file("look for", &path))? {
            return Ok(Some(path));
        }
    }
    Ok(None)
}

/// Makes the mark, safe on disk. `what`: for whoever finds it.
pub fn set(settings: &Postgresql, what: &str) -> Result<(), Error> {
    if find(settings)?.is_some() {
        return Ok(());
    }
    let [beside, far] = places(settings);
    let text = format!("{what}\n{}\n", boot_id().unwrap_or_default());
    write(&beside, &text).or_else(|_| write(&far, &text)).map_err(Error::file("create", &far))
}

/// Was the mark made since the machine came up?
pub fn is_of_this_boot(mark: &Path) -> Result<bool, Error> {
    let text = read_if_there(mark)?.unwrap_or_default();
    Ok(boot_id().is_some_and(|boot| text.lines().any(|line| line == boot)))
}

/// Makes what was written safe on disk, then takes the mark away.
pub fn settle(settings: &Postgresql) -> Result<(), Error> {
    nix::unistd::sync();
    clear(settings)
}

fn boot_id() -> Option<String> {
    let text = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").ok()?;
    Some(format!("boot {}", text.trim()))
}

pub fn clear(settings: &Postgresql) -> Result<(), Error> {
    for path in places(settings) {
        remove_if_there(&path)?;
    }
    Ok(())
}

fn write(path: &Path, text: &str) -> io::Result<()> {
    let mut file = OpenOptions::new().write(true).create(true).truncate(true).open(path)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()?;
    File::open(path.parent().unwrap_or(Path::new(".")))?.sync_all()
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
}
