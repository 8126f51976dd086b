//! Files that say what is under way in a data directory.
//!
//! A mark is made before something changes the data directory and taken away after
//! it came to its end, so that a later process, or the machine's next life, knows.
//! It cannot stand inside: tools want the directory empty, or remove what their
//! source does not have. It stands beside it, or beside the password file.
//!
//! One file stays: what the host has seen of its region's store (`region_memory.rs`).

use super::error::{Error, remove_if_there};
use super::places::make_for_passwords;
use super::procfs;
use crate::config::Postgresql;
use std::fs::{File, OpenOptions};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

/// Where a mark may be; the first that can be written is used.
fn places(settings: &Postgresql, ending: &str) -> [PathBuf; 2] {
    let data_dir = settings.data_dir.as_os_str().to_string_lossy();
    let data_dir = data_dir.trim_end_matches('/');
    let beside = PathBuf::from(format!("{data_dir}.{ending}"));
    let mut far = settings.pgpass.clone().into_os_string();
    far.push(format!("{}.{ending}", data_dir.replace('/', "_")));
    [beside, far.into()]
}

/// The mark of this data directory. An error: it is not known.
pub(super) fn find(settings: &Postgresql, ending: &str) -> Result<Option<PathBuf>, Error> {
    for path in places(settings, ending) {
        if path.try_exists().map_err(Error::file("look for", &path))? {
            return Ok(Some(path));
        }
    }
    Ok(None)
}

/// Makes the mark, safe on disk.
pub(super) fn make(settings: &Postgresql, ending: &str, text: &str) -> Result<(), Error> {
    let [beside, far] = places(settings, ending);
    if write(&beside, text).is_ok() {
        return Ok(());
    }
    make_for_passwords(&far)?;
    write(&far, text).map_err(Error::file("create", &far))
}

/// Another text for a mark that is there; a crash leaves the old one or the new.
pub(super) fn replace(mark: &Path, text: &str) -> Result<(), Error> {
    let new = mark.with_added_extension("new");
    let replaced = write(&new, text).and_then(|()| std::fs::rename(&new, mark));
    let replaced = replaced.and_then(|()| sync_parent(mark));
    replaced.map_err(Error::file("write", mark))
}

/// Writes a text that stays, safe on disk: in the place of the one that is there, or where a mark
/// may be. A crash leaves the old one or the new.
pub(super) fn keep(settings: &Postgresql, ending: &str, text: &str) -> Result<(), Error> {
    if let Some(there) = find(settings, ending)? {
        return replace(&there, text);
    }
    let [beside, far] = places(settings, ending);
    if replace(&beside, text).is_ok() {
        return Ok(());
    }
    make_for_passwords(&far)?;
    replace(&far, text)
}

/// Takes the mark away, also from the disk: what comes next may be kept longer.
pub(super) fn clear(settings: &Postgresql, ending: &str) -> Result<(), Error> {
    for path in places(settings, ending) {
        if path.try_exists().map_err(Error::file("look for", &path))? {
            remove_if_there(&path)?;
            sync_parent(&path).map_err(Error::file("remove", &path))?;
        }
    }
    Ok(())
}

pub(super) fn boot_line() -> Option<String> {
    procfs::boot_id().map(|id| format!("boot {id}"))
}

fn write(path: &Path, text: &str) -> io::Result<()> {
    let mut file = OpenOptions::new().write(true).create(true).truncate(true).open(path)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()?;
    sync_parent(path)
}

fn sync_parent(path: &Path) -> io::Result<()> {
    File::open(path.parent().unwrap_or(Path::new(".")))?.sync_all()
}
